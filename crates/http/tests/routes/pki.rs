//! Rotating the Org CA by the API and at the dashboard.

use std::time::Duration;

use axum::body::Body;
use http::{Method, Request, StatusCode};
use mastio_core::{Clock, OrgId, SystemRng};
use mastio_pki::{KeyPair, profile};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::{
    dashboard::{Operator, PAGE, field},
    health::halted,
    world::{Answer, SECRET, World, nobody},
};

const ROTATE: &str = "/pki/rotate-ca";
const FORM: &str = "multipart/form-data; boundary=frontier";

/// A form with these parts.
fn form(parts: &[(&str, &str)]) -> String {
    let part = |(name, text): &(&str, &str)| {
        format!("--frontier\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n")
    };
    format!("{}--frontier--\r\n", parts.iter().map(part).collect::<String>())
}

async fn upload(world: &World, query: &str, parts: &[(&str, &str)]) -> Answer {
    let request = Request::post(format!("{ROTATE}?{query}")).header("x-admin-secret", SECRET);
    let request = request.header("content-type", FORM).body(Body::from(form(parts))).unwrap();
    world.ask(nobody(), request).await
}

async fn rotate(world: &World, query: &str) -> Answer {
    world.operate(SECRET, &format!("{ROTATE}?{query}"), &Value::Null).await
}

/// An organisation's own root and its key, in PEM.
fn own_root(world: &World) -> (String, String) {
    let (key, org) = (KeyPair::generate_p256().unwrap(), OrgId::parse("acme").unwrap());
    let root = profile::root(&org, &key, world.clock.now(), &SystemRng).unwrap();
    (root.pem(), key.to_pkcs8_pem().expose_secret().to_owned())
}

#[tokio::test]
async fn a_dry_run_shows_what_is_then_committed() {
    let world = World::new().await;
    let member = world.member("alice").await;
    assert_eq!(world.operate("wrong", &format!("{ROTATE}?mode=mint"), &Value::Null).await.status, 403);
    let before = world.authority.trust().root.thumbprint();
    let shown = rotate(&world, "mode=mint&dry_run=true").await;
    assert_eq!(shown.status, StatusCode::OK, "{shown:?}");
    let shown = shown.body;
    assert_eq!(
        (&shown["status"], &shown["mode"], &shown["transition"]),
        (&json!("dry_run"), &json!("mint"), &json!("cut"))
    );
    assert_eq!((&shown["tls_continuity"], &shown["agents_affected"]), (&json!(true), &json!(1)));
    assert_eq!(shown["agents"], json!({ "managed": 1, "byoca": 0, "spiffe_unaffected": 0 }));
    assert_eq!(world.authority.trust().root.thumbprint(), before);

    let done = rotate(&world, &format!("mode=mint&candidate={}", shown["candidate"].as_str().unwrap())).await;
    assert_eq!(done.status, StatusCode::OK, "{done:?}");
    let done = done.body;
    for name in ["fingerprint_sha256", "subject", "not_after", "previous_fingerprint_sha256", "mode"] {
        assert_eq!(done[name], shown[name], "{name}");
    }
    assert_eq!((&done["status"], &done["agents_invalidated"]), (&json!("rotated"), &json!(1)));
    assert_eq!((&done["tls_continuity"], &done["no_tls_continuity_because"]), (&json!(true), &Value::Null));
    assert_eq!(done["superseded"], json!([before]));
    assert_eq!(done["previous_fingerprint_sha256"], json!(before));
    assert_eq!(done["rotated_at"], json!(world.clock.now()));

    for (method, path) in
        [("POST", "/v1/auth/token"), ("GET", "/v1/auth/whoami"), ("POST", "/v1/auth/login-challenge")]
    {
        let request = Request::builder().method(method).uri(path).body(Body::from("{}")).unwrap();
        let refused = world.ask(member.peer(), request).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{path}: {refused:?}");
        assert_eq!(refused.body["detail"]["reason"], "ca_rotated", "{path}: {refused:?}");
        assert_eq!(refused.body["detail"]["agent_id"], "acme::alice");
        assert!(refused.body["detail"]["hint"].as_str().unwrap().contains("rotate-cert"));
    }
    let again =
        rotate(&world, &format!("mode=mint&candidate={}", shown["candidate"].as_str().unwrap())).await;
    assert_eq!(again.status, StatusCode::NOT_FOUND, "{again:?}");
    assert_eq!(again.body["detail"]["reason"], "candidate_gone", "{again:?}");
    let shown = rotate(&world, "mode=mint&dry_run=true").await.body;
    let other = format!("mode=mint&reason=compromise&candidate={}", shown["candidate"].as_str().unwrap());
    let other = rotate(&world, &other).await;
    assert_eq!(
        (other.status, &other.body["detail"]["reason"]),
        (StatusCode::CONFLICT, &json!("plan_differs"))
    );
    assert!(other.body["detail"]["hint"].as_str().unwrap().contains("prepare it again"), "{other:?}");
    let nothing = world.operate(SECRET, "/pki/rotations/nothing/advance", &Value::Null).await;
    assert_eq!(
        (nothing.status, &nothing.body["detail"]["reason"]),
        (StatusCode::NOT_FOUND, &json!("not_found"))
    );
}

