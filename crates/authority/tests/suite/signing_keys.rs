//! Rotating the key that signs tokens: what was signed before goes on to verify, and one rotation happens at a time.

use std::{sync::Arc, time::Duration};

use crate::{
    authentication::{bound, call},
    rotation::{COMPROMISE, CUT},
    world::*,
};
use mastio_authority::{
    Authority, Refusal,
    rotation::Source,
    signing_key::{Decision, GraceDays},
    trust::Halt,
};
use mastio_core::{Clock, Kid};
use mastio_jose::{Jwk, token};
use mastio_pki::{KeyPair, PublicKey};
use secrecy::ExposeSecret;

const DAY: Duration = Duration::from_secs(24 * 3600);
const NO_INTERVAL: (&str, &str) = ("CULLIS_MASTIO_ROTATION_MIN_INTERVAL_SECONDS", "0");
const PASSPHRASE: (&str, &str) = ("MCP_PROXY_DB_ENCRYPTION_KEY", "correct horse battery staple 0123");

fn kid(authority: &Authority) -> Kid {
    authority.trust().signer.as_ref().unwrap().kid.clone()
}

/// The kids that are published.
fn published(authority: &Authority) -> Vec<String> {
    let document: serde_json::Value = serde_json::from_str(authority.trust().jwks.document()).unwrap();
    let keys = document["keys"].as_array().unwrap().iter();
    keys.map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

fn sorted(kids: &[&Kid]) -> Vec<String> {
    let mut kids: Vec<_> = kids.iter().map(ToString::to_string).collect();
    kids.sort_unstable();
    kids
}

#[tokio::test]
async fn tokens_of_a_replaced_key_verify_until_they_end() {
    for more in [&[NO_INTERVAL][..], &[NO_INTERVAL, PASSPHRASE]] {
        let world = World::new();
        let authority = world.boot(more).await.unwrap();
        let alice = Holder::created(&authority, "alice").await;
        let (before, before_key) = bound(&authority, &world, &alice).await;
        let old = authority.signing_keys().await.unwrap().keys.remove(0);
        let rotated = authority.rotate_signing_key(&operator()).await.unwrap();
        assert_eq!((&rotated.old_kid, &rotated.new_kid), (&old.kid, &kid(&authority)));
        assert_eq!(rotated.grace_until, world.clock.now().plus(7 * DAY));
        assert_eq!(published(&authority), sorted(&[&rotated.old_kid, &rotated.new_kid]));
        let spki = PublicKey::from_pem(&old.public_pem).unwrap();
        let old_key = Jwk::from_spki_der(spki.spki_der()).unwrap().verifying_key();
        rotated.proof.verify(&old.public_pem, &old_key).unwrap();

        let (after, after_key) = bound(&authority, &world, &alice).await;
        assert_eq!(token::peek_kid(&after), Some(rotated.new_kid.clone()));
        call(&authority, &world, &after, &after_key).await.unwrap();
        call(&authority, &world, &before, &before_key).await.unwrap();
        let kept = "SELECT count(*) FROM mastio_keys WHERE deprecated_at IS NOT NULL AND privkey_pem <> ''";
        assert_eq!(world.count(kept), 0, "what signs nothing more is wiped");

        leave(authority);
        let authority = world.boot(more).await.unwrap();
        assert_eq!(kid(&authority), rotated.new_kid, "a restart changes nothing");
        assert_eq!(published(&authority), sorted(&[&rotated.old_kid, &rotated.new_kid]));
        assert_eq!(world.events("mastio_key.rotated"), 1);
        world.clock.advance(7 * DAY);
        authority.tend().await;
        assert_eq!(published(&authority), sorted(&[&rotated.new_kid]));
    }
}

/// A key is published from the first token that it signs to the end of the last.
#[tokio::test]
async fn no_key_is_dropped_while_it_verifies_a_token() {
    let world = World::new();
    let settings = [NO_INTERVAL, ("MCP_PROXY_LOCAL_TOKEN_TTL_SECONDS", "3600")];
    let authority = world.boot(&settings).await.unwrap();
    authority.set_grace_days(GraceDays::new(1).unwrap(), &operator()).await.unwrap();
    let alice = Holder::created(&authority, "alice").await;
    let mut living = Vec::new();
    for round in 0..60 {
        let (text, key) = bound(&authority, &world, &alice).await;
        living.push((text, key, world.clock.now().plus(Duration::from_secs(3600))));
        if round % 3 == 0 {
            authority.rotate_signing_key(&operator()).await.unwrap();
        }
        world.clock.advance(Duration::from_secs(1200));
        authority.tend().await;
        living.retain(|(.., end)| *end > world.clock.now());
        let published = published(&authority);
        for (text, key, _) in &living {
            let kid = token::peek_kid(text).unwrap();
            assert!(published.contains(&kid.to_string()), "round {round}: {kid} is gone");
            call(&authority, &world, text, key).await.unwrap();
        }
    }
    world.clock.advance(2 * DAY);
    authority.tend().await;
    assert_eq!(published(&authority).len(), 1);
}

#[tokio::test]
async fn a_key_that_is_too_young_is_not_rotated() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    authority.rotate_signing_key(&operator()).await.unwrap();
    let refused = authority.rotate_signing_key(&operator()).await.unwrap_err();
    assert_eq!((refused.status(), refused.reason()), (429, "rotated_too_soon"));
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(30)));
    world.clock.advance(Duration::from_secs(30) - Duration::from_micros(1));
    assert!(authority.rotate_signing_key(&operator()).await.is_err());
    world.clock.advance(Duration::from_micros(1));
    authority.rotate_signing_key(&operator()).await.unwrap();
}

