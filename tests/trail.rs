//! What the log says, to whom, what it never says, and that it looks after itself.

use std::sync::Arc;

use http::{Method, StatusCode};
use mastio_client::Agent;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::harness::{ADMIN_SECRET, Mastio, PATIENCE, Place, eventually, run};

/// Agents that were made by an operator and are logged in.
async fn members<const N: usize>(server: &Mastio, names: [&str; N]) -> [Agent; N] {
    let mut members = Vec::new();
    for name in names {
        let identity = Arc::new(server.admin().create_agent(name, name, &[]).await.unwrap());
        let mut member = server.agent(&identity);
        member.login().await.unwrap();
        members.push(member);
    }
    members.try_into().unwrap_or_else(|_| panic!("as many as asked for"))
}

#[tokio::test]
async fn agents_read_what_they_took_part_in() {
    let mut place = Place::new();
    let server = place.set("MCP_PROXY_ORG_ID", "acme").serve().await;
    let [mut alice, mut bob, mut eve] = members(&server, ["alice", "bob", "eve"]).await;
    alice.send("acme::bob", r#"{"text":"hello"}"#, Some("c-1"), None).await.unwrap();
    let received = bob.inbox().await.unwrap();
    bob.ack(&received[0].msg_id).await.unwrap();

    for reader in [&mut alice, &mut bob] {
        let answer = reader.call(Method::GET, "/v1/audit/session/c-1", "").await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.detail());
        let entries: Vec<Value> = answer.json().unwrap();
        let [sent, read] = &entries[..] else { panic!("two entries: {entries:?}") };
        assert_eq!((&sent["action"], &sent["agent_id"]), (&"oneshot_sent".into(), &"acme::alice".into()));
        assert_eq!((&read["action"], &read["status"]), (&"oneshot_delivered".into(), &"success".into()));
        assert!(sent["duration_ms"].is_null() && sent["tool_name"].is_null() && sent["detail"].is_string());
    }
    let refused = eve.call(Method::GET, "/v1/audit/session/c-1", "").await.unwrap();
    assert_eq!((refused.status.as_u16(), &*refused.detail()), (403, "Caller is not a peer of this session"));
    let nothing = alice.call_mtls(Method::GET, "/v1/audit/session/c-2", "").await.unwrap();
    assert_eq!(
        (nothing.status.as_u16(), &*nothing.detail()),
        (404, "No audit entries for the given session_id")
    );
}

#[tokio::test]
async fn who_was_handed_the_log_is_in_it() {
    let place = Place::new();
    let server = place.serve().await;
    let export = async |query: &str| {
        server.operator(Method::GET, &format!("/v1/admin/audit/export{query}"), &json!({})).await
    };
    let inverted = export("?start=2027-01-01&end=2026-01-01").await;
    assert_eq!(inverted.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(inverted.detail().contains("start must not be behind end"), "{}", inverted.detail());
    assert!(export("?start=2026-01-01&event_type=ca.").await.status.is_success());
    let told = place.sql("SELECT details FROM local_audit WHERE event_type = 'audit.exported'");
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        (&told["format"], &told["event_type"], &told["entries"]),
        (&"ndjson".into(), &"ca.*".into(), &1.into())
    );
    let whole = export("").await;
    assert!(String::from_utf8_lossy(&whole.body).contains(told["by"].as_str().unwrap()), "{told}");
    place.verify_audit();
}

