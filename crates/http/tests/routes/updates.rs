//! Framework updates over HTTP: what an order must say, and what it must not.

use axum::body::Body;
use http::{Method, Request, StatusCode};
use mastio_core::Stamp;
use mastio_store::{Statement, Unit};
use serde_json::{Value, json};

use crate::{
    dashboard::Operator,
    world::{Answer, SECRET, World, nobody},
};

const PATH_LEN: &str = "2026-04-23-org-ca-pathlen-1";

/// A Mastio whose root permits no CA below it.
async fn legacy() -> World {
    let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/pki-vectors.json");
    let vectors: Value = serde_json::from_slice(&std::fs::read(vectors).unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let tls = dir.path().join("nginx-certs");
    std::fs::create_dir_all(&tls).unwrap();
    for (file, name) in [("org-ca.crt", "root"), ("org-ca.key", "root_key")] {
        std::fs::write(tls.join(file), vectors["legacy_pathlen_zero"][name].as_str().unwrap()).unwrap();
    }
    World::over(dir, None, Stamp::from_unix(1_800_000_000)).await
}

async fn ask(world: &World, method: Method, what: &str, body: &Value) -> Answer {
    let request = Request::builder().method(method).uri(format!("/proxy/updates/{what}"));
    let request = request.header("x-admin-secret", SECRET).body(Body::from(body.to_string())).unwrap();
    world.ask(nobody(), request).await
}

#[tokio::test]
async fn what_is_mistyped_or_says_two_things_does_nothing() {
    let world = legacy().await;
    let listed = ask(&world, Method::GET, "api?stauts=pending", &Value::Null).await;
    assert_eq!(listed.status, StatusCode::UNPROCESSABLE_ENTITY, "{listed:?}");
    let apply = format!("{PATH_LEN}/apply?strategy=reissue");
    let both = json!({ "confirm": true, "strategy": "rekey" });
    let refused = ask(&world, Method::POST, &apply, &both).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{refused:?}");
    let same = json!({ "confirm": true, "strategy": "reissue" });
    let applied = ask(&world, Method::POST, &apply, &same).await;
    assert_eq!((&applied.body["strategy"], &applied.body["changed"]), (&"reissue".into(), &true.into()));
}

#[tokio::test]
async fn a_snapshot_is_not_wiped_by_a_dry_run_nor_without_a_word() {
    let world = legacy().await;
    ask(&world, Method::POST, &format!("{PATH_LEN}/apply?strategy=reissue"), &json!({ "confirm": true }))
        .await;
    let snapshot = format!("{PATH_LEN}/snapshot");
    let planned = ask(&world, Method::DELETE, &format!("{snapshot}?dry_run=true"), &json!({})).await;
    assert_eq!((planned.status, &planned.body["dry_run"]), (StatusCode::OK, &true.into()), "{planned:?}");
    let unsaid = ask(&world, Method::DELETE, &snapshot, &json!({})).await;
    assert_eq!(unsaid.status, StatusCode::BAD_REQUEST, "{unsaid:?}");
    let kept = || world.authority.updates().unwrap()[0].snapshot;
    assert!(kept().is_some(), "it is there still");
    let wiped = ask(&world, Method::DELETE, &snapshot, &json!({ "confirm": true })).await;
    assert_eq!((wiped.status, kept()), (StatusCode::OK, None), "{wiped:?}");
    let planned = ask(&world, Method::DELETE, &format!("{snapshot}?dry_run=true"), &json!({})).await;
    assert_eq!(planned.status, StatusCode::NOT_FOUND, "{planned:?}");
}

#[tokio::test]
async fn a_snapshot_is_deleted_on_the_dashboard_with_the_word_for_it() {
    let world = legacy().await;
    let operator = Operator::log_in(&world).await;
    let page = async || operator.get("/proxy/updates").await.text;
    assert!(!page().await.contains("Type WIPE"), "there is none yet");
    ask(&world, Method::POST, &format!("{PATH_LEN}/apply?strategy=reissue"), &json!({ "confirm": true }))
        .await;
    let shown = page().await;
    assert!(shown.contains("Type WIPE") && shown.contains("cannot be rolled back any more"), "{shown}");
    let wipe = format!("/proxy/updates/{PATH_LEN}/wipe");
    let unsaid = operator.submit(&wipe, "confirm_text=ROLLBACK").await;
    assert_eq!(unsaid.status, StatusCode::BAD_REQUEST, "{unsaid:?}");
    let sent_to = operator.is_sent_to(&wipe, "confirm_text=WIPE").await;
    assert!(sent_to.starts_with("/proxy/updates?flash="), "{sent_to}");
    assert!(!page().await.contains("Type WIPE"));
    assert_eq!(operator.submit(&wipe, "confirm_text=WIPE").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_update_that_is_not_needed_says_that_nothing_was_changed() {
    let world = World::new().await;
    let row = "INSERT INTO pending_updates (migration_id, detected_at, status) VALUES (?1, ?2, 'pending')";
    let values = vec![PATH_LEN.into(), "2026-11-22T00:00:00Z".into()];
    world.authority.store().submit(Unit::default().write(Statement::one(row, values))).await.unwrap();
    let applied = ask(&world, Method::POST, &format!("{PATH_LEN}/apply"), &json!({ "confirm": true })).await;
    assert_eq!((&applied.body["status"], &applied.body["changed"]), (&"applied".into(), &false.into()));
}
