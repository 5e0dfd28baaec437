//! Agents with a certificate of the organisation's own CA: what is taken, what is refused, and what it replaces.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use mastio_authority::{
    Authority, Refusal,
    enroll::{Brought, Candidate, EnrollError, Enrolled, Possession},
    once::Once,
    possession::possession_message,
};
use mastio_core::{AgentId, Clock};
use mastio_pki::{KeyPair, SigningKey as _};
use rcgen::{ExtendedKeyUsagePurpose, IsCa};

use crate::{
    forge::{Ca, HOUR},
    world::*,
};

async fn enroll(authority: &Authority, name: &str, brought: &Brought) -> Result<Enrolled, EnrollError> {
    authority.enroll_byoca(&candidate(name), brought, &operator()).await
}

struct Setting {
    world: World,
    authority: std::sync::Arc<Authority>,
    ca: Ca,
}

impl Setting {
    async fn new() -> Self {
        let world = World::new();
        let authority = world.boot(&[]).await.unwrap();
        let ca = Ca::below_root(&world, &authority).await;
        Self { world, authority, ca }
    }

    fn id(&self, name: &str) -> AgentId {
        AgentId::parse(&format!("{}::{name}", self.authority.trust().org)).unwrap()
    }

    fn agent(&self, name: &str) -> Holder {
        self.ca.agent(self.id(name).as_str(), &[], self.world.clock.now()).1
    }

    /// Status and text of a refusal under the name `alice`.
    async fn refused(&self, brought: &Brought) -> String {
        let error = enroll(&self.authority, "alice", brought).await.unwrap_err();
        assert_eq!(error.status(), 400, "{error}");
        error.to_string()
    }

    async fn gets_in(&self, holder: &Holder) -> bool {
        self.authority.certificate(&holder.peer()).await.is_ok()
    }
}

#[tokio::test]
async fn byoca_takes_what_holds_and_says_what_does_not() {
    let setting = Setting::new().await;
    let (org, now) = (setting.authority.trust().org.clone(), setting.world.clock.now());
    let alice = setting.id("alice");
    let made = |name: &str, uris: &[&str]| setting.ca.agent(name, uris, now);
    let says = async |brought: Brought, text: &str| {
        let said = setting.refused(&brought).await;
        assert!(said.contains(text), "expected {text:?}: {said}");
    };
    let (params, good) = made(alice.as_str(), &[]);
    let with = |certificates: String| Brought { certificates, ..good.brought() };
    says(with("nonsense".into()), "cert_pem is not a valid X.509 PEM").await;
    says(with(good.pem().replace("MII", "M!I")), "cert_pem is not a valid X.509 PEM: PEM text is damaged")
        .await;
    says(with(good.pem().repeat(60)), "longer than 65536 bytes").await;
    let other = KeyPair::generate_p256().unwrap().to_pkcs8_pem();
    let mismatch = Brought { possession: Possession::Key(other), ..good.brought() };
    says(mismatch, "private_key_pem does not match cert_pem public key").await;
    let no_key = Brought { possession: Possession::Key("nonsense".to_owned().into()), ..good.brought() };
    says(no_key, "private_key_pem is not a private key in PEM").await;

    says(made(setting.id("bob").as_str(), &[]).1.brought(), "::bob, not").await;
    says(made("other::alice", &[]).1.brought(), "cert_pem names other::alice").await;
    says(made("nobody at all", &[]).1.brought(), "cert_pem names nobody").await;
    let user = format!("spiffe://cullis.local/{org}/user/alice");
    says(made(alice.as_str(), &[&user]).1.brought(), "::user::alice").await;
    let foreign = format!("spiffe://other.test/{org}/alice");
    says(made(alice.as_str(), &[&foreign]).1.brought(), "trust domain other.test").await;

    let own = format!("spiffe://cullis.local/{org}/alice");
    for second in [&foreign, "spiffe://cullis.local/ns/billing"] {
        says(made(alice.as_str(), &[&own, second]).1.brought(), "several SPIFFE URI SANs").await;
    }

    let stranger = Ca::upstream(now).agent(alice.as_str(), &[], now).1;
    says(stranger.brought(), "cert_pem is not signed by this Mastio's Org CA").await;
    says(with(good.pem() + &setting.agent("bob").pem()), "holds two leaf certificates").await;

    let expired = (now.minus(2 * HOUR).to_date_time(), now.minus(HOUR).to_date_time());
    let altered = |change: &dyn Fn(&mut rcgen::CertificateParams)| {
        let (mut params, mut holder) = (params.clone(), made(alice.as_str(), &[]).1);
        change(&mut params);
        holder.chain[0] = setting.ca.sign(&params, &holder.key);
        holder.brought()
    };
    says(
        altered(&|p| p.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained)),
        "a CA certificate cannot log in",
    )
    .await;
    says(altered(&|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]), "lacks clientAuth")
        .await;
    says(altered(&|p| (p.not_before, p.not_after) = expired), "has expired").await;
    says(altered(&|p| p.not_before = now.plus(HOUR).to_date_time()), "not valid yet").await;

    // A leaf below another agent's leaf.
    let bob = setting.agent("bob");
    let issuer = rcgen::Issuer::new(made(setting.id("bob").as_str(), &[]).0, &bob.key);
    let key = KeyPair::generate_p256().unwrap();
    let child = params.signed_by(&key, &issuer).unwrap();
    let child = mastio_pki::Certificate::from_der(child.der().to_vec()).unwrap();
    let chain = vec![child, bob.chain[0].clone(), setting.ca.certificate.clone()];
    says(Holder { id: String::new(), chain, key }.brought(), "a leaf acts as CA").await;

    let enrolled = enroll(&setting.authority, "alice", &good.brought()).await.unwrap();
    assert!(!enrolled.re_pinned && enrolled.key.is_none());
    assert_eq!(enrolled.certificates, good.pem(), "the intermediate stays with the leaf");
    assert!(setting.gets_in(&good).await);
    assert_eq!(told(&setting.authority, "admin.agent_enroll_byoca").await.len(), 1);
}

