//! The signing key and the intermediate, at the dashboard and over the API of operators.

use std::time::Duration;

use axum::body::Body;
use http::{Request, StatusCode};
use mastio_core::Clock;
use mastio_pki::KeyPair;
use mastio_store::{Statement, Unit};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::{
    dashboard::Operator,
    world::{Answer, SECRET, World, nobody},
};

const HERE: &str = "/proxy/mastio-key";
const API: &str = "/v1/admin/mastio-key";

async fn shown(world: &World) -> Value {
    let request = Request::get(API).header("x-admin-secret", SECRET).body(Body::empty()).unwrap();
    let answer = world.ask(nobody(), request).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.body
}

async fn post(world: &World, path: &str, body: &Value) -> Answer {
    world.operate(SECRET, path, body).await
}

#[tokio::test]
async fn the_dashboard_rotates_what_is_confirmed() {
    let world = World::new().await;
    let browser = Operator::log_in(&world).await;
    let page = browser.get(HERE).await;
    let old = shown(&world).await["active_kid"].as_str().unwrap().to_owned();
    assert!(page.text.contains(&old) && page.text.contains("/proxy/mastio-key/rotate"), "{}", page.text);

    for unconfirmed in ["", "confirm_text=rotate", "confirm_text=ACTIVATE"] {
        let refused = browser.submit(&format!("{HERE}/rotate"), unconfirmed).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{unconfirmed}");
    }
    let to = browser.is_sent_to(&format!("{HERE}/rotate"), "confirm_text=ROTATE").await;
    let new = shown(&world).await["active_kid"].as_str().unwrap().to_owned();
    assert!(to.starts_with(&format!("{HERE}?rotated=1&old_kid={old}&new_kid={new}")), "{to}");
    let page = browser.get(&to).await.text;
    assert!(page.contains("signs from now on") && page.contains(&new), "{page}");
    let forged = browser.get(&format!("{HERE}?rotated=1&old_kid=a&new_kid=mastio-evil")).await.text;
    assert!(!forged.contains("mastio-evil"), "nobody makes our pages say things");

    let again = browser.submit(&format!("{HERE}/rotate"), "confirm_text=ROTATE").await;
    assert_eq!((again.status, again.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, Some("30")));
    for bad in ["", "grace_days=0", "grace_days=91", "grace_days=x"] {
        let refused = browser.submit(&format!("{HERE}/grace-days"), bad).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{bad}");
    }
    browser.is_sent_to(&format!("{HERE}/grace-days"), "grace_days=90").await;
    assert_eq!(shown(&world).await["grace_days"], 90);
}

/// What the existing system leaves when its rotation is interrupted.
async fn stage(world: &World) -> String {
    let key = KeyPair::generate_p256().unwrap();
    let kid = mastio_core::Kid::of_pem(&key.spki_pem());
    let sql = "INSERT INTO mastio_keys (kid, pubkey_pem, privkey_pem, created_at) VALUES (?1, ?2, ?3, ?4)";
    let private = key.to_pkcs8_pem().expose_secret().into();
    let values = vec![(&kid).into(), key.spki_pem().into(), private, world.clock.now().into()];
    world.authority.store().submit(Unit::default().write(Statement::one(sql, values))).await.unwrap();
    world.authority.reload().unwrap();
    kid.to_string()
}

#[tokio::test]
async fn an_interrupted_rotation_is_completed_at_the_dashboard() {
    let world = World::new().await;
    let browser = Operator::log_in(&world).await;
    let complete = format!("{HERE}/complete-staged");
    let nothing = browser.submit(&complete, "decision=drop&confirm_text=DROP").await;
    assert_eq!(nothing.status, StatusCode::CONFLICT);
    assert!(nothing.text.contains("complete-staged rotation failed"), "{}", nothing.text);
    let staged = stage(&world).await;
    assert!(browser.get(HERE).await.text.contains("A rotation was interrupted"));
    let rotate = browser.submit(&format!("{HERE}/rotate"), "confirm_text=ROTATE").await;
    assert_eq!(rotate.status, StatusCode::CONFLICT);
    for bad in ["", "decision=maybe&confirm_text=MAYBE", "decision=activate&confirm_text=DROP"] {
        assert_eq!(browser.submit(&complete, bad).await.status, StatusCode::BAD_REQUEST, "{bad}");
    }
    let to = browser.is_sent_to(&complete, "decision=activate&confirm_text=ACTIVATE").await;
    assert!(browser.get(&to).await.text.contains(&format!("{staged} signs from now on")));
    assert_eq!(shown(&world).await["active_kid"], staged.as_str());
}

