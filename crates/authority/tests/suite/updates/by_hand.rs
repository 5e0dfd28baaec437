//! What operators write into `pending_updates` and beside it, as the documents have them do.

use mastio_store::updates::Status;

use super::*;
use crate::rotation::cut;

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