#[tokio::test]
async fn a_name_that_people_take_for_another_ones_is_refused() {
    let setting = Setting::new().await;
    let authority = &setting.authority;
    enroll(authority, "alice", &setting.agent("alice").brought()).await.unwrap();
    let refused = enroll(authority, "Alice", &setting.agent("Alice").brought()).await.unwrap_err();
    assert_eq!((refused.status(), refused.reason()), (409, "agent_id_lookalike"));
    assert!(refused.to_string().contains("::alice already"), "{refused}");
    let made = authority.create_agent(&candidate("ALICE"), false, &operator()).await;
    assert_eq!(reason(made), (409, "agent_id_lookalike"));
    assert_eq!(setting.world.count("SELECT count(*) FROM internal_agents"), 1);
    // Where the existing system took both, both go on.
    setting.world.sql("UPDATE agent_certs SET agent_id = upper(agent_id)");
    authority.reload().unwrap();
    enroll(authority, "alice", &setting.agent("alice").update()).await.unwrap();
}

#[tokio::test]
async fn weak_keys_are_not_enrolled() {
    let setting = Setting::new().await;
    let trust = setting.authority.trust();
    // The key is judged before who signed it, so any certificate with such a key will do.
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:1024", "-nodes", "-days", "1", "-keyout", "-"])
        .args(["-subj", &format!("/CN={}::alice", trust.org)])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let pem = String::from_utf8(made.stdout).unwrap();
    let signature = Possession::Signature("AAAA".into());
    for possession in [Possession::Key(pem.clone().into()), signature] {
        let brought = Brought { certificates: pem.clone(), possession, update_existing: false };
        let said = setting.refused(&brought).await;
        assert!(said.contains("too weak") || said.contains("not a private key"), "{said}");
    }
}

