//! Updates and rotations exclude each other, also when they begin at the same moment.

use std::sync::Arc;

use mastio_authority::{
    Authority, Refusal,
    intermediate::Question,
    rotation::{Plan, Source},
    signing_key::GraceDays,
};
use mastio_store::rotations::Phase;

use super::*;
use crate::rotation::{CUT, cut};

/// With a root of path length 0 and no agent of ours, so that nothing is halted.
async fn unhalted(world: &World) -> Arc<Authority> {
    let (authority, _) = halted(world, &[], &["alice"]).await;
    world.sql("UPDATE internal_agents SET enrollment_method = 'byoca'");
    authority.reload().unwrap();
    assert_eq!(halt(&authority), None);
    authority
}

/// A refusal, as far as operators and their scripts look at it.
fn told<T: std::fmt::Debug, E: Refusal>(refused: Result<T, E>) -> (u16, &'static str, String) {
    let error = refused.unwrap_err();
    (error.status(), error.reason(), error.detail().to_string())
}

/// Every rotation that there is, and what it is answered: with and without a dry run.
async fn rotations(authority: &Arc<Authority>) -> Vec<(&'static str, (u16, &'static str, String))> {
    let by = operator();
    let candidate = || authority.candidate(&Source::Mint).unwrap();
    let question = |dry_run| Question { dry_run, grace: GraceDays::FORTNIGHT, instead_of: None };
    vec![
        ("plan of a cut", told(authority.preflight(&candidate(), CUT.into()).await)),
        ("plan of an overlap", told(authority.preflight(&candidate(), Plan::Overlap).await)),
        ("overlap may begin", told(authority.may_overlap())),
        ("cut", told(cut(authority).await)),
        ("overlap", told(authority.begin_overlap(Source::Mint, 14, &by).await)),
        ("plan of an intermediate", told(authority.rotate_intermediate(question(true), &by).await)),
        ("intermediate", told(authority.rotate_intermediate(question(false), &by).await)),
        ("signing key", told(authority.rotate_signing_key(&by).await)),
    ]
}

#[tokio::test]
async fn while_an_update_is_applied_no_key_is_rotated() {
    let world = legacy();
    let authority = unhalted(&world).await;
    world.sql(&format!(
        "INSERT INTO update_under_way VALUES (1, '{PATH_LEN}', 'operator:test', '2027-01-01T00:00:00.000000+00:00')"
    ));
    for (rotation, (status, reason, text)) in rotations(&authority).await {
        assert_eq!((status, reason), (409, "update_under_way"), "{rotation}: {text}");
        assert!(text.contains(PATH_LEN), "{rotation}: {text}");
    }
    // Nobody applies it: the next round says so, and rotations begin again.
    authority.tidy_updates().await.unwrap();
    assert_eq!(world.count("SELECT count(*) FROM update_under_way"), 0);
    cut(&authority).await.unwrap();
}

#[tokio::test]
async fn while_a_rotation_is_open_no_update_is_applied_or_rolled_back() {
    for (rolls_back, phase) in [false, true]
        .into_iter()
        .flat_map(|way| ["staged", "distribute", "reissue", "activated"].map(|phase| (way, phase)))
    {
        let world = legacy();
        let authority = unhalted(&world).await;
        if rolls_back {
            authority.apply_update(PATH_LEN, Some("reissue"), &operator()).await.unwrap();
        }
        let rotation = authority.begin_overlap(Source::Mint, 14, &operator()).await.unwrap();
        world.sql(&format!("UPDATE pki_rotations SET phase = '{phase}'"));
        let answers = match rolls_back {
            false => [
                told(authority.plan_update(PATH_LEN, None)),
                told(authority.apply_update(PATH_LEN, Some("reissue"), &operator()).await),
            ],
            true => [
                told(authority.plan_roll_back(PATH_LEN)),
                told(authority.roll_back_update(PATH_LEN, &operator()).await),
            ],
        };
        for (status, reason, text) in answers {
            assert_eq!((status, reason), (409, "rotation_under_way"), "{phase}: {text}");
            assert!(text.contains(&rotation.id), "{phase}: {text}");
        }
        assert_eq!(world.count("SELECT count(*) FROM update_under_way"), 0);
    }
}

