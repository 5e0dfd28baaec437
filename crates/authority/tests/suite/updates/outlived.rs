//! The key of a root goes with the last way in which that root could count again.

use mastio_authority::{intermediate::Question, rotation::Source, signing_key::GraceDays};
use mastio_core::Clock;
use mastio_store::rotations::Phase;

use super::*;
use crate::rotation::{COMPROMISE, CUT};

const SNAPSHOTS: &str = "SELECT count(*) FROM migration_state_backups";

/// A Mastio that applied the update, by `strategy`.
async fn repaired(world: &World, settings: &[(&str, &str)], strategy: &str) -> Arc<Authority> {
    let (authority, _) = halted(world, settings, &[]).await;
    authority.apply_update(PATH_LEN, Some(strategy), &operator()).await.unwrap();
    assert_eq!(world.count(SNAPSHOTS), 1);
    authority
}

/// That nothing is left of the snapshot, and the audit log says so.
fn is_wiped(world: &World, authority: &Authority) {
    assert_eq!(world.count(SNAPSHOTS), 0);
    assert_eq!(world.events("admin.update_snapshot_wiped"), 1);
    assert!(!snapshots::lies_anywhere(world, &vector("root_key")));
    let refused = authority.plan_roll_back(PATH_LEN).unwrap_err();
    assert_eq!(mastio_authority::Refusal::reason(&refused), "no_snapshot");
}

#[tokio::test]
async fn a_cut_wipes_the_snapshot_with_the_root() {
    let cuts = [
        (&[][..], "reissue", COMPROMISE),
        (&[], "rekey", CUT),
        (&[PASSPHRASE], "reissue", CUT),
        (&[PASSPHRASE], "rekey", COMPROMISE),
    ];
    for (settings, strategy, plan) in cuts {
        let world = legacy();
        let authority = repaired(&world, settings, strategy).await;
        authority.rotate_root(Source::Mint, plan, &operator()).await.unwrap();
        is_wiped(&world, &authority);
    }
}

#[tokio::test]
async fn a_cut_wipes_what_a_failed_attempt_kept() {
    let world = legacy();
    let authority = repaired(&world, &[], "rekey").await;
    world.sql("UPDATE pending_updates SET status = 'failed', error = 'by the test'");
    authority.rotate_root(Source::Mint, COMPROMISE, &operator()).await.unwrap();
    is_wiped(&world, &authority);
}

#[tokio::test]
async fn an_overlap_wipes_the_snapshot_with_its_last_step_and_with_a_cut_through_it() {
    for compromise in [false, true] {
        let world = legacy();
        let (authority, by) = (repaired(&world, &[], "reissue").await, operator());
        let rotation = authority.begin_overlap(Source::Mint, 14, &by).await.unwrap();
        for from in [Phase::Distribute, Phase::Reissue] {
            authority.advance_rotation(&rotation.id, Some(from), true, &by).await.unwrap();
        }
        assert_eq!(world.count(SNAPSHOTS), 1, "it can be aborted, and then taken back");
        match compromise {
            false => drop(
                authority.advance_rotation(&rotation.id, Some(Phase::Activated), true, &by).await.unwrap(),
            ),
            true => drop(authority.rotate_root(Source::Mint, COMPROMISE, &by).await.unwrap()),
        }
        is_wiped(&world, &authority);
    }
}

#[tokio::test]
async fn an_overlap_that_was_aborted_leaves_the_way_back() {
    let world = legacy();
    let (authority, by) = (repaired(&world, &[], "reissue").await, operator());
    let rotation = authority.begin_overlap(Source::Mint, 14, &by).await.unwrap();
    for from in [Phase::Distribute, Phase::Reissue] {
        authority.advance_rotation(&rotation.id, Some(from), true, &by).await.unwrap();
    }
    authority.abort_rotation(&rotation.id, &by).await.unwrap();
    authority.roll_back_update(PATH_LEN, &by).await.unwrap();
    assert_eq!(authority.trust().root.pem(), vector("root"));
}

#[tokio::test]
async fn another_intermediate_ends_the_way_back_only_from_another_key() {
    let question = Question { dry_run: false, grace: GraceDays::FORTNIGHT, instead_of: None };
    for (strategy, left) in [("reissue", 1), ("rekey", 0)] {
        let world = legacy();
        let authority = repaired(&world, &[], strategy).await;
        authority.rotate_intermediate(question, &operator()).await.unwrap();
        assert_eq!(world.count(SNAPSHOTS), left, "{strategy}");
        match left {
            0 => is_wiped(&world, &authority),
            _ => drop(authority.plan_roll_back(PATH_LEN).unwrap()),
        }
    }
}

/// The one of the overlap's root: those of before have their place again when it is aborted.
#[tokio::test]
async fn another_intermediate_within_an_overlap_leaves_the_way_back_that_an_abort_opens_again() {
    let question = Question { dry_run: false, grace: GraceDays::FORTNIGHT, instead_of: None };
    for strategy in ["reissue", "rekey"] {
        let world = legacy();
        let (authority, by) = (repaired(&world, &[], strategy).await, operator());
        let rotation = authority.begin_overlap(Source::Mint, 14, &by).await.unwrap();
        for from in [Phase::Distribute, Phase::Reissue] {
            authority.advance_rotation(&rotation.id, Some(from), true, &by).await.unwrap();
        }
        authority.rotate_intermediate(question, &by).await.unwrap();
        authority.abort_rotation(&rotation.id, &by).await.unwrap();
        authority.roll_back_update(PATH_LEN, &by).await.unwrap();
        assert_eq!(authority.trust().root.pem(), vector("root"), "{strategy}");
    }
}

#[tokio::test]
async fn a_root_that_has_ended_is_kept_in_no_snapshot() {
    let world = legacy();
    let authority = repaired(&world, &[PASSPHRASE], "rekey").await;
    let end = authority.trust().root.not_after();
    let left = end.unix() - world.clock.now().unix();
    world.clock.advance(Duration::from_secs(u64::try_from(left).unwrap()));
    authority.tidy_updates().await.unwrap();
    is_wiped(&world, &authority);
}
