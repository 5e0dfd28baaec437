//! SPIFFE agents: whatever SVID they present, on the word of their trust domain's bundle and of nobody else.

mod bundles;

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as URL_SAFE};
use mastio_authority::{
    Authority, Refusal,
    enroll::{Brought, EnrollError, Enrolled},
    registry::Agent,
};
use mastio_core::{AgentId, Clock, SpiffeId, Stamp, TrustDomain};
use mastio_jose::SigningKey;
use mastio_pki::{KeyPair, SigningKey as _, profile};
use serde_json::json;

use crate::{
    byoca::replaced,
    forge::{Ca, HOUR, svid_params, uri},
    world::*,
};

const DOMAIN: &str = "prod.example";
const WORKLOAD: &str = "spiffe://prod.example/ns/billing/sa/walker";

fn domain() -> TrustDomain {
    TrustDomain::parse(DOMAIN).unwrap()
}

struct Setting {
    world: World,
    authority: Arc<Authority>,
    spire: Ca,
}

impl Setting {
    /// With SPIRE's bundle in place.
    async fn new() -> Self {
        let setting = Self::without_bundle().await;
        let pem = setting.spire.certificate.pem();
        setting.authority.set_spire_bundle(&domain(), &pem, &operator()).await.unwrap();
        setting
    }

    async fn without_bundle() -> Self {
        let world = World::new();
        let authority = world.boot(&[]).await.unwrap();
        let spire = Ca::spire(DOMAIN, world.clock.now());
        Self { world, authority, spire }
    }

    fn now(&self) -> Stamp {
        self.world.clock.now()
    }

    fn id(&self, name: &str) -> AgentId {
        AgentId::parse(&format!("{}::{name}", self.authority.trust().org)).unwrap()
    }

    /// A fresh SVID of the workload.
    fn svid(&self) -> Holder {
        Holder { id: self.id("walker").to_string(), ..self.spire.svid(WORKLOAD, self.now()) }
    }

    async fn enroll(&self, name: &str, brought: &Brought) -> Result<Enrolled, EnrollError> {
        self.authority.enroll_spiffe(&candidate(name), brought, None, &operator()).await
    }

    async fn get_in(&self, holder: &Holder) -> Result<Arc<Agent>, mastio_authority::authenticate::AuthError> {
        self.authority.certificate(&holder.peer()).await.map(|pinned| pinned.agent)
    }
}

#[tokio::test]
async fn the_next_svid_just_works_and_is_kept_for_its_messages() {
    let setting = Setting::new().await;
    let first = setting.svid();
    let enrolled = setting.enroll("walker", &first.brought()).await.unwrap();
    assert_eq!(enrolled.spiffe_id, Some(SpiffeId::parse(WORKLOAD).unwrap()));
    assert_eq!(setting.get_in(&first).await.unwrap().id(), &setting.id("walker"));
    let token = mint_mtls(&setting.authority, &first.peer()).await.unwrap();

    setting.world.clock.advance(Duration::from_secs(30 * 60));
    let second = setting.svid();
    let agent = setting.get_in(&second).await.unwrap();
    let signed = URL_SAFE.encode(second.key.sign(b"message").unwrap());
    agent.key.as_ref().unwrap().verify_detached(b"message", &signed).unwrap();
    // Others find the new one from then on, and no request told of it twice.
    setting.get_in(&second).await.unwrap();
    let kept = setting.authority.registry().find(&setting.id("walker")).await.unwrap().unwrap();
    assert_eq!(kept.pin, Some(second.chain[0].thumbprint()));
    assert_eq!(told(&setting.authority, "agent.svid_rotated").await.len(), 1);

    // Another instance of the workload has an SVID of its own; an older one does not take the newer one's place.
    let agent = setting.get_in(&first).await.unwrap();
    let signed = URL_SAFE.encode(first.key.sign(b"message").unwrap());
    agent.key.as_ref().unwrap().verify_detached(b"message", &signed).unwrap();
    assert_eq!(told(&setting.authority, "agent.svid_rotated").await.len(), 1);

    // An assertion is checked with the leaf that came along, whichever is kept.
    for svid in [&first, &second] {
        let assertion = svid.assertion(setting.now());
        let dpop = proof(&SigningKey::generate().unwrap(), "POST", TOKEN, &json!({}), setting.now());
        let request = line("POST", TOKEN, Some(&dpop));
        setting.authority.mint(None, Some(&assertion), &request, "r").await.unwrap();
    }
    setting.world.clock.advance(Duration::from_secs(31 * 60));
    assert_eq!(reason(setting.get_in(&first).await), (401, "client_cert_not_verified"), "expired");
    assert_eq!(
        reason(setting.authority.caller_by_token(&first.peer(), &token, &line("GET", CALL, None)).await),
        (401, "token_expired")
    );
}

