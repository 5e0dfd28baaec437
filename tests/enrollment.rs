//! Enrolment by device code, as a device and an operator see it.

use std::{fs, process::Command, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use mastio_client::{Answer, Identity};
use mastio_core::sha256;
use mastio_jose::SigningKey;
use mastio_pki::{KeyPair, pem};
use serde_json::{Value, json};

use crate::harness::{Mastio, PATIENCE, Place, eventually, run};

const PROOF: HeaderName = HeaderName::from_static("x-enrollment-proof");
const START: &str = "/v1/enrollment/start";

fn sign(key: &KeyPair, message: &str) -> String {
    let key = SigningKey::from_pkcs8_der(&key.to_pkcs8_der()).unwrap();
    URL_SAFE_NO_PAD.encode(key.sign_der(message.as_bytes()).unwrap())
}

fn possession(spki_der: &[u8]) -> String {
    format!("enrollment-pop:v1|{}", hex::encode(sha256(spki_der)))
}

fn start_body(key: &KeyPair) -> Value {
    json!({
        "pubkey_pem": pem::encode("PUBLIC KEY", key.spki_der()),
        "requester_name": "Mario Rossi",
        "requester_email": "mario@example.com",
        "reason": null,
        "device_info": null,
        "pop_signature": sign(key, &possession(key.spki_der())),
        "principal_type": "agent",
        "something_new": true,
    })
}

/// Over TLS, as Connectors ask: each time on a connection of its own.
async fn ask(server: &Mastio, method: Method, path: &str, proof: Option<&str>, body: String) -> Answer {
    let headers = proof.map(|proof| (PROOF, HeaderValue::from_str(proof).unwrap()));
    let headers = HeaderMap::from_iter(headers);
    server.client(None).connect().request(method, path, headers, body).await.unwrap()
}

async fn start(server: &Mastio, body: &Value) -> Answer {
    ask(server, Method::POST, START, None, body.to_string()).await
}

async fn status(server: &Mastio, session: &str, query: &str, proof: Option<&str>) -> Answer {
    let path = format!("/v1/enrollment/{session}/status{query}");
    ask(server, Method::GET, &path, proof, String::new()).await
}

fn session(started: &Answer) -> String {
    assert_eq!(started.status, StatusCode::CREATED, "{}", started.detail());
    started.json::<Value>().unwrap()["session_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_device_enrols_and_calls() {
    let mut place = Place::new();
    let server = place.set("MCP_PROXY_ORG_ID", "acme").serve().await;
    let key = KeyPair::generate_p256().unwrap();
    let started = start(&server, &start_body(&key)).await;
    let session = session(&started);
    let body: Value = started.json().unwrap();
    assert_eq!(body["enroll_url"], format!("{}/enroll?session={session}", server.url()));
    assert_eq!(body["poll_url"], format!("{}/v1/enrollment/{session}/status", server.url()));
    assert_eq!((&body["status"], &body["poll_interval_s"]), (&json!("pending"), &json!(5)));

    let waiting: Value =
        server.operator(Method::GET, "/v1/admin/enrollments", &json!({})).await.json().unwrap();
    assert_eq!(waiting[0]["session_id"], session);
    assert_eq!(waiting[0]["pubkey_fingerprint"], hex::encode(sha256(key.spki_der())));
    let approve = format!("/v1/admin/enrollments/{session}/approve");
    let bad = server.operator(Method::POST, &approve, &json!({ "agent_id": "other::evil" })).await;
    assert_eq!(bad.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(bad.detail().contains("acme::kyc-screener"), "{}", bad.detail());

    let proof = sign(&key, &format!("enrollment-status:v1|{session}"));
    let decision = json!({ "agent_id": "acme::alice", "capabilities": ["kyc.read"] });
    let (waited, approved) = tokio::join!(
        status(&server, &session, "?wait=25", Some(&proof)),
        server.operator(Method::POST, &approve, &decision),
    );
    assert_eq!(approved.json::<Value>().unwrap(), json!({ "status": "approved", "agent_id": "acme::alice" }));
    let outcome: Value = waited.json().unwrap();
    assert_eq!((&outcome["status"], &outcome["agent_id"]), (&json!("approved"), &json!("acme::alice")));
    assert_eq!(outcome["capabilities"], json!(["kyc.read"]));
    let unproven: Value = status(&server, &session, "", Some("nonsense")).await.json().unwrap();
    for member in ["agent_id", "cert_pem", "capabilities", "rejection_reason"] {
        assert_eq!(unproven[member], Value::Null, "{member}");
    }
    assert_eq!(unproven["status"], "approved");
    let again = server.operator(Method::POST, &approve, &decision).await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    assert_eq!(again.detail(), "Cannot approve an enrollment in status 'approved'");

    let alice = Arc::new(Identity::new(outcome["cert_pem"].as_str().unwrap(), key).unwrap());
    let mut agent = server.agent(&alice);
    agent.login_mtls().await.unwrap();
    assert_eq!(agent.whoami().await.unwrap().agent_id.to_string(), "acme::alice");
}

#[tokio::test]
async fn a_rejected_device_reads_why_if_it_proves_its_key() {
    let place = Place::new();
    let server = place.serve().await;
    let key = KeyPair::generate_p256().unwrap();
    let session = session(&start(&server, &start_body(&key)).await);
    let reject = format!("/v1/admin/enrollments/{session}/reject");
    let empty = server.operator(Method::POST, &reject, &json!({ "reason": "" })).await;
    assert_eq!(empty.status, StatusCode::UNPROCESSABLE_ENTITY);
    let rejected = server.operator(Method::POST, &reject, &json!({ "reason": "who are you?" })).await;
    assert_eq!(rejected.json::<Value>().unwrap(), json!({ "status": "rejected" }));
    let proof = sign(&key, &format!("enrollment-status:v1|{session}"));
    for (proof, reason) in [(None, Value::Null), (Some(proof.as_str()), json!("who are you?"))] {
        let outcome: Value = status(&server, &session, "", proof).await.json().unwrap();
        assert_eq!((&outcome["status"], &outcome["rejection_reason"]), (&json!("rejected"), &reason));
    }
    server.stop().await;
    let rejections = "SELECT count(*) FROM local_audit WHERE event_type = 'enrollment.rejected'";
    assert_eq!(place.sql(rejections).trim(), "1");
    place.verify_audit();
}

/// The Connector gives up at the first answer that is not a 200.
#[tokio::test]
async fn a_known_session_is_never_told_that_it_asks_too_often() {
    let place = Place::new();
    let server = place.serve().await;
    let session = session(&start(&server, &start_body(&KeyPair::generate_p256().unwrap())).await);
    let path = format!("/v1/enrollment/{session}/status");
    let mut connection = server.client(None).connect();
    let mut intervals = Vec::new();
    for _ in 0..80 {
        let answer = connection.request(Method::GET, &path, HeaderMap::new(), "").await.unwrap();
        assert_eq!(answer.status, StatusCode::OK);
        let body: Value = answer.json().unwrap();
        assert_eq!(body["status"], "pending");
        intervals.push(body["poll_interval_s"].as_u64().unwrap());
    }
    assert_eq!((intervals.first(), intervals.last()), (Some(&5), Some(&30)), "{intervals:?}");

    let guess = format!("/v1/enrollment/{}/status", "A".repeat(32));
    let mut statuses = Vec::new();
    for _ in 0..80 {
        let answer = connection.request(Method::GET, &guess, HeaderMap::new(), "").await.unwrap();
        statuses.push((answer.status.as_u16(), answer.detail()));
    }
    assert_eq!(statuses[0], (404, "Enrollment session not found".to_owned()));
    assert_eq!(statuses[79], (429, "enrollment status rate limit exceeded".to_owned()));
    let another = start(&server, &json!({})).await;
    assert_eq!(another.status, StatusCode::UNPROCESSABLE_ENTITY);
    for _ in 0..5 {
        start(&server, &json!({})).await;
    }
    let flood = start(&server, &json!({})).await;
    assert_eq!((flood.status.as_u16(), flood.detail()), (429, "enrollment rate limit exceeded".into()));
}

#[tokio::test]
async fn rsa_devices_enrol_and_weak_ones_do_not() {
    let place = Place::new();
    let server = place.serve().await;
    for (bits, expected) in [("2048", 201), ("1024", 400)] {
        let (key, message) = (place.path(&format!("{bits}.pem")), place.path("message"));
        run(Command::new("openssl")
            .args(["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt"])
            .arg(format!("rsa_keygen_bits:{bits}"))
            .arg("-out")
            .arg(&key));
        let public = run(Command::new("openssl").args(["pkey", "-pubout", "-in"]).arg(&key));
        fs::write(&message, possession(&pem::public_key(&public).unwrap())).unwrap();
        let signed = Command::new("openssl")
            .args(["dgst", "-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:max"])
            .arg("-sign")
            .arg(&key)
            .arg(&message)
            .output()
            .unwrap();
        let mut body = start_body(&KeyPair::generate_p256().unwrap());
        body["pubkey_pem"] = public.into();
        body["pop_signature"] = URL_SAFE_NO_PAD.encode(&signed.stdout).into();
        let started = start(&server, &body).await;
        assert_eq!(started.status, expected, "{bits}: {}", started.detail());
    }
}

#[tokio::test]
async fn what_no_device_would_send_is_refused() {
    let place = Place::new();
    let server = place.serve().await;
    let good = start_body(&KeyPair::generate_p256().unwrap());
    for (member, value, expected) in [
        ("requester_email", json!("nobody"), 422),
        ("requester_name", json!("x".repeat(201)), 422),
        ("principal_type", json!("user"), 422),
        ("tpm_quote_b64", json!("AA"), 400),
        ("pop_signature", json!("AA"), 400),
    ] {
        let mut body = good.clone();
        body[member] = value;
        let answer = start(&server, &body).await;
        assert_eq!(answer.status, expected, "{member}: {}", answer.detail());
    }
    let sessions = "SELECT count(*) FROM pending_enrollments";
    assert_eq!(place.sql(sessions).trim(), "0");
}

#[tokio::test]
async fn a_server_that_stops_does_not_wait_for_a_decision() {
    let place = Place::new();
    let server = place.serve().await;
    let key = KeyPair::generate_p256().unwrap();
    let session = session(&start(&server, &start_body(&key)).await);
    let proof = sign(&key, &format!("enrollment-status:v1|{session}"));
    let path = format!("/v1/enrollment/{session}/status?wait=25");
    let mut connection = server.client(None).connect();
    let headers = HeaderMap::from_iter([(PROOF, HeaderValue::from_str(&proof).unwrap())]);
    let waiting =
        tokio::spawn(async move { connection.request(Method::GET, &path, headers, "").await.unwrap() });
    let somebody_waits = async || {
        let metrics = server.get("/metrics").await;
        let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
        metrics.lines().any(|line| line == "cullis_enrollment_waiters 1").then_some(())
    };
    eventually("the request waits", PATIENCE, somebody_waits).await;
    assert_eq!(server.stop().await, 0);
    let answer = waiting.await.unwrap();
    assert_eq!(answer.json::<Value>().unwrap()["status"], "pending");
}
