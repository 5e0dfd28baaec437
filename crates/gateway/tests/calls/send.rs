//! Sending: what is filed, and what is refused.

use mastio_authority::Refusal;
use mastio_core::canonical::canonicalise;
use mastio_gateway::{
    Mode,
    send::{SendError, Status},
};
use mastio_store::agents::Reach;

use crate::world::World;

fn refusal(error: &SendError) -> (u16, String) {
    (error.status(), error.to_string())
}

#[tokio::test]
async fn a_signed_message_is_filed_as_its_recipient_verifies_it() {
    let world = World::new().await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let mut outgoing = world.message(&alice, "spiffe://cullis.local/acme/bob", "c-1", "n-1");
    outgoing.payload =
        serde_json::from_str(r#"{ "b": 1.0, "a": 1e21, "n": 12345678901234567890123 }"#).unwrap();
    outgoing.reply_to = Some("c-0".into());
    outgoing.mode = Mode::Envelope;
    alice.sign(&mut outgoing);
    let sent = world.send(&alice, &outgoing).await.unwrap();
    assert_eq!((sent.correlation_id.as_str(), sent.status), ("c-1", Status::Enqueued));

    let inbox = world.inbox(&bob).await;
    let [row] = &inbox[..] else { panic!("{inbox:?}") };
    assert_eq!((row.msg_id.as_str(), row.sender_agent_id.as_str()), (sent.msg_id.as_str(), "acme::alice"));
    assert_eq!(row.idempotency_key.as_deref(), Some("oneshot:c-1"));
    assert_eq!(row.reply_to.as_deref(), Some("c-0"));
    assert_eq!(row.expires_at.unwrap().since(row.enqueued_at).as_secs(), 300);
    let signature = outgoing.signature.unwrap();
    let expected = format!(
        r#"{{"correlation_id":"c-1","mode":"envelope","nonce":"n-1","payload":{{"a":1e+21,"b":1.0,"n":12345678901234567890123}},"reply_to":"c-0","signature":"{signature}","timestamp":1790000000,"v":2}}"#
    );
    assert_eq!(row.payload_ciphertext, expected);
    assert_eq!(canonicalise(&row.payload_ciphertext).unwrap(), expected);

    let told = world.told("oneshot_sent").await;
    assert_eq!(told.len(), 1);
    for part in
        [r#""recipient":"acme::bob""#, r#""request_id":"req-1""#, r#""mode":"envelope""#, &sent.msg_id]
    {
        assert!(told[0].contains(part), "{part} in {}", told[0]);
    }
}

#[tokio::test]
async fn a_message_is_one_unit_of_two_rows_and_an_entry() {
    let world = World::new().await;
    let (alice, _) = (world.member("alice").await, world.member("bob").await);
    let state = async || {
        let (keys, messages) = (world.count("message_keys").await, world.count("local_messages").await);
        (world.commits().await, keys, messages, world.count("local_audit").await)
    };
    let before = state().await;
    world.send(&alice, &world.message(&alice, "acme::bob", "c-1", "n-1")).await.unwrap();
    let (commits, keys, messages, entries) = state().await;
    assert_eq!((commits, keys, messages, entries), (before.0 + 1, before.1 + 1, before.2 + 1, before.3 + 1));
    // The second INSERT is refused, and with it the first.
    let reused = world.send(&alice, &world.message(&alice, "acme::bob", "c-2", "n-1")).await.unwrap_err();
    assert!(matches!(reused, SendError::NonceReused), "{reused}");
    let after = state().await;
    assert_eq!((after.1, after.2, after.3), (keys, messages, entries));
}

#[tokio::test]
async fn the_deepest_payload_reaches_its_recipient() {
    let world = World::new().await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let mut outgoing = world.message(&alice, "acme::bob", "c-1", "n-1");
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(31), "]".repeat(31));
    outgoing.payload = serde_json::from_str(&deep).unwrap();
    alice.sign(&mut outgoing);
    world.send(&alice, &outgoing).await.unwrap();
    assert!(world.inbox(&bob).await[0].payload_ciphertext.contains(&deep));
}

#[tokio::test]
async fn correlation_ids_belong_to_their_sender_and_recipient() {
    let world = World::new().await;
    let (alice, bob, carol) =
        (world.member("alice").await, world.member("bob").await, world.member("carol").await);
    let first = world.send(&alice, &world.message(&alice, "acme::bob", "c-1", "n-1")).await.unwrap();
    let others = world.send(&carol, &world.message(&carol, "acme::bob", "c-1", "n-1")).await.unwrap();
    let elsewhere = world.send(&alice, &world.message(&alice, "acme::carol", "c-1", "n-2")).await.unwrap();
    assert_eq!([others.status, elsewhere.status], [Status::Enqueued; 2]);
    assert_ne!(first.msg_id, others.msg_id);
    assert_eq!(world.inbox(&bob).await.len(), 2);
    assert_eq!(world.inbox(&carol).await.len(), 1);
}

#[tokio::test]
async fn a_repeated_message_is_filed_once() {
    let world = World::new().await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let outgoing = world.message(&alice, "acme::bob", "c-1", "n-1");
    let first = world.send(&alice, &outgoing).await.unwrap();
    for again in [outgoing, world.message(&alice, "acme::bob", "c-1", "n-2")] {
        let sent = world.send(&alice, &again).await.unwrap();
        assert_eq!((sent.msg_id, sent.status), (first.msg_id.clone(), Status::Duplicate));
    }
    assert_eq!(world.inbox(&bob).await.len(), 1);
    assert_eq!(world.told("oneshot_sent").await.len(), 1);
}

#[tokio::test]
async fn concurrent_retries_are_filed_once() {
    let world = World::new().await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let outgoing = world.message(&alice, "acme::bob", "c-1", "n-1");
    let (a, b) = tokio::join!(world.send(&alice, &outgoing), world.send(&alice, &outgoing));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a.msg_id, b.msg_id);
    assert_ne!(a.status, b.status);
    assert_eq!(world.inbox(&bob).await.len(), 1);
}