#[tokio::test]
async fn each_group_speaks_for_its_own_agents_only() {
    let setting = Setting::new().await;
    let authority = &setting.authority;
    setting.enroll("walker", &setting.svid().brought()).await.unwrap();
    let alice = Holder::created(authority, "alice").await;

    // Below our own CA: with the workload's SPIFFE id, and with the agent's own name.
    let own_ca = Ca::below_root(&setting.world, authority).await;
    let (_, forged) = own_ca.agent("x", &[WORKLOAD], setting.now());
    assert_eq!(reason(setting.get_in(&forged).await), (401, "client_cert_no_parseable_identity"));
    let (_, forged) = own_ca.agent(setting.id("walker").as_str(), &[WORKLOAD], setting.now());
    assert_eq!(reason(setting.get_in(&forged).await), (401, "client_cert_pin_mismatch"));
    let trust = authority.trust();
    let key = KeyPair::generate_p256().unwrap();
    let spiffe = SpiffeId::parse(WORKLOAD).unwrap();
    let (issuer, id) = (trust.issuer.as_ref().unwrap(), setting.id("walker"));
    let leaf =
        profile::agent(issuer, &id, &spiffe, key.spki_der(), HOUR, setting.now(), &mastio_core::SystemRng);
    let forged = Holder { id: id.to_string(), chain: vec![leaf.unwrap()], key };
    assert_eq!(reason(setting.get_in(&forged).await), (401, "client_cert_pin_mismatch"));

    // A SPIRE server of our own trust domain says that somebody is alice.
    let ours = Ca::spire(trust.domain.as_str(), setting.now());
    authority.set_spire_bundle(&trust.domain, &ours.certificate.pem(), &operator()).await.unwrap();
    let uri_of_alice = alice.chain[0].spiffe_id().unwrap().to_string();
    let forged = ours.svid(&uri_of_alice, setting.now());
    assert_eq!(reason(setting.get_in(&forged).await), (401, "agent_unknown_or_inactive"));
    let refused = setting.enroll("mallory", &forged.brought()).await;
    assert_eq!(reason(refused), (400, "identity_mismatch"));
    // And the SPIRE server of another one says that somebody is its workload.
    let forged = Ca::spire("other.example", setting.now());
    let theirs = TrustDomain::parse("other.example").unwrap();
    authority.set_spire_bundle(&theirs, &forged.certificate.pem(), &operator()).await.unwrap();
    let forged = forged.svid(WORKLOAD, setting.now());
    assert_eq!(reason(setting.get_in(&forged).await), (401, "client_cert_not_verified"));
    assert!(setting.get_in(&alice).await.is_ok() && setting.get_in(&setting.svid()).await.is_ok());
    // A workload that nobody enrolled.
    let stranger = setting.spire.svid("spiffe://prod.example/ns/x", setting.now());
    assert_eq!(reason(setting.get_in(&stranger).await), (401, "agent_unknown_or_inactive"));
}

