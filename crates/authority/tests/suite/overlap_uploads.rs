//! Rotations with overlap to a root that was uploaded, and agents with certificates of the organisation's own CA: what they are
//! pinned to now counts.

use std::sync::Arc;

use mastio_authority::{Authority, rotation::overlap::Half};
use mastio_core::Clock;
use mastio_store::rotations::{Phase, Rotation};

use crate::{
    forge::Ca,
    overlap::{DAY, LOOK, Scene, progress},
    rotation::{cut, gets_in, upload},
    world::*,
};

/// A rotation to a root of which the organisation has the key, in `phase`.
async fn begun(phase: Phase) -> (Scene, Arc<Authority>, Ca, Rotation) {
    let (mut scene, authority) = Scene::new().await;
    let root = Ca::upstream(scene.world.clock.now());
    let source = upload(root.certificate.pem(), &root.key);
    let rotation = authority.begin_overlap(source, 0, &operator()).await.unwrap();
    scene.until(&authority, &rotation.id, phase).await;
    (scene, authority, root, rotation)
}

/// An agent comes in with a certificate by `ca`, or gets another one.
async fn enrolled(authority: &Authority, world: &World, ca: &Ca, name: &str) -> Holder {
    let holder = ca.agent(&format!("{}::{name}", authority.trust().org), &[], world.clock.now()).1;
    authority.enroll_byoca(&candidate(name), &holder.update(), &operator()).await.unwrap();
    holder
}

