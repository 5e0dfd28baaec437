//! What ends by itself: lock-outs, challenges, replaced keys.

use std::time::Duration;

use crate::world::*;
use mastio_authority::Refusal;
use mastio_core::Clock;
use mastio_jose::SigningKey;
use serde_json::json;

#[tokio::test]
async fn ten_wrong_admin_secrets_lock_an_address_out() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    assert!(authority.operator(Some(SECRET.as_bytes()), address()).is_ok());
    assert_eq!(reason(authority.operator(None, address())), (403, "admin_secret_missing"));
    assert_eq!(reason(authority.operator(Some("é".as_bytes()), address())), (403, "admin_secret_wrong"));
    for _ in 0..9 {
        assert_eq!(reason(authority.operator(Some(b""), address())), (403, "admin_secret_wrong"));
    }
    let locked = authority.operator(Some(SECRET.as_bytes()), address()).unwrap_err();
    assert_eq!((locked.status(), locked.reason()), (403, "admin_locked_out"));
    let left = locked.retry_after().unwrap();
    assert_eq!(left, Duration::from_secs(900));
    assert!(authority.operator(Some(SECRET.as_bytes()), "203.0.113.9".parse().unwrap()).is_ok());
    world.clock.advance(left - Duration::from_micros(1));
    assert_eq!(reason(authority.operator(Some(SECRET.as_bytes()), address())), (403, "admin_locked_out"));
    world.clock.advance(Duration::from_micros(1));
    // Only what was wrong within the time counts.
    assert_eq!(reason(authority.operator(Some(b""), address())), (403, "admin_secret_wrong"));
    assert!(authority.operator(Some(SECRET.as_bytes()), address()).is_ok());
}

#[tokio::test]
async fn a_challenge_runs_out_after_two_minutes() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let alice = Holder::created(&authority, "alice").await;
    let pinned = authority.certificate(&alice.peer()).await.unwrap();
    let answer = async |waited: Duration| {
        let nonce = authority.challenge(pinned.agent.id());
        world.clock.advance(waited);
        let text = alice.assertion_with(&alice.chain, &json!({ "nonce": nonce }), world.clock.now());
        authority.countersign(&pinned, &text, &nonce).await
    };
    let life = mastio_authority::login::CHALLENGE_LIFETIME;
    assert!(answer(life - Duration::from_micros(1)).await.is_ok());
    assert_eq!(reason(answer(life).await), (401, "challenge_nonce"));
}

#[tokio::test]
async fn a_replaced_signing_key_is_held_and_published_until_its_grace_ends() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    // The start reads the state once more by itself: that must not be the reading that finds the key.
    until(|| authority.trust().generation > 1).await;
    let mastio_config::Database::Sqlite(path) = world.settings(&[]).database;
    let connection = rusqlite::Connection::open(path).unwrap();
    let hour = Duration::from_secs(3600);
    let end = world.clock.now().plus(hour);
    let replaced = "INSERT INTO mastio_keys (kid, pubkey_pem, privkey_pem, created_at, activated_at, deprecated_at, expires_at) \
                    SELECT 'mastio-replaced', ?1, 'gone', created_at, created_at, created_at, ?2 FROM mastio_keys";
    let key = SigningKey::generate().unwrap();
    connection.execute(replaced, rusqlite::params![key.spki_pem(), end.to_string()]).unwrap();
    drop(connection);
    // The writer notices that somebody else committed.
    until(|| authority.trust().verifiers.contains_key("mastio-replaced")).await;
    let held = || {
        let trust = authority.trust();
        let published = trust.jwks.document().matches("\"kid\"").count();
        (trust.verifiers.contains_key("mastio-replaced"), published)
    };
    let mut generation = authority.trust().generation;
    for (passes, expected, reloads) in [
        (hour - Duration::from_micros(1), (true, 2), 0),
        (Duration::from_micros(1), (false, 1), 1),
        (hour, (false, 1), 0),
    ] {
        world.clock.advance(passes);
        authority.tend().await;
        assert_eq!(held(), expected);
        generation += reloads;
        assert_eq!(authority.trust().generation, generation);
    }
}

async fn until(reached: impl Fn() -> bool) {
    for _ in 0..500 {
        if reached() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it is not reached within ten seconds");
}
