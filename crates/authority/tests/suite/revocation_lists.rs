//! `/pki/crl.pem`, `/pki/revoked.json` and the evidence of an incident.

use std::{sync::Arc, time::Duration};

use crate::world::*;
use mastio_authority::{
    Authority,
    crl::Lists,
    enroll::{Brought, Possession},
    lifecycle::Rotation,
};
use mastio_core::{AgentId, Clock, SpiffeId, SystemRng};
use mastio_pki::{Issuer, KeyPair, profile};
use mastio_store::{Statement, Unit};
use serde_json::Value;

const HOUR: Duration = Duration::from_secs(3600);

fn lists(authority: &Authority) -> Arc<Lists> {
    authority.crl().lists().unwrap()
}

/// Number and length of the one list.
fn list(authority: &Authority) -> (i64, u64) {
    let [list] = &lists(authority).lists[..] else { panic!("not one list") };
    (list.number, list.revoked)
}

fn revoked_json(authority: &Authority) -> Value {
    serde_json::from_slice(&authority.crl().revoked().unwrap().body).unwrap()
}

fn id(holder: &Holder) -> AgentId {
    AgentId::parse(&holder.id).unwrap()
}

#[tokio::test]
async fn a_revocation_is_in_the_next_list_and_numbers_never_repeat() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    assert!(authority.crl().lists().is_none() && authority.crl().revoked().is_none());
    authority.keep_crl().await;
    assert_eq!(list(&authority), (1, 0));
    let alice = Holder::created(&authority, "alice").await;
    authority.keep_crl().await;
    assert_eq!(list(&authority), (1, 0), "nothing was revoked");

    authority.revoke(&id(&alice), None, &operator()).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), authority.crl().woken())
        .await
        .expect("the publisher is woken");
    authority.keep_crl().await;
    assert_eq!(list(&authority), (2, 1));
    assert!(lists(&authority).carry(&alice.chain[0].thumbprint()));
    let entry = revoked_json(&authority)["revoked"][0].clone();
    assert_eq!(entry["thumbprint"], alice.chain[0].thumbprint().to_string());
    assert_eq!(entry["serial"], hex::encode(alice.chain[0].serial()));
    assert_eq!(entry["issuer"], lists(&authority).lists[0].issuer_key_id);
    assert_eq!(entry["reason"], "admin_revocation");
    assert_eq!(authority.metrics.fleet.propagation.get_sample_count(), 1);

    world.clock.advance(12 * HOUR - Duration::from_secs(1));
    authority.keep_crl().await;
    assert_eq!(list(&authority), (2, 1), "not old yet");
    world.clock.advance(Duration::from_secs(1));
    authority.keep_crl().await;
    assert_eq!(list(&authority), (3, 1), "old after twelve hours");

    leave(authority);
    let authority = world.boot(&[]).await.unwrap();
    authority.keep_crl().await;
    assert_eq!(list(&authority), (4, 1), "after a restart too");

    // The certificate ends by itself, and leaves the list.
    world.clock.advance(400 * 24 * HOUR);
    authority.keep_crl().await;
    assert_eq!(list(&authority), (5, 0));
    assert_eq!(told(&authority, "pki.crl_published").await.len(), 5);
}

#[tokio::test]
async fn a_commit_of_somebody_else_is_published_too() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let alice = Holder::created(&authority, "alice").await;
    authority.keep_crl().await;
    authority.reload().unwrap();
    authority.keep_crl().await;
    assert_eq!(list(&authority), (1, 0), "what did not change is not signed again");
    let insert = "INSERT INTO revoked_agent_certs VALUES (?1, '0a', '', 0, ?2, ?3, ?4, 'superseded', ?5)";
    let (now, issuer) = (world.clock.now(), lists(&authority).lists[0].issuer_key_id.clone());
    let thumbprint = alice.chain[0].thumbprint();
    let values =
        vec![thumbprint.into(), issuer.into(), alice.id.as_str().into(), now.into(), now.plus(HOUR).into()];
    authority.store().submit(Unit::default().write(Statement::one(insert, values))).await.unwrap();
    authority.reload().unwrap();
    authority.keep_crl().await;
    assert_eq!(list(&authority), (2, 1));
}

