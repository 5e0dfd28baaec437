//! Another Org CA in one cut: what ends, what goes on, and what is refused.

mod prepared;
mod weak_roots;

use std::{fs, sync::Arc, time::Duration};

use mastio_authority::{
    Authority,
    lifecycle::Rotation,
    rotation::{Candidate, Cut, NoContinuity, Rotated, RotationError, Source, Upload},
};
use mastio_core::{AgentId, Clock, Stamp, SystemRng, TrustDomain};
use mastio_pki::{Certificate, KeyPair, lineage, pem, profile};
use mastio_store::{cas::CaState, keys::CaKind};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyUsagePurpose};
use secrecy::ExposeSecret;

use crate::{
    forge::{Ca, HOUR},
    world::*,
};

pub(crate) const CUT: Cut = Cut { compromise: false };
pub(crate) const COMPROMISE: Cut = Cut { compromise: true };
const PASSPHRASE: (&str, &str) = ("MCP_PROXY_DB_ENCRYPTION_KEY", "fixture-passphrase-0123456789abcdef");

/// The name of a root that was looked at.
fn prepared(authority: &Authority, candidate: Arc<Candidate>, cut: Cut) -> String {
    authority.prepare(candidate, cut.into(), authority.trust().root.thumbprint())
}

pub(crate) async fn cut(authority: &Arc<Authority>) -> Result<Rotated, RotationError> {
    authority.rotate_root(Source::Mint, CUT, &operator()).await
}

fn id(authority: &Authority, name: &str) -> AgentId {
    AgentId::parse(&format!("{}::{name}", authority.trust().org)).unwrap()
}

/// What an operator's `rotate-cert` gives an agent.
pub(crate) async fn reissued(authority: &Authority, name: &str) -> Holder {
    reissued_as(authority, name, &Rotation::default()).await
}

async fn reissued_as(authority: &Authority, name: &str, how: &Rotation) -> Holder {
    let id = id(authority, name);
    let rotated = authority.rotate_certificate(&id, how, &operator()).await.unwrap();
    let key = KeyPair::from_pem(rotated.key.unwrap().expose_secret()).unwrap();
    Holder { id: id.to_string(), chain: pem::certificates(&rotated.certificates).unwrap(), key }
}

pub(crate) async fn gets_in(authority: &Authority, holder: &Holder) -> Result<(), &'static str> {
    let refused = |error| mastio_authority::Refusal::reason(&error);
    authority.certificate(&holder.peer()).await.map(drop).map_err(refused)
}

pub(crate) fn states(authority: &Authority, kind: CaKind) -> Vec<(CaState, bool)> {
    let trust = authority.trust();
    trust.cas.iter().filter(|ca| ca.kind == kind).map(|ca| (ca.state, ca.cut)).collect()
}

