//! What operators write into `pending_updates` and beside it, as the documents have them do.

use mastio_authority::{Refusal as _, intermediate::Question, rotation::Source, signing_key::GraceDays};
use mastio_store::updates::Status;

use super::*;
use crate::rotation::{COMPROMISE, cut};

#[tokio::test]
async fn a_moment_that_cannot_be_read_stops_nothing() {
    for moment in ["date('now')", "strftime('%s', 'now')", "7", "x'ff'"] {
        let world = legacy();
        let (authority, holders) = halted(&world, &[], &["alice"]).await;
        authority.apply_update(PATH_LEN, Some("reissue"), &operator()).await.unwrap();
        world.sql(&format!(
            "UPDATE pending_updates SET detected_at = {moment}, applied_at = {moment}; \
             INSERT INTO pending_updates (migration_id, detected_at, status) VALUES ('2031-01-01-x', 'sometime', 'pending'); \
             UPDATE migration_state_backups SET created_at = {moment}"
        ));
        let listed = authority.updates().unwrap().remove(0);
        let row = listed.row.unwrap();
        assert_eq!((row.status, row.detected_at, row.applied_at), (Status::Applied, None, None), "{moment}");
        assert_eq!(listed.snapshot.unwrap().created_at, None);
        cut(&authority).await.unwrap();
        let refused = authority.certificate(&holders[0].peer()).await;
        assert!(refused.is_err(), "{moment}: the cut counts");
        leave(authority);
        world.boot(&[]).await.unwrap();
    }
}

#[tokio::test]
async fn a_word_that_is_none_of_ours_halts_and_is_told() {
    for word in ["'Pending'", "'rolled back'", "''", "7", "x'ff'"] {
        let world = legacy();
        let (authority, _) = halted(&world, &[], &["alice"]).await;
        world.sql(&format!("UPDATE pending_updates SET status = {word}"));
        authority.reload().unwrap();
        assert_eq!(halt(&authority), Some(Halt::PendingUpdate(PATH_LEN)), "{word}");
        let row = authority.updates().unwrap().remove(0).row.unwrap();
        assert_eq!(row.status, Status::Pending, "{word}");
        assert!(row.error.unwrap().contains("counts as pending"), "{word}");
        authority.apply_update(PATH_LEN, Some("reissue"), &operator()).await.unwrap();
        let row = authority.updates().unwrap().remove(0).row.unwrap();
        assert_eq!((row.status, row.error, halt(&authority)), (Status::Applied, None, None), "{word}");
    }
}

#[tokio::test]
async fn an_update_that_is_set_aside_while_it_is_applied_leaves_nothing() {
    for aside in [SET_ASIDE, "DELETE FROM pending_updates"] {
        let world = legacy();
        let (authority, _) = halted(&world, &[], &["alice"]).await;
        let root = authority.trust().root.clone();
        world
            .sql(&format!("CREATE TRIGGER sneak AFTER INSERT ON migration_state_backups BEGIN {aside}; END"));
        let refused = authority.apply_update(PATH_LEN, Some("reissue"), &operator()).await;
        assert_eq!(reason(refused), (409, "update_raced"), "{aside}");
        assert_eq!((&authority.trust().root, world.events("admin.update_apply_failed")), (&root, 0));
        assert_eq!(world.count("SELECT count(*) FROM update_under_way"), 0);
        assert_eq!(world.count("SELECT count(*) FROM migration_state_backups"), 0, "{aside}: it holds a key");
    }
}

#[tokio::test]
async fn a_way_back_without_its_row_is_told_of_the_row() {
    let world = legacy();
    let (authority, _) = halted(&world, &[], &[]).await;
    authority.apply_update(PATH_LEN, Some("reissue"), &operator()).await.unwrap();
    world.sql("CREATE TABLE kept AS SELECT * FROM pending_updates; DELETE FROM pending_updates");
    let refused = authority.roll_back_update(PATH_LEN, &operator()).await;
    assert!(refused.as_ref().unwrap_err().to_string().contains("put the row back"), "{refused:?}");
    assert_eq!(reason(refused), (409, "not_applied"));
    world.sql("INSERT INTO pending_updates SELECT * FROM kept");
    authority.roll_back_update(PATH_LEN, &operator()).await.unwrap();
}

const SNAPSHOTS: &str = "SELECT count(*) FROM migration_state_backups";

/// What somebody makes of a snapshot, or of the name that it has, without knowing.
const NO_TEXT: [&str; 6] = [
    "snapshot_json = CAST(snapshot_json AS BLOB)",
    "snapshot_json = x'ff00'",
    "snapshot_json = 7",
    "snapshot_json = NULL",
    "snapshot_json = CAST(x'7bff7d' AS TEXT)",
    "snapshot_json = CAST(snapshot_json AS BLOB), migration_id = CAST(migration_id AS BLOB)",
];

