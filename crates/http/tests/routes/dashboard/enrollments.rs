//! Requests of Connectors: decided by an operator, seen by whoever has the link.

use http::{Method, StatusCode};
use serde_json::json;

use super::{Operator, enrolment, field};
use crate::world::World;

/// Connectors give up at the first answer that is not a 200.
#[tokio::test]
async fn a_known_session_is_answered_whatever_it_says_of_waiting() {
    let world = World::new().await;
    let session = enrolment(&world, "Mario").await;
    for query in ["", "?wait=abc", "?wait=-1", "?wait=99999999999999999999", "?wait=0&wait=0", "?wait=%FF"] {
        let answer = world.get(&format!("/v1/enrollment/{session}/status{query}")).await;
        assert_eq!((answer.status, &answer.body["status"]), (StatusCode::OK, &json!("pending")), "{query}");
    }
}

#[tokio::test]
async fn an_enrolment_is_approved_or_rejected_by_form() {
    let world = World::new().await;
    let operator = Operator::log_in(&world).await;
    let (first, second) = (enrolment(&world, "Mario").await, enrolment(&world, "Lucia").await);
    let page = operator.get("/proxy/enrollments").await.text;
    let token_field = format!("name=\"csrf_token\" value=\"{}\"", operator.token);
    for part in [&format!("/proxy/enrollments/{first}/approve"), "Mario", "Lucia", "screening", &token_field]
    {
        assert!(page.contains(part), "{part}: {page}");
    }
    let listed = operator.get("/v1/admin/enrollments").await.body;
    for ask in listed.as_array().unwrap() {
        let code = ask["code"].as_str().unwrap();
        assert!(page.contains(&format!("<code class=\"code\">{code}</code>")), "{code}: {page}");
    }
    let approve = format!("/proxy/enrollments/{first}/approve");
    let wrong = operator.is_sent_to(&approve, "agent_id=not%20a%20name").await;
    assert!(wrong.starts_with("/proxy/enrollments?error=agent_id%20must%20be"), "{wrong}");
    let again = operator.get(&wrong).await.text;
    assert_eq!(again.matches("value=\"not a name\"").count(), 1, "what was typed is there again: {again}");
    let forged = wrong.replace("not%20a%20name", "alice").replace(&first, &second);
    assert!(!operator.get(&forged).await.text.contains("alice"), "a link fills in nothing");
    let script = operator.request(Method::POST, &approve).header("x-csrf-token", &operator.token);
    let told = operator.ask(script, "agent_id=not%20a%20name".into()).await;
    assert_eq!(told.status, StatusCode::BAD_REQUEST);
    assert!(told.body["detail"].is_array(), "{told:?}");
    let reject = format!("/proxy/enrollments/{second}/reject");
    for (path, twice) in [(&approve, "agent_id=a&agent_id=b"), (&reject, "reason=a&reason=b")] {
        let script = operator.request(Method::POST, path).header("x-csrf-token", &operator.token);
        let told = operator.ask(script, twice.into()).await;
        assert_eq!(told.status, StatusCode::BAD_REQUEST);
        assert!(told.body["detail"].is_array(), "{told:?}");
        assert_eq!(operator.submit(path, twice).await.status, StatusCode::UNPROCESSABLE_ENTITY);
        let forged = operator.ask(operator.request(Method::POST, path), twice.into()).await;
        assert_eq!(forged.status, StatusCode::FORBIDDEN);
    }

    let fields = "agent_id=mario&capabilities=crm.read,%20kyc&groups=a";
    let done = operator.is_sent_to(&approve, fields).await;
    assert!(done.starts_with("/proxy/enrollments?flash=Approved"), "{done}");
    let late = operator.is_sent_to(&approve, fields).await;
    assert!(late.starts_with("/proxy/enrollments?error=Cannot%20approve"), "{late}");
    let agent = operator.get("/proxy/agents/acme::mario").await.text;
    assert!(agent.contains("crm.read") && agent.contains("Connector"), "{agent}");

    let empty = operator.is_sent_to(&reject, "reason=").await;
    assert!(empty.starts_with("/proxy/enrollments?error="), "{empty}");
    let done = operator.is_sent_to(&reject, "reason=who%20are%20you").await;
    assert!(done.starts_with("/proxy/enrollments?flash=Rejected.&seal="), "{done}");
    assert!(operator.get("/proxy/enrollments").await.text.contains("Nobody waits"));
    let listed = operator.get("/v1/admin/enrollments").await;
    assert_eq!(listed.body, json!([]));
}

