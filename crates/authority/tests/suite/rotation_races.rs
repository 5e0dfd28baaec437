//! Certificates that are being made while the Org CA is cut: what is handed out after the cut logs in.

use std::sync::Arc;

use mastio_authority::{
    Authority, Refusal,
    enroll::Enrolled,
    lifecycle::{Rotated, Rotation},
    rotation::Source,
};
use mastio_core::{AgentId, Clock};
use mastio_store::rotations::Phase;

use crate::{
    intermediates::{QUESTION, rotate},
    renewal::renew,
    rotation::{COMPROMISE, cut, gets_in},
    world::*,
};
use mastio_jose::SigningKey;
use mastio_pki::{KeyPair, pem};
use secrecy::ExposeSecret;

fn id(authority: &Authority, name: &str) -> AgentId {
    AgentId::parse(&format!("{}::{name}", authority.trust().org)).unwrap()
}

fn renewed(made: &Enrolled, rotated: &Rotated) -> Holder {
    let key = KeyPair::from_pem(rotated.key.as_ref().unwrap().expose_secret()).unwrap();
    Holder { id: made.id.to_string(), chain: pem::certificates(&rotated.certificates).unwrap(), key }
}

/// Whether the log tells of the agent's certificate after it told of the newest cut.
fn came_after_the_cut(world: &World, agent: &str) -> bool {
    world.count(&format!(
        "SELECT count(*) FROM local_audit WHERE agent_id = '{agent}' AND chain_seq > \
         (SELECT max(chain_seq) FROM local_audit WHERE event_type = 'org_ca.rotated')"
    )) > 0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_a_cut_overtakes_is_made_again_under_the_new_root() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let (mut after, mut before) = (0, 0);
    for round in 0..8 {
        let mut making = Vec::new();
        for number in 0..12 {
            let (authority, name) = (Arc::clone(&authority), format!("a-{round}-{number}"));
            making.push(tokio::spawn(async move {
                for _ in 0..number {
                    tokio::task::yield_now().await;
                }
                let made = authority.create_agent(&candidate(&name), false, &operator()).await.unwrap();
                if number % 2 == 0 {
                    return Holder::of(&made);
                }
                loop {
                    match authority.rotate_certificate(&made.id, &Rotation::default(), &operator()).await {
                        Ok(rotated) => return renewed(&made, &rotated),
                        // The cut was faster, and ended all credentials: it can be tried again.
                        Err(error) => assert_eq!(error.reason(), "contended", "{error}"),
                    }
                }
            }));
        }
        cut(&authority).await.unwrap();
        for made in making {
            let holder = made.await.unwrap();
            match came_after_the_cut(&world, &holder.id) {
                true => {
                    after += 1;
                    assert_eq!(gets_in(&authority, &holder).await, Ok(()), "{}: dead on arrival", holder.id);
                }
                false => {
                    before += 1;
                    assert_eq!(gets_in(&authority, &holder).await, Err("ca_rotated"));
                }
            }
        }
    }
    assert!(after > 0 && before + after == 96, "{before} before, {after} after");
}

/// Signing keys that replace each other as fast as they can, until the handle is aborted.
fn signing_keys_rotate(authority: &Arc<Authority>) -> tokio::task::JoinHandle<()> {
    let authority = Arc::clone(authority);
    tokio::spawn(async move {
        loop {
            if let Err(error) = authority.rotate_signing_key(&operator()).await {
                assert_eq!(error.reason(), "rotation_raced", "{error}");
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_step_of_an_overlap_and_another_intermediate_do_not_meet() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    for round in 0..6 {
        let rotation = authority.begin_overlap(Source::Mint, 14, &operator()).await.unwrap();
        let (authority, by) = (Arc::clone(&authority), operator());
        let step = async || authority.advance_rotation(&rotation.id, None, false, &by).await.map(drop);
        let (stepped, _) = tokio::join!(step(), rotate(&authority));
        assert!(stepped.is_ok(), "round {round}: {stepped:?}");
        let back = async || authority.abort_rotation(&rotation.id, &by).await.map(drop);
        // In this phase another intermediate may be refused in words.
        let another = authority.rotate_intermediate(QUESTION, &by);
        let (aborted, another) = tokio::join!(back(), another);
        assert!(aborted.is_ok(), "round {round}: {aborted:?}");
        assert!(another.as_ref().map_or_else(|error| error.reason() != "contended", |_| true), "{another:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_rotation_of_the_signing_key_comes_between_after_a_compromise() {
    let world = World::new();
    let no_interval = [("CULLIS_MASTIO_ROTATION_MIN_INTERVAL_SECONDS", "0")];
    let authority = world.boot(&no_interval).await.unwrap();
    let rotating = signing_keys_rotate(&authority);
    for round in 0..12 {
        if round % 2 == 0 {
            authority.begin_overlap(Source::Mint, 14, &operator()).await.unwrap();
        }
        let rotated = authority.rotate_root(Source::Mint, COMPROMISE, &operator()).await;
        assert!(rotated.is_ok(), "round {round}: {rotated:?}");
    }
    assert!(!rotating.is_finished(), "{:?}", rotating.await);
    rotating.abort();
    assert!(world.events("mastio_key.rotated") > 0);
}

#[tokio::test]
async fn who_meets_a_step_that_is_being_taken_is_told_so() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let rotation = authority.begin_overlap(Source::Mint, 14, &operator()).await.unwrap();
    let (id, by) = (rotation.id.as_str(), operator());
    let step = || authority.advance_rotation(id, None, false, &by);
    let (first, second, abort) = tokio::join!(step(), step(), authority.abort_rotation(id, &by));
    assert_eq!(first.unwrap().phase, Phase::Reissue);
    for refused in [second, abort] {
        let refused = refused.unwrap_err();
        assert_eq!((refused.status(), refused.reason()), (409, "step_under_way"));
        assert!(refused.to_string().ends_with("try again in a moment"), "{refused}");
    }
    authority.abort_rotation(id, &by).await.unwrap();
}

/// As another process's cut that this one has not heard of yet.
const CUT_OFF: &str = "UPDATE pki_cas SET cut = 1 WHERE state = 'active'";

#[tokio::test]
async fn nothing_is_pinned_that_would_be_dead_on_arrival() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let (alice, dpop) = (Holder::created(&authority, "alice").await, SigningKey::generate().unwrap());
    let own = crate::forge::Ca::below_root(&world, &authority).await;
    let brought = own.agent(id(&authority, "brought").as_str(), &[], world.clock.now()).1;
    authority
        .set_dpop_key(&id(&authority, "alice"), &dpop.public_jwk().to_value(), &operator())
        .await
        .unwrap();
    let pinned = "SELECT group_concat(agent_id || thumbprint) FROM agent_certs";
    let before = world.text(pinned);
    world.sql(CUT_OFF);
    let refused = (409, "contended");
    let made = authority.create_agent(&candidate("new"), false, &operator()).await;
    assert_eq!(reason(made), refused);
    let rotated =
        authority.rotate_certificate(&id(&authority, "alice"), &Rotation::default(), &operator()).await;
    assert_eq!(reason(rotated), refused);
    let next = KeyPair::generate_p256().unwrap();
    assert_eq!(renew(&authority, &world, &alice, &dpop, &next, None).await.unwrap_err(), refused);
    let enrolled = authority.enroll_byoca(&candidate("brought"), &brought.brought(), &operator()).await;
    assert_eq!(reason(enrolled), refused);
    assert_eq!(world.text(pinned), before);
    world.sql("UPDATE pki_cas SET cut = 0");
    assert!(authority.create_agent(&candidate("new"), false, &operator()).await.is_ok());
}