#[tokio::test]
async fn an_upload_is_taken_or_refused_with_its_reason() {
    let world = World::new().await;
    let (certificate, key) = own_root(&world);
    let other = KeyPair::generate_p256().unwrap();
    let other = other.to_pkcs8_pem().expose_secret().to_owned();
    let refused = upload(&world, "mode=upload", &[("ca_cert", &certificate), ("ca_key", &other)]).await;
    assert_eq!(
        (refused.status, &refused.body["detail"]["reason"]),
        (StatusCode::BAD_REQUEST, &json!("key_mismatch"))
    );
    for parts in [
        &[("ca_cert", certificate.as_str())][..],
        &[("ca_key", &key)],
        &[("ca_cert", ""), ("ca_key", &key)],
        &[("ca_cert", &certificate), ("ca_cert", &certificate), ("ca_key", &key)],
        &[("ca_cert", &certificate), ("ca_key", &other), ("ca_key", &key)],
        &[],
    ] {
        let refused = upload(&world, "mode=upload", parts).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{refused:?}");
        assert!(!refused.text.contains("PRIVATE"), "{refused:?}");
    }
    let too_long = "x".repeat(200_000);
    let refused = upload(&world, "mode=upload", &[("ca_cert", &too_long), ("ca_key", &key)]).await;
    assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE);
    let done = upload(&world, "mode=upload", &[("ca_cert", &certificate), ("ca_key", &key)]).await;
    assert_eq!((done.status, &done.body["mode"]), (StatusCode::OK, &json!("upload")), "{done:?}");
    assert_eq!(world.authority.trust().root.pem(), certificate);
    assert!(!done.text.contains("PRIVATE"));
    let refused =
        upload(&world, "mode=upload&dry_run=true", &[("ca_cert", &certificate), ("ca_key", &key)]).await;
    assert_eq!(refused.body["detail"]["reason"], "key_reused");
}

/// The same, but it ends after so many days.
fn short_lived(world: &World, days: u32) -> (String, String) {
    let key = KeyPair::generate_p256().unwrap();
    let (now, end) = (world.clock.now(), world.clock.now().plus(Duration::from_secs(86_400) * days));
    let root = profile::successor(&world.authority.trust().root, &key, end, now, &SystemRng).unwrap();
    (root.pem(), key.to_pkcs8_pem().expose_secret().to_owned())
}

#[tokio::test]
async fn a_dry_run_refuses_what_the_rotation_would_refuse() {
    let world = World::new().await;
    let (certificate, key) = short_lived(&world, 10);
    let parts = [("ca_cert", certificate.as_str()), ("ca_key", key.as_str())];
    let refused = (StatusCode::CONFLICT, json!("ends_too_soon"));
    for query in ["dry_run=true", "dry_run=false"] {
        let answer = upload(&world, &format!("mode=upload&transition=overlap&{query}"), &parts).await;
        assert_eq!((answer.status, answer.body["detail"]["reason"].clone()), refused, "{query}");
    }
    let fits = upload(&world, "mode=upload&transition=overlap&grace_days=8&dry_run=true", &parts).await;
    assert_eq!(fits.status, StatusCode::OK, "{fits:?}");
    let cut = upload(&world, "mode=upload&dry_run=true", &parts).await;
    assert!(cut.body["consequences"].to_string().contains("The new root ends at"), "{cut:?}");
    let minted = rotate(&world, "mode=mint&dry_run=true").await;
    assert!(!minted.body["consequences"].to_string().contains("The new root ends at"), "{minted:?}");

    let begun = rotate(&world, "mode=mint&transition=overlap").await;
    assert_eq!(begun.status, StatusCode::OK, "{begun:?}");
    let refused = (StatusCode::CONFLICT, json!("rotation_in_progress"));
    for query in ["transition=cut", "transition=overlap"] {
        for dry_run in [true, false] {
            let answer = rotate(&world, &format!("mode=mint&{query}&dry_run={dry_run}")).await;
            assert_eq!((answer.status, answer.body["detail"]["reason"].clone()), refused, "{query}");
        }
    }
    let leaked = rotate(&world, "mode=mint&reason=compromise&dry_run=true").await;
    assert_eq!(leaked.status, StatusCode::OK, "{leaked:?}");
}