#[tokio::test]
async fn a_deleted_agent_leaves_a_receipt_and_its_id_stays_taken() {
    let mut place = Place::new();
    let server = place.set("MCP_PROXY_ORG_ID", "acme").serve().await;
    let [mut alice] = members(&server, ["alice"]).await;
    let path = "/v1/admin/agents/acme::alice/decommission";
    let deleted = server.operator(Method::POST, path, &json!({ "reason": "host retired" })).await;
    let receipt: Value = deleted.json().unwrap();
    assert_eq!(deleted.status, StatusCode::OK, "{receipt}");
    assert_eq!(alice.call_mtls(Method::GET, "/v1/auth/whoami", "").await.unwrap().status, 401);
    let hashes =
        place.sql("SELECT entry_hash FROM local_audit WHERE event_type IN ('agent.revoked', 'agent.delete') ORDER BY id");
    let named: Vec<_> =
        receipt["entries"].as_array().unwrap().iter().map(|entry| &entry["entry_hash"]).collect();
    assert_eq!(named, hashes.lines().collect::<Vec<_>>());
    assert!(receipt["signing_cert_pem"].as_str().unwrap().contains("BEGIN CERTIFICATE"));
    let later = server.operator(Method::GET, "/v1/admin/agents/acme::alice/receipt", &json!({})).await;
    assert_eq!(later.json::<Value>().unwrap()["receipt"], receipt["receipt"]);
    place.write("receipt.json", &later.body);
    let root = place.path("nginx-certs/org-ca.crt");
    let file = place.path("receipt.json");
    let verify = ["audit", "verify", file.to_str().unwrap(), "--ca-root", root.to_str().unwrap()];
    let said = run(&mut place.command(&verify));
    assert!(said.contains("✓ chain walk: 2 of 2") && said.contains("✓ inclusion"), "{said}");

    let again = json!({ "agent_name": "alice" });
    let refused = server.operator(Method::POST, "/v1/admin/agents", &again).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.detail().starts_with("agent_decommissioned") && refused.detail().contains("reuse"));
    let insisting = json!({ "agent_name": "alice", "reuse": true });
    let made = server.operator(Method::POST, "/v1/admin/agents", &insisting).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.detail());
    place.verify_audit();
}

/// Secrets and contents pass through every kind of request; neither log nor audit log has one of them.
#[tokio::test]
async fn no_secret_and_no_content_reaches_the_logs() {
    let mut place = Place::new();
    let server = place.set("MCP_PROXY_ORG_ID", "acme").serve().await;
    let [mut alice, mut bob] = members(&server, ["alice", "bob"]).await;
    let content = "the-prompt-of-an-agent";
    alice.send("acme::bob", &json!({ "text": content }).to_string(), None, None).await.unwrap();
    let token = alice.access_token().unwrap().expose_secret().to_owned();
    let received = bob.inbox().await.unwrap();
    bob.ack(&received[0].msg_id).await.unwrap();
    let made = server.operator(Method::POST, "/v1/admin/agents", &json!({ "agent_name": "carol" })).await;
    let rotate = "/v1/admin/agents/acme::carol/rotate-cert";
    let rotated = server.operator(Method::POST, rotate, &json!({ "rotate_dpop": true })).await;
    let key = |answer: Value| {
        let pem = answer["private_key_pem"].as_str().unwrap().to_owned();
        pem.lines().nth(1).unwrap().to_owned()
    };
    let wrong = json!({ "agent_name": "dave", "cert_pem": content, "private_key_pem": content });
    server.operator(Method::POST, "/v1/admin/agents", &wrong).await;
    server.operator(Method::POST, "/v1/admin/agents/acme::carol/decommission", &json!({})).await;
    let signature = token.rsplit('.').next().unwrap().to_owned();
    let secrets = [
        ADMIN_SECRET.to_owned(),
        key(made.json().unwrap()),
        key(rotated.json().unwrap()),
        signature,
        content.to_owned(),
    ];
    let written = server.log() + &place.sql("SELECT * FROM local_audit");
    assert!(written.contains("agent.delete") && written.contains("oneshot_sent"));
    for secret in secrets {
        assert!(!written.contains(&secret), "{secret} was written down");
    }
    assert!(!written.contains("PRIVATE KEY"));
}