#[tokio::test]
async fn possession_is_proved_without_sending_the_key() {
    let setting = Setting::new().await;
    let alice = setting.agent("alice");
    let fingerprint = hex::encode(alice.chain[0].spki_sha256());
    let signed = |key: &KeyPair, text: &str| URL_SAFE_NO_PAD.encode(key.sign(text.as_bytes()).unwrap());
    let request =
        |key: &KeyPair| rcgen::CertificateParams::default().serialize_request(key).unwrap().pem().unwrap();
    let by = |possession| Brought { possession, ..alice.brought() };
    let other = KeyPair::generate_p256().unwrap();
    let wrong = [
        (
            Possession::Signature(signed(&other, &possession_message(&fingerprint))),
            "pop_signature does not verify",
        ),
        (Possession::Signature(signed(&alice.key, "enrollment-pop:v1|")), "pop_signature does not verify"),
        (Possession::Signature(String::new()), "pop_signature does not verify"),
        (Possession::Request(request(&other)), "csr_pem does not match cert_pem public key"),
        (Possession::Request("nonsense".into()), "csr_pem cannot be used"),
    ];
    for (possession, text) in wrong {
        let said = setting.refused(&by(possession)).await;
        assert!(said.contains(text), "expected {text:?}: {said}");
    }
    let by_request = by(Possession::Request(request(&alice.key)));
    enroll(&setting.authority, "alice", &by_request).await.unwrap();
    let signature = signed(&alice.key, &possession_message(&fingerprint));
    let again = Brought { update_existing: true, ..by(Possession::Signature(signature)) };
    assert!(enroll(&setting.authority, "alice", &again).await.unwrap().re_pinned);
    assert!(setting.gets_in(&alice).await, "the same certificate is not superseded by itself");
}

#[tokio::test]
async fn a_plain_post_re_pins_only_what_is_not_live() {
    let setting = Setting::new().await;
    let authority = &setting.authority;
    let first = setting.agent("alice");
    enroll(authority, "alice", &first.brought()).await.unwrap();
    let second = setting.agent("alice");
    for post in [&first, &second] {
        let refused = enroll(authority, "alice", &post.brought()).await.unwrap_err();
        assert_eq!(
            (refused.status(), refused.to_string()),
            (409, format!("agent {} already enrolled", setting.id("alice")))
        );
    }
    // Switched off, with a certificate that would still do.
    authority.deactivate(&setting.id("alice"), &operator()).await.unwrap();
    assert_eq!(reason(enroll(authority, "alice", &second.brought()).await), (409, "switched_off"));
    authority.reactivate(&setting.id("alice"), &operator()).await.unwrap();

    setting.world.clock.advance(25 * HOUR);
    let third = setting.agent("alice");
    let enrolled = enroll(authority, "alice", &third.brought()).await.unwrap();
    assert!(enrolled.re_pinned, "expired");
    assert!(setting.gets_in(&third).await);

    // As a rotation of the CA leaves it: a pin that leads nowhere; and none at all.
    let connection = rusqlite::Connection::open(authority.store().database().path()).unwrap();
    let stranger = Ca::upstream(setting.world.clock.now()).certificate.pem();
    for pin in [Some(stranger), None] {
        let sql = "UPDATE internal_agents SET cert_pem = ?1 WHERE agent_id = ?2";
        connection.execute(sql, rusqlite::params![pin, setting.id("alice").as_str()]).unwrap();
        authority.reload().unwrap();
        let next = setting.agent("alice");
        assert!(enroll(authority, "alice", &next.brought()).await.unwrap().re_pinned, "{pin:?}");
        assert!(setting.gets_in(&next).await);
    }
}

/// The thumbprint of what an enrolment took the place of, and whether it switched the agent on.
pub(crate) fn replaced(details: &str) -> (Option<String>, bool) {
    let details: serde_json::Value = serde_json::from_str(details).unwrap();
    let thumbprint = details["previous_cert_thumbprint"].as_str().map(str::to_owned);
    (thumbprint, details["reactivated"].as_bool().unwrap())
}