#[tokio::test]
async fn a_nonce_serves_once() {
    let world = World::new().await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    world.send(&alice, &world.message(&alice, "acme::bob", "c-1", "n-1")).await.unwrap();
    let error = world.send(&alice, &world.message(&alice, "acme::bob", "c-2", "n-1")).await.unwrap_err();
    assert_eq!(refusal(&error), (409, "nonce already used".into()));
    assert_eq!(world.inbox(&bob).await.len(), 1);
    assert_eq!(world.count("message_keys").await, 1, "nothing of a refused message stays");
}

#[tokio::test]
async fn recipients_exist_and_are_active() {
    let world = World::new().await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    world.deactivate(&bob).await;
    for (to, status, text) in [
        ("acme::ghost", 404, "intra-org target not found: acme::ghost"),
        ("acme::bob", 404, "intra-org target not found: acme::bob"),
        ("acme::user::mario", 404, "intra-org user principal not found: acme::user::mario"),
        ("globex::bob", 503, "Broker uplink not configured — cross-org one-shot unavailable"),
        (
            "spiffe://other.example/acme/alice",
            503,
            "Broker uplink not configured — cross-org one-shot unavailable",
        ),
        ("bob", 400, "invalid recipient_id"),
    ] {
        let error = world.send(&alice, &world.message(&alice, to, "c-1", "n-1")).await.unwrap_err();
        assert_eq!(refusal(&error), (status, text.to_owned()), "{to}");
    }
    assert_eq!(world.count("local_messages").await, 0);
}

#[tokio::test]
async fn a_changed_message_does_not_verify() {
    let world = World::new().await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let signed = || world.message(&alice, "acme::bob", "c-1", "n-1");
    let mut changed = vec![signed(), signed(), signed(), signed(), signed(), signed(), signed()];
    changed[0].payload = serde_json::from_str(r#"{"text":"he"}"#).unwrap();
    changed[1].nonce = Some("n-2".into());
    changed[2].correlation_id = Some("c-2".into());
    changed[3].reply_to = Some("c-0".into());
    changed[4].timestamp = signed().timestamp.map(|time| time + 1);
    changed[5].signature = Some("c2ln".into());
    bob.sign(&mut changed[6]);
    for outgoing in &changed {
        let error = world.send(&alice, outgoing).await.unwrap_err();
        let text = "mtls-only requires a valid envelope signature: signature verification failed";
        assert_eq!(refusal(&error), (401, text.to_owned()), "{outgoing:?}");
    }
    let told = world.told("oneshot_denied").await;
    assert_eq!(told.len(), changed.len());
    assert_eq!(told[0], r#"{"reason":"signature_invalid","recipient":"acme::bob"}"#);
    assert!(world.inbox(&bob).await.is_empty());
}

#[tokio::test]
async fn nothing_is_filed_without_a_signature() {
    let world = World::new().await;
    let (alice, _bob) = (world.member("alice").await, world.member("bob").await);
    for mode in [Mode::MtlsOnly, Mode::Envelope] {
        let mut signed = world.message(&alice, "acme::bob", "c-1", "n-1");
        signed.mode = mode;
        let mut unsigned = vec![signed.clone(), signed.clone(), signed];
        unsigned[0].signature = None;
        unsigned[1].nonce = None;
        unsigned[2].timestamp = None;
        for outgoing in &unsigned {
            let error = world.send(&alice, outgoing).await.unwrap_err();
            let text = format!("{} requires fields: signature, nonce, timestamp", mode.as_str());
            assert_eq!(refusal(&error), (400, text));
        }
    }
    let mut nameless = world.message(&alice, "acme::bob", "c-1", "n-1");
    nameless.correlation_id = None;
    alice.sign(&mut nameless);
    let error = world.send(&alice, &nameless).await.unwrap_err();
    assert!(matches!(error, SendError::Correlation), "{error}");
}

#[tokio::test]
async fn old_and_future_messages_are_refused() {
    let world = World::new().await;
    let (alice, _bob) = (world.member("alice").await, world.member("bob").await);
    for (skew, refused) in [(-300, false), (300, false), (-301, true), (301, true), (i64::MIN, true)] {
        let mut outgoing = world.message(&alice, "acme::bob", &format!("c{skew}"), &format!("n{skew}"));
        outgoing.timestamp = outgoing.timestamp.map(|time| time.saturating_add(skew));
        alice.sign(&mut outgoing);
        let sent = world.send(&alice, &outgoing).await;
        assert_eq!(matches!(&sent, Err(SendError::Timestamp(_))), refused, "{skew}: {sent:?}");
        assert_eq!(sent.is_ok(), !refused);
    }
}

#[tokio::test]
async fn reach_is_checked_and_its_denial_told() {
    let world = World::new().await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    world.set_reach(&alice, Reach::Cross).await;
    let error = world.send(&alice, &world.message(&alice, "acme::bob", "c-1", "n-1")).await.unwrap_err();
    let text = "agent reach='cross' — intra-org traffic denied (target_org=acme)";
    assert_eq!(refusal(&error), (403, text.to_owned()));
    let told = world.told("oneshot_denied").await;
    assert_eq!(told, [r#"{"reason":"reach_denied","recipient":"acme::bob"}"#]);
    assert!(world.inbox(&bob).await.is_empty());
}