#[tokio::test]
async fn a_running_server_notices_a_changed_log_and_its_mending() {
    let mut place = Place::new();
    let server = place.set("MCP_PROXY_AUDIT_SELF_CHECK_INTERVAL_SECONDS", "1").serve().await;
    server.admin().create_agent("alice", "Alice", &[]).await.unwrap();
    let warns = async || {
        let health: Value = server.get("/healthz").await.json().unwrap();
        health["warnings"].to_string().contains("audit_chain_broken")
    };
    assert!(!warns().await);
    place.sql(
        "DROP TRIGGER local_audit_no_update; CREATE TABLE kept AS SELECT * FROM local_audit WHERE chain_seq = 2;
         UPDATE local_audit SET timestamp = '2020-01-01T00:00:00.000001+00:00' WHERE chain_seq = 2",
    );
    eventually("the change is noticed", PATIENCE, async || warns().await.then_some(())).await;
    let shown = String::from_utf8(server.get("/metrics").await.body.to_vec()).unwrap();
    assert!(shown.contains("cullis_audit_chain_ok{org=") && shown.contains("cullis_audit_verified_total"));
    place.sql("UPDATE local_audit SET timestamp = (SELECT timestamp FROM kept) WHERE chain_seq = 2");
    eventually("the mending is noticed", PATIENCE, async || (!warns().await).then_some(())).await;
    let told = "SELECT event_type FROM local_audit WHERE event_type LIKE 'audit.chain_break_%' ORDER BY id";
    assert_eq!(place.sql(told), "audit.chain_break_detected\naudit.chain_break_mended\n");
}

/// What `mastio audit explain` prints of the newest entry of this event: its lines, without times.
fn explained(place: &Place, event: &str) -> Vec<String> {
    let seq = place.sql(&format!("SELECT max(chain_seq) FROM local_audit WHERE event_type = '{event}'"));
    let said = run(&mut place.command(&["audit", "explain", seq.trim()]));
    let untimed = |line: &str| {
        let words = line.split(' ').filter(|word| !word.ends_with("+00:00"));
        words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    };
    said.lines().map(untimed).collect()
}

#[tokio::test]
async fn an_entry_is_explained_in_words() {
    let mut place = Place::new();
    let server = place.set("MCP_PROXY_ORG_ID", "acme").serve().await;
    let [mut alice, _bob] = members(&server, ["alice", "bob"]).await;
    alice.send("acme::bob", r#"{"text":"hello"}"#, Some("c-1"), None).await.unwrap();
    let revoke = "/v1/admin/agents/acme::alice/revoke";
    let revoked = server.operator(Method::POST, revoke, &json!({ "reason": "key_leaked" })).await;
    assert_eq!(revoked.status, StatusCode::OK, "{}", revoked.detail());
    let of = |event: &str, column: &str| {
        let sql = format!(
            "SELECT {column} FROM local_audit WHERE event_type = '{event}' AND agent_id = 'acme::alice'"
        );
        place.sql(&sql).trim().to_owned()
    };
    let (created, token) = (of("agent.create", "chain_seq"), of("auth.token_issued", "chain_seq"));
    let (sent, ended) = (of("oneshot_sent", "chain_seq"), of("agent.revoked", "chain_seq"));
    let by = of("agent.revoked", "details ->> 'by'");
    let has = |lines: &[String], expected: &[&str]| {
        for begins in expected {
            assert!(lines.iter().any(|line| line.starts_with(begins)), "{begins:?} is not in {lines:#?}");
        }
    };

    let followed = format!("followed {ended} {by} revoked acme::alice: key_leaked.");
    has(
        &explained(&place, "oneshot_sent"),
        &[
            &format!("acme:{sent} oneshot_sent (ok)"),
            "acme::alice sent the message ",
            "who acme::alice: the agent",
            &format!("credential {token} acme::alice was given the token "),
            &format!("{created} acme::alice was enrolled by {by}; its certificate ends"),
            &followed,
            "verifies yes: its content has its hash, and it follows the entry before",
            "archived no",
            "details {\"bytes\":",
        ],
    );
    let json = run(&mut place.command(&["audit", "explain", &sent, "--json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(json["details"].is_object() && json["verdict"]["holds"] == true, "{json}");
    has(
        &explained(&place, "agent.revoked"),
        &[
            &format!("{by} revoked acme::alice: key_leaked."),
            &format!("who {by}: somebody with the admin secret that has this fingerprint"),
            "reason key_leaked",
            "verifies yes",
        ],
    );
    has(
        &explained(&place, "ca.generate"),
        &[
            "who nobody is named: the Mastio itself, or somebody who did not prove who they are",
            "followed nothing yet",
        ],
    );
    let missing = place.command(&["audit", "explain", "999"]).output().unwrap();
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(missing.status.code() == Some(1) && said.contains("has no entry 999; the newest is"), "{said}");
}
