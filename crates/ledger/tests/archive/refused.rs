//! What is not archived, and that nothing is lost by it.

use std::fs;

use mastio_ledger::archive::ArchiveError;

use crate::world::World;

/// Nothing left the log, and it can be archived when the cause is gone.
async fn was_given_up(world: &World, before: i64) {
    assert_eq!(world.count("SELECT min(chain_seq) FROM local_audit"), 1);
    assert!(world.count("SELECT count(*) FROM local_audit") > before);
    let (under_way, marks) = world.ledger.archives().await.unwrap();
    assert!(under_way.is_none() && marks.is_empty());
    assert_eq!(world.told("audit.archive_failed"), 1);
}

#[tokio::test]
async fn a_file_of_somebody_else_is_not_touched() {
    let world = World::new().await;
    world.day(20).await;
    let before = world.count("SELECT count(*) FROM local_audit");
    let job = world.ledger.begin_archive(world.wanted("2026-01-02")).await.unwrap();
    fs::write(&job.file, "a diary").unwrap();
    let error = world.ledger.run_archive().await.unwrap_err();
    assert!(matches!(error, ArchiveError::FileTaken(_)), "{error}");
    assert_eq!(fs::read_to_string(&job.file).unwrap(), "a diary");
    was_given_up(&world, before).await;

    fs::remove_file(&job.file).unwrap();
    world.archive("2026-01-02").await.unwrap();
    world.verifies();
}

#[tokio::test]
async fn a_folder_that_is_gone_ends_the_archive_and_nothing_else() {
    let world = World::new().await;
    world.day(20).await;
    let before = world.count("SELECT count(*) FROM local_audit");
    world.ledger.begin_archive(world.wanted("2026-01-02")).await.unwrap();
    fs::remove_dir_all(world.out()).unwrap();
    let error = world.ledger.run_archive().await.unwrap_err();
    assert!(matches!(error, ArchiveError::Io { .. }), "{error}");
    was_given_up(&world, before).await;
}

#[tokio::test]
async fn entries_that_do_not_hold_are_not_archived() {
    let world = World::new().await;
    world.day(20).await;
    let before = world.count("SELECT count(*) FROM local_audit");
    world.tamper("UPDATE local_audit SET agent_id = 'acme::mallory' WHERE chain_seq = 5");
    let error = world.archive("2026-01-02").await.unwrap_err();
    assert!(matches!(error, ArchiveError::Segment(_)), "{error}");
    assert_eq!(fs::read_dir(world.out()).unwrap().count(), 0, "the file that does not verify is gone");
    was_given_up(&world, before).await;
}

#[tokio::test]
async fn a_log_without_its_beginning_is_not_made_whole_by_archiving_the_rest() {
    let world = World::new().await;
    world.day(20).await;
    world.tamper("DELETE FROM local_audit WHERE chain_seq <= 3");
    let error = world.archive("2026-01-02").await.unwrap_err();
    assert!(matches!(error, ArchiveError::Gap(1)), "{error}");
    assert_eq!(world.told("audit.archive_started"), 0);
}

#[tokio::test]
async fn a_job_that_nobody_marked_deletes_nothing_and_ends() {
    let world = World::new().await;
    world.day(20).await;
    let job = world.archive("2026-01-02").await.unwrap();
    world.day(5).await;
    let before = world.count("SELECT count(*) FROM local_audit");
    let last = job.span.last;
    for (first_seq, last_seq, file) in
        [(1, last + 3, &*job.file), (1, last, "/elsewhere"), (last + 1, last + 9, "")]
    {
        world
            .database()
            .execute(
                "INSERT INTO audit_archive_job (id, phase, first_seq, last_seq, file, operator, started_at) \
                 VALUES (1, 'deleting', ?1, ?2, ?3, 'mallory', '2026-01-02T00:00:00Z')",
                (first_seq, last_seq, file),
            )
            .unwrap();
        let error = world.ledger.run_archive().await.unwrap_err();
        assert!(matches!(error, ArchiveError::Unmarked(_)), "{error}");
    }
    assert_eq!((world.told("audit.archive_failed"), world.told("audit.archive_completed")), (3, 1));
    assert_eq!(world.count("SELECT count(*) FROM local_audit"), before + 3);
    world.archive("2026-01-03").await.unwrap();
    world.verifies();
}
