//! The fleet over HTTP: lists and pages, search, requests that are sent again, containment.

use std::sync::Arc;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{ACCEPT, LINK},
};
use mastio_client::Answer;
use serde_json::{Value, json};

use crate::harness::{ADMIN_SECRET, Mastio, Place, X_ADMIN_SECRET};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

async fn started(place: &mut Place, names: &[&str]) -> Mastio {
    let server = place.set("MCP_PROXY_ORG_ID", "acme").serve().await;
    for name in names {
        let body = json!({ "agent_name": name, "capabilities": ["order.read", name] });
        let made = server.operator(Method::POST, "/v1/admin/agents", &body).await;
        assert_eq!(made.status, StatusCode::CREATED);
    }
    server
}

async fn get(server: &Mastio, path: &str) -> Answer {
    server.operator(Method::GET, path, &Value::Null).await
}

fn names(rows: &Value) -> Vec<&str> {
    rows.as_array().unwrap().iter().map(|row| row["agent_id"].as_str().unwrap()).collect()
}

/// The target of the `Link` header to the next page.
fn next(answer: &Answer) -> Option<String> {
    let link = answer.headers.get(LINK)?.to_str().unwrap();
    Some(link.strip_prefix('<').unwrap().split_once(">; rel=\"next\"").unwrap().0.to_owned())
}