#[tokio::test]
async fn words_that_are_not_known_rotate_nothing() {
    let world = World::new().await;
    let before = world.authority.trust().root.clone();
    for query in [
        "",
        "mode=reissue",
        "mode=mint&reason=boredom",
        "mode=mint&transition=never",
        "mode=mint&dry_run=perhaps",
    ] {
        assert_eq!(rotate(&world, query).await.status, StatusCode::UNPROCESSABLE_ENTITY, "{query}");
    }
    assert_eq!(world.authority.trust().root, before);
}

#[tokio::test]
async fn a_mistyped_parameter_is_named_and_changes_nothing() {
    let world = World::new().await;
    world.member("alice").await;
    let before = world.authority.trust();
    for (path, parameter) in [
        ("/pki/rotate-ca?mode=mint&dryrun=true", "dryrun"),
        ("/v1/admin/mastio-ca/rotate?dryrun=true", "dryrun"),
        ("/v1/admin/mastio-key/rotate?dry_run=true", "dry_run"),
        ("/registry/agents/alice/rotate-cert?grace_hours=2", "grace_hours"),
        ("/registry/agents/alice/revoke?reason=lost", "reason"),
    ] {
        let refused = world.operate(SECRET, path, &json!({})).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{path}: {refused:?}");
        assert!(refused.text.contains(&format!("unknown field `{parameter}`")), "{path}: {refused:?}");
    }
    for yes in ["true", "1"] {
        for path in ["/pki/rotate-ca?mode=mint", "/v1/admin/mastio-ca/rotate?grace_days=14"] {
            let shown = world.operate(SECRET, &format!("{path}&dry_run={yes}"), &json!({})).await;
            assert_eq!(shown.status, StatusCode::OK, "{path} {yes}: {shown:?}");
        }
    }
    let after = world.authority.trust();
    assert_eq!((&after.root, after.cas.iter().count()), (&before.root, before.cas.iter().count()));
}

#[tokio::test]
async fn what_is_said_where_it_does_not_count_is_named_and_changes_nothing() {
    let world = World::new().await;
    let (before, (certificate, key)) = (world.authority.trust(), own_root(&world));
    let refused = |answer: Answer, name: &str, why: &str| {
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{name}: {answer:?}");
        assert!(answer.text.contains(name) && answer.text.contains(why), "{name}, {why}: {answer:?}");
    };
    for (query, name) in [
        ("mode=mint&candidate=", "candidate"),
        ("mode=mint&reason=", "reason"),
        ("mode=mint&transition=", "transition"),
        ("mode=mint&transition=overlap&grace_days=", "grace_days"),
    ] {
        refused(rotate(&world, query).await, name, "is empty");
    }
    let own = [("ca_cert", certificate.as_str()), ("ca_key", key.as_str()), ("dry_run", "true")];
    refused(upload(&world, "mode=upload", &own).await, "dry_run", "query");
    refused(upload(&world, "mode=mint", &[("reason", "compromise")]).await, "reason", "query");
    refused(upload(&world, "mode=mint", &[("ca_cert", "")]).await, "ca_cert", "mode=upload");
    let dry = json!({ "dry_run": true });
    for path in [
        "/pki/rotate-ca?mode=mint",
        "/v1/admin/mastio-ca/rotate",
        "/v1/admin/mastio-key/rotate",
        "/pki/rotations/nothing/advance",
        "/pki/rotations/nothing/abort",
        "/pki/rotations/nothing/pause",
        "/pki/rotations/nothing/resume",
    ] {
        refused(world.operate(SECRET, path, &dry).await, "dry_run", "query");
        refused(world.operate(SECRET, path, &json!(["dry_run"])).await, "body", "query");
    }
    let from = world.operate(SECRET, "/pki/rotations/nothing/advance?from=foo", &Value::Null).await;
    refused(from, "from", "distribute, reissue or activated");
    for act in ["abort", "pause", "resume"] {
        let path = format!("/pki/rotations/nothing/{act}?dry_run=true");
        refused(world.operate(SECRET, &path, &Value::Null).await, "unknown field `dry_run`", "query");
    }
    let after = world.authority.trust();
    assert_eq!((&after.root, after.cas.iter().count()), (&before.root, before.cas.iter().count()));
    for path in ["/pki/rotate-ca?mode=mint&dry_run=1", "/v1/admin/mastio-ca/rotate?dry_run=1"] {
        for body in ["", "{}", "null"] {
            let request = Request::post(path).header("x-admin-secret", SECRET);
            let request = request.header("content-type", "application/json").body(Body::from(body)).unwrap();
            assert_eq!(world.ask(nobody(), request).await.status, StatusCode::OK, "{path} {body}");
        }
    }
}

