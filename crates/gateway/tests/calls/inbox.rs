//! Receiving: reading, acknowledging, expiry.

use mastio_gateway::{inbox::AckError, send::Status};

use crate::world::World;

#[tokio::test]
async fn only_the_recipient_can_acknowledge_and_only_once() {
    let world = World::new().await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let sent = world.send(&alice, &world.message(&alice, "acme::bob", "c-1", "n-1")).await.unwrap();
    let (as_alice, as_bob) = (world.caller(&alice).await, world.caller(&bob).await);
    assert!(world.inbox(&alice).await.is_empty());
    for id in [sent.msg_id.as_str(), "no-such-message"] {
        let error = world.gateway.acknowledge(&as_alice, id).await.unwrap_err();
        assert_eq!(error.to_string(), "message_not_found");
    }
    assert_eq!(world.inbox(&bob).await.len(), 1);
    assert_eq!(world.inbox(&bob).await.len(), 1, "reading consumes nothing");

    world.gateway.acknowledge(&as_bob, &sent.msg_id).await.unwrap();
    assert!(world.inbox(&bob).await.is_empty());
    let again = world.gateway.acknowledge(&as_bob, &sent.msg_id).await;
    assert!(matches!(again, Err(AckError::NotFound)), "{again:?}");
    let told = world.told("oneshot_delivered").await;
    assert_eq!(
        told,
        [format!(r#"{{"correlation_id":"c-1","msg_id":"{}","sender_agent_id":"acme::alice"}}"#, sent.msg_id)]
    );
}

#[tokio::test]
async fn of_two_acknowledgements_at_once_one_counts() {
    let world = World::new().await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let sent = world.send(&alice, &world.message(&alice, "acme::bob", "c-1", "n-1")).await.unwrap();
    let bob = world.caller(&bob).await;
    let ack = || world.gateway.acknowledge(&bob, &sent.msg_id);
    let (a, b) = tokio::join!(ack(), ack());
    assert_eq!(usize::from(a.is_ok()) + usize::from(b.is_ok()), 1, "{a:?} {b:?}");
    let loser = if a.is_ok() { b } else { a };
    assert!(matches!(loser, Err(AckError::NotFound)), "{loser:?}");
    assert_eq!(world.told("oneshot_delivered").await.len(), 1);
}

#[tokio::test]
async fn what_ran_out_is_not_delivered_even_before_the_sweep() {
    let world = World::new().await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let mut short = world.message(&alice, "acme::bob", "c-1", "n-1");
    short.ttl_seconds = 10;
    let sent = world.send(&alice, &short).await.unwrap();
    world.send(&alice, &world.message(&alice, "acme::bob", "c-2", "n-2")).await.unwrap();
    world.pass(9);
    assert_eq!(world.inbox(&bob).await.len(), 2);
    world.pass(1);
    let left = world.inbox(&bob).await;
    assert_eq!(left.iter().map(|row| row.correlation_id.as_deref()).collect::<Vec<_>>(), [Some("c-2")]);
    let late = world.gateway.acknowledge(&world.caller(&bob).await, &sent.msg_id).await;
    assert!(matches!(late, Err(AckError::NotFound)), "{late:?}");
}

#[tokio::test]
async fn the_sweep_keeps_what_waits_and_forgets_what_was_over_a_day_ago() {
    let world = World::new().await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let outgoing = world.message(&alice, "acme::bob", "c-1", "n-1");
    world.send(&alice, &outgoing).await.unwrap();
    world.gateway.sweep().await.unwrap();
    assert_eq!(world.inbox(&bob).await.len(), 1);

    world.pass(299);
    world.gateway.acknowledge(&world.caller(&bob).await, &world.inbox(&bob).await[0].msg_id).await.unwrap();
    world.gateway.sweep().await.unwrap();
    assert_eq!(world.send(&alice, &outgoing).await.unwrap().status, Status::Duplicate);

    world.pass(24 * 3600);
    world.gateway.sweep().await.unwrap();
    assert_eq!((world.count("local_messages").await, world.count("message_keys").await), (0, 0));
}

#[tokio::test]
async fn the_inbox_is_oldest_first_and_bounded() {
    let world = World::new().await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    for number in 0..3 {
        let name = format!("c-{number}");
        world.send(&alice, &world.message(&alice, "acme::bob", &name, &name)).await.unwrap();
        world.pass(1);
    }
    let rows = world.gateway.inbox(&world.caller(&bob).await, None, 2).await.unwrap();
    assert_eq!(
        rows.iter().map(|row| row.correlation_id.as_deref()).collect::<Vec<_>>(),
        [Some("c-0"), Some("c-1")]
    );
}

#[tokio::test]
async fn a_reader_goes_on_after_the_last_message_it_saw() {
    let world = World::new().await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    for name in ["c-1", "c-2", "c-3"] {
        world.send(&alice, &world.message(&alice, "acme::bob", name, name)).await.unwrap();
        world.pass(1);
    }
    let all = world.inbox(&bob).await;
    assert_eq!(all.len(), 3);
    for (seen, row) in all.iter().enumerate() {
        let later = world.inbox_since(&bob, Some(row.enqueued_at)).await;
        assert_eq!(later, all[seen + 1..]);
    }
}
