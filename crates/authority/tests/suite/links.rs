//! Which links to older roots the server sends along, and in which order.

use mastio_store::rotations::Phase;

use crate::{intermediates::rotate, overlap::Scene, rotation::cut, world::*};

/// OpenSSL and Python do not go back: of two links to one root they try the first alone.
#[tokio::test]
async fn roots_that_were_given_up_do_not_hide_the_way_from_the_root_before() {
    let (scene, authority) = Scene::new().await;
    let first = authority.trust().root.clone();
    scene.world.clock.advance(std::time::Duration::from_secs(60));
    cut(&authority).await.unwrap();
    for given_up in 1..=4 {
        scene.world.clock.advance(std::time::Duration::from_secs(60));
        let rotation = scene.begin(&authority).await.unwrap();
        for from in [Phase::Distribute, Phase::Reissue] {
            authority.advance_rotation(&rotation.id, Some(from), true, &operator()).await.unwrap();
        }
        let new = authority.trust().root.clone();
        authority.abort_rotation(&rotation.id, &operator()).await.unwrap();
        let links = authority.trust().above_server().split_off(1);
        assert!(links[0].is_signed_by(&first), "after {given_up}");
        assert!(links[1].is_signed_by(&new), "after {given_up}");
        assert_eq!(links.len(), 3.min(1 + given_up));
    }
}

/// The trust file has room for four, and clients look one level deep (contract `pki.md` §4).
#[tokio::test]
async fn who_certifies_agents_is_in_the_trust_file_before_what_was_given_up() {
    let (scene, authority) = Scene::new().await;
    rotate(&authority).await;
    let living = scene.agents[0].holder.chain[1].clone();
    for _ in 0..4 {
        scene.world.clock.advance(std::time::Duration::from_secs(60));
        let rotation = scene.begin(&authority).await.unwrap();
        authority.advance_rotation(&rotation.id, Some(Phase::Distribute), true, &operator()).await.unwrap();
        authority.abort_rotation(&rotation.id, &operator()).await.unwrap();
        assert!(authority.trust().trust_file.contains(&living.pem()));
    }
}