#[tokio::test]
async fn a_revoked_workload_stays_out_with_every_svid_of_before() {
    let setting = Setting::new().await;
    let authority = &setting.authority;
    let id = setting.id("walker");
    let (kept, stolen) = (setting.svid(), setting.svid());
    setting.enroll("walker", &kept.brought()).await.unwrap();
    let token = mint_mtls(authority, &kept.peer()).await.unwrap();
    setting.get_in(&stolen).await.unwrap();
    setting.world.clock.advance(Duration::from_secs(60));
    authority.revoke(&id, None, &operator()).await.unwrap();
    setting.world.clock.advance(Duration::from_secs(60));
    let fresh = setting.svid();
    for svid in [&kept, &stolen, &fresh] {
        assert_eq!(setting.get_in(svid).await.unwrap_err().to_string(), "Certificate has been revoked");
    }
    let call = authority.caller_by_token(&kept.peer(), &token, &line("GET", CALL, None)).await;
    assert_eq!(reason(call), (401, "token_epoch_ended"));
    let switched_on = authority.reactivate(&id, &operator()).await.unwrap_err();
    assert_eq!((switched_on.status(), switched_on.reason()), (409, "agent_revoked"));
    assert!(switched_on.to_string().contains("a new SVID and update_existing"), "{switched_on}");
    assert_eq!(reason(setting.enroll("walker", &fresh.brought()).await), (409, "switched_off"));
    assert_eq!(reason(setting.enroll("walker", &stolen.update()).await), (409, "svid_of_before_revocation"));
    let enrolled = setting.enroll("walker", &fresh.update()).await.unwrap();
    assert!(enrolled.re_pinned);
    let told = told(authority, "admin.agent_enroll_spiffe").await;
    assert_eq!(replaced(&told[0]), (None, false));
    assert_eq!(replaced(&told[1]), (Some(kept.chain[0].thumbprint().to_string()), true));
    setting.get_in(&fresh).await.unwrap();
    for svid in [&kept, &stolen] {
        assert_eq!(reason(setting.get_in(svid).await), (401, "certificate_revoked"));
    }
    authority.revoke(&id, None, &operator()).await.unwrap();
    assert_eq!(reason(setting.get_in(&fresh).await), (401, "certificate_revoked"));
}

#[tokio::test]
async fn an_svid_of_before_a_revocation_is_no_good_for_the_next_agent_with_its_id() {
    let setting = Setting::new().await;
    // Nobody told the Mastio of the stolen one, so no list of certificates has it.
    let (kept, stolen) = (setting.svid(), setting.svid());
    setting.enroll("walker", &kept.brought()).await.unwrap();
    setting.world.clock.advance(Duration::from_secs(60));
    setting.authority.revoke(&setting.id("walker"), None, &operator()).await.unwrap();
    setting.world.clock.advance(Duration::from_secs(360));
    let elsewhere = setting.spire.svid("spiffe://prod.example/ns/other", setting.now());
    setting.enroll("walker", &elsewhere.update()).await.unwrap();
    assert_eq!(reason(setting.enroll("runner", &stolen.brought()).await), (409, "svid_of_before_revocation"));
    let fresh = setting.svid();
    setting.enroll("runner", &fresh.brought()).await.unwrap();
    assert_eq!(setting.get_in(&fresh).await.unwrap().id(), &setting.id("runner"));
    assert_eq!(reason(setting.get_in(&stolen).await), (401, "certificate_revoked"));
}

#[tokio::test]
async fn switching_off_and_on_works_and_the_material_is_spires() {
    let setting = Setting::new().await;
    let (authority, id, svid) = (&setting.authority, setting.id("walker"), setting.svid());
    setting.enroll("walker", &svid.brought()).await.unwrap();
    authority.deactivate(&id, &operator()).await.unwrap();
    assert_eq!(reason(setting.get_in(&setting.svid()).await), (401, "agent_unknown_or_inactive"));
    authority.reactivate(&id, &operator()).await.unwrap();
    setting.get_in(&svid).await.unwrap();
    let rotated = authority.rotate_certificate(&id, &Default::default(), &operator()).await;
    assert_eq!(reason(rotated), (409, "owned_by_spire"));
}