#[tokio::test]
async fn what_the_old_root_certified_ends_and_what_spire_certified_goes_on() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let before = authority.trust();
    let managed = Holder::created(&authority, "managed").await;
    let token = mint_mtls(&authority, &managed.peer()).await.unwrap();
    let own = Ca::below_root(&world, &authority).await;
    let brought = own.agent(id(&authority, "byoca").as_str(), &[], world.clock.now()).1;
    authority.enroll_byoca(&candidate("byoca"), &brought.brought(), &operator()).await.unwrap();
    let domain = TrustDomain::parse("prod.example").unwrap();
    let spire = Ca::spire("prod.example", world.clock.now());
    authority.set_spire_bundle(&domain, &spire.certificate.pem(), &operator()).await.unwrap();
    let workload = spire.svid("spiffe://prod.example/walker", world.clock.now());
    authority.enroll_spiffe(&candidate("walker"), &workload.brought(), None, &operator()).await.unwrap();
    let walking = mint_mtls(&authority, &workload.peer()).await.unwrap();

    let plan = authority.preflight(&authority.candidate(&Source::Mint).unwrap(), CUT.into()).await.unwrap();
    assert_eq!((plan.agents.managed, plan.agents.byoca, plan.agents.spiffe_unaffected), (1, 1, 1));
    assert_eq!(plan.continuity, Ok(()));
    assert_eq!(authority.trust().root, before.root, "looking changes nothing");
    let rotated = cut(&authority).await.unwrap();

    let after = authority.trust();
    assert_eq!((rotated.fingerprint, rotated.previous), (after.root.thumbprint(), before.root.thumbprint()));
    assert_eq!((rotated.superseded, rotated.agents.total()), (vec![before.root.thumbprint()], 2));
    assert_eq!(after.root.subject_raw(), before.root.subject_raw());
    assert!(!before.root.is_signed_by(&after.root) && after.root.key_kind() == mastio_pki::KeyKind::P256);
    for holder in [&managed, &brought] {
        assert_eq!(gets_in(&authority, holder).await, Err("ca_rotated"));
        let assertion = holder.assertion(world.clock.now());
        let minted = authority.mint(None, Some(&assertion), &line("POST", TOKEN, None), "r").await;
        assert_eq!(reason(minted), (401, "ca_rotated"));
    }
    let call = authority.caller_by_token(&managed.peer(), &token, &line("GET", CALL, None)).await;
    assert_eq!(reason(call), (401, "token_epoch_ended"));
    let lone = Holder {
        chain: managed.chain[..1].to_vec(),
        id: managed.id.clone(),
        key: KeyPair::generate_p256().unwrap(),
    };
    assert_eq!(gets_in(&authority, &lone).await, Err("ca_rotated"));

    assert_eq!(gets_in(&authority, &workload).await, Ok(()));
    let call = authority.caller_by_token(&workload.peer(), &walking, &line("GET", CALL, None)).await;
    assert!(call.is_ok(), "{call:?}");
    let with_grace = Rotation { grace: Some(Duration::from_secs(3600)), ..Rotation::default() };
    let again = reissued_as(&authority, "managed", &with_grace).await;
    let told =
        "SELECT details FROM local_audit WHERE event_type = 'agent.cert_rotated' ORDER BY id DESC LIMIT 1";
    let told: serde_json::Value = serde_json::from_str(&world.text(told)).unwrap();
    assert_eq!(told["grace_period_expires_at"], serde_json::Value::Null, "what was cut has no grace: {told}");
    assert_eq!(gets_in(&authority, &again).await, Ok(()));
    assert!(mint_mtls(&authority, &again.peer()).await.is_ok());
    let own = Ca::below_root(&world, &authority).await;
    let next = own.agent(&brought.id, &[], world.clock.now()).1;
    authority.enroll_byoca(&candidate("byoca"), &next.update(), &operator()).await.unwrap();
    assert_eq!(gets_in(&authority, &next).await, Ok(()));
    assert_eq!(gets_in(&authority, &managed).await, Err("certificate_revoked"), "it was replaced since");
}

#[tokio::test]
async fn the_superseded_root_stays_for_verifying_and_vouches_for_its_successor() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    authority.keep_files().await.unwrap();
    let roots = [
        authority.trust().root.clone(),
        {
            cut(&authority).await.unwrap();
            authority.trust().root.clone()
        },
        {
            cut(&authority).await.unwrap();
            authority.trust().root.clone()
        },
    ];
    use CaState::{Active, Superseded};
    let expected = [(Active, false), (Superseded, true), (Superseded, true)];
    assert_eq!(states(&authority, CaKind::Root), expected);
    assert_eq!(states(&authority, CaKind::Intermediate), expected);
    let trust = authority.trust();
    let shown = pem::certificates(&trust.trust_file).unwrap();
    assert_eq!((shown.len(), &shown[0]), (6, &roots[2]), "three roots and three intermediates");
    assert_eq!(shown[4..], [roots[1].clone(), roots[0].clone()]);
    // Each link is the next root's name and key under the hand of the one before.
    let links: Vec<_> = trust.cas.links().cloned().collect();
    assert!(links[0].is_signed_by(&roots[1]) && links[0].spki_der() == roots[2].spki_der());
    assert!(links[1].is_signed_by(&roots[0]) && links[1].spki_der() == roots[1].spki_der());
    let stated = world.text("SELECT lineage FROM pki_cas WHERE link_pem IS NOT NULL ORDER BY rowid LIMIT 1");
    assert!(lineage::verify(&stated, &roots[0], &roots[1]).is_ok(), "{stated}");
    // The files follow before the answer.
    let file = |name: &str| fs::read_to_string(world.dir.path().join(name)).unwrap();
    assert_eq!(file("nginx-certs/org-ca.crt"), trust.trust_file);
    assert_eq!(file("certs/org-ca.pem"), trust.trust_file);
    let served = pem::certificates(&file("nginx-certs/mastio-server.crt")).unwrap();
    assert_eq!(served[2..], links);
    assert!(file("data/.mastio-identity").contains(&hex::encode(roots[2].spki_sha256())));
    // Superseded intermediates go on to sign the revocation lists of their leaves; no root key is left.
    assert_eq!(trust.crl_issuers().count(), 3);
    assert_eq!(
        world.count("SELECT count(*) FROM pki_cas WHERE kind = 'org_ca' AND private_key IS NOT NULL"),
        0
    );
    drop(trust);
    leave(authority);
    let again = world.boot(&[]).await.unwrap();
    assert_eq!(again.trust().trust_file, file("certs/org-ca.pem"));
    assert_eq!(again.trust().halt, None);
}