#[tokio::test]
async fn an_agent_that_is_there_is_handed_over_when_the_operator_has_seen_it() {
    let world = World::new().await;
    let operator = Operator::log_in(&world).await;
    world.member("alice").await;
    let session = enrolment(&world, "Mallory").await;
    let approve = format!("/proxy/enrollments/{session}/approve");
    let fields = "agent_id=alice&capabilities=all";
    let question = operator.submit(&approve, fields).await;
    assert_eq!(question.status, StatusCode::OK, "{question:?}");
    for part in ["There is an agent of this name.", "until 2026-09-23 14:20 UTC", "Mallory", &approve] {
        assert!(question.text.contains(part), "{part}: {}", question.text);
    }
    assert!(operator.get("/proxy/enrollments").await.text.contains("Mallory"), "nothing is decided yet");
    let stale = operator.submit(&approve, &format!("{fields}&replace={}", "0".repeat(64))).await;
    assert_eq!(stale.status, StatusCode::OK, "another certificate was confirmed");
    let confirmed = format!("{fields}&replace={}", field(&question.text, "replace"));
    let done = operator.is_sent_to(&approve, &confirmed).await;
    assert!(
        done.starts_with("/proxy/enrollments?flash=Approved%3A%20acme%3A%3Aalice%20was%20there"),
        "{done}"
    );
    assert!(operator.get(&done).await.text.contains("of before works until 2026-09-23 14:20 UTC."));
    let late = operator.is_sent_to(&approve, fields).await;
    assert!(late.starts_with("/proxy/enrollments?error=Cannot%20approve"), "{late}");

    let again = enrolment(&world, "A script").await;
    let path = format!("/proxy/enrollments/{again}/approve");
    let script = operator.request(Method::POST, &path).header("accept", "*/*");
    let done = operator.ask(script, format!("csrf_token={}&agent_id=alice", operator.token)).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{done:?}");
    assert!(done.header("location").unwrap().contains("was%20there%20before"), "{done:?}");
}

#[tokio::test]
async fn a_stranger_with_the_link_learns_how_it_stands_and_no_more() {
    let world = World::new().await;
    let session = enrolment(&world, "Mario Rossi").await;
    let path = format!("/enroll?session={session}");
    let page = world.get(&path).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text.contains("pending") && page.text.contains("class=\"code\""), "{}", page.text);
    for private in ["Mario", "mario@example.com", "screening", "<form"] {
        assert!(!page.text.contains(private), "{private}");
    }
    let operator = Operator::log_in(&world).await;
    let page = operator.get(&path).await.text;
    for part in ["Mario Rossi", "mario@example.com", &format!("/proxy/enrollments/{session}/approve")] {
        assert!(page.contains(part), "{part}");
    }
    operator.is_sent_to(&format!("/proxy/enrollments/{session}/approve"), "agent_id=mario").await;
    assert!(world.get(&path).await.text.contains("approved"));
    assert!(!world.get(&path).await.text.contains("acme::mario"));
    for nothing in ["/enroll", "/enroll?session=x", "/enroll?session=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        let page = world.get(nothing).await;
        assert_eq!(page.status, StatusCode::NOT_FOUND, "{nothing}");
        assert!(!page.text.contains("/proxy/overview"), "a stranger is not sent where only operators may go");
    }
    for _ in 0..40 {
        world.get(&path).await;
    }
    assert_eq!(world.get(&path).await.status, StatusCode::TOO_MANY_REQUESTS);
}
