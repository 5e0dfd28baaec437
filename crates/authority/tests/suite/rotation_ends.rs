//! Rotations with overlap that do not come to their own end: a root ends meanwhile, or a key turns out to be known to
//! others.

use std::{sync::Arc, time::Duration};

use mastio_authority::{
    Authority, Refusal,
    rotation::{RotationError, Source, overlap::OverlapError},
};
use mastio_core::Clock;
use mastio_store::{
    cas::CaState,
    keys::CaKind,
    rotations::{Phase, Rotation},
};

use crate::{
    overlap::{DAY, Follower, LOOK, Scene, progress},
    rotation::{COMPROMISE, CUT, cut, gets_in, reissued, root, states, upload},
    world::*,
};

/// Longer than the root lives that [`ending_soon`] has.
const BEYOND: Duration = DAY.saturating_mul(50);

/// A Mastio with two agents, whose own root ends in 40 days.
async fn ending_soon() -> (Scene, Arc<Authority>) {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let (certificate, key) = root(world.clock.now(), |_| {});
    authority.rotate_root(upload(certificate.pem(), &key), CUT, &operator()).await.unwrap();
    let mut agents = Vec::new();
    for name in ["alice", "bob"] {
        agents.push(Follower::enrolled(&authority, name).await);
    }
    (Scene { world, agents }, authority)
}

async fn now(authority: &Authority, rotation: &Rotation) -> Rotation {
    authority.rotation(&rotation.id).await.unwrap().rotation
}

/// The server looks, and nobody calls.
async fn look(scene: &Scene, authority: &Arc<Authority>) {
    scene.world.clock.advance(LOOK);
    authority.tend_rotation().await;
}

fn of<T>(result: Result<T, OverlapError>) -> (u16, &'static str) {
    result.map_or_else(|error| (error.status(), error.reason()), |_| (200, "ok"))
}

#[tokio::test]
async fn when_the_old_root_ends_there_is_no_way_back_and_the_rotation_waits_for_nobody() {
    for phase in [Phase::Distribute, Phase::Reissue, Phase::Activated] {
        let (mut scene, authority) = ending_soon().await;
        let rotation = scene.begin(&authority).await.unwrap();
        let (id, by) = (rotation.id.as_str(), operator());
        scene.until(&authority, id, phase).await;
        authority.pause_rotation(id, true, &by).await.unwrap();
        scene.world.clock.advance(BEYOND);
        assert_eq!(of(authority.abort_rotation(id, &by).await), (409, "old_root_ended"), "{phase:?}");
        look(&scene, &authority).await;
        assert_eq!(now(&authority, &rotation).await.phase, phase, "it is paused");
        // An operator can take the step all the same, and nobody must be forced.
        assert_eq!(of(authority.advance_rotation(id, None, false, &by).await), (200, "ok"), "{phase:?}");
        if phase != Phase::Activated {
            authority.pause_rotation(id, false, &by).await.unwrap();
        }
        for _ in 0..3 {
            look(&scene, &authority).await;
        }
        assert_eq!(now(&authority, &rotation).await.phase, Phase::Done, "{phase:?}");
        assert_eq!(authority.trust().root.thumbprint(), rotation.new_root);
        authority.keep_files().await.unwrap();
        assert_eq!(gets_in(&authority, &reissued(&authority, "alice").await).await, Ok(()));
        leave(authority);
        assert!(scene.world.boot(&[]).await.is_ok());
    }
}

#[tokio::test]
async fn a_mastio_that_starts_after_the_end_of_the_old_root_has_a_certificate_to_show() {
    for phase in [Phase::Distribute, Phase::Reissue] {
        let (mut scene, authority) = ending_soon().await;
        let rotation = scene.begin(&authority).await.unwrap();
        scene.until(&authority, &rotation.id, phase).await;
        authority.pause_rotation(&rotation.id, true, &operator()).await.unwrap();
        leave(authority);
        scene.world.clock.advance(BEYOND);
        let authority = scene.world.boot(&[]).await.unwrap();
        let shown_until = || authority.tls_files().serving().unwrap().chain[0].not_after();
        authority.keep_files().await.unwrap();
        assert!(shown_until() < scene.world.clock.now(), "what certifies has ended");
        authority.leave_ended_root().await;
        authority.keep_files().await.unwrap();
        assert!(shown_until() > scene.world.clock.now(), "{phase:?}");
        assert_eq!(now(&authority, &rotation).await.phase, Phase::Activated, "{phase:?}");
        assert_eq!(of(authority.pause_rotation(&rotation.id, false, &operator()).await), (200, "ok"));
        look(&scene, &authority).await;
        assert_eq!(now(&authority, &rotation).await.phase, Phase::Done, "{phase:?}");
    }
}