#[tokio::test]
async fn however_often_it_rotates_clients_can_read_the_trust_file() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    for _ in 0..9 {
        cut(&authority).await.unwrap();
    }
    let trust = authority.trust();
    let shown = pem::certificates(&trust.trust_file).unwrap();
    assert_eq!((shown.len(), shown[0] == trust.root), (10, true), "two active CAs and twice four of before");
    assert_eq!(trust.above_server().len(), 4, "the intermediate and three links");
    assert_eq!(trust.crl_issuers().count(), 10, "every revocation list goes on");
}

#[tokio::test]
async fn an_adopted_database_gets_another_root_and_keeps_no_copy_of_the_old_key() {
    for (name, more) in [("adopted-plain.db", &[][..]), ("adopted-encrypted.db", &[PASSPHRASE])] {
        let world = World::new();
        fixture(&world, name);
        world.sql(
            "CREATE TABLE IF NOT EXISTS legacy_pki_archive (key_id TEXT PRIMARY KEY, key_type TEXT NOT NULL, \
                 legacy_pem TEXT NOT NULL, archived_at TEXT NOT NULL); \
             INSERT INTO legacy_pki_archive VALUES ('legacy-org-ca-x', 'org_ca', 'PARKED KEY OF THE OLD ROOT', 'x');",
        );
        // The fixtures were made on 2026-11-22.
        world.clock.advance(Duration::from_secs(10_000_000));
        let authority = world.boot(more).await.unwrap();
        let agents = fleet(&authority).await;
        cut(&authority).await.unwrap();
        assert_eq!(world.count("SELECT count(*) FROM legacy_pki_archive WHERE legacy_pem <> ''"), 0);
        for file in ["data/mcp_proxy.db", "data/mcp_proxy.db-wal"] {
            let bytes = fs::read(world.dir.path().join(file)).unwrap();
            assert!(!bytes.windows(10).any(|window| window == b"PARKED KEY"), "{name}: {file}");
        }
        let alice = agents.iter().find(|agent| agent.id.name() == "alice").unwrap();
        assert_eq!(gets_in(&authority, &reissued(&authority, alice.id.name()).await).await, Ok(()));
        leave(authority);
        assert!(world.boot(more).await.is_ok(), "{name}");
    }
}

