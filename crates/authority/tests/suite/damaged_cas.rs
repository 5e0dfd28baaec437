//! A CA that is not active was damaged in the database.

use crate::{
    intermediates::rotate,
    overlap::{LOOK, Scene},
    rotation::{COMPROMISE, cut, gets_in},
    world::*,
};
use mastio_authority::rotation::Source;
use mastio_store::rotations::Phase;

#[tokio::test]
async fn a_damaged_key_does_not_keep_a_compromised_root_in_use() {
    let (scene, authority) = Scene::new().await;
    let old = &scene.agents[0].holder;
    rotate(&authority).await;
    scene.begin(&authority).await.unwrap();
    scene.world.sql(
        "UPDATE pki_cas SET private_key = 'garbage' WHERE kind = 'intermediate_ca' AND state IN ('staged', 'superseded')",
    );
    gets_in(&authority, old).await.unwrap();
    assert!(!authority.trust().cas.has_damaged_key());
    authority.reload().unwrap();
    assert!(authority.trust().cas.has_damaged_key());
    authority.rotate_root(Source::Mint, COMPROMISE, &operator()).await.unwrap();
    assert_eq!(gets_in(&authority, old).await, Err("ca_rotated"));
    leave(authority);
    let authority = scene.world.boot(&[]).await.unwrap();
    assert_eq!(gets_in(&authority, old).await, Err("ca_rotated"));
}

#[tokio::test]
async fn without_the_key_that_certifies_an_overlap_says_what_to_do() {
    let (scene, authority) = Scene::new().await;
    let rotation = scene.begin(&authority).await.unwrap();
    authority.advance_rotation(&rotation.id, Some(Phase::Distribute), true, &operator()).await.unwrap();
    scene.world.sql(
        "UPDATE pki_cas SET private_key = 'garbage' WHERE kind = 'intermediate_ca' AND state = 'staged'",
    );
    authority.reload().unwrap();
    scene.world.clock.advance(LOOK);
    authority.tend_rotation().await;
    let told = authority.rotation(&rotation.id).await.unwrap().rotation.error.unwrap();
    assert!(told.contains("abort"), "{told}");
    authority.abort_rotation(&rotation.id, &operator()).await.unwrap();
    Holder::created(&authority, "carol").await;
}

#[tokio::test]
async fn what_is_history_can_be_damaged_without_harm() {
    let (scene, authority) = Scene::new().await;
    let rotation = scene.begin(&authority).await.unwrap();
    authority.abort_rotation(&rotation.id, &operator()).await.unwrap();
    cut(&authority).await.unwrap();
    scene.world.sql("UPDATE pki_cas SET cert_pem = 'garbage' WHERE state = 'retired'");
    scene.world.sql("UPDATE pki_cas SET link_pem = 'garbage' WHERE link_pem IS NOT NULL");
    authority.reload().unwrap();
    assert_eq!(gets_in(&authority, &scene.agents[0].holder).await, Err("ca_rotated"));
    leave(authority);
    scene.world.boot(&[]).await.unwrap();
}

#[tokio::test]
async fn a_cut_ends_the_harm_that_a_damaged_active_root_does() {
    let (scene, authority) = Scene::new().await;
    scene.world.sql("UPDATE pki_cas SET cert_pem = 'garbage' WHERE state = 'active' AND kind = 'org_ca'");
    assert!(authority.reload().is_err() && authority.stale().is_some());
    assert!(authority.rotate_root(Source::Mint, COMPROMISE, &operator()).await.unwrap().in_force);
    assert!(gets_in(&authority, &scene.agents[0].holder).await.is_err());
    let carol = Holder::created(&authority, "carol").await;
    assert_eq!(gets_in(&authority, &carol).await, Ok(()));
    leave(authority);
    scene.world.boot(&[]).await.unwrap();
}
