//! Who may see what of a session: its peers, and nobody by having chosen the same id.

use mastio_authority::Refusal;
use mastio_core::{Event, event::catalogue};
use mastio_ledger::session::SessionError;
use mastio_store::audit::SessionEntry;

use crate::world::{World, agent};

async fn sent(world: &World, sender: &str, recipient: &str, id: &str) {
    let event = catalogue::OneshotSent {
        correlation_id: id.into(),
        msg_id: format!("{sender}-{recipient}"),
        recipient: agent(recipient).to_string(),
        reply_to: None,
        mode: "mtls-only",
        payload_sha256: mastio_core::Thumbprint::of(b"payload"),
        bytes: 7,
        request_id: "r".into(),
    };
    world.tell(Event::new(&event).about(agent(sender).as_str()).within(id)).await;
}

async fn seen(world: &World, id: &str, caller: &str) -> Result<Vec<SessionEntry>, SessionError> {
    world.ledger.session(id, &agent(caller)).await
}

/// Who acted, in what is shown.
async fn actors(world: &World, id: &str, caller: &str) -> Vec<String> {
    let entries = seen(world, id, caller).await.unwrap();
    entries.into_iter().map(|entry| entry.agent_id.unwrap()).collect()
}

#[tokio::test]
async fn an_exchange_is_shown_to_its_parties_alone() {
    let world = World::new().await;
    // Two pairs that chose the same id.
    sent(&world, "alice", "bob", "1").await;
    sent(&world, "carol", "dave", "1").await;
    for (caller, actor) in [("alice", "alice"), ("bob", "alice"), ("carol", "carol"), ("dave", "carol")] {
        assert_eq!(actors(&world, "1", caller).await, [agent(actor).to_string()], "{caller}");
    }
    assert!(matches!(seen(&world, "1", "eve").await, Err(SessionError::NotPeer)));
    assert_eq!(seen(&world, "1", "eve").await.unwrap_err().status(), 403);
    assert_eq!(seen(&world, "2", "alice").await.unwrap_err().status(), 404);
    assert_eq!(
        seen(&world, "2", "alice").await.unwrap_err().to_string(),
        "No audit entries for the given session_id"
    );
}

#[tokio::test]
async fn whom_a_refused_message_was_for_does_not_hear_of_it() {
    let world = World::new().await;
    let event = catalogue::OneshotDenied { reason: "reach", recipient: "acme::bob".into() };
    world.tell(Event::new(&event).about("acme::alice").within("x")).await;
    assert_eq!(actors(&world, "x", "alice").await, ["acme::alice"]);
    assert_eq!(seen(&world, "x", "bob").await.unwrap_err().status(), 403);
}

#[tokio::test]
async fn what_operators_do_is_no_session_of_an_agent() {
    let world = World::new().await;
    let event = catalogue::AgentDeactivated { by: "operator:0123456789ab".into() };
    world.tell(Event::new(&event).about("acme::alice").within("s")).await;
    assert_eq!(seen(&world, "s", "alice").await.unwrap_err().status(), 404);
}

/// Rows as the existing system wrote them, in both of its tables.
#[tokio::test]
async fn both_tables_answer_and_client_chosen_ids_open_nothing() {
    let world = World::new().await;
    let row = |seq: u8, event: &str, agent: &str, details: &str| {
        format!(
            "INSERT INTO local_audit (timestamp, event_type, agent_id, session_id, org_id, details) VALUES
            ('2026-01-01T00:00:0{seq}+00:00', '{event}', 'acme::{agent}', 's-1', 'acme', '{details}');"
        )
    };
    let rows = [
        row(1, "session_opened", "alice", r#"{"target_agent_id":"acme::bob","capabilities":[]}"#),
        row(2, "session_accepted", "bob", "{}"),
        row(3, "message_sent", "bob", r#"{"recipient":"acme::alice"}"#),
        row(4, "resource_call", "alice", r#"{"tool":"order.read","duration_ms":3}"#),
        row(5, "message_sent", "mallory", r#"{"recipient":"acme::trudy"}"#),
    ];
    world.database().execute_batch(&rows.concat()).unwrap();
    world
        .database()
        .execute_batch(
            "CREATE TABLE audit_log (id INTEGER PRIMARY KEY, timestamp TEXT, agent_id TEXT, action TEXT, tool_name TEXT,
                status TEXT, detail TEXT, request_id TEXT, duration_ms VARCHAR);
             INSERT INTO audit_log (timestamp, agent_id, action, tool_name, status, detail, request_id, duration_ms) VALUES
                ('2025-01-01T00:00:00+00:00', 'acme::alice', 'tool_execute', 'a', 'success', 'free text', '1', '12.5'),
                ('2025-01-01T00:00:01+00:00', 'acme::bob', 'tool_execute', 'b', 'success', 'to acme::alice', '1', NULL)",
        )
        .unwrap();

    assert_eq!(seen(&world, "s-1", "alice").await.unwrap().len(), 4, "all but what is between others");
    let bobs = seen(&world, "s-1", "bob").await.unwrap();
    let actions: Vec<_> = bobs.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions, ["session_opened", "session_accepted", "message_sent"], "alice's calls are hers");
    assert_eq!(actors(&world, "s-1", "trudy").await, ["acme::mallory"]);
    assert_eq!(seen(&world, "s-1", "eve").await.unwrap_err().status(), 403);

    let alices = seen(&world, "1", "alice").await.unwrap();
    assert_eq!((alices.len(), alices[0].duration_ms, alices[0].status.as_str()), (1, Some(12.5), "success"));
    assert_eq!(actors(&world, "1", "bob").await, ["acme::bob"]);
}

#[tokio::test]
async fn an_answer_is_bounded() {
    let world = World::new().await;
    world.append(510).await;
    assert_eq!(seen(&world, "c", "bob").await.unwrap().len(), 500);
}