#[tokio::test]
async fn a_leaf_of_the_root_is_in_the_document_and_in_no_list() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let trust = authority.trust();
    let pem = std::fs::read_to_string(world.dir.path().join("data/mcp_proxy.db")).err();
    assert!(pem.is_some(), "a database is no text");
    let root_key = stored_root_key(&world);
    let root = Issuer::new(trust.root.clone(), root_key).unwrap();
    let (key, now) = (KeyPair::generate_p256().unwrap(), world.clock.now());
    let alice = AgentId::parse(&format!("{}::alice", trust.org)).unwrap();
    let spiffe = SpiffeId::parse(&format!("spiffe://cullis.local/{}/alice", trust.org)).unwrap();
    let leaf = profile::agent(&root, &alice, &spiffe, key.spki_der(), HOUR, now, &SystemRng).unwrap();
    let possession = Possession::Key(key.to_pkcs8_pem());
    let brought = Brought { certificates: leaf.pem(), possession, update_existing: false };
    authority.enroll_byoca(&candidate("alice"), &brought, &operator()).await.unwrap();
    authority.revoke(&alice, None, &operator()).await.unwrap();
    authority.keep_crl().await;
    assert_eq!(list(&authority).1, 0);
    let listed = revoked_json(&authority);
    assert_eq!(listed["revoked"][0]["thumbprint"], leaf.thumbprint().to_string());
    assert_eq!(listed["revoked"][0]["issuer"], hex::encode(trust.root.key_id().unwrap()));
}

fn stored_root_key(world: &World) -> KeyPair {
    let connection = rusqlite::Connection::open(world.dir.path().join("data/mcp_proxy.db")).unwrap();
    let sql = "SELECT value FROM proxy_config WHERE key = 'org_ca_key'";
    let pem: String = connection.query_row(sql, [], |row| row.get(0)).unwrap();
    KeyPair::from_pem(&pem).unwrap()
}

#[tokio::test]
async fn a_halt_keeps_the_last_list_and_the_document_goes_on() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let alice = Holder::created(&authority, "alice").await;
    authority.keep_crl().await;
    let staged = "INSERT INTO mastio_keys (kid, pubkey_pem, privkey_pem, created_at) \
        SELECT 'mastio-staged', pubkey_pem, privkey_pem, created_at FROM mastio_keys";
    authority.store().submit(Unit::default().write(Statement::one(staged, vec![]))).await.unwrap();
    authority.reload().unwrap();
    authority.revoke(&id(&alice), None, &operator()).await.unwrap();
    authority.keep_crl().await;
    assert_eq!(list(&authority), (1, 0));
    assert_eq!(revoked_json(&authority)["revoked"].as_array().unwrap().len(), 1);
    let dropped = "DELETE FROM mastio_keys WHERE kid = 'mastio-staged'";
    authority.store().submit(Unit::default().write(Statement::one(dropped, vec![]))).await.unwrap();
    authority.reload().unwrap();
    authority.keep_crl().await;
    assert_eq!(list(&authority), (2, 1), "the end of the halt publishes what waited");
}