#[tokio::test]
async fn of_several_rotations_at_once_one_wins() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let operator = operator();
    let (one, two, three) = tokio::join!(
        authority.rotate_signing_key(&operator),
        authority.rotate_signing_key(&operator),
        authority.rotate_signing_key(&operator),
    );
    let results = [one, two, three];
    let winners: Vec<_> = results.iter().filter_map(|result| result.as_ref().ok()).collect();
    let [winner] = winners[..] else { panic!("{results:?}") };
    for loser in results.iter().filter_map(|result| result.as_ref().err()) {
        assert!(["rotation_raced", "rotated_too_soon"].contains(&loser.reason()), "{loser}");
    }
    assert_eq!(kid(&authority), winner.new_kid);
    assert_eq!(world.events("mastio_key.rotated"), 1);
    let active = "SELECT count(*) FROM mastio_keys WHERE activated_at IS NOT NULL AND deprecated_at IS NULL";
    assert_eq!(world.count(active), 1);
}

#[tokio::test]
async fn days_of_grace_are_kept_and_bounded() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    for days in [0, 91, u32::MAX] {
        assert_eq!(GraceDays::new(days), None);
    }
    let grace = || async { authority.signing_keys().await.unwrap().grace.get() };
    assert_eq!(grace().await, 7);
    authority.set_grace_days(GraceDays::new(90).unwrap(), &operator()).await.unwrap();
    assert_eq!((grace().await, world.events("mastio_key.grace_days_set")), (90, 1));
    world.sql("UPDATE proxy_config SET value = '400' WHERE \"key\" = 'rotation_grace_days'");
    assert_eq!(grace().await, 7, "what is out of bounds does not count");
}

/// What the existing system leaves when it stops between asking a Court and activating.
fn stage(world: &World) -> Kid {
    let key = KeyPair::generate_p256().unwrap();
    let kid = Kid::of_pem(&key.spki_pem());
    world.sql(&format!(
        "INSERT INTO mastio_keys (kid, pubkey_pem, privkey_pem, created_at) VALUES ('{kid}', '{}', '{}', '{}')",
        key.spki_pem(),
        key.to_pkcs8_pem().expose_secret(),
        world.clock.now()
    ));
    kid
}

