//! Time stamps of the audit log, as an auditor checks them: with openssl, and nothing of ours.

use std::{fs, sync::Arc};

use http::Method;
use mastio_testing::{
    responder::{Reply, Responder},
    tsa::{Key, Tsa},
};
use serde_json::json;

use crate::harness::{PATIENCE, Place, eventually};

#[tokio::test]
async fn openssl_accepts_what_is_kept_and_an_authority_that_is_gone_stops_nothing() {
    let tsa = Arc::new(Tsa::new(Key::Rsa));
    let stamping = Arc::clone(&tsa);
    let responder = Responder::start(move |seen| Some(Reply::time_stamp(stamping.reply(&seen.body))));
    let mut place = Place::new();
    place
        .set("CULLIS_TSA_URL", &responder.url())
        .set("MCP_PROXY_AUDIT_TSA_TRUST_ANCHOR_PATH", tsa.file("root.pem").to_str().unwrap())
        .set("MCP_PROXY_AUDIT_TSA_INTERVAL_SECONDS", "1");
    let server = place.serve().await;
    let stamped = async || {
        let metrics = String::from_utf8(server.get("/metrics").await.body.into()).unwrap();
        let never = "cullis_audit_last_anchor_timestamp_seconds 0\n";
        (metrics.contains("cullis_audit_last_anchor_timestamp_seconds ") && !metrics.contains(never))
            .then_some(())
    };
    eventually("the log is stamped", PATIENCE, stamped).await;

    let kept = place.sql(
        "SELECT a.row_hash || ' ' || hex(substr(a.tsa_token, 4)) FROM audit_tsa_anchors a \
         JOIN local_audit l ON l.chain_seq = a.chain_seq AND l.entry_hash = a.row_hash LIMIT 1",
    );
    let (hash, token) = kept.trim().split_once(' ').unwrap();
    let file = tsa.file("kept.der");
    fs::write(&file, hex::decode(token).unwrap()).unwrap();
    assert!(tsa.verifies_token(hash, &file));
    assert!(!tsa.verifies_token(&"00".repeat(32), &file));

    drop(responder);
    drop(server);
    let server = place.serve().await;
    let made = json!({ "agent_name": "alice" });
    assert!(server.operator(Method::POST, "/v1/admin/agents", &made).await.status.is_success());
    let failed = async || {
        let metrics = String::from_utf8(server.get("/metrics").await.body.into()).unwrap();
        (!metrics.contains("cullis_audit_anchor_failures_total 0\n")).then_some(())
    };
    eventually("the failure is counted", PATIENCE, failed).await;
    server.ready().await;
    assert_eq!(server.log().matches("could not be stamped with the time").count(), 1);
}

#[tokio::test]
async fn roots_that_cannot_be_read_stop_the_start() {
    let mut place = Place::new();
    place
        .set("CULLIS_TSA_URL", "http://127.0.0.1:1")
        .set("MCP_PROXY_AUDIT_TSA_TRUST_ANCHOR_PATH", "no-such.pem");
    let (code, told) = place.refused().await;
    assert_eq!(code, 3);
    assert!(
        told.contains("MCP_PROXY_AUDIT_TSA_TRUST_ANCHOR_PATH: ") && told.contains("no-such.pem"),
        "{told}"
    );
}