#[tokio::test]
async fn an_incident_is_contained_with_its_evidence() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let alice = Holder::created(&authority, "alice").await;
    authority.rotate_certificate(&id(&alice), &Rotation::default(), &operator()).await.unwrap();
    authority.keep_crl().await;
    let contained = authority.contain(&id(&alice), Some("laptop stolen"), &operator()).await.unwrap();
    assert!(!contained.revocation.already);
    assert_eq!(contained.certificates.len(), 2, "the rotated one too");
    assert!(!contained.lists[0].published && contained.lists[0].number == 2, "{:?}", contained.lists);
    let events: Vec<_> = contained.entries.iter().map(|entry| entry.event_type.as_str()).collect();
    assert_eq!(events, ["incident.contained", "agent.revoked", "agent.cert_rotated", "agent.create"]);
    let head = contained.head.unwrap();
    assert_eq!(Some(head.chain_seq), contained.entries[0].chain_seq);
    assert_eq!(Some(head.entry_hash), contained.entries[0].entry_hash);

    authority.keep_crl().await;
    let again = authority.contain(&id(&alice), None, &operator()).await.unwrap();
    assert!(again.revocation.already && again.revocation.reason == "laptop stolen");
    assert!(again.lists[0].published && again.lists[0].number == 2, "{:?}", again.lists);
    let nobody = AgentId::parse("acme::nobody").unwrap();
    assert_eq!(reason(authority.contain(&nobody, None, &operator()).await), (404, "not_found"));
}

#[tokio::test]
async fn sessions_end_and_the_agent_goes_on() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let alice = Holder::created(&authority, "alice").await;
    let session = "INSERT INTO user_sessions (session_id, principal_id, agent_cert_thumbprint, sso_subject, idp_issuer, \
        created_at, expires_at) VALUES (?1, 'u', ?2, 's', 'i', ?3, ?3)";
    let now = world.clock.now();
    let open = |name: &str, thumbprint| Statement::one(session, vec![name.into(), thumbprint, now.into()]);
    let pin = || alice.chain[0].thumbprint().into();
    let sessions = [open("one", pin()), open("two", pin()), open("foreign", "00".repeat(32).into())];
    authority.store().submit(Unit::default().write_all(sessions)).await.unwrap();
    assert_eq!(authority.end_sessions(&id(&alice), &operator()).await.unwrap(), 2);
    assert_eq!(authority.end_sessions(&id(&alice), &operator()).await.unwrap(), 0);
    authority.certificate(&alice.peer()).await.unwrap();
    assert_eq!(
        told(&authority, "agent.sessions_revoked").await,
        [r#"{"by":"operator:test","revoked":2}"#, r#"{"by":"operator:test","revoked":0}"#]
    );
    let nobody = AgentId::parse("acme::nobody").unwrap();
    assert_eq!(reason(authority.end_sessions(&nobody, &operator()).await), (404, "not_found"));
}

/// What that many revocations cost.
async fn published(revocations: u64) {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    authority.keep_crl().await;
    let issuer = lists(&authority).lists[0].issuer_key_id.clone();
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?4) \
        INSERT INTO revoked_agent_certs \
        (thumbprint, serial, spki_sha256, key_barred, issuer_ski, agent_id, revoked_at, reason, not_after) \
        SELECT lower(hex(randomblob(32))), '00' || lower(hex(randomblob(15))), lower(hex(randomblob(32))), 1, ?1, \
        'acme::a' || i, ?2, 'admin_revocation', ?3 FROM n";
    let now = world.clock.now();
    let count = i64::try_from(revocations).unwrap();
    let values = vec![issuer.into(), now.into(), now.plus(HOUR * 99).into(), count.into()];
    authority.store().submit(Unit::default().write(Statement::any(fill, values))).await.unwrap();
    let clock = mastio_core::SystemClock::default();
    authority.reload().unwrap();
    let reloaded = clock.elapsed();
    authority.keep_crl().await;
    let published = clock.elapsed();
    println!(
        "reload {reloaded:?}, publish {:?}, list of {} bytes",
        published.saturating_sub(reloaded),
        lists(&authority).pem.body.len()
    );
    assert_eq!(list(&authority).1, revocations);
}

#[tokio::test]
async fn a_thousand_revocations_are_published() {
    published(1000).await;
}

/// `cargo test -p mastio-authority --release --test suite -- --ignored --nocapture hundred`.
#[tokio::test]
#[ignore = "a measurement, not a test"]
async fn a_hundred_thousand_revocations_are_published() {
    published(100_000).await;
}
