//! The key of a CA that is not active was damaged in the database.

use crate::{
    intermediates::rotate,
    overlap::Scene,
    rotation::{COMPROMISE, gets_in},
    world::*,
};
use mastio_authority::rotation::Source;

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
    authority.rotate_root(Source::Mint, COMPROMISE, &operator()).await.unwrap();
    assert_eq!(gets_in(&authority, old).await, Err("ca_rotated"));
    leave(authority);
    let authority = scene.world.boot(&[]).await.unwrap();
    assert_eq!(gets_in(&authority, old).await, Err("ca_rotated"));
}
