//! Readiness: what it tells, and when it is 503.

use std::{fs, time::Duration};

use http::StatusCode;
use mastio_core::Stamp;
use serde_json::{Value, json};

use crate::world::World;

/// Of a root of path length 0.
fn legacy(name: &str) -> String {
    let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/pki-vectors.json");
    let vectors: Value = serde_json::from_slice(&fs::read(vectors).unwrap()).unwrap();
    vectors["legacy_pathlen_zero"][name].as_str().unwrap().to_owned()
}

/// A Mastio whose root permits no CA below it: signing is halted.
pub(crate) async fn halted() -> World {
    let dir = tempfile::tempdir().unwrap();
    let tls = dir.path().join("nginx-certs");
    fs::create_dir_all(&tls).unwrap();
    fs::write(tls.join("org-ca.crt"), legacy("root")).unwrap();
    fs::write(tls.join("org-ca.key"), legacy("root_key")).unwrap();
    // The vector was made on 2026-11-22.
    World::over(dir, Some("acme"), Stamp::from_unix(1_800_000_000)).await
}

#[tokio::test]
async fn what_is_wrong_with_an_adopted_database_is_a_warning() {
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/adopted-plain.db");
    let by_halves = format!(
        "UPDATE migration_state_backups SET snapshot_json = json_object('org_ca_cert_pem', \
         (SELECT value FROM proxy_config WHERE key = 'org_ca_cert')); \
         UPDATE proxy_config SET value = '{}' WHERE key = 'org_ca_cert'; \
         UPDATE proxy_config SET value = '{}' WHERE key = 'org_ca_key'",
        legacy("root"),
        legacy("root_key")
    );
    for (tamper, warnings) in [
        ("", Value::Null),
        (
            "DROP TRIGGER local_audit_no_update; UPDATE local_audit SET agent_id = 'mallory'",
            json!(["audit_chain_broken"]),
        ),
        (&by_halves, json!(["org_ca_legacy_pathlen_zero", "update_by_halves"])),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("data")).unwrap();
        let database = dir.path().join("data/mcp_proxy.db");
        fs::write(&database, fs::read(fixture).unwrap()).unwrap();
        rusqlite::Connection::open(database).unwrap().execute_batch(tamper).unwrap();
        // The fixture was made on 2026-11-22.
        let world = World::over(dir, None, Stamp::from_unix(1_800_000_000)).await;
        for route in ["/healthz", "/health"] {
            let alive = world.get(route).await;
            assert_eq!((alive.status, &alive.body["warnings"]), (StatusCode::OK, &warnings));
        }
    }
}

#[tokio::test]
async fn readiness_follows_the_server_certificate() {
    let world = World::new().await;
    let missing = world.get("/readyz").await;
    assert_eq!(missing.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(missing.body["checks"]["server_cert"], "missing");
    world.authority.keep_files().await.unwrap();
    let ready = world.get("/readyz").await;
    assert_eq!((ready.status, &ready.body["status"]), (StatusCode::OK, &json!("ready")));
    assert_eq!(ready.body["checks"]["server_cert"], "ok");
    assert_eq!(ready.body["checks"]["signer"], "ok");
    world.clock.advance(Duration::from_secs(366 * 86_400));
    let expired = world.get("/readyz").await;
    assert_eq!(expired.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(expired.body["checks"]["server_cert"], "expired");
}

#[tokio::test]
async fn readiness_follows_the_certificate_files() {
    let world = World::new().await;
    world.authority.keep_files().await.unwrap();
    fs::remove_dir_all(world.tls_dir()).unwrap();
    fs::write(world.tls_dir(), "in the way").unwrap();
    world.authority.keep_files().await.unwrap_err();
    let unwritable = world.get("/readyz").await;
    assert_eq!(unwritable.status, StatusCode::SERVICE_UNAVAILABLE);
    let told = unwritable.body["checks"]["server_cert"].as_str().unwrap();
    assert!(told.starts_with("error: "), "{told}");
    fs::remove_file(world.tls_dir()).unwrap();
    world.clock.advance(Duration::from_secs(3600));
    world.authority.keep_files().await.unwrap();
    assert_eq!(world.get("/readyz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn readiness_tells_a_halt_and_stays_200() {
    let world = halted().await;
    world.authority.keep_files().await.unwrap();
    let ready = world.get("/readyz").await;
    assert_eq!((ready.status, &ready.body["checks"]["signer"]), (StatusCode::OK, &json!("halted")));
    assert_eq!(ready.body["checks"]["server_cert"], "ok");
    assert_eq!(world.get("/healthz").await.body["warnings"], json!(["org_ca_legacy_pathlen_zero"]));
}

#[tokio::test]
async fn a_mastio_that_leaves_is_not_ready() {
    let world = World::new().await;
    world.authority.keep_files().await.unwrap();
    world.app.drain();
    let leaving = world.get("/readyz").await;
    assert_eq!(leaving.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(leaving.body["checks"]["process"], "draining");
}
