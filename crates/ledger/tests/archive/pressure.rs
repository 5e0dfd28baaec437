//! A disk that fills up.

use mastio_ledger::archive::ArchiveError;

use crate::world::World;

/// Every disk is at least a percent full, counted upwards.
const FULL: (&str, &str) = ("MCP_PROXY_AUDIT_DISK_WARN_PERCENT", "1");

#[tokio::test]
async fn a_disk_that_fills_up_is_told_once_and_nothing_leaves_unasked() {
    let world = World::with(&[FULL]).await;
    world.day(20).await;
    world.day(20).await;
    assert!(!world.ledger.disk_is_low(), "not looked at yet");
    for _ in 0..3 {
        world.ledger.look_at_disk().await;
        assert!(world.ledger.disk_is_low());
    }
    assert_eq!(world.told("audit.disk_low"), 1);
    let metrics = &world.authority().metrics.disk;
    assert!(metrics.low.get() == 1 && metrics.used_ratio.get() > 0.0 && metrics.database_bytes.get() > 4096);
    assert!(world.ledger.run_archive().await.unwrap().is_none());
}

#[tokio::test]
async fn when_asked_to_old_entries_are_archived_and_not_again_within_the_hour() {
    let world = World::with(&[FULL, ("MCP_PROXY_AUDIT_AUTO_ARCHIVE_DAYS", "2")]).await;
    world.day(20).await;
    world.ledger.look_at_disk().await;
    assert!(world.ledger.run_archive().await.unwrap().is_none(), "nothing is that old");
    for _ in 0..3 {
        world.day(20).await;
    }
    world.ledger.look_at_disk().await;
    let job = world.ledger.run_archive().await.unwrap().unwrap();
    assert_eq!(job.by, "disk pressure");
    assert!(job.file.starts_with(world.dir.path().join("archive").to_str().unwrap()), "{}", job.file);
    let youngest = world.count("SELECT count(*) FROM local_audit WHERE ts < '2026-01-03'");
    assert_eq!(youngest, 0, "everything that old is gone");
    assert!(
        world.count("SELECT count(*) FROM local_audit WHERE ts < '2026-01-04'") >= 20,
        "nothing younger is"
    );
    world.verifies();

    world.ledger.look_at_disk().await;
    assert!(world.ledger.run_archive().await.unwrap().is_none());
    let nothing = world.ledger.begin_archive(world.wanted("2026-01-03")).await.unwrap_err();
    assert!(matches!(nothing, ArchiveError::Nothing(_)), "{nothing}");
}
