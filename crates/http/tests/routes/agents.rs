//! What agents and operators send, and what is refused at the door.

use std::time::Duration;

use axum::body::Body;
use http::{Request, StatusCode};
use mastio_jose::SigningKey;
use mastio_store::agents::fleet::Filter;
use serde_json::{Value, json};

use crate::world::{SECRET, World, nobody};

const WHOAMI: &str = "/v1/auth/whoami";

#[tokio::test]
async fn two_dpop_headers_are_refused_although_each_of_them_holds() {
    let world = World::new().await;
    let alice = world.member("alice").await;
    let (token, key) = world.token(&alice).await;
    let proof = || world.proof(&key, "GET", WHOAMI, Some(&token));
    let request = |proofs: &[String]| {
        let request = Request::get(WHOAMI).header("authorization", format!("DPoP {token}"));
        let request = proofs.iter().fold(request, |request, proof| request.header("dpop", proof));
        request.body(Body::empty()).unwrap()
    };
    let one = world.ask(nobody(), request(&[proof()])).await;
    assert_eq!((one.status, &one.body["agent_id"]), (StatusCode::OK, &json!("acme::alice")));
    let two = world.ask(nobody(), request(&[proof(), proof()])).await;
    assert_eq!(two.status, StatusCode::UNAUTHORIZED);
    assert_eq!(two.body["detail"], "Invalid DPoP proof: more than one DPoP header");
    assert!(two.header("www-authenticate").unwrap().starts_with("DPoP "));
    assert_eq!(world.authority.metrics.auth_deny.with_label_values(&["dpop_several_headers"]).get(), 1);
}

#[tokio::test]
async fn a_name_that_is_none_is_a_422_that_says_what_a_name_is() {
    let world = World::new().await;
    for route in ["/v1/admin/agents", "/v1/admin/agents/enroll/byoca"] {
        for name in ["", "al ice", "a::b", "../alice", ".", "..", "ålice", "a\nb", &"a".repeat(65)] {
            let refused = world.operate(SECRET, route, &json!({ "agent_name": name })).await;
            assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{name:?}: {refused:?}");
            let said = refused.body["detail"][0]["msg"].as_str().unwrap();
            assert!(said.contains("not an agent name: 1 to 64 letters, digits"), "{name:?}: {said}");
        }
    }
    let fleet = world.authority.fleet(&Filter::default()).await.unwrap();
    assert_eq!(fleet.all().await.unwrap(), []);
    world.member(&"a".repeat(64)).await;
}

#[tokio::test]
async fn an_empty_capability_is_refused_on_every_way_in() {
    let world = World::new().await;
    for route in ["/v1/admin/agents", "/v1/admin/agents/enroll/byoca", "/v1/admin/agents/enroll/spiffe"] {
        let body = json!({
            "agent_name": "alice", "capabilities": ["kyc.read", ""],
            "cert_pem": "x", "private_key_pem": "x", "svid_pem": "x", "svid_key_pem": "x",
        });
        let refused = world.operate(SECRET, route, &body).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{route}: {refused:?}");
        assert_eq!(refused.body["detail"][0]["loc"], json!(["body", "capabilities"]), "{route}");
    }
}

