//! Revocation lists as others use them: with openssl, and with a cache in between.

use std::process::{Command, Output};

use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH},
};
use serde_json::{Value, json};

use crate::harness::{Mastio, PATIENCE, Place, both, eventually, run};

/// Makes an agent and keeps its leaf as a file.
async fn agent(server: &Mastio, place: &Place, name: &str) {
    let made: Value = server
        .operator(Method::POST, "/v1/admin/agents", &json!({ "agent_name": name }))
        .await
        .json()
        .unwrap();
    place.write(&format!("{name}.pem"), made["cert_pem"].as_str().unwrap());
}

/// `openssl verify -crl_check` of a leaf, with the lists as they are now.
async fn verify(server: &Mastio, place: &Place, name: &str) -> Output {
    server.publishes().await;
    let lists = server.get("/pki/crl.pem").await;
    assert_eq!(lists.status, StatusCode::OK);
    place.write("crl.pem", &lists.body);
    let verify = Command::new("openssl")
        .args(["verify", "-crl_check", "-CAfile"])
        .arg(place.path("certs/org-ca.pem"))
        .arg("-CRLfile")
        .arg(place.path("crl.pem"))
        .arg(place.path(&format!("{name}.pem")))
        .output();
    verify.unwrap()
}

/// Waits until the lists name so many certificates, without using up the limit on public documents.
async fn published(server: &Mastio, revoked: u32) {
    let line = format!("mastio_crl_entries {revoked}\n");
    let seen = async || {
        let metrics = server.get("/metrics").await.body;
        let metrics = String::from_utf8(metrics.into()).unwrap();
        metrics.contains(&line).then_some(())
    };
    eventually("the revocation is published", PATIENCE, seen).await;
}

#[tokio::test]
async fn openssl_accepts_the_living_and_rejects_the_revoked() {
    let mut place = Place::new();
    let server = place.set("MCP_PROXY_ORG_ID", "acme").serve().await;
    for name in ["alice", "bob"] {
        agent(&server, &place, name).await;
    }
    let accepted = verify(&server, &place, "alice").await;
    assert!(accepted.status.success(), "{}", both(&accepted));

    let revoked = server.operator(Method::POST, "/registry/agents/acme::alice/revoke", &json!({})).await;
    assert_eq!(revoked.status, StatusCode::OK);
    published(&server, 1).await;
    let rejected = verify(&server, &place, "alice").await;
    assert!(
        !rejected.status.success() && both(&rejected).contains("certificate revoked"),
        "{}",
        both(&rejected)
    );
    let accepted = verify(&server, &place, "bob").await;
    assert!(accepted.status.success(), "{}", both(&accepted));

    let rotated = server.operator(Method::POST, "/registry/agents/acme::bob/rotate-cert", &json!({})).await;
    let rotated: Value = rotated.json().unwrap();
    published(&server, 2).await;
    let rejected = verify(&server, &place, "bob").await;
    assert!(both(&rejected).contains("certificate revoked"), "{}", both(&rejected));
    place.write("bob.pem", rotated["cert_pem"].as_str().unwrap());
    let accepted = verify(&server, &place, "bob").await;
    assert!(accepted.status.success(), "{}", both(&accepted));

    let signed = Command::new("openssl")
        .args(["crl", "-verify", "-noout", "-in"])
        .arg(place.path("crl.pem"))
        .arg("-CAfile")
        .arg(place.path("certs/org-ca.pem"))
        .output();
    let signed = both(&signed.unwrap());
    assert!(signed.contains("verify OK"), "{signed}");
    let text =
        run(Command::new("openssl").args(["crl", "-text", "-noout", "-in"]).arg(place.path("crl.pem")));
    for reason in ["Key Compromise", "Superseded"] {
        assert!(text.contains(reason), "{text}");
    }
    let number = |text: &str| {
        let (_, rest) = text.split_once("X509v3 CRL Number:").unwrap();
        rest.split_whitespace().next().unwrap().parse::<u32>().unwrap()
    };
    assert_eq!(number(&text), 3);

    assert_eq!(server.stop().await, 0);
    let server = place.serve().await;
    let rejected = verify(&server, &place, "alice").await;
    assert!(both(&rejected).contains("certificate revoked"), "{}", both(&rejected));
    let text =
        run(Command::new("openssl").args(["crl", "-text", "-noout", "-in"]).arg(place.path("crl.pem")));
    assert_eq!(number(&text), 4, "numbers go on after a restart");
}

#[tokio::test]
async fn documents_are_asked_for_again_and_sent_once() {
    let mut place = Place::new();
    let server = place.set("MCP_PROXY_ORG_ID", "acme").serve().await;
    agent(&server, &place, "alice").await;
    server.publishes().await;
    let mut tags = Vec::new();
    for path in ["/pki/crl.pem", "/pki/revoked.json"] {
        let first = server.get(path).await;
        assert_eq!(
            (first.status, &first.headers[CACHE_CONTROL]),
            (StatusCode::OK, &HeaderValue::from_static("public, no-cache"))
        );
        let tag = first.headers[ETAG].clone();
        let known = HeaderMap::from_iter([(IF_NONE_MATCH, tag.clone())]);
        let again = server.ask(Method::GET, path, known, String::new()).await;
        assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0));
        tags.push((path, tag));
    }
    server.operator(Method::POST, "/v1/admin/agents/acme::alice/revoke", &json!({})).await;
    published(&server, 1).await;
    for (path, tag) in tags {
        let known = HeaderMap::from_iter([(IF_NONE_MATCH, tag)]);
        let fresh = server.ask(Method::GET, path, known, String::new()).await;
        assert_eq!(fresh.status, StatusCode::OK, "{path}");
    }
    let revoked: Value = server.get("/pki/revoked.json").await.json().unwrap();
    let entry = &revoked["revoked"][0];
    assert!(revoked["generated_at"].is_string() && entry["not_after"].is_string(), "{revoked}");
    let serial =
        run(Command::new("openssl").args(["x509", "-noout", "-serial", "-in"]).arg(place.path("alice.pem")));
    let serial = serial.trim().trim_start_matches("serial=").to_ascii_lowercase();
    assert_eq!(entry["serial"].as_str().unwrap().trim_start_matches('0'), serial.trim_start_matches('0'));
}