#[tokio::test]
async fn the_api_rotates_and_shows_the_keys() {
    let world = World::new().await;
    let before = shown(&world).await;
    assert_eq!((&before["grace_days"], &before["min_interval_seconds"]), (&json!(7), &json!(30)));
    let rotated = post(&world, &format!("{API}/rotate"), &json!({})).await;
    assert_eq!(rotated.status, StatusCode::OK, "{rotated:?}");
    let proof = &rotated.body["continuity_proof"];
    assert_eq!((&proof["old_kid"], &proof["new_kid"]), (&before["active_kid"], &rotated.body["new_kid"]));
    let after = shown(&world).await;
    let keys = after["keys"].as_array().unwrap();
    let states: Vec<_> = keys.iter().map(|key| key["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["active", "grace"]);
    assert_eq!(keys[1]["expires_at"], rotated.body["grace_expires_at"]);
    assert_eq!(proof["new_pubkey_pem"], keys[0]["pubkey_pem"]);
    let private = after.to_string();
    assert!(!private.contains("PRIVATE"), "{private}");
    let soon = post(&world, &format!("{API}/rotate"), &json!({})).await;
    assert_eq!((soon.status, soon.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, Some("30")));

    let staged = stage(&world).await;
    assert_eq!(shown(&world).await["staged_kid"], staged.as_str());
    let complete = format!("{API}/complete-staged");
    for bad in [json!({}), json!({ "decision": "maybe" })] {
        assert_eq!(post(&world, &complete, &bad).await.status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
    }
    let dropped = post(&world, &complete, &json!({ "decision": "drop" })).await;
    assert_eq!(dropped.body, json!({ "kid": staged, "decision": "drop" }));
    assert_eq!(post(&world, &complete, &json!({ "decision": "drop" })).await.status, StatusCode::CONFLICT);
    for (days, status) in [(0, 422), (91, 422), (1, 200)] {
        let set = post(&world, &format!("{API}/grace-days"), &json!({ "grace_days": days })).await;
        assert_eq!(set.status.as_u16(), status, "{days}");
    }
    world.clock.advance(Duration::from_secs(8 * 24 * 3600));
    assert_eq!(shown(&world).await["keys"][1]["state"], "ended");
}

#[tokio::test]
async fn the_intermediate_is_rotated_as_the_contract_says() {
    let world = World::new().await;
    let path = "/v1/admin/mastio-ca/rotate";
    for bad in ["?dry_run=perhaps", "?grace_days=0", "?grace_days=91", "?grace_days=x"] {
        let refused = post(&world, &format!("{path}{bad}"), &json!({})).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
    }
    let dry = post(&world, &format!("{path}?dry_run=true&grace_days=3"), &json!({})).await.body;
    assert_eq!(
        (&dry["dry_run"], &dry["new_leaf_kid"], &dry["grace_days"]),
        (&json!(true), &Value::Null, &json!(3))
    );
    let kid = shown(&world).await["active_kid"].clone();
    let done = post(&world, path, &json!({})).await.body;
    assert_eq!((&done["dry_run"], &done["grace_days"]), (&json!(false), &json!(14)));
    assert_eq!(done["old_intermediate_cn"], dry["old_intermediate_cn"]);
    assert!(done["new_intermediate_cn"].as_str().unwrap().starts_with("acme Mastio CA "), "{done}");
    assert!(done["continuity_proof"].as_str().unwrap().starts_with("ME"), "ECDSA in DER: {done}");
    let keys = shown(&world).await;
    assert_eq!(keys["active_kid"], done["new_leaf_kid"]);
    assert_eq!(keys["keys"][1]["kid"], kid);
    let denied = world.operate("a wrong secret of somebody", path, &json!({})).await;
    assert_eq!(
        (denied.status, &denied.body["detail"]),
        (StatusCode::FORBIDDEN, &json!("invalid admin secret"))
    );
    world.clock.advance(Duration::from_secs(16 * 365 * 24 * 3600));
    let refused = post(&world, path, &json!({})).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.body["detail"].as_str().unwrap().contains("rotate the Org CA"), "{refused:?}");
}