#[tokio::test]
async fn whoever_must_wait_is_told_how_long() {
    let world = World::new().await;
    let name = json!({ "agent_name": "alice" });
    for _ in 0..10 {
        let wrong = world.operate("a wrong secret", "/v1/admin/agents", &name).await;
        assert_eq!((wrong.status, wrong.header("retry-after")), (StatusCode::FORBIDDEN, None));
    }
    world.clock.advance(Duration::from_millis(500));
    let locked = world.operate(SECRET, "/v1/admin/agents", &name).await;
    assert_eq!((locked.status, locked.header("retry-after")), (StatusCode::FORBIDDEN, Some("900")));
    world.clock.advance(Duration::from_secs(900));
    assert_eq!(world.operate(SECRET, "/v1/admin/agents", &name).await.status, StatusCode::CREATED);

    for _ in 0..30 {
        assert_eq!(world.get("/pki/ca.crt").await.status, StatusCode::OK);
    }
    world.clock.advance(Duration::from_millis(500));
    let over = world.get("/pki/ca.crt").await;
    // Room comes every two seconds; a second and a half is no whole number.
    assert_eq!((over.status, over.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, Some("2")));
    world.clock.advance(Duration::from_secs(2));
    assert_eq!(world.get("/pki/ca.crt").await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_inbox_since_something_that_is_no_time_is_the_whole_inbox() {
    let world = World::new().await;
    let (alice, inbox) = (world.member("alice").await, "/v1/egress/message/inbox");
    let (token, key) = world.token(&alice).await;
    for query in ["", "?since=", "?since=m-17&limit=3", "?since=2026-11-22T00:00:00Z"] {
        let request =
            Request::get(format!("{inbox}{query}")).header("authorization", format!("DPoP {token}"));
        let request = request.header("dpop", world.proof(&key, "GET", inbox, Some(&token)));
        let answer = world.ask(nobody(), request.body(Body::empty()).unwrap()).await;
        assert_eq!((answer.status, &answer.body["count"]), (StatusCode::OK, &json!(0)), "{query}");
    }
}

#[tokio::test]
async fn a_body_that_is_no_object_changes_nothing() {
    let world = World::new().await;
    world.member("alice").await;
    for route in ["revoke", "rotate-cert"] {
        for body in [json!([]), json!(["why"]), json!("why"), json!(7), json!(null)] {
            let refused = world.operate(SECRET, &format!("/registry/agents/alice/{route}"), &body).await;
            assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{route} {body}: {refused:?}");
            assert_eq!(refused.body["detail"][0]["loc"], json!(["body"]));
        }
    }
    let revoked = world.operate(SECRET, "/registry/agents/alice/revoke", &json!({})).await;
    assert_eq!((revoked.status, &revoked.body["already_revoked"]), (StatusCode::OK, &json!(false)));
}

#[tokio::test]
async fn an_agent_made_here_has_the_dpop_key_that_was_sent() {
    let world = World::new().await;
    let key = SigningKey::generate().unwrap().public_jwk();
    let body = json!({ "agent_name": "alice", "dpop_jwk": key.to_value() });
    let made = world.operate(SECRET, "/v1/admin/agents", &body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    assert_eq!((&made.body["dpop_jkt"], &made.body["dpop_jwk"]), (&json!(key.thumbprint()), &key.to_value()));
    let rotated = world.operate(SECRET, "/registry/agents/alice/rotate-cert", &json!({})).await;
    assert_eq!(
        (&rotated.body["dpop_jkt"], &rotated.body["dpop_jwk"]),
        (&json!(key.thumbprint()), &key.to_value())
    );
    let private = json!({ "agent_name": "bob", "dpop_jwk": { "kty": "EC", "d": "x" } });
    let refused = world.operate(SECRET, "/v1/admin/agents", &private).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{refused:?}");
    assert!(refused.text.contains("dpop_jwk must be the public JWK"), "{refused:?}");
}

#[tokio::test]
async fn a_proof_of_possession_without_a_certificate_makes_no_agent() {
    let world = World::new().await;
    let half = "cert_pem and private_key_pem must be provided together";
    for (member, status, says) in [
        ("csr_pem", StatusCode::UNPROCESSABLE_ENTITY, "only beside cert_pem"),
        ("pop_signature", StatusCode::UNPROCESSABLE_ENTITY, "only beside cert_pem"),
        ("private_key_pem", StatusCode::BAD_REQUEST, half),
        ("cert_pem", StatusCode::BAD_REQUEST, half),
    ] {
        let body = json!({ "agent_name": "alice", member: "x" });
        let refused = world.operate(SECRET, "/v1/admin/agents", &body).await;
        assert_eq!(refused.status, status, "{member}: {refused:?}");
        assert!(refused.text.contains(says), "{member}: {refused:?}");
    }
    let fleet = world.authority.fleet(&Filter::default()).await.unwrap();
    assert_eq!(fleet.all().await.unwrap(), []);
}

#[tokio::test]
async fn a_jwk_that_is_no_public_key_is_told_in_the_words_of_its_route() {
    let world = World::new().await;
    world.member("alice").await;
    for (jwk, says) in [
        (json!({}), "jwk must be a non-empty object"),
        (json!([]), "jwk must be a non-empty object"),
        (json!("x"), "jwk must be a non-empty object"),
        (json!({ "kty": "EC", "d": "x" }), "private key material ('d') rejected — "),
        (json!({ "kty": "OKP" }), "unsupported kty 'OKP'"),
        (json!({ "kty": "EC", "crv": "P-256" }), "malformed JWK"),
    ] {
        let body = json!({ "jwk": jwk });
        let refused = world.operate(SECRET, "/v1/admin/agents/acme::alice/dpop-jwk", &body).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{jwk}: {refused:?}");
        assert!(refused.body["detail"].as_str().unwrap().starts_with(says), "{jwk}: {refused:?}");
    }
}

/// They are shown to operators, in pages and on terminals.
#[tokio::test]
async fn names_and_reasons_show_as_what_they_are() {
    let world = World::new().await;
    let start = json!({
        "pubkey_pem": "x".repeat(100), "requester_name": "Mario", "requester_email": "mario@example.com",
        "reason": "screening", "device_info": "{}", "pop_signature": "x",
    });
    let with = |body: &Value, name: &str, text: &str| {
        let mut body = body.clone();
        body[name] = text.into();
        body
    };
    let new = json!({ "agent_name": "alice" });
    let fine = world.operate(SECRET, "/v1/enrollment/start", &start).await;
    assert_eq!(fine.status, StatusCode::BAD_REQUEST, "nothing but its key is wrong: {fine:?}");
    // The route of devices bears few requests a minute.
    for (path, body, name, text) in [
        ("/v1/enrollment/start", &start, "requester_name", "Mario\0"),
        ("/v1/enrollment/start", &start, "requester_email", "mario\u{1b}@example.com"),
        ("/v1/enrollment/start", &start, "reason", "\u{202e}gnineercs"),
        ("/v1/enrollment/start", &start, "device_info", "\u{2067}{}"),
        ("/v1/admin/agents", &new, "display_name", "Alice\u{1b}[2J"),
        ("/v1/admin/agents", &new, "display_name", "\u{202d}ecilA"),
        ("/v1/admin/agents/alice/revoke", &new, "reason", "\u{2066}why"),
    ] {
        let refused = world.operate(SECRET, path, &with(body, name, text)).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{name} {text:?}: {refused:?}");
        assert_eq!(refused.body["detail"][0]["loc"], json!(["body", name]), "{text:?}");
    }
}

#[tokio::test]
async fn a_request_that_is_sent_again_gets_the_same_answer() {
    let world = World::new().await;
    let key = SigningKey::generate().unwrap().public_jwk().to_value();
    let body = json!({ "agent_name": "alice", "federated": true, "dpop_jwk": key });
    let send = async || {
        let request = Request::post("/v1/admin/agents").header("x-admin-secret", SECRET);
        let request = request.header("idempotency-key", "k").body(Body::from(body.to_string()));
        world.ask(nobody(), request.unwrap()).await
    };
    let (first, again) = (send().await, send().await);
    assert_eq!((first.status, again.status), (StatusCode::CREATED, StatusCode::CREATED));
    assert_eq!(
        (first.header("idempotency-replayed"), again.header("idempotency-replayed")),
        (None, Some("true"))
    );
    assert!(first.body["not_after"].is_string() && first.body["federated"] == true, "{first:?}");
    assert_eq!(first.body, again.body);
}

#[tokio::test]
async fn a_certificate_without_proof_of_possession_is_told_the_three_proofs() {
    let world = World::new().await;
    for (way, certificate, key) in
        [("byoca", "cert_pem", "private_key_pem"), ("spiffe", "svid_pem", "svid_key_pem")]
    {
        let body = json!({ "agent_name": "alice", certificate: "x" });
        let refused = world.operate(SECRET, &format!("/v1/admin/agents/enroll/{way}"), &body).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{refused:?}");
        let problem = &refused.body["detail"][0];
        assert_eq!((&problem["type"], &problem["loc"]), (&json!("missing"), &json!(["body", key])));
        assert_eq!(problem["msg"], format!("send one of {key}, csr_pem and pop_signature"));
    }
}