#[tokio::test]
async fn after_a_compromise_nothing_of_before_is_believed() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    cut(&authority).await.unwrap();
    let old = authority.trust();
    let alice = Holder::created(&authority, "alice").await;
    let rotated = authority.rotate_root(Source::Mint, COMPROMISE, &operator()).await.unwrap();
    let trust = authority.trust();
    assert!(rotated.continuity.is_err());
    assert_eq!(pem::certificates(&trust.trust_file).unwrap().len(), 2, "the new root and its intermediate");
    assert_eq!(trust.cas.links().count(), 0);
    assert_eq!(trust.verifiers.len(), 1, "no token of before verifies");
    assert_eq!(gets_in(&authority, &alice).await, Err("ca_rotated"));
    let broken = "SELECT count(*) FROM pki_cas WHERE thumbprint = ?1 AND compromised = 1 AND lineage IS NULL";
    assert_eq!(world.count(&broken.replace("?1", &format!("'{}'", old.root.thumbprint()))), 1);
    let plan =
        authority.preflight(&authority.candidate(&Source::Mint).unwrap(), COMPROMISE.into()).await.unwrap();
    assert_eq!(plan.continuity, Err(NoContinuity::Compromise));
}

/// A root as OpenSSL makes it, but for what `change` does to it, and its key.
pub(crate) fn root(now: Stamp, change: impl FnOnce(&mut CertificateParams)) -> (Certificate, KeyPair) {
    let key = KeyPair::generate_p256().unwrap();
    let made = params(now, change).self_signed(&key).unwrap();
    (Certificate::from_der(made.der().to_vec()).unwrap(), key)
}

pub(crate) fn params(now: Stamp, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Our Root");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) =
        (now.minus(HOUR).to_date_time(), now.plus(1000 * HOUR).to_date_time());
    change(&mut params);
    params
}

pub(crate) fn upload(certificates: String, key: &KeyPair) -> Source {
    Source::Upload(Upload { certificates, key: key.to_pkcs8_pem() })
}

#[tokio::test]
async fn an_operators_own_root_takes_the_place() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let (certificate, key) = root(world.clock.now(), |_| {});
    let source = upload(certificate.pem(), &key);
    let plan = authority.preflight(&authority.candidate(&source).unwrap(), CUT.into()).await.unwrap();
    assert_eq!(plan.continuity, Err(NoContinuity::PathLength), "another subject needs more room");
    assert_eq!((plan.fingerprint, plan.subject.as_str()), (certificate.thumbprint(), "CN=Our Root"));
    let rotated = authority.rotate_root(source.clone(), CUT, &operator()).await.unwrap();
    assert_eq!((authority.trust().root.clone(), rotated.continuity.is_ok()), (certificate, false));
    let alice = Holder::created(&authority, "alice").await;
    assert_eq!(gets_in(&authority, &alice).await, Ok(()));
    assert_eq!(reason(authority.rotate_root(source, CUT, &operator()).await), (400, "key_reused"));
    leave(authority);
    assert!(world.boot(&[]).await.is_ok());
}