#[tokio::test]
async fn a_commit_is_what_its_dry_run_showed() {
    let world = World::new().await;
    let before = world.authority.trust().root.clone();
    let prepared = async |query: &str| {
        let shown = rotate(&world, &format!("mode=mint&dry_run=1{query}")).await;
        format!("candidate={}", shown.body["candidate"].as_str().unwrap())
    };
    let (leaked, plain) = (prepared("&reason=compromise").await, prepared("").await);
    for (candidate, words) in [
        (&leaked, "&transition=overlap"),
        (&plain, "&reason=compromise"),
        (&plain, "&mode=upload"),
        (&plain, "&transition=overlap"),
    ] {
        let refused = rotate(&world, &format!("{candidate}{words}")).await;
        assert_eq!(refused.status, StatusCode::CONFLICT, "{words}: {refused:?}");
        assert_eq!(refused.body["detail"]["reason"], "plan_differs", "{words}: {refused:?}");
        assert!(refused.text.contains("shown with another mode"), "{words}: {refused:?}");
    }
    for _ in 0..2 {
        let again = rotate(&world, &format!("{leaked}&dry_run=1")).await;
        assert_eq!(format!("candidate={}", again.body["candidate"].as_str().unwrap()), leaked, "{again:?}");
    }
    let garbage = rotate(&world, &format!("{plain}&mode=garbage")).await;
    assert_eq!(garbage.status, StatusCode::UNPROCESSABLE_ENTITY, "{garbage:?}");
    assert_eq!(world.authority.trust().root, before);
    let done = rotate(&world, &leaked).await;
    assert_eq!((done.status, &done.body["tls_continuity"]), (StatusCode::OK, &json!(false)), "{done:?}");
    let because = done.body["no_tls_continuity_because"].as_str().unwrap();
    assert!(because.contains("may be known to others"), "{because}");
    let late = rotate(&world, &format!("{plain}&dry_run=1")).await;
    assert_eq!((late.status, &late.body["detail"]["reason"]), (StatusCode::CONFLICT, &json!("root_changed")));
}

#[tokio::test]
async fn a_root_that_is_brought_is_not_left_aside() {
    let world = World::new().await;
    let (before, (certificate, key)) = (world.authority.trust().root.clone(), own_root(&world));
    let refused = upload(&world, "mode=mint", &[("ca_cert", &certificate), ("ca_key", &key)]).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{refused:?}");
    assert!(refused.text.contains("ca_cert") && !refused.text.contains("PRIVATE"), "{refused:?}");
    assert_eq!(world.authority.trust().root, before);
}

#[tokio::test]
async fn a_legacy_root_is_replaced_and_both_health_endpoints_stop_to_warn() {
    let world = halted().await;
    assert_eq!(world.get("/healthz").await.body["warnings"], json!(["org_ca_legacy_pathlen_zero"]));
    let done = rotate(&world, "mode=mint").await;
    assert_eq!((done.status, &done.body["tls_continuity"]), (StatusCode::OK, &json!(false)), "{done:?}");
    for route in ["/healthz", "/health"] {
        assert_eq!(world.get(route).await.body.get("warnings"), None, "{route}");
    }
    let alice = world.member("alice").await;
    world.token(&alice).await;
}