fn is_halted(authority: &Authority) -> bool {
    matches!(authority.trust().halt, Some(Halt::StagedRotation(_)))
}

async fn halted(world: &World, authority: &Arc<Authority>) -> Kid {
    let kid = stage(world);
    authority.reload().unwrap();
    assert!(is_halted(authority) && authority.metrics.rotation_staged.get() == 1);
    kid
}

#[tokio::test]
async fn a_staged_key_halts_until_it_is_put_in_place_or_dropped() {
    let world = World::new();
    let authority = world.boot(&[NO_INTERVAL]).await.unwrap();
    let alice = Holder::created(&authority, "alice").await;
    let (before, before_key) = bound(&authority, &world, &alice).await;
    let first = kid(&authority);
    assert_eq!(reason(authority.complete_staged(Decision::Drop, &operator()).await), (409, "nothing_staged"));

    let staged = halted(&world, &authority).await;
    assert_eq!(reason(mint_mtls(&authority, &alice.peer()).await), (503, "signing_halted"));
    call(&authority, &world, &before, &before_key).await.unwrap();
    assert_eq!(reason(authority.rotate_signing_key(&operator()).await), (409, "rotation_staged"));
    assert_eq!(authority.complete_staged(Decision::Drop, &operator()).await.unwrap(), staged);
    assert!(!is_halted(&authority) && authority.metrics.rotation_staged.get() == 0);
    assert_eq!(kid(&authority), first);
    mint_mtls(&authority, &alice.peer()).await.unwrap();

    let staged = halted(&world, &authority).await;
    leave(authority);
    let authority = world.boot(&[NO_INTERVAL, PASSPHRASE]).await.unwrap();
    assert!(is_halted(&authority), "a restart does not decide");
    assert_eq!(authority.complete_staged(Decision::Activate, &operator()).await.unwrap(), staged);
    assert_eq!(kid(&authority), staged);
    assert_eq!(published(&authority), sorted(&[&first, &staged]));
    mint_mtls(&authority, &alice.peer()).await.unwrap();
    assert_eq!(world.events("mastio_key.staged_completed"), 2);

    let broken = halted(&world, &authority).await;
    world.sql(&format!("UPDATE mastio_keys SET privkey_pem = 'lost' WHERE kid = '{broken}'"));
    let refused = authority.complete_staged(Decision::Activate, &operator()).await.unwrap_err();
    assert_eq!((refused.status(), refused.reason()), (409, "staged_key_unusable"));
    assert!(refused.to_string().starts_with("complete-staged rotation failed"), "{refused}");
    authority.complete_staged(Decision::Drop, &operator()).await.unwrap();
    assert_eq!(kid(&authority), staged);
}

#[tokio::test]
async fn a_cut_throws_staged_keys_away_and_signing_goes_on() {
    for plan in [CUT, COMPROMISE] {
        let world = World::new();
        let authority = world.boot(&[NO_INTERVAL]).await.unwrap();
        let leaf = world.text("SELECT cert_pem FROM mastio_keys");
        let staged = halted(&world, &authority).await;
        authority.rotate_root(Source::Mint, plan, &operator()).await.unwrap();
        assert_eq!(authority.trust().halt, None, "{plan:?}");
        assert_ne!(kid(&authority), staged);
        let alice = Holder::created(&authority, "alice").await;
        mint_mtls(&authority, &alice.peer()).await.unwrap();
        let completed = authority.complete_staged(Decision::Activate, &operator()).await;
        assert_eq!(reason(completed), (409, "nothing_staged"));
        assert_eq!(world.events("mastio_key.staged_completed"), 1);

        // One that another process staged with a certificate of before.
        let staged = halted(&world, &authority).await;
        world.sql(&format!("UPDATE mastio_keys SET cert_pem = '{leaf}' WHERE kid = '{staged}'"));
        let refused = authority.complete_staged(Decision::Activate, &operator()).await;
        assert_eq!(reason(refused), (409, "staged_key_unusable"));
    }
}
