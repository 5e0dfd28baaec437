//! Agents that a rotation with overlap finds shut out: it waits for none of them, and tells the operator who they are.

use std::sync::Arc;

use mastio_authority::{
    Authority,
    rotation::{Source, overlap::Half},
};
use mastio_store::rotations::{Phase, Rotation};

use crate::{
    overlap::{Follower, Scene, progress},
    rotation::{cut, gets_in, reissued},
    updates::{PATH_LEN, halted, legacy},
    world::*,
};

/// What is noted of a certificate, made to say that it does not log in.
const ENDED: &str =
    "UPDATE agent_certs SET not_after = '2020-01-01T00:00:00.000000+00:00' WHERE agent_id LIKE '%::ended'";
const REVOKED: &str = "INSERT INTO revoked_agent_certs \
    SELECT thumbprint, '01', spki_sha256, 0, NULL, agent_id, not_after, 'test', not_after FROM agent_certs \
    WHERE agent_id LIKE '%::revoked'";
const UNPINNED: &str = "DELETE FROM agent_certs WHERE agent_id LIKE '%::unpinned'";
/// As it is of agents of the existing system: one of ours, and not known which.
const UNKNOWN: &str = "UPDATE agent_certs SET issuer = '' WHERE agent_id LIKE '%::former'";

/// Alice and bob follow; of the others nobody does.
async fn scene() -> (Scene, Arc<Authority>) {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let (lone, former) =
        (Holder::created(&authority, "cut").await, Holder::created(&authority, "former").await);
    world.sql(UNKNOWN);
    cut(&authority).await.unwrap();
    for holder in [&lone, &former] {
        assert_eq!(gets_in(&authority, holder).await, Err("ca_rotated"));
    }
    for name in ["ended", "revoked", "unpinned"] {
        Holder::created(&authority, name).await;
    }
    for sql in [ENDED, REVOKED, UNPINNED] {
        world.sql(sql);
    }
    let mut agents = Vec::new();
    for name in ["alice", "bob"] {
        agents.push(Follower::enrolled(&authority, name).await);
    }
    (Scene { world, agents }, authority)
}

async fn left(authority: &Authority, rotation: &Rotation, half: Half) -> Vec<(String, bool)> {
    let now = authority.rotation(&rotation.id).await.unwrap().rotation;
    let waiters = authority.waiters(&now, half, None, 10).await.unwrap().agents;
    waiters.into_iter().map(|waiting| (waiting.agent.name().to_owned(), waiting.shut_out)).collect()
}

fn all(names: &[&str], shut_out: bool) -> Vec<(String, bool)> {
    names.iter().map(|name| ((*name).to_owned(), shut_out)).collect()
}

#[tokio::test]
async fn an_overlap_waits_for_nobody_who_is_shut_out() {
    let (mut scene, authority) = scene().await;
    let rotation = scene.begin(&authority).await.unwrap();
    let shut_out = all(&["cut", "ended", "former", "revoked", "unpinned"], true);
    let now = progress(&authority, &rotation).await;
    assert_eq!((now.agents, now.shut_out, now.left(Phase::Distribute)), (2, 5, 2));
    assert_eq!(left(&authority, &rotation, Half::Agents).await, all(&["alice", "bob"], false));
    assert_eq!(left(&authority, &rotation, Half::Operators).await, shut_out);

    scene.until(&authority, &rotation.id, Phase::Reissue).await;
    assert_eq!(left(&authority, &rotation, Half::Operators).await, shut_out, "nobody forced it");
    // Who gets a certificate again follows again.
    let back = reissued(&authority, "cut").await;
    assert_eq!(left(&authority, &rotation, Half::Agents).await.len(), 3);
    assert_eq!(gets_in(&authority, &back).await, Ok(()));
    scene.until(&authority, &rotation.id, Phase::Activated).await;
    let now = progress(&authority, &rotation).await;
    assert_eq!((now.agents, now.moved, now.shut_out, now.operators_left()), (3, 3, 4, 4));

    // Who has moved has, whatever becomes of it.
    scene.world.sql(&ENDED.replace("ended", "cut"));
    let now = progress(&authority, &rotation).await;
    assert_eq!((now.agents, now.moved, now.shut_out), (3, 3, 4));
    scene.until(&authority, &rotation.id, Phase::Done).await;
    let ended = "SELECT json_extract(details, '$.agents_invalidated') FROM local_audit \
        WHERE event_type = 'org_ca.rotated' ORDER BY chain_seq DESC LIMIT 1";
    assert_eq!(scene.world.count(ended), 0, "nobody else was shut out by it");
}

/// What signed their certificates is certified again by the update, and that certificate retired on the way back.
#[tokio::test]
async fn agents_of_an_update_that_was_rolled_back_are_waited_for() {
    let world = legacy();
    let (authority, _) = halted(&world, &[], &[]).await;
    authority.apply_update(PATH_LEN, Some("rekey"), &operator()).await.unwrap();
    let alice = Holder::created(&authority, "alice").await;
    authority.roll_back_update(PATH_LEN, &operator()).await.unwrap();
    assert_eq!(gets_in(&authority, &alice).await, Ok(()));
    let rotation = authority.begin_overlap(Source::Mint, 0, &operator()).await.unwrap();
    let now = progress(&authority, &rotation).await;
    assert_eq!((now.agents, now.shut_out), (1, 0));
}