#[tokio::test]
async fn the_dashboard_shows_a_new_root_before_it_counts() {
    let world = World::new().await;
    world.member("alice").await;
    let operator = Operator::log_in(&world).await;
    let before = world.authority.trust().root.thumbprint();
    for page in ["/proxy/pki", "/proxy/pki/rotate-ca"] {
        let page = operator.get(page).await;
        assert!(page.status == 200 && page.text.contains(&grouped(&before.to_string())), "{page:?}");
    }
    let send = async |parts: &[(&str, &str)]| {
        let request = operator.request(Method::POST, "/proxy/pki/rotate-ca").header("accept", PAGE);
        operator.ask(request.header("content-type", FORM), form(parts)).await
    };
    let token = operator.token.as_str();
    assert_eq!(send(&[("mode", "mint")]).await.status, StatusCode::FORBIDDEN, "without its token");
    let (certificate, key) = own_root(&world);
    let form = [("csrf_token", token), ("mode", "upload"), ("ca_cert", &certificate), ("ca_key", &key)];
    let shown = send(&form).await;
    assert_eq!(shown.status, StatusCode::OK, "{shown:?}");
    let new = mastio_pki::Certificate::from_pem(&certificate).unwrap().thumbprint();
    assert!(
        shown.text.contains(&grouped(&new.to_string())) && shown.text.contains("1 agent"),
        "{}",
        shown.text
    );
    assert!(!shown.text.contains("PRIVATE KEY"), "the key does not come back");
    assert_eq!(world.authority.trust().root.thumbprint(), before, "nothing has happened yet");

    let candidate =
        shown.text.split_once("name=\"candidate\" value=\"").unwrap().1.split('"').next().unwrap();
    let gone = operator.is_sent_to("/proxy/pki/rotate-ca", &format!("candidate={candidate}")).await;
    assert!(gone.starts_with("/proxy/pki?flash="), "{gone}");
    assert_eq!(world.authority.trust().root.thumbprint(), new);
    let page = operator.get(&gone).await.text;
    for part in
        ["was rotated to", "superseded", "cut off", &grouped(&before.to_string()), &grouped(&new.to_string())]
    {
        assert!(page.contains(part), "{part}: {page}");
    }
    let again = operator.is_sent_to("/proxy/pki/rotate-ca", &format!("candidate={candidate}")).await;
    assert!(again.starts_with("/proxy/pki/rotate-ca?error="), "{again}");
    let refused = send(&form).await;
    assert!(refused.header("location").unwrap().contains("error="), "the same key again: {refused:?}");

    let file = operator.submit("/proxy/pki/export-ca", "").await;
    assert_eq!(file.header("content-disposition"), Some("attachment; filename=\"org-ca.pem\""));
    assert!(file.text.starts_with(&certificate));
}

#[tokio::test]
async fn the_dashboard_says_what_to_choose_and_offers_the_compromise_alone_while_a_rotation_is_open() {
    let world = World::new().await;
    world.member("alice").await;
    let operator = Operator::log_in(&world).await;
    for (form, told) in [
        ("mode=mint&transition=overlap&reason=compromise", "error=Tick%20one%20box%20only"),
        ("mode=upload&ca_cert=&ca_key=", "error=Choose%20two%20files"),
    ] {
        let answer = operator.is_sent_to("/proxy/pki/rotate-ca", form).await;
        assert!(answer.starts_with("/proxy/pki/rotate-ca?") && answer.contains(told), "{answer}");
    }
    let page = operator.get("/proxy/pki/rotate-ca").await.text;
    assert_eq!(page.matches("name=\"mode\"").count(), 3, "{page}");

    let begun = rotate(&world, "mode=mint&transition=overlap").await;
    assert_eq!(begun.status, StatusCode::OK, "{begun:?}");
    let page = operator.get("/proxy/pki/rotate-ca").await.text;
    assert_eq!((page.matches("name=\"mode\"").count(), page.matches("value=\"compromise\"").count()), (1, 1));
    assert!(page.contains("href=\"/proxy/pki#rotation\""), "{page}");
    assert!(operator.get("/proxy/pki").await.text.contains("id=\"rotation\""));

    let shown = operator.submit("/proxy/pki/rotate-ca", "mode=mint&reason=compromise").await.text;
    let candidate = field(&shown, "candidate");
    let order = format!("candidate={candidate}&reason=compromise");
    let answer = operator.is_sent_to("/proxy/pki/rotate-ca", &order).await;
    assert!(answer.contains("flash=The%20Org%20CA%20was%20rotated"), "{answer}");
    assert!(!operator.get("/proxy/pki").await.text.contains("id=\"rotation\""));
}

#[tokio::test]
async fn the_page_shows_no_link_of_a_key_that_others_may_know() {
    let world = World::new().await;
    let operator = Operator::log_in(&world).await;
    rotate(&world, "mode=mint").await;
    let linked = "has a link certificate to its successor";
    let page = operator.get("/proxy/pki").await.text;
    assert_eq!(page.matches(linked).count(), 1, "{page}");
    let cut = rotate(&world, "mode=mint&reason=compromise").await;
    assert_eq!(cut.status, StatusCode::OK, "{cut:?}");
    let page = operator.get("/proxy/pki").await.text;
    let shown = world.authority.trust().cas.links().count();
    assert_eq!((page.matches(linked).count(), shown), (0, 0), "{page}");
    assert!(page.contains("none whose key others may know"), "{page}");
}

fn grouped(hex: &str) -> String {
    hex.as_bytes().chunks(4).map(|four| std::str::from_utf8(four).unwrap()).collect::<Vec<_>>().join(" ")
}