#[tokio::test]
async fn when_the_old_root_ends_and_the_key_of_the_new_one_is_gone_an_abort_and_a_cut_lead_on() {
    for (phase, key) in [
        (Phase::Distribute, "NULL"),
        (Phase::Reissue, "NULL"),
        (Phase::Distribute, "'garbage'"),
        (Phase::Reissue, "'garbage'"),
    ] {
        let (mut scene, authority) = ending_soon().await;
        let rotation = scene.begin(&authority).await.unwrap();
        let (id, by) = (rotation.id.as_str(), operator());
        scene.until(&authority, id, phase).await;
        let of_new = "WHERE state = 'staged' AND kind = 'org_ca'";
        scene.world.sql(&format!("UPDATE pki_cas SET private_key = {key} {of_new}"));
        authority.reload().unwrap();
        scene.world.clock.advance(BEYOND);
        assert_eq!(
            of(authority.advance_rotation(id, None, false, &by).await),
            (409, "key_gone"),
            "{phase:?}"
        );
        assert!(matches!(cut(&authority).await, Err(RotationError::InProgress)));
        authority.abort_rotation(id, &by).await.unwrap();
        cut(&authority).await.unwrap();
        assert_eq!(gets_in(&authority, &reissued(&authority, "alice").await).await, Ok(()));
    }
}

#[tokio::test]
async fn a_new_root_that_has_ended_is_not_gone_on_to_but_back_from() {
    for phase in [Phase::Distribute, Phase::Reissue] {
        let (mut scene, authority) = Scene::new().await;
        let old = authority.trust().root.clone();
        let (certificate, key) = root(scene.world.clock.now(), |_| {});
        let source = upload(certificate.pem(), &key);
        let rotation = authority.begin_overlap(source, 14, &operator()).await.unwrap();
        let (id, by) = (rotation.id.as_str(), operator());
        scene.until(&authority, id, phase).await;
        scene.world.clock.advance(BEYOND);
        let forced = authority.advance_rotation(id, Some(phase), true, &by).await;
        assert_eq!(of(forced), (409, "new_root_ended"), "{phase:?}");
        authority.abort_rotation(id, &by).await.unwrap();
        assert_eq!(authority.trust().root, old);
        assert_eq!(gets_in(&authority, &reissued(&authority, "alice").await).await, Ok(()));
    }
}

#[tokio::test]
async fn an_intermediate_that_ends_meanwhile_is_replaced_whatever_the_phase() {
    for (phase, abort) in [
        (Phase::Distribute, false),
        (Phase::Reissue, false),
        (Phase::Activated, false),
        (Phase::Distribute, true),
        (Phase::Reissue, true),
    ] {
        let world = World::new();
        let authority = world.boot(&[]).await.unwrap();
        let active =
            |authority: &Authority| authority.trust().server_issuer.as_ref().unwrap().certificate().clone();
        let end = active(&authority).not_after();
        // The one that the overlap brings lives as long as that of before, if it began with it.
        let begins =
            if phase == Phase::Activated { 1 } else { end.since(world.clock.now()).as_secs() / 86400 - 31 };
        world.clock.advance(DAY * u32::try_from(begins).unwrap());
        let mut agents = Vec::new();
        for name in ["alice", "bob"] {
            agents.push(Follower::enrolled(&authority, name).await);
        }
        let mut scene = Scene { world, agents };
        let rotation = scene.begin(&authority).await.unwrap();
        scene.until(&authority, &rotation.id, phase).await;
        let before = active(&authority);
        let left = before.not_after().since(scene.world.clock.now());
        scene.world.clock.advance(left - DAY * 29);
        authority.keep_keys().await;
        let after = active(&authority);
        assert!(after.not_after() > before.not_after(), "{phase:?}");
        assert!(after.is_signed_by(&authority.trust().root));
        if phase == Phase::Activated {
            // Their own certificates ended years ago.
            authority.advance_rotation(&rotation.id, Some(phase), true, &operator()).await.unwrap();
            assert_eq!(gets_in(&authority, &reissued(&authority, "alice").await).await, Ok(()));
            continue;
        }
        if abort {
            authority.abort_rotation(&rotation.id, &operator()).await.unwrap();
            assert_eq!(active(&authority), after);
        } else {
            scene.until(&authority, &rotation.id, Phase::Done).await;
            assert_eq!(authority.trust().root.thumbprint(), rotation.new_root);
        }
        scene.settled(&authority).await;
    }
}