/// A Mastio that applied the update, whose snapshot cannot be read.
async fn spoilt(world: &World, change: &str) -> Arc<Authority> {
    let (authority, _) = halted(world, &[], &[]).await;
    // An older table may take everything everywhere.
    world.sql(
        "DROP TABLE migration_state_backups; \
         CREATE TABLE migration_state_backups (migration_id PRIMARY KEY, created_at, snapshot_json)",
    );
    authority.apply_update(PATH_LEN, Some("reissue"), &operator()).await.unwrap();
    world.sql(&format!("PRAGMA secure_delete = ON; UPDATE migration_state_backups SET {change}"));
    authority
}

#[tokio::test]
async fn a_snapshot_that_is_no_text_stops_no_rotation_and_goes_with_it() {
    let question = Question { dry_run: false, grace: GraceDays::FORTNIGHT, instead_of: None };
    for change in NO_TEXT {
        for rotates_root in [true, false] {
            let world = legacy();
            let authority = spoilt(&world, change).await;
            authority.updates().unwrap();
            match rotates_root {
                true => drop(authority.rotate_root(Source::Mint, COMPROMISE, &operator()).await.unwrap()),
                false => drop(authority.rotate_intermediate(question, &operator()).await.unwrap()),
            }
            assert_eq!(world.count(SNAPSHOTS), 0, "{change}");
            assert_eq!(world.events("admin.update_snapshot_wiped"), 1, "{change}");
            let in_use = !rotates_root;
            assert_eq!(snapshots::lies_anywhere(&world, &vector("root_key")), in_use, "{change}");
        }
    }
}

#[tokio::test]
async fn a_snapshot_that_is_no_text_is_treated_as_a_key_by_a_start() {
    for change in NO_TEXT {
        for (settings, sealed) in [(&[][..], false), (&[PASSPHRASE], true)] {
            let world = legacy();
            leave(spoilt(&world, change).await);
            let authority = world.boot(settings).await.unwrap();
            assert_eq!(world.count(SNAPSHOTS), 1, "{change}");
            assert_eq!(world.events("admin.update_snapshot_dated"), i64::from(!sealed), "{change}");
            assert!(!snapshots::lies_anywhere(&world, &vector("root_key")) || !sealed, "{change}");
            if let Some(kept) = authority.updates().unwrap()[0].snapshot {
                assert_eq!((kept.sealed, kept.wiped_after.is_none()), (sealed, sealed), "{change}");
                let refused = authority.roll_back_update(PATH_LEN, &operator()).await;
                assert_eq!(reason(refused), (409, "snapshot_unusable"), "{change}");
            }
            world.clock.advance(Duration::from_secs(14 * 86_400));
            authority.tidy_updates().await.unwrap();
            assert_eq!(world.count(SNAPSHOTS), i64::from(sealed), "{change}");
        }
    }
}

#[tokio::test]
async fn a_snapshot_that_is_no_text_is_wiped_by_its_name() {
    for change in NO_TEXT {
        let world = legacy();
        let authority = spoilt(&world, change).await;
        let name = match change.contains("migration_id") {
            true => world.text("SELECT quote(migration_id) FROM migration_state_backups"),
            false => PATH_LEN.to_owned(),
        };
        authority.wipe_snapshot(&name, &operator()).await.unwrap();
        assert_eq!(world.count(SNAPSHOTS), 0, "{change}");
        assert_eq!(authority.plan_roll_back(PATH_LEN).unwrap_err().reason(), "no_snapshot");
    }
}

#[tokio::test]
async fn a_row_that_names_no_migration_stops_nothing() {
    for id in ["CAST(migration_id AS BLOB)", "x'ff'", "7", "NULL", "CAST(x'ff' AS TEXT)"] {
        let world = legacy();
        let (authority, holders) = halted(&world, &[], &["alice"]).await;
        world.sql(&format!(
            "CREATE TABLE lax AS SELECT * FROM pending_updates; DROP TABLE pending_updates; \
             CREATE TABLE pending_updates (migration_id PRIMARY KEY, detected_at, status, applied_at, error); \
             INSERT INTO pending_updates SELECT * FROM lax; \
             INSERT INTO pending_updates SELECT {id}, NULL, NULL, x'ff', x'ff' FROM lax; DROP TABLE lax"
        ));
        assert_eq!(authority.updates().unwrap()[0].row.as_ref().unwrap().status, Status::Pending, "{id}");
        authority.apply_update(PATH_LEN, Some("reissue"), &operator()).await.unwrap();
        mint_mtls(&authority, &holders[0].peer()).await.unwrap();
        assert!(cut(&authority).await.unwrap().in_force, "{id}");
        authority.certificate(&holders[0].peer()).await.unwrap_err();
        leave(authority);
        let authority = world.boot(&[]).await.unwrap();
        assert_eq!(authority.updates().unwrap()[0].row.as_ref().unwrap().status, Status::Applied, "{id}");
    }
}
