//! Archived entries come back for a search, and go again.

use std::{fs, path::Path};

use mastio_core::OrgId;
use mastio_ledger::archive::{RestoreError, Series, SeriesError, drop_restored, restore};

use crate::world::World;

async fn bring_back(world: &World, file: &Path) -> Result<u64, RestoreError> {
    let mut seen = 0;
    let org = OrgId::parse("acme").unwrap();
    restore(world.authority().store(), &org, file, "operator:test", &mut |entries| seen = entries).await?;
    Ok(seen)
}

#[tokio::test]
async fn archived_entries_come_back_beside_the_log_and_only_once() {
    let world = World::new().await;
    world.day(1200).await;
    world.day(3).await;
    let job = world.archive("2026-01-02").await.unwrap();
    let kept = world.count("SELECT count(*) FROM local_audit");
    for _ in 0..2 {
        assert_eq!(bring_back(&world, Path::new(&job.file)).await.unwrap(), job.span.entries());
        assert_eq!(world.count("SELECT count(*) FROM restored_audit").unsigned_abs(), job.span.entries());
    }
    let deliveries = "SELECT count(*) FROM restored_audit WHERE event_type = 'oneshot_delivered'";
    assert_eq!(world.count(deliveries), 1200);
    assert_eq!(world.told("audit.archive_restored"), 2);
    assert_eq!(
        world.count("SELECT count(*) FROM local_audit"),
        kept + 2,
        "the log tells of it and is not touched"
    );
    world.verifies();

    let org = OrgId::parse("acme").unwrap();
    let dropped = drop_restored(world.authority().store(), &org, "operator:test").await.unwrap();
    assert_eq!((dropped, world.count("SELECT count(*) FROM restored_audit")), (job.span.entries(), 0));
}

#[tokio::test]
async fn an_archive_of_another_log_or_a_changed_one_does_not_come_back() {
    let world = World::new().await;
    world.day(20).await;
    let job = world.archive("2026-01-02").await.unwrap();
    let other = World::new().await;
    other.day(20).await;
    let foreign = other.archive("2026-01-02").await.unwrap();
    let error = bring_back(&world, Path::new(&foreign.file)).await.unwrap_err();
    assert!(matches!(error, RestoreError::Foreign { .. }), "{error}");

    let mut bytes = fs::read(&job.file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&job.file, bytes).unwrap();
    let error = bring_back(&world, Path::new(&job.file)).await.unwrap_err();
    assert!(matches!(error, RestoreError::Segment { .. }), "{error}");
    assert_eq!(world.count("SELECT count(*) FROM restored_audit"), 0);
}

#[tokio::test]
async fn the_same_entries_in_another_file_are_not_what_was_archived() {
    let world = World::new().await;
    world.day(20).await;
    let job = world.archive("2026-01-02").await.unwrap();
    let leads = |marks: &[_]| Series::verify(&[world.out()], &mut |_, _| {}).unwrap().leads_to(marks);
    let marks = world.marks().await;
    leads(&marks).unwrap();
    let mut bytes = fs::read(&job.file).unwrap();
    // The time in the header of gzip.
    bytes[4] ^= 1;
    fs::write(&job.file, bytes).unwrap();
    let error = bring_back(&world, Path::new(&job.file)).await.unwrap_err();
    assert!(matches!(error, RestoreError::OtherFile { .. }), "{error}");
    assert_eq!(world.count("SELECT count(*) FROM restored_audit"), 0);
    let error = leads(&marks).unwrap_err();
    assert!(matches!(error, SeriesError::OtherFile { .. }), "{error}");
}