#[tokio::test]
async fn a_compromise_ends_an_open_overlap_and_both_of_its_roots_in_one_call() {
    for phase in [Phase::Distribute, Phase::Reissue, Phase::Activated] {
        let (mut scene, authority) = Scene::new().await;
        let rotation = scene.begin(&authority).await.unwrap();
        scene.until(&authority, &rotation.id, phase).await;
        // One of the two moves, where that is possible.
        scene.agents[0].call(&authority, &scene.world).await;
        let token = mint_mtls(&authority, &scene.agents[0].holder.peer()).await.unwrap();
        assert!(matches!(cut(&authority).await, Err(RotationError::InProgress)), "a routine cut does not");
        let candidate = authority.candidate(&Source::Mint).unwrap();
        let plan = authority.preflight(&candidate, COMPROMISE.into()).await.unwrap();
        assert!(plan.consequences.iter().any(|told| told.contains(&rotation.id)), "{:?}", plan.consequences);

        let rotated = authority.rotate_root(Source::Mint, COMPROMISE, &operator()).await.unwrap();
        let (trust, ended) = (authority.trust(), now(&authority, &rotation).await);
        assert_eq!((trust.root.thumbprint(), trust.rotation.is_none()), (rotated.fingerprint, true));
        assert_eq!(trust.trust_file.matches("BEGIN CERTIFICATE").count(), 2, "{phase:?}: the new ones alone");
        assert_eq!((trust.cas.believed().count(), trust.cas.links().count()), (2, 0));
        let (is, was) = ((CaState::Active, false), (CaState::Superseded, true));
        assert_eq!(states(&authority, CaKind::Root), [is, was, was], "{phase:?}");
        assert_eq!(ended.phase, Phase::Aborted);
        assert!(ended.error.unwrap().contains("compromise"));
        let held = "SELECT count(*) FROM pki_cas WHERE kind = 'org_ca' AND private_key IS NOT NULL";
        assert_eq!(scene.world.count(held), 0, "{phase:?}");
        let steps = told(&authority, "org_ca.rotation_phase").await;
        assert!(steps.last().unwrap().contains("aborted"), "{steps:?}");
        assert_eq!(told(&authority, "org_ca.rotated").await.len(), 1);

        for agent in &scene.agents {
            assert_eq!(gets_in(&authority, &agent.holder).await, Err("ca_rotated"), "{phase:?}");
        }
        let caller = authority.caller_by_token(&nobody(), &token, &line("GET", CALL, None)).await;
        assert!(caller.is_err());
        assert_eq!(gets_in(&authority, &reissued(&authority, "alice").await).await, Ok(()));
        leave(authority);
        let authority = scene.world.boot(&[]).await.unwrap();
        assert_eq!(authority.trust().root.thumbprint(), rotated.fingerprint);
        assert!(scene.begin(&authority).await.is_ok());
    }
}