#[tokio::test]
async fn what_cannot_be_a_root_is_refused_with_its_reason() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let (now, first) = (world.clock.now(), authority.trust().root.clone());
    cut(&authority).await.unwrap();
    let says = |source: Source, expected: &str| {
        assert_eq!(reason(authority.candidate(&source)), (400, &*expected.to_owned().leak()));
    };
    let changed = |change: fn(&mut CertificateParams), now: Stamp| {
        let (certificate, key) = root(now, change);
        upload(certificate.pem(), &key)
    };
    says(changed(|params| params.is_ca = IsCa::ExplicitNoCa, now), "not_a_ca");
    let restrictions: [fn(&mut CertificateParams); 2] = [
        |params| {
            let mut unknown =
                rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99, 1], vec![5, 0]);
            unknown.set_criticality(true);
            params.custom_extensions.push(unknown);
        },
        |params| params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth],
    ];
    restrictions.into_iter().for_each(|change| says(changed(change, now), "restricted"));
    says(changed(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign], now), "no_cert_sign");
    says(changed(|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)), now), "path_len_zero");
    says(changed(|_| {}, now.minus(2000 * HOUR)), "expired");
    says(changed(|_| {}, now.plus(2 * HOUR)), "not_yet_valid");
    says(
        changed(|params| params.distinguished_name = rcgen::DistinguishedName::new(), now),
        "subject_unusable",
    );

    let ((good, key), other) = (root(now, |_| {}), KeyPair::generate_p256().unwrap());
    says(upload("nonsense".into(), &key), "ca_cert_invalid");
    says(upload(good.pem().repeat(60), &key), "ca_cert_invalid");
    says(upload(good.pem(), &other), "key_mismatch");
    let with_key = |key: String| Source::Upload(Upload { certificates: good.pem(), key: key.into() });
    says(with_key("nonsense".into()), "ca_key_invalid");
    let both = format!("{}{}", key.to_pkcs8_pem().expose_secret(), other.to_pkcs8_pem().expose_secret());
    says(with_key(both), "several_keys");
    says(upload(format!("{}{}", good.pem(), key.to_pkcs8_pem().expose_secret()), &key), "several_keys");

    // A CA below another one, with and without it, and beside one that has nothing to do with it.
    let (top, top_key) = root(now, |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let issuer = rcgen::Issuer::new(params(now, |_| {}), &top_key);
    let below = params(now, |params| params.distinguished_name.push(DnType::OrganizationName, "below"));
    let below = below.signed_by(&key, &issuer).unwrap();
    let below = Certificate::from_der(below.der().to_vec()).unwrap();
    says(upload(below.pem(), &key), "bundle_does_not_chain");
    says(upload(format!("{}{}", below.pem(), top.pem()), &key), "not_self_signed");
    says(upload(format!("{}{}", good.pem(), top.pem()), &key), "bundle_does_not_chain");

    // The same keys again, under whatever certificate.
    let stored = world.dir.path().join("data/mcp_proxy.db");
    let stored = rusqlite::Connection::open(stored).unwrap();
    let active = "SELECT value FROM proxy_config WHERE key = 'org_ca_key'";
    let active =
        KeyPair::from_pem(&stored.query_row(active, [], |row| row.get::<_, String>(0)).unwrap()).unwrap();
    let same = profile::root(&authority.trust().org, &active, now, &SystemRng).unwrap();
    says(upload(same.pem(), &active), "key_reused");
    assert!(authority.trust().cas.iter().any(|ca| ca.certificate == first), "the first one is known too");
    says(weak_rsa(), "weak_key");
}

#[tokio::test]
async fn a_key_that_does_something_else_is_not_that_of_a_root() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let (now, org) = (world.clock.now(), authority.trust().org.clone());
    let with = |key: &KeyPair| upload(profile::root(&org, key, now, &SystemRng).unwrap().pem(), key);
    let stored = rusqlite::Connection::open(world.dir.path().join("data/mcp_proxy.db")).unwrap();
    let stored = |sql: &str| {
        KeyPair::from_pem(&stored.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap()).unwrap()
    };
    let intermediate = stored("SELECT value FROM proxy_config WHERE key = 'mastio_ca_key'");
    let signs = stored("SELECT privkey_pem FROM mastio_keys");
    let alice = Holder::created(&authority, "alice").await;
    for key in [&intermediate, &signs, &alice.key] {
        assert_eq!(reason(authority.candidate(&with(key))), (400, "key_in_use"));
        assert_eq!(reason(authority.rotate_root(with(key), CUT, &operator()).await), (400, "key_in_use"));
    }

    let (spire, key) = root(now, |_| {});
    let domain = TrustDomain::parse("prod.example").unwrap();
    let before = authority.candidate(&upload(spire.pem(), &key)).unwrap();
    authority.set_spire_bundle(&domain, &spire.pem(), &operator()).await.unwrap();
    let refused = authority.candidate(&upload(spire.pem(), &key));
    assert_eq!(reason(refused), (400, "in_spire_bundle"));
    let late = Source::Prepared(prepared(&authority, before, CUT));
    assert_eq!(reason(authority.rotate_root(late, CUT, &operator()).await), (400, "in_spire_bundle"));
}

/// A root with an RSA key of 1024 bits, by OpenSSL.
fn weak_rsa() -> Source {
    let dir = tempfile::tempdir().unwrap();
    let made = std::process::Command::new("openssl")
        .args(
            "req -x509 -newkey rsa:1024 -nodes -keyout k.pem -out c.pem -days 400 -subj /CN=weak".split(' '),
        )
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    Source::Upload(Upload { certificates: read("c.pem"), key: read("k.pem").into() })
}