#[tokio::test]
async fn an_update_ends_the_certificate_and_tokens_of_before() {
    let setting = Setting::new().await;
    let authority = &setting.authority;
    let (first, second) = (setting.agent("alice"), setting.agent("alice"));
    enroll(authority, "alice", &first.brought()).await.unwrap();
    let token = mint_mtls(authority, &first.peer()).await.unwrap();
    let call = async || authority.caller_by_token(&first.peer(), &token, &line("GET", CALL, None)).await;
    call().await.unwrap();
    let enrolled = enroll(authority, "alice", &second.update()).await.unwrap();
    assert!(enrolled.re_pinned);
    assert_eq!(reason(call().await), (401, "token_epoch_ended"));
    let ended = authority.certificate(&first.peer()).await.unwrap_err();
    assert_eq!(ended.to_string(), "Certificate has been revoked");
    assert!(setting.gets_in(&second).await);
    assert_eq!(reason(enroll(authority, "alice", &first.update()).await), (409, "certificate_revoked"));

    authority.deactivate(&setting.id("alice"), &operator()).await.unwrap();
    let third = setting.agent("alice");
    enroll(authority, "alice", &third.update()).await.unwrap();
    assert!(setting.gets_in(&third).await, "an inactive agent comes back");
    let replaced: Vec<_> =
        told(authority, "admin.agent_enroll_byoca").await.iter().map(|details| replaced(details)).collect();
    let thumbprint = |holder: &Holder| Some(holder.chain[0].thumbprint().to_string());
    assert_eq!(replaced, [(None, false), (thumbprint(&first), false), (thumbprint(&second), true)]);
}

#[tokio::test]
async fn a_revoked_agent_comes_back_with_another_key_only() {
    let setting = Setting::new().await;
    let authority = &setting.authority;
    let (params, first) = setting.ca.agent(setting.id("alice").as_str(), &[], setting.world.clock.now());
    enroll(authority, "alice", &first.brought()).await.unwrap();
    authority.revoke(&setting.id("alice"), None, &operator()).await.unwrap();
    setting.world.clock.advance(Duration::from_secs(5));
    // Another certificate for the stolen key.
    let chain = vec![setting.ca.sign(&params, &first.key), setting.ca.certificate.clone()];
    let again =
        Holder { id: String::new(), chain, key: KeyPair::from_pkcs8_der(&first.key.to_pkcs8_der()).unwrap() };
    let refused = enroll(authority, "alice", &again.update()).await.unwrap_err();
    assert!(refused.status() == 409 && refused.to_string().starts_with("key_revoked"), "{refused}");
    assert!(!setting.gets_in(&first).await && !setting.gets_in(&again).await);
    let next = setting.agent("alice");
    // A job that enrols again by itself does not undo what the operator did.
    assert_eq!(reason(enroll(authority, "alice", &next.brought()).await), (409, "switched_off"));
    assert!(enroll(authority, "alice", &next.update()).await.unwrap().re_pinned);
    assert!(setting.gets_in(&next).await && !setting.gets_in(&first).await);
    authority.revoke(&setting.id("alice"), None, &operator()).await.unwrap();
    assert!(!setting.gets_in(&next).await, "it can be revoked again");
}

#[tokio::test]
async fn a_repeated_request_that_replaced_a_certificate_did_not_make_the_agent() {
    let setting = Setting::new().await;
    let once = Once::new("byoca", b"key", b"request");
    enroll(&setting.authority, "alice", &setting.agent("alice").brought()).await.unwrap();
    setting.world.clock.advance(Duration::from_secs(1));
    let keyed = Candidate { once: Some(once.clone()), ..candidate("alice") };
    let next = setting.agent("alice").update();
    let replaced = setting.authority.enroll_byoca(&keyed, &next, &operator()).await.unwrap();
    let again = setting.authority.replayed(&once).await.unwrap().unwrap();
    assert!(replaced.re_pinned && again.re_pinned);
    assert_eq!(
        (again.not_after, again.certificates),
        (Some(replaced.not_after), Some(replaced.certificates))
    );
}