#[tokio::test]
async fn a_compromise_that_cannot_be_written_leaves_the_overlap_as_it_was() {
    let (mut scene, authority) = Scene::new().await;
    let rotation = scene.begin(&authority).await.unwrap();
    scene.until(&authority, &rotation.id, Phase::Reissue).await;
    scene.world.sql(
        "CREATE TRIGGER stop BEFORE UPDATE OF epoch ON agent_epochs BEGIN SELECT RAISE(ABORT, 'stop'); END; \
         CREATE TRIGGER stop_too BEFORE INSERT ON agent_epochs BEGIN SELECT RAISE(ABORT, 'stop'); END",
    );
    assert!(authority.rotate_root(Source::Mint, COMPROMISE, &operator()).await.is_err());
    scene.world.sql("DROP TRIGGER stop; DROP TRIGGER stop_too");
    assert_eq!(now(&authority, &rotation).await.phase, Phase::Reissue);
    scene.until(&authority, &rotation.id, Phase::Done).await;
    scene.settled(&authority).await;
}

#[tokio::test]
async fn whose_certificate_an_agent_has_counts_and_not_how_it_came_in() {
    let (mut scene, authority) = Scene::new().await;
    let names = |waiters: Vec<mastio_store::rotations::following::Waiting>| {
        waiters.into_iter().map(|waiting| waiting.agent.name().to_owned()).collect::<Vec<_>>()
    };
    // Made here, and since then with a certificate of the organisation's own CA; and the other way round.
    Holder::created(&authority, "left").await;
    let own = crate::forge::Ca::below_root(&scene.world, &authority).await;
    let id = |name: &str| format!("{}::{name}", authority.trust().org);
    let brought = own.agent(&id("left"), &[], scene.world.clock.now()).1;
    authority.enroll_byoca(&candidate("left"), &brought.update(), &operator()).await.unwrap();
    let came = own.agent(&id("came"), &[], scene.world.clock.now()).1;
    authority.enroll_byoca(&candidate("came"), &came.brought(), &operator()).await.unwrap();
    let came = reissued(&authority, "came").await;

    let plan = authority.preflight(&authority.candidate(&Source::Mint).unwrap(), CUT.into()).await.unwrap();
    assert_eq!((plan.agents.managed, plan.agents.byoca), (3, 1));
    let rotation = scene.begin(&authority).await.unwrap();
    let counted = progress(&authority, &rotation).await;
    assert_eq!((counted.agents, counted.byoca), (3, 1));
    use mastio_authority::rotation::overlap::Half;
    let left = async |half| names(authority.waiters(&rotation, half, None, 10).await.unwrap().agents);
    assert_eq!(left(Half::Operators).await, ["left"]);
    assert_eq!(left(Half::Agents).await, ["alice", "bob", "came"]);
    // "came" follows, and nobody waits for "left".
    let pinned = authority.certificate(&came.peer()).await.unwrap();
    authority.trust_bundle(pinned.agent.id(), true).await.unwrap();
    scene.round(&authority).await;
    assert_eq!(now(&authority, &rotation).await.phase, Phase::Reissue);
    scene.world.clock.advance(LOOK);
    let pinned = authority.certificate(&came.peer()).await.unwrap();
    assert!(authority.renewal_due(&pinned.agent).is_some());
}

#[tokio::test]
async fn a_large_fleet_is_asked_to_move_one_after_the_other() {
    // Turns go by the ids of agents.
    let (mut scene, authority) = Scene::with(&[("MCP_PROXY_ORG_ID", "acme")]).await;
    scene.world.sql(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) \
         INSERT INTO agent_certs (agent_id, thumbprint, spki_sha256, not_after) \
         SELECT 'other::' || i, hex(i), hex(i), '2099-01-01T00:00:00+00:00' FROM n",
    );
    let rotation = scene.begin(&authority).await.unwrap();
    scene.until(&authority, &rotation.id, Phase::Reissue).await;
    // 20 000 agents at 100 a second.
    let due = async |scene: &Scene| {
        let mut due = 0;
        for agent in &scene.agents {
            let pinned = authority.certificate(&agent.holder.peer()).await.unwrap();
            due += usize::from(authority.renewal_due(&pinned.agent).is_some());
        }
        due
    };
    let mut seen = vec![due(&scene).await];
    for _ in 0..20 {
        scene.world.clock.advance(Duration::from_secs(10));
        seen.push(due(&scene).await);
    }
    assert!(seen.is_sorted() && seen.first() == Some(&0) && seen.last() == Some(&2), "{seen:?}");
    assert!(seen.contains(&1), "they have turns of their own: {seen:?}");
}
