//! Roots that are good for nothing any more: of path length zero, or past their end.

use std::{fs, sync::Arc, time::Duration};

use mastio_authority::{
    Authority,
    rotation::{NoContinuity, Source},
};

use mastio_store::rotations::Phase;

use super::{CUT, cut};
use crate::{forge::HOUR, world::*};

#[tokio::test]
async fn a_legacy_root_is_replaced_although_signing_is_halted_and_the_halt_ends() {
    let world = World::new();
    let authority = legacy(&world).await;
    assert!(authority.trust().halt.is_some());
    let plan = authority.preflight(&authority.candidate(&Source::Mint).unwrap(), CUT.into()).await.unwrap();
    assert_eq!(plan.continuity, Err(NoContinuity::PathLength));
    assert!(plan.consequences.iter().any(|told| told.contains("Signing is halted")), "{plan:?}");
    cut(&authority).await.unwrap();
    let trust = authority.trust();
    assert_eq!((trust.halt.clone(), trust.root.path_len()), (None, Some(1)));
    assert_eq!(authority.metrics.legacy_pathlen_zero.get() + authority.metrics.sign_halted.get(), 0);
    let alice = Holder::created(&authority, "alice").await;
    assert!(mint_mtls(&authority, &alice.peer()).await.is_ok());
    drop(trust);
    leave(authority);
    assert!(world.boot(&[("MCP_PROXY_STRICT_PKI", "1")]).await.is_ok());
}

#[tokio::test]
async fn an_expired_root_is_replaced() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    world.clock.advance(16 * 366 * 24 * HOUR);
    let plan = authority.preflight(&authority.candidate(&Source::Mint).unwrap(), CUT.into()).await.unwrap();
    assert!(matches!(plan.continuity, Err(NoContinuity::Expired(_))), "{plan:?}");
    leave(authority);
    let authority = world.boot(&[]).await.unwrap();
    cut(&authority).await.unwrap();
    let alice = Holder::created(&authority, "alice").await;
    assert!(mint_mtls(&authority, &alice.peer()).await.is_ok());
}

/// A Mastio whose root is the one of the vectors, with path length 0.
async fn legacy(world: &World) -> Arc<Authority> {
    let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/pki-vectors.json");
    let vectors: serde_json::Value = serde_json::from_slice(&fs::read(vectors).unwrap()).unwrap();
    let tls = world.dir.path().join("nginx-certs");
    fs::create_dir_all(&tls).unwrap();
    for (file, name) in [("org-ca.crt", "root"), ("org-ca.key", "root_key")] {
        fs::write(tls.join(file), vectors["legacy_pathlen_zero"][name].as_str().unwrap()).unwrap();
    }
    // The vector was made on 2026-11-22.
    world.clock.advance(Duration::from_secs(10_000_000));
    world.boot(&[]).await.unwrap()
}

#[tokio::test]
async fn nothing_goes_back_to_a_root_that_the_next_start_would_refuse() {
    let world = World::new();
    let authority = legacy(&world).await;
    // An operator puts the update aside and lets the agents follow instead.
    world.sql("UPDATE pending_updates SET status = 'rolled_back'");
    authority.reload().unwrap();
    let rotation = authority.begin_overlap(Source::Mint, 14, &operator()).await.unwrap();
    for from in [Phase::Distribute, Phase::Reissue] {
        authority.advance_rotation(&rotation.id, Some(from), true, &operator()).await.unwrap();
    }
    leave(authority);
    let authority = world.boot(&[("MCP_PROXY_STRICT_PKI", "1")]).await.unwrap();
    assert_eq!(reason(authority.abort_rotation(&rotation.id, &operator()).await), (409, "strict_pki"));
    leave(authority);
    let authority = world.boot(&[]).await.unwrap();
    authority.abort_rotation(&rotation.id, &operator()).await.unwrap();
}