#[tokio::test]
async fn a_link_that_does_not_lead_to_the_root_of_now_is_neither_sent_nor_told() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    cut(&authority).await.unwrap();
    assert_eq!(
        authority.trust().above_server().len(),
        2,
        "the intermediate, and the link from the first root"
    );
    // Of another name, so that the second root cannot vouch for it.
    let root = Ca::upstream(world.clock.now());
    let source = upload(root.certificate.pem(), &root.key);
    let rotation = authority.begin_overlap(source, 0, &operator()).await.unwrap();
    let mut scene = Scene { world, agents: vec![] };
    scene.until(&authority, &rotation.id, Phase::Done).await;
    assert_eq!(authority.trust().above_server().len(), 1);
    let told = told(&authority, "org_ca.rotated").await;
    assert!(
        told[0].contains(r#""tls_continuity":true"#) && told[1].contains(r#""tls_continuity":false"#),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_key_of_the_new_root_that_is_gone_is_told_before_anything_needs_it() {
    for (phase, kind) in [(Phase::Distribute, "intermediate_ca"), (Phase::Reissue, "org_ca")] {
        let (mut scene, authority, _, rotation) = begun(phase).await;
        let of = format!("FROM pki_cas WHERE state = 'staged' AND kind = '{kind}'");
        let key = scene.world.text(&format!("SELECT private_key {of}"));
        let put = |key: &str| {
            let of = of.trim_start_matches("FROM pki_cas");
            scene.world.sql(&format!("UPDATE pki_cas SET private_key = {key} {of}"));
            authority.reload().unwrap();
        };
        put("NULL");
        let forced = authority.advance_rotation(&rotation.id, Some(phase), true, &operator()).await;
        assert_eq!(reason(forced), (409, "key_gone"), "{phase:?}");
        let now = async || authority.rotation(&rotation.id).await.unwrap().rotation;
        put(&format!("'{key}'"));
        assert_eq!((now().await.phase, now().await.error), (phase, None));
        put("NULL");
        for _ in 0..3 {
            scene.round(&authority).await;
        }
        let stuck = now().await;
        assert_eq!(stuck.phase, phase);
        assert!(stuck.error.as_ref().unwrap().contains("abort"), "{stuck:?}");
        scene.world.sql(&format!(
            "UPDATE pki_cas SET private_key = '{key}' WHERE state = 'staged' AND kind = '{kind}'"
        ));
        authority.reload().unwrap();
        for _ in 0..2 {
            scene.round(&authority).await;
        }
        assert!(now().await.phase > phase && now().await.error.is_none(), "{:?}", now().await);
    }
}

#[tokio::test]
async fn an_abort_leaves_in_whose_certificate_of_the_new_root_was_brought() {
    for (phase, calls, when_over) in [
        (Phase::Distribute, true, false),
        (Phase::Distribute, false, false),
        (Phase::Reissue, false, false),
        (Phase::Reissue, false, true),
    ] {
        let (scene, authority, root, rotation) = begun(phase).await;
        let abort = async || authority.abort_rotation(&rotation.id, &operator()).await.unwrap();
        if when_over {
            abort().await;
        }
        let brought = enrolled(&authority, &scene.world, &root, "brought").await;
        if calls {
            assert_eq!(gets_in(&authority, &brought).await, Ok(()));
        }
        if !when_over {
            abort().await;
        }
        assert_eq!(gets_in(&authority, &brought).await, Ok(()), "{phase:?}");
        // The intermediate goes once nothing that it certified is left; the root stays for this one.
        let gone = "state = 'retired' WHERE kind = 'intermediate_ca' AND state = 'superseded'";
        scene.world.sql(&format!("UPDATE pki_cas SET {gone}"));
        scene.world.clock.advance(DAY / 12);
        authority.reload().unwrap();
        authority.tend_rotation().await;
        authority.reload().unwrap();
        assert_eq!(gets_in(&authority, &brought).await, Ok(()), "{phase:?}");
    }
}

#[tokio::test]
async fn a_root_that_was_given_up_and_is_retired_is_told_and_at_the_beginning_nobody_has_followed() {
    let (scene, authority, _, rotation) = begun(Phase::Reissue).await;
    let steps = told(&authority, "org_ca.rotation_phase").await;
    assert!(steps[0].contains(r#""agents_left":2"#), "{steps:?}");
    authority.abort_rotation(&rotation.id, &operator()).await.unwrap();
    let gone = "state = 'retired' WHERE kind = 'intermediate_ca' AND state = 'superseded'";
    scene.world.sql(&format!("UPDATE pki_cas SET {gone}"));
    scene.world.clock.advance(DAY / 12);
    authority.reload().unwrap();
    authority.tend_rotation().await;
    let retired = told(&authority, "pki.ca_retired").await;
    assert!(retired.len() == 1 && retired[0].contains("given_up"), "{retired:?}");
}

#[tokio::test]
async fn an_abort_before_anybody_has_a_certificate_of_the_new_root_retires_it() {
    let (scene, authority, root, rotation) = begun(Phase::Distribute).await;
    authority.abort_rotation(&rotation.id, &operator()).await.unwrap();
    assert_eq!(scene.world.count("SELECT count(*) FROM pki_cas WHERE state = 'retired'"), 2);
    // It may be brought again.
    let source = upload(root.certificate.pem(), &root.key);
    authority.begin_overlap(source, 0, &operator()).await.unwrap();
}

#[tokio::test]
async fn whoever_has_a_certificate_of_the_old_root_again_has_not_moved() {
    let (scene, authority, root, rotation) = begun(Phase::Reissue).await;
    let own = Ca::below_root(&scene.world, &authority).await;
    let left = async || {
        let left = authority.waiters(&rotation, Half::Operators, None, 10).await.unwrap().agents;
        left.into_iter().map(|waiting| waiting.agent.name().to_owned()).collect::<Vec<_>>()
    };
    let moved = async || {
        scene.world.clock.advance(LOOK);
        authority.tend_rotation().await;
        progress(&authority, &rotation).await.byoca_moved
    };
    for _ in 0..2 {
        let new = enrolled(&authority, &scene.world, &root, "carol").await;
        assert_eq!(gets_in(&authority, &new).await, Ok(()));
        assert_eq!((moved().await, left().await.len()), (1, 0));
        // Nothing that was noted of the certificate of before counts for this one.
        gets_in(&authority, &new).await.unwrap();
        let old = enrolled(&authority, &scene.world, &own, "carol").await;
        assert_eq!(gets_in(&authority, &old).await, Ok(()));
        assert_eq!((moved().await, left().await), (0, vec!["carol".to_owned()]));
    }
}
