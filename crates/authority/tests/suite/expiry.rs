//! Certificates that grow old are told of once per threshold.

use std::{sync::Arc, time::Duration};

use crate::world::*;
use mastio_authority::{
    Authority,
    enroll::{Brought, Possession},
    lifecycle::Rotation,
};
use mastio_core::{AgentId, Clock, SpiffeId, SystemRng};
use mastio_pki::{KeyPair, profile};

const DAY: Duration = Duration::from_secs(24 * 3600);
const AGENT: &str = "pki.agent_cert_expiry_warning";

/// How often an event was told, after the watcher looked twice.
async fn warnings(authority: &Arc<Authority>, event: &str) -> usize {
    authority.tell_expiries().await.unwrap();
    authority.tell_expiries().await.unwrap();
    told(authority, event).await.len()
}

#[tokio::test]
async fn every_threshold_is_told_once_and_of_active_agents_only() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    Holder::created(&authority, "alice").await;
    let bob = Holder::created(&authority, "bob").await;
    authority.deactivate(&AgentId::parse(&bob.id).unwrap(), &operator()).await.unwrap();
    assert_eq!(warnings(&authority, AGENT).await, 0);
    world.clock.advance(274 * DAY);
    assert_eq!(warnings(&authority, AGENT).await, 0, "91 days are left");
    for (days, told_by_now) in [(2, 1), (58, 1), (2, 2), (20, 2), (3, 3), (5, 4), (1, 4), (300, 4)] {
        world.clock.advance(days * DAY);
        assert_eq!(warnings(&authority, AGENT).await, told_by_now, "{days} days later");
    }
    let thresholds: Vec<serde_json::Value> =
        told(&authority, AGENT).await.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    let thresholds: Vec<_> =
        thresholds.iter().map(|details| details["threshold_days"].as_u64().unwrap()).collect();
    assert_eq!(thresholds, [90, 30, 7, 1]);
}

#[tokio::test]
async fn a_certificate_first_seen_late_is_told_of_once() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    for agent in 0..250 {
        Holder::created(&authority, &format!("agent-{agent}")).await;
    }
    world.clock.advance(360 * DAY);
    assert_eq!(warnings(&authority, AGENT).await, 250);
}

#[tokio::test]
async fn a_short_lived_certificate_is_not_old_when_it_is_new() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let (trust, now) = (authority.trust(), world.clock.now());
    let key = KeyPair::generate_p256().unwrap();
    let alice = AgentId::parse(&format!("{}::alice", trust.org)).unwrap();
    let spiffe = SpiffeId::parse(&format!("spiffe://cullis.local/{}/alice", trust.org)).unwrap();
    let issuer = trust.issuer.as_ref().unwrap();
    let leaf = profile::agent(issuer, &alice, &spiffe, key.spki_der(), 3 * DAY, now, &SystemRng).unwrap();
    let possession = Possession::Key(key.to_pkcs8_pem());
    let brought = Brought { certificates: leaf.pem(), possession, update_existing: false };
    authority.enroll_byoca(&candidate("alice"), &brought, &operator()).await.unwrap();
    world.clock.advance(DAY);
    assert_eq!(warnings(&authority, AGENT).await, 0);
    world.clock.advance(DAY);
    assert_eq!(warnings(&authority, AGENT).await, 1, "it was not renewed");
}

#[tokio::test]
async fn what_was_told_is_forgotten_with_the_certificate() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let alice = AgentId::parse(&Holder::created(&authority, "alice").await.id).unwrap();
    world.clock.advance(300 * DAY);
    assert_eq!(warnings(&authority, AGENT).await, 1);
    let notices = || world.count("SELECT count(*) FROM expiry_notices WHERE threshold_days = 90");
    let ours = notices() - 1;
    authority.rotate_certificate(&alice, &Rotation::default(), &operator()).await.unwrap();
    warnings(&authority, AGENT).await;
    assert_eq!(notices(), ours + 1, "not yet");
    world.clock.advance(31 * DAY);
    warnings(&authority, AGENT).await;
    assert_eq!(notices(), ours, "those of our own certificates stay");
}

/// How often each tier of ours was told of.
async fn by_tier(authority: &Arc<Authority>) -> [usize; 4] {
    [
        warnings(authority, "pki.org_root_expiry_warning").await,
        warnings(authority, "pki.intermediate_ca_expiry_visibility").await,
        warnings(authority, "pki.mastio_leaf_expiry_warning").await,
        warnings(authority, "pki.nginx_server_cert_expiry_warning").await,
    ]
}

#[tokio::test]
async fn our_own_certificates_are_told_of_by_their_tier() {
    let world = World::new();
    let authority = world.boot(&[("MCP_PROXY_CERT_EXPIRY_WARN_DAYS_MASTIO_LEAF", "10")]).await.unwrap();
    authority.keep_files().await.unwrap();
    // The intermediate lives five years and is told of two years before.
    assert_eq!(by_tier(&authority).await, [0, 0, 0, 0]);
    world.clock.advance(354 * DAY);
    assert_eq!(by_tier(&authority).await, [0, 0, 0, 1]);
    world.clock.advance(2 * DAY);
    assert_eq!(by_tier(&authority).await, [0, 0, 1, 1]);
    leave(authority);
    let authority = world.boot(&[("MCP_PROXY_CERT_EXPIRY_WARN_DAYS_MASTIO_LEAF", "10")]).await.unwrap();
    assert_eq!(by_tier(&authority).await, [0, 0, 1, 1], "a restart tells nothing anew");
    world.clock.advance(3 * 365 * DAY);
    assert_eq!(by_tier(&authority).await, [0, 1, 2, 1], "each tier by its own threshold");
    authority.count_fleet().await.unwrap();
    assert!(authority.metrics.fleet.days_left.with_label_values(&["org_root"]).get() > 3000);
}

#[tokio::test]
async fn the_gauges_say_how_long_the_fleet_lasts() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    Holder::created(&authority, "alice").await;
    world.clock.advance(300 * DAY);
    Holder::created(&authority, "bob").await;
    let bucket = |name: &str| authority.metrics.fleet.agent_certs.with_label_values(&[name]).get();
    authority.count_fleet().await.unwrap();
    assert_eq!(["expired", "1d", "7d", "30d", "90d"].map(bucket), [0, 0, 0, 0, 1]);
    world.clock.advance(60 * DAY);
    authority.count_fleet().await.unwrap();
    assert_eq!(["expired", "1d", "7d", "30d", "90d"].map(bucket), [0, 0, 1, 0, 0]);
    world.clock.advance(10 * DAY);
    authority.count_fleet().await.unwrap();
    assert_eq!(["expired", "1d", "7d", "30d", "90d"].map(bucket), [1, 0, 0, 0, 0]);
    let waiting = authority.metrics.fleet.enrollments.with_label_values(&["pending"]).get();
    assert_eq!(waiting, 0);
}