#[tokio::test]
async fn lists_are_bare_arrays_and_pages_lead_to_the_next() {
    let mut place = Place::new();
    let server = started(&mut place, &["alice", "bob", "carol", "dave", "erin"]).await;
    server.operator(Method::POST, "/v1/admin/agents/bob/revoke", &json!({})).await;
    for list in ["/v1/admin/agents", "/proxy/admin/agents"] {
        let all: Value = get(&server, list).await.json().unwrap();
        assert_eq!(names(&all), ["acme::erin", "acme::dave", "acme::carol", "acme::bob", "acme::alice"]);
        let (mut path, mut seen) = (Some(format!("{list}?limit=2&status=active")), Vec::new());
        while let Some(page) = path {
            let answer = get(&server, &page).await;
            assert_eq!(answer.status, StatusCode::OK);
            path = next(&answer);
            let rows: Value = answer.json().unwrap();
            seen.extend(names(&rows).into_iter().map(str::to_owned));
        }
        assert_eq!(seen, ["acme::alice", "acme::carol", "acme::dave", "acme::erin"]);
        let none: Value = get(&server, &format!("{list}?status=inactive")).await.json().unwrap();
        assert_eq!(none, json!([]));
        for bad in ["limit=0", "limit=x", "cursor=x", "status=x", "method=x", "expiring_before=x"] {
            let answer = get(&server, &format!("{list}?{bad}")).await;
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
            let loc = answer.json::<Value>().unwrap()["detail"][0]["loc"].clone();
            assert_eq!(loc, json!(["query", bad.split('=').next().unwrap()]));
        }
        // A filter that does not exist must not read as one that lets everybody through.
        let misspelt = get(&server, &format!("{list}?expires_before=2030-01-01")).await;
        assert_eq!(misspelt.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    let lines = HeaderMap::from_iter([
        (X_ADMIN_SECRET, HeaderValue::from_static(ADMIN_SECRET)),
        (ACCEPT, HeaderValue::from_static("application/x-ndjson")),
    ]);
    let path = "/proxy/admin/agents?status=revoked";
    let lines = server.ask(Method::GET, path, lines, String::new()).await;
    assert_eq!(lines.headers["content-type"], "application/x-ndjson");
    let text = String::from_utf8(lines.body.to_vec()).unwrap();
    assert_eq!(text.lines().count(), 1);
    let row: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&row["agent_id"], &row["revoked_reason"]), (&json!("acme::bob"), &json!("admin_revocation")));

    let one: Value = get(&server, "/v1/admin/agents/acme::carol").await.json().unwrap();
    assert!(one["cert_pem"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    assert!(one["cert_not_after"].is_string() && one["cert_thumbprint"].is_string(), "{one}");
    assert_eq!(get(&server, "/v1/admin/agents/acme::nobody").await.status, StatusCode::NOT_FOUND);
}

/// A list longer than one portion is whole, and valid JSON at every seam.
#[tokio::test]
async fn a_long_list_is_streamed_whole() {
    let mut place = Place::new();
    let server = started(&mut place, &["seed"]).await;
    assert_eq!(server.stop().await, 0);
    place.sql(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1100) \
         INSERT INTO internal_agents (agent_id, display_name, created_at, is_active) \
         SELECT printf('acme::agent-%05d', i), 'x', printf('2020-01-01T00:00:00.%06d+00:00', i), i % 3 <> 0 FROM n",
    );
    let server = place.serve().await;
    let all: Value = get(&server, "/v1/admin/agents").await.json().unwrap();
    assert_eq!(all.as_array().unwrap().len(), 1101);
    assert_eq!(names(&all)[..2], ["acme::seed", "acme::agent-01100"]);
    let inactive: Value = get(&server, "/v1/admin/agents?status=inactive").await.json().unwrap();
    assert_eq!(inactive.as_array().unwrap().len(), 366);
}

#[tokio::test]
async fn a_request_with_a_key_can_be_sent_again() {
    let mut place = Place::new();
    let server = started(&mut place, &[]).await;
    let send = async |key: &'static str, body: &str| {
        let headers = HeaderMap::from_iter([
            (X_ADMIN_SECRET, HeaderValue::from_static(ADMIN_SECRET)),
            (IDEMPOTENCY_KEY, HeaderValue::from_static(key)),
        ]);
        server.ask(Method::POST, "/v1/admin/agents", headers, body.to_owned()).await
    };
    let body = r#"{"agent_name": "alice", "escrow": false}"#;
    let (one, two) = tokio::join!(send("k1", body), send("k1", r#"{"escrow":false,"agent_name":"alice"}"#));
    assert_eq!((one.status, two.status), (StatusCode::CREATED, StatusCode::CREATED));
    let replayed =
        |answer: &Answer| answer.headers.get("idempotency-replayed").is_some_and(|value| value == "true");
    assert!(replayed(&one) != replayed(&two), "one made it, the other found it");
    let (made, found) = if replayed(&one) { (two, one) } else { (one, two) };
    let (made, found): (Value, Value) = (made.json().unwrap(), found.json().unwrap());
    assert!(made["private_key_pem"].is_string() && found["private_key_pem"].is_null(), "it was not kept");
    for member in ["agent_id", "cert_pem", "cert_thumbprint", "spiffe_id"] {
        assert_eq!(made[member], found[member], "{member}");
    }
    assert_eq!(send("k1", r#"{"agent_name": "bob"}"#).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(send("k2", body).await.status, StatusCode::CONFLICT, "another key is another request");
    assert_eq!(send("k 3", r#"{"agent_name": "bob"}"#).await.status, StatusCode::BAD_REQUEST);
    let rows = place.sql("SELECT count(*) FROM internal_agents");
    assert_eq!(rows.trim(), "1");
}

#[tokio::test]
async fn agents_search_for_what_others_can_do() {
    let mut place = Place::new();
    let server = started(&mut place, &["bob", "carol"]).await;
    let alice = Arc::new(server.admin().create_agent("alice", "Alice", &["a+b"]).await.unwrap());
    server.operator(Method::POST, "/v1/admin/agents/acme::carol/revoke", &json!({})).await;
    let mut agent = server.agent(&alice);
    agent.login_mtls().await.unwrap();
    let mut search =
        async |query: &str| agent.call(Method::GET, &format!("/v1/agents/search{query}"), "").await.unwrap();
    let found: Value = search("?capability=order.read").await.json().unwrap();
    assert_eq!(names(&found["agents"]), ["acme::bob"]);
    assert_eq!((&found["count"], &found["scope"]), (&json!(1), &json!("all")));
    let bob = &found["agents"][0];
    assert_eq!(
        (&bob["org_id"], &bob["scope"], &bob["active"]),
        (&json!("acme"), &json!("local"), &json!(true))
    );
    for (query, who) in [
        ("?capability=order.read&capability=bob", &["acme::bob"][..]),
        ("?capability=a%2Bb", &["acme::alice"]),
        ("?capability=order.read&active=false", &["acme::bob", "acme::carol"]),
        ("?q=ALI&scope=local", &["acme::alice"]),
        ("?scope=federated", &[]),
    ] {
        let found: Value = search(query).await.json().unwrap();
        assert_eq!(names(&found["agents"]), who, "{query}");
    }
    let page = search("?active=false&limit=2").await;
    assert_eq!(names(&page.json::<Value>().unwrap()["agents"]), ["acme::alice", "acme::bob"]);
    assert_eq!(next(&page).as_deref(), Some("/v1/agents/search?active=false&limit=2&cursor=acme%3A%3Abob"));
    // As a database of the existing system may hold it.
    place.sql("UPDATE internal_agents SET agent_id = 'acmes::carol' WHERE agent_id = 'acme::carol'");
    let ours: Value = search("?active=false").await.json().unwrap();
    assert_eq!(names(&ours["agents"]), ["acme::alice", "acme::bob"]);
    let long = format!("?q={}", "x".repeat(257));
    for bad in ["?scope=x", "?active=x", "?limit=0", "?cursor=x", &long] {
        assert_eq!(search(bad).await.status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
    }
}

#[tokio::test]
async fn one_call_contains_an_agent_and_hands_out_the_evidence() {
    let mut place = Place::new();
    let server = started(&mut place, &["bob"]).await;
    let alice = Arc::new(server.admin().create_agent("alice", "Alice", &[]).await.unwrap());
    let mut agent = server.agent(&alice);
    agent.login_mtls().await.unwrap();
    agent.whoami().await.unwrap();

    let contain =
        async |body: &Value| server.operator(Method::POST, "/v1/admin/incidents/contain", body).await;
    let body = json!({ "agent_id": "acme::alice", "reason": "laptop stolen" });
    let evidence: Value = contain(&body).await.json().unwrap();
    assert_eq!(evidence["revocation"]["revoked_reason"], "laptop stolen");
    assert_eq!(evidence["revocation"]["already_revoked"], false);
    assert_eq!(evidence["certificates"].as_array().unwrap().len(), 1);
    assert!(evidence["crl"][0]["number"].is_u64(), "{evidence}");
    let newest = &evidence["audit"]["entries"][0];
    assert_eq!(newest["event_type"], "incident.contained");
    assert_eq!(newest["chain_seq"], evidence["audit"]["head"]["chain_seq"]);
    let seq = &newest["chain_seq"];
    let hash = place.sql(&format!("SELECT entry_hash FROM local_audit WHERE chain_seq = {seq}"));
    assert_eq!(newest["entry_hash"].as_str().unwrap(), hash.trim());
    let refused = agent.whoami().await.unwrap_err().to_string();
    assert!(refused.contains("401"), "{refused}");

    let again: Value = contain(&json!({ "agent_id": "acme::alice" })).await.json().unwrap();
    assert_eq!(again["revocation"]["already_revoked"], true);
    assert_eq!(contain(&json!({ "agent_id": "acme::nobody" })).await.status, StatusCode::NOT_FOUND);
    assert_eq!(contain(&json!({})).await.status, StatusCode::UNPROCESSABLE_ENTITY);

    let path = "/v1/admin/agents/acme::bob/revoke-all-sessions";
    let ended: Value = server.operator(Method::POST, path, &Value::Null).await.json().unwrap();
    assert_eq!(ended, json!({ "revoked": 0 }));
    let path = "/v1/admin/agents/acme::bob/federated";
    let patched: Value =
        server.operator(Method::PATCH, path, &json!({ "federated": true })).await.json().unwrap();
    assert_eq!((&patched["agent_id"], &patched["federated"]), (&json!("acme::bob"), &json!(true)));
    assert_eq!(
        server.operator(Method::PATCH, path, &json!({})).await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    assert_eq!(server.stop().await, 0);
    place.verify_audit();
}
