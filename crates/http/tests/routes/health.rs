//! Readiness: what it tells, and when it is 503.

use std::{fs, time::Duration};

use axum::body::Body;
use http::{Request, StatusCode};
use mastio_core::Stamp;
use serde_json::{Value, json};

use crate::world::{SECRET, World};

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

/// What an operator does behind the server's back.
fn sql(world: &World, sql: &str) {
    let database = rusqlite::Connection::open(world.authority.store().database().path()).unwrap();
    database.execute_batch(sql).unwrap();
}

/// What `/readyz` says of the trust state, once it and `/healthz` and `/metrics` agree on whether it is stale.
async fn trust(world: &World, stale: bool) -> String {
    let (ready, alive) = (world.get("/readyz").await, world.get("/healthz").await);
    let status = if stale { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    assert_eq!((ready.status, alive.status), (status, StatusCode::OK), "{ready:?}");
    assert_eq!(alive.body["warnings"], if stale { json!(["trust_stale"]) } else { Value::Null });
    assert_eq!(world.authority.metrics.trust_stale.get(), i64::from(stale));
    ready.body["checks"]["trust"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_trust_state_that_cannot_be_read_again_is_told_until_it_can() {
    let world = World::new().await;
    world.authority.keep_files().await.unwrap();
    let alice = world.member("alice").await;
    assert_eq!(trust(&world, false).await, "ok");
    sql(&world, "UPDATE pki_cas SET cert_pem = replace(cert_pem, 'BEGIN', 'a slip') WHERE kind = 'org_ca'");
    world.authority.reload().unwrap_err();
    assert!(trust(&world, true).await.starts_with("older than what is stored: pki_cas, certificate "));
    world.token(&alice).await;
    world.authority.tend().await;
    trust(&world, true).await;
    sql(&world, "UPDATE pki_cas SET cert_pem = replace(cert_pem, 'a slip', 'BEGIN')");
    world.authority.tend().await;
    assert_eq!(trust(&world, false).await, "ok");
}

#[tokio::test]
async fn a_cut_that_cannot_be_read_is_not_in_force_and_lets_nobody_in() {
    let world = World::new().await;
    world.authority.keep_files().await.unwrap();
    let alice = world.member("alice").await;
    sql(
        &world,
        "CREATE TRIGGER spoil AFTER UPDATE OF state ON pki_cas WHEN NEW.state = 'active' BEGIN \
         UPDATE pki_cas SET cert_pem = replace(cert_pem, 'BEGIN', 'spoilt') WHERE thumbprint = NEW.thumbprint; END",
    );
    let cut = world.operate(SECRET, "/pki/rotate-ca?mode=mint", &Value::Null).await;
    assert_eq!((cut.status, &cut.body["in_force"]), (StatusCode::OK, &json!(false)), "{cut:?}");
    trust(&world, true).await;
    let login = || Request::post("/v1/auth/token").body(Body::from("{}")).unwrap();
    let refused = world.ask(alice.peer(), login()).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{refused:?}");
    assert!(refused.text.contains("/readyz"), "{refused:?}");
    sql(&world, "DROP TRIGGER spoil; UPDATE pki_cas SET cert_pem = replace(cert_pem, 'spoilt', 'BEGIN')");
    world.authority.tend().await;
    assert_eq!(trust(&world, false).await, "ok");
    let refused = world.ask(alice.peer(), login()).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert!(refused.text.contains("has been replaced"), "{refused:?}");
    let cut = world.operate(SECRET, "/pki/rotate-ca?mode=mint", &Value::Null).await;
    assert_eq!(cut.body["in_force"], true);
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