/// What begins in the midst of a unit, after everybody has looked, is seen by the unit itself.
#[tokio::test]
async fn what_begins_after_the_last_look_is_refused_by_the_unit() {
    const UPDATE: &str =
        "INSERT OR IGNORE INTO update_under_way VALUES (1, 'other', 'x', '2027-01-01T00:00:00Z')";
    let world = legacy();
    let authority = unhalted(&world).await;
    let sneaks = |event: &str, what: &str| {
        world.sql(&format!("DROP TRIGGER IF EXISTS sneak; CREATE TRIGGER sneak {event} BEGIN {what}; END"));
    };
    let rotation = format!(
        "INSERT INTO pki_rotations (id, mode, transition, phase, paused, compromise, old_root, new_root, started_by, \
         started_at, changed_at) VALUES ('sneaked', 'mint', 'overlap', 'distribute', 0, 0, '{0}', '{0}', 'x', \
         '2027-01-01T00:00:00Z', '2027-01-01T00:00:00Z')",
        authority.trust().root.thumbprint()
    );
    sneaks("BEFORE INSERT ON update_under_way", &rotation);
    let refused = authority.apply_update(PATH_LEN, Some("reissue"), &operator()).await;
    assert_eq!(reason(refused), (409, "update_raced"));

    sneaks("BEFORE UPDATE ON pki_cas", UPDATE);
    assert_eq!(reason(cut(&authority).await), (409, "contended"));
    sneaks("BEFORE UPDATE ON mastio_keys", UPDATE);
    assert_eq!(reason(authority.rotate_signing_key(&operator()).await), (409, "rotation_raced"));

    world.sql("DROP TRIGGER sneak");
    authority.apply_update(PATH_LEN, Some("reissue"), &operator()).await.unwrap();
    sneaks("BEFORE UPDATE ON pki_cas", UPDATE);
    let question = Question { dry_run: false, grace: GraceDays::FORTNIGHT, instead_of: None };
    let refused = authority.rotate_intermediate(question, &operator()).await;
    assert_eq!(reason(refused), (409, "rotation_raced"));
    sneaks("BEFORE UPDATE ON pending_updates", &rotation);
    assert_eq!(reason(authority.roll_back_update(PATH_LEN, &operator()).await), (409, "update_raced"));
    world.sql("DROP TRIGGER sneak");
    authority.roll_back_update(PATH_LEN, &operator()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_an_update_and_a_rotation_that_begin_at_once_one_wins() {
    for update_first in [true, false, true, false] {
        let world = legacy();
        let authority = unhalted(&world).await;
        let by = operator();
        // A new key takes long to make, and the overlap stays open: whoever begins second meets the other one.
        let update = authority.apply_update(PATH_LEN, Some("rekey"), &by);
        let overlap = authority.begin_overlap(Source::Mint, 14, &by);
        let (updated, begun) = match update_first {
            true => tokio::join!(update, overlap),
            false => {
                let (begun, updated) = tokio::join!(overlap, update);
                (updated, begun)
            }
        };
        match (updated, begun) {
            (Ok(_), refused @ Err(_)) => assert_eq!(reason(refused), (409, "update_under_way")),
            (refused @ Err(_), Ok(_)) => assert_eq!(reason(refused), (409, "rotation_under_way")),
            (updated, begun) => panic!("{updated:?} {begun:?}"),
        }
        leave(authority);
        world.boot(&[]).await.unwrap();
    }
}

/// The row of a migration is settled within a minute; whoever applies it before that must not rotate the new root away.
#[tokio::test]
async fn an_update_that_a_rotation_made_needless_changes_nothing() {
    let world = legacy();
    let authority = unhalted(&world).await;
    cut(&authority).await.unwrap();
    let root = authority.trust().root.clone();
    let plan = authority.plan_update(PATH_LEN, None).unwrap();
    assert!(plan.steps[0].starts_with("nothing"), "{plan:?}");
    let applied = authority.apply_update(PATH_LEN, None, &operator()).await.unwrap();
    assert_eq!((applied.strategy, applied.reissued_leaves), (None, 0));
    assert_eq!(authority.trust().root, root);
    assert_eq!(world.count("SELECT count(*) FROM migration_state_backups"), 0);
    assert_eq!([world.events("admin.update_not_needed"), world.events("admin.update_applied")], [1, 0]);
    assert_eq!(reason(authority.apply_update(PATH_LEN, None, &operator()).await), (409, "already_applied"));
}

/// While the rotation that made it needless can be taken back.
#[tokio::test]
async fn an_update_waits_again_when_the_rotation_that_repaired_the_same_is_aborted() {
    let world = legacy();
    let authority = unhalted(&world).await;
    let rotation = authority.begin_overlap(Source::Mint, 14, &operator()).await.unwrap();
    for phase in [Phase::Distribute, Phase::Reissue] {
        authority.advance_rotation(&rotation.id, Some(phase), true, &operator()).await.unwrap();
    }
    assert_eq!(authority.trust().root.path_len(), Some(1));
    assert_eq!(authority.trust().updates.waiting(), 0, "nobody has to do anything meanwhile");
    authority.tidy_updates().await.unwrap();
    leave(authority);
    let authority = world.boot(&[]).await.unwrap();
    authority.abort_rotation(&rotation.id, &operator()).await.unwrap();
    assert_eq!(authority.trust().root.path_len(), Some(0));
    assert_eq!(authority.trust().updates.waiting(), 1);
    authority.apply_update(PATH_LEN, Some("reissue"), &operator()).await.unwrap();
}

#[tokio::test]
async fn what_was_given_up_before_a_roll_back_vouches_for_the_root_of_now_or_is_not_shown() {
    for strategy in ["rekey", "reissue"] {
        let world = legacy();
        let authority = unhalted(&world).await;
        let (before, by) = (authority.trust().root.clone(), operator());
        authority.apply_update(PATH_LEN, Some(strategy), &by).await.unwrap();
        let id = authority.begin_overlap(Source::Mint, 14, &by).await.unwrap().id;
        for phase in [Phase::Distribute, Phase::Reissue] {
            authority.advance_rotation(&id, Some(phase), true, &by).await.unwrap();
        }
        authority.abort_rotation(&id, &by).await.unwrap();
        assert_eq!(authority.trust().cas.links().count(), 1, "of the root that was given up");
        authority.roll_back_update(PATH_LEN, &by).await.unwrap();
        let trust = authority.trust();
        assert_eq!(trust.root, before);
        let links: Vec<_> = trust.cas.links().map(Certificate::spki_der).collect();
        let of_now = if strategy == "reissue" { vec![before.spki_der()] } else { vec![] };
        assert_eq!(links, of_now, "{strategy}");
    }
}
