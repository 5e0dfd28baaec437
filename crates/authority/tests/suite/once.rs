//! Requests that are sent again.

use std::time::Duration;

use crate::world::*;
use mastio_authority::{
    enroll::{Candidate, EnrollError},
    lifecycle::Rotation,
    once::{Once, OnceError},
};
use secrecy::ExposeSecret;

fn keyed(name: &str, once: &Once) -> Candidate {
    Candidate { once: Some(once.clone()), ..candidate(name) }
}

#[tokio::test]
async fn a_repeated_request_finds_the_agent_that_it_made() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let once = Once::new("create", b"key", b"request");
    assert!(authority.replayed(&once).await.unwrap().is_none());
    let made = authority.create_agent(&keyed("alice", &once), true, &operator()).await.unwrap();
    let again = authority.replayed(&once).await.unwrap().unwrap();
    assert_eq!((&again.agent.id, again.thumbprint), (&made.id, made.thumbprint));
    assert_eq!(again.certificates, Some(made.certificates.clone()));
    let key = |key: &Option<secrecy::SecretString>| key.as_ref().map(|key| key.expose_secret().to_owned());
    assert_eq!(key(&again.key), key(&made.key), "it is in escrow");
    assert!(!again.re_pinned, "it made the agent");
    assert_eq!(again.not_after, Some(made.not_after));

    let other = Once::new("create", b"key", b"another request");
    assert!(matches!(authority.replayed(&other).await, Err(OnceError::OtherRequest)));
    assert!(authority.replayed(&Once::new("byoca", b"key", b"another")).await.unwrap().is_none());

    authority.rotate_certificate(&made.id, &Rotation::default(), &operator()).await.unwrap();
    let later = authority.replayed(&once).await.unwrap().unwrap();
    assert!(later.certificates.is_none() && later.key.is_none(), "it has another certificate by now");

    world.clock.advance(Duration::from_secs(24 * 3600));
    assert!(authority.replayed(&once).await.unwrap().is_none(), "kept for a day");
    let bob = authority.create_agent(&keyed("bob", &once), false, &operator()).await.unwrap();
    let again = authority.replayed(&once).await.unwrap().unwrap();
    assert!(again.agent.id == bob.id && again.key.is_none(), "a key without escrow is gone");
}

#[tokio::test]
async fn of_two_at_once_one_makes_the_agent_and_the_other_finds_it() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let once = Once::new("create", b"key", b"request");
    let make = async || authority.create_agent(&keyed("alice", &once), true, &operator()).await;
    let (one, two) = tokio::join!(make(), make());
    let lost = match (one, two) {
        (Ok(_), Err(lost)) | (Err(lost), Ok(_)) => lost,
        both => panic!("not one winner: {both:?}"),
    };
    assert!(matches!(lost, EnrollError::Registered(_)), "{lost}");
    assert!(authority.replayed(&once).await.unwrap().is_some());
    // The same key for another agent at the same time.
    let make = async |name| authority.create_agent(&keyed(name, &once), true, &operator()).await;
    assert_eq!(reason(make("bob").await).0, 409);
    assert_eq!(fleet(&authority).await.len(), 1, "nothing of it was written");
}

#[tokio::test]
async fn used_keys_are_forgotten_after_their_day() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let once = Once::new("create", b"key", b"request");
    authority.create_agent(&keyed("alice", &once), false, &operator()).await.unwrap();
    let kept = async || {
        let sql = "SELECT key_sha256 FROM idempotency_keys";
        authority.store().rows(mastio_store::Query::new("idempotency_keys", sql, vec![])).await.unwrap().len()
    };
    world.clock.advance(Duration::from_secs(3600));
    authority.tend().await;
    assert_eq!(kept().await, 1);
    world.clock.advance(Duration::from_secs(24 * 3600));
    authority.tend().await;
    assert_eq!(kept().await, 0);
}