#[tokio::test]
async fn one_spiffe_id_is_one_agent() {
    let setting = Setting::new().await;
    setting.enroll("walker", &setting.svid().brought()).await.unwrap();
    let taken = setting.enroll("runner", &setting.svid().brought()).await.unwrap_err();
    assert_eq!((taken.status(), taken.reason()), (409, "spiffe_id_taken"));
    assert!(taken.to_string().ends_with("::walker"), "{taken}");
    assert_eq!(reason(setting.enroll("walker", &setting.svid().brought()).await), (409, "already_exists"));
    let alike = setting.spire.svid("spiffe://prod.example/ns/alike", setting.now());
    assert_eq!(reason(setting.enroll("WALKER", &alike.brought()).await), (409, "agent_id_lookalike"));
    // Another registration entry: the id of before stands for nobody, and may be enrolled again.
    let moved = setting.spire.svid("spiffe://prod.example/ns/moved", setting.now());
    setting.enroll("walker", &moved.update()).await.unwrap();
    setting.get_in(&moved).await.unwrap();
    assert_eq!(reason(setting.get_in(&setting.svid()).await), (401, "agent_unknown_or_inactive"));
    setting.enroll("runner", &setting.svid().brought()).await.unwrap();
    assert_eq!(setting.get_in(&setting.svid()).await.unwrap().id(), &setting.id("runner"));
    // The two kinds of agents do not become each other.
    let alice = Holder::created(&setting.authority, "alice").await;
    let other = setting.spire.svid("spiffe://prod.example/ns/alice", setting.now());
    assert_eq!(reason(setting.enroll("alice", &other.update()).await), (409, "other_method"));
    setting.get_in(&alice).await.unwrap();
}

#[tokio::test]
async fn what_is_no_svid_of_the_bundle_is_refused_with_its_reason() {
    let setting = Setting::without_bundle().await;
    let (authority, now) = (&setting.authority, setting.now());
    let svid = setting.svid();
    let missing = setting.enroll("walker", &svid.brought()).await.unwrap_err();
    assert_eq!(missing.status(), 503);
    assert!(missing.to_string().starts_with("SPIRE trust bundle not configured — "), "{missing}");
    let says = async |brought: &Brought, bundle: &str, text: &str| {
        let error = authority
            .enroll_spiffe(&candidate("walker"), brought, Some(bundle), &operator())
            .await
            .unwrap_err();
        assert_eq!(error.status(), 400, "{error}");
        assert!(error.to_string().contains(text), "expected {text:?}: {error}");
    };
    let bundle = setting.spire.certificate.pem();
    says(&svid.brought(), "nonsense", "trust_bundle_pem is not a valid X.509 PEM").await;
    says(&svid.brought(), &svid.pem(), "trust_bundle_pem").await;
    says(&svid.brought(), &Ca::spire("other.example", now).certificate.pem(), "other.example").await;
    says(&svid.brought(), &authority.trust().root.pem(), "this Mastio's own CA").await;
    let stranger = Ca::spire(DOMAIN, now).certificate.pem();
    says(&svid.brought(), &stranger, "svid_pem is not signed by the configured SPIRE trust bundle").await;
    let broken = Brought { certificates: "nonsense".into(), ..svid.brought() };
    says(&broken, &bundle, "svid_pem is not a valid X.509 PEM").await;
    let other = Brought { certificates: setting.svid().pem(), ..svid.brought() };
    says(&other, &bundle, "svid_key_pem does not match svid_pem public key").await;
    let none = setting.spire.agent("acme::walker", &[], now).1;
    says(&none.brought(), &bundle, "svid_pem carries no SPIFFE URI SAN — not a valid SVID").await;
    let expired = (now.minus(2 * HOUR).to_date_time(), now.minus(HOUR).to_date_time());
    let altered = |change: &dyn Fn(&mut rcgen::CertificateParams)| {
        let (mut params, key) = (svid_params(WORKLOAD, now), KeyPair::generate_p256().unwrap());
        change(&mut params);
        Holder { id: String::new(), chain: vec![setting.spire.sign(&params, &key)], key }.brought()
    };
    let two = altered(&|p| p.subject_alt_names.push(uri("spiffe://prod.example/other")));
    says(&two, &bundle, "carries no SPIFFE URI SAN").await;
    says(&altered(&|p| (p.not_before, p.not_after) = expired), &bundle, "has expired").await;
    let server = altered(&|p| p.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth]);
    says(&server, &bundle, "lacks clientAuth").await;
    assert!(authority.spire_bundles().await.unwrap().is_empty(), "a refusal leaves nothing");

    authority.enroll_spiffe(&candidate("walker"), &svid.brought(), Some(&bundle), &operator()).await.unwrap();
    let kept = authority.spire_bundle(&domain()).await.unwrap();
    assert_eq!(kept.certificates, std::slice::from_ref(&setting.spire.certificate));
    setting.get_in(&svid).await.unwrap();
    assert_eq!(told(authority, "spiffe.bundle_set").await.len(), 1);
}
