//! Keys that end by themselves are rotated before, once.

use std::{sync::Arc, time::Duration};

use crate::world::*;
use mastio_authority::Authority;
use mastio_core::{Clock, Stamp};

const DAY: Duration = Duration::from_secs(24 * 3600);
const WARNING: &str = "pki.intermediate_ca_expiry_warning";
const CRITICAL: &str = "pki.intermediate_ca_expiry_critical";
const ROTATED: &str = "pki.intermediate_ca_auto_rotate";

/// When the intermediate and the certificate of the signing key end.
fn ends(authority: &Authority) -> (Stamp, Stamp) {
    let trust = authority.trust();
    let issuer = trust.server_issuer.as_ref().unwrap().certificate().not_after();
    (issuer, trust.signing_leaf.as_ref().unwrap().not_after())
}

/// Looks twice, when so many days of the intermediate of the beginning are left.
async fn look(world: &World, authority: &Arc<Authority>, end: Stamp, days: u32) {
    let then = end.minus(DAY * days);
    world.clock.advance(then.since(world.clock.now()));
    for _ in 0..2 {
        authority.keep_keys().await;
        world.clock.advance(Duration::from_secs(3600));
    }
}

#[tokio::test]
async fn the_intermediate_is_warned_of_and_rotated_once() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let (end, _) = ends(&authority);
    let mut seen = Vec::new();
    for days in [400, 181, 180, 120, 60, 45, 31, 30, 29, 1] {
        look(&world, &authority, end, days).await;
        seen.push((days, [WARNING, CRITICAL, ROTATED].map(|event| world.events(event))));
    }
    let expected = [
        (400, [0, 0, 0]),
        (181, [0, 0, 0]),
        (180, [1, 0, 0]),
        (120, [1, 0, 0]),
        (60, [1, 1, 0]),
        (45, [1, 1, 0]),
        (31, [1, 1, 0]),
        (30, [1, 1, 1]),
        (29, [1, 1, 1]),
        (1, [1, 1, 1]),
    ];
    assert_eq!(seen, expected);
    assert!(ends(&authority).0 > end.plus(4 * 365 * DAY));
}

#[tokio::test]
async fn without_the_setting_an_operator_does_it() {
    let world = World::new();
    let authority = world.boot(&[("MCP_PROXY_PKI_AUTO_ROTATE_ENABLED", "false")]).await.unwrap();
    let before = ends(&authority);
    look(&world, &authority, before.0, 10).await;
    assert_eq!(ends(&authority), before);
    assert_eq!([WARNING, CRITICAL, ROTATED].map(|event| world.events(event)), [0, 1, 0]);
}

/// Nobody looks after it but itself, from the first day of the root to its last.
#[tokio::test]
async fn nothing_ends_before_the_root_does() {
    let world = World::new();
    // How often an operator may rotate bounds nobody else.
    let interval = [("CULLIS_MASTIO_ROTATION_MIN_INTERVAL_SECONDS", "31536000")];
    let authority = world.boot(&interval).await.unwrap();
    let root = authority.trust().root.not_after();
    let alice = Holder::created(&authority, "alice").await;
    while world.clock.now() < root.minus(2 * DAY) {
        authority.keep_keys().await;
        authority.tell_expiries().await.unwrap();
        let (issuer, leaf) = ends(&authority);
        assert!(issuer > world.clock.now() && leaf > world.clock.now(), "at {}", world.clock.now());
        world.clock.advance(15 * DAY);
    }
    assert_eq!(world.events(ROTATED), 3, "every five years, until the root ends itself");
    let keys = world.events("mastio_key.rotated");
    assert!((15..=18).contains(&keys), "every eleven months: {keys}");
    assert_eq!(world.count("SELECT count(*) FROM pki_cas WHERE kind = 'intermediate_ca'"), 4);
    assert!(world.events("pki.ca_retired") >= 2);
    assert!(authority.certificate(&alice.peer()).await.is_err(), "hers was nobody's to renew but hers");
}

#[tokio::test]
async fn what_ended_while_nobody_was_running_is_made_again_at_the_start() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    leave(authority);
    world.clock.advance(6 * 365 * DAY);
    let authority = world.boot(&[]).await.unwrap();
    assert!(ends(&authority).0 < world.clock.now());
    authority.keep_keys().await;
    assert!(ends(&authority).0 > world.clock.now());
    authority.keep_files().await.unwrap();
    mint_mtls(&authority, &Holder::created(&authority, "alice").await.peer()).await.unwrap();
}
