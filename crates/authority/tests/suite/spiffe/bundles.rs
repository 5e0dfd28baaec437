//! Bundles: several CAs, authorities above and between, and what an adopted database had.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use mastio_authority::Authority;
use mastio_core::{Clock, Stamp, TrustDomain};
use mastio_pki::Certificate;
use serde_json::json;

use super::{DOMAIN, Setting, WORKLOAD, domain};
use crate::{forge::Ca, world::*};

#[tokio::test]
async fn bundles_count_at_once_and_hold_several_cas() {
    let setting = Setting::new().await;
    let (authority, now) = (&setting.authority, setting.now());
    let svid = setting.svid();
    setting.enroll("walker", &svid.brought()).await.unwrap();
    // SPIRE prepares its next CA, then uses it.
    let next = Ca::spire(DOMAIN, now);
    let x5c =
        |ca: &Certificate| json!({ "use": "x509-svid", "kty": "EC", "x5c": [STANDARD.encode(ca.der())] });
    let document = json!({ "keys": [x5c(&setting.spire.certificate), x5c(&next.certificate)] }).to_string();
    let later = next.svid(WORKLOAD, now);
    assert_eq!(reason(setting.get_in(&later).await), (401, "client_cert_not_verified"));
    authority.set_spire_bundle(&domain(), &document, &operator()).await.unwrap();
    setting.get_in(&later).await.unwrap();
    setting.get_in(&svid).await.unwrap();
    authority.set_spire_bundle(&domain(), &next.certificate.pem(), &operator()).await.unwrap();
    assert_eq!(reason(setting.get_in(&svid).await), (401, "client_cert_not_verified"));
    // A CA that is sent along with an enrollment is added.
    let third = Ca::spire(DOMAIN, now);
    let other = third.svid("spiffe://prod.example/other", now);
    let sent = third.certificate.pem();
    authority.enroll_spiffe(&candidate("other"), &other.brought(), Some(&sent), &operator()).await.unwrap();
    setting.get_in(&other).await.unwrap();
    setting.get_in(&later).await.unwrap();

    authority.remove_spire_bundle(&domain(), &operator()).await.unwrap();
    assert_eq!(reason(setting.get_in(&later).await), (401, "client_cert_not_verified"));
    assert_eq!(reason(authority.remove_spire_bundle(&domain(), &operator()).await), (404, "not_found"));
    for (text, word) in [
        (svid.pem(), "bundle_not_ca"),
        (authority.trust().issuer.as_ref().unwrap().certificate().pem(), "bundle_own_ca"),
        (Ca::spire("other.example", now).certificate.pem(), "foreign_trust_domain"),
        (Ca::spire(DOMAIN, Stamp::from_unix(1_000_000)).certificate.pem(), "bundle_expired"),
        ("{}".into(), "bundle_unreadable"),
    ] {
        assert_eq!(reason(authority.set_spire_bundle(&domain(), &text, &operator()).await), (400, word));
    }
}

#[tokio::test]
async fn an_upstream_authority_and_the_cas_between_are_understood() {
    let setting = Setting::without_bundle().await;
    let (authority, now) = (&setting.authority, setting.now());
    let upstream = Ca::upstream(now);
    let spire = upstream.spire_below(DOMAIN, now);
    authority.set_spire_bundle(&domain(), &upstream.certificate.pem(), &operator()).await.unwrap();
    let with_chain = || {
        let mut svid = spire.svid(WORKLOAD, now);
        svid.chain.push(spire.certificate.clone());
        svid
    };
    let svid = with_chain();
    setting.enroll("walker", &svid.brought()).await.unwrap();
    setting.get_in(&svid).await.unwrap();
    // A proxy forwards the leaf alone: the CAs between were seen before.
    let mut next = with_chain();
    next.chain.truncate(1);
    setting.get_in(&next).await.unwrap();
    // SPIRE below our own Org CA: its CA is the bundle, and ours never is.
    let own_ca = Ca::below_root(&setting.world, authority).await;
    let theirs = TrustDomain::parse("below.example").unwrap();
    authority.set_spire_bundle(&theirs, &own_ca.certificate.pem(), &operator()).await.unwrap();
    let below = own_ca.svid("spiffe://below.example/x", now);
    setting.enroll("below", &below.brought()).await.unwrap();
    setting.get_in(&below).await.unwrap();
}

#[tokio::test]
async fn svids_of_an_adopted_database_go_on() {
    let world = World::new();
    world.clock.advance(Duration::from_secs(10_000_000));
    let now = world.clock.now();
    let data = world.dir.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/adopted-plain.db");
    std::fs::copy(fixture, data.join("mcp_proxy.db")).unwrap();
    let connection = rusqlite::Connection::open(data.join("mcp_proxy.db")).unwrap();
    let org: String = connection
        .query_row("SELECT value FROM proxy_config WHERE key = 'org_id'", [], |row| row.get(0))
        .unwrap();
    // An upstream authority names no trust domain: the agents do.
    let upstream = Ca::upstream(now);
    connection
        .execute(
            "INSERT INTO proxy_config (key, value) VALUES ('spire_trust_bundle', ?1)",
            [upstream.certificate.pem()],
        )
        .unwrap();
    let first = upstream.svid(WORKLOAD, now);
    let insert = "INSERT INTO internal_agents (agent_id, display_name, capabilities, cert_pem, created_at, is_active, \
        federated, federation_revision, last_pushed_revision, enrollment_method, spiffe_id, reach, principal_type) \
        VALUES (?1, ?1, '[]', ?2, ?3, ?4, 0, 1, 0, 'spiffe', ?5, 'both', 'agent')";
    for (name, active, created) in
        [("old", 0, "2025-01-01T00:00:00+00:00"), ("walker", 1, "2026-01-01T00:00:00+00:00")]
    {
        let id = format!("{org}::{name}");
        connection.execute(insert, rusqlite::params![id, first.pem(), created, active, WORKLOAD]).unwrap();
    }
    drop(connection);
    let authority = world.boot(&[]).await.unwrap();
    let next = upstream.svid(WORKLOAD, world.clock.now());
    let pinned = authority.certificate(&next.peer()).await.unwrap();
    assert_eq!(pinned.agent.id().name(), "walker", "the active one of two");
    // What was removed since does not come back with the next start.
    authority.remove_spire_bundle(&domain(), &operator()).await.unwrap();
    drop(authority);
    let again = until_started(&world).await;
    assert!(again.spire_bundles().await.unwrap().is_empty());
}

/// The lock of the one before is let go when its last task ends.
async fn until_started(world: &World) -> Arc<Authority> {
    for _ in 0..2000 {
        if let Ok(authority) = world.boot(&[]).await {
            return authority;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the database is not let go");
}
