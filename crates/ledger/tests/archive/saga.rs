//! From the plan to the last deleted row, also when the process dies on the way.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use mastio_ledger::archive::{ArchiveError, Series, SeriesError, Step};

use crate::world::World;

#[tokio::test]
async fn old_entries_leave_for_a_file_and_the_log_goes_on_behind_them() {
    let world = World::new().await;
    world.day(1200).await;
    world.day(3).await;
    let (before, last) = (world.verifies().head, world.count("SELECT max(chain_seq) FROM local_audit"));

    let job = world.archive("2026-01-02").await.unwrap();
    let stays = world.count("SELECT min(chain_seq) FROM local_audit");
    assert_eq!((job.span.first, job.span.last), (1, stays - 1));
    assert!(stays > 1200 && stays <= last - 2, "{stays} of {last}");
    let [mark] = world.marks().await.try_into().unwrap();
    assert_eq!((mark.span, mark.file.as_str()), (job.span, job.file.as_str()));
    let permissions = fs::metadata(&mark.file).unwrap().permissions();
    assert_eq!(permissions.mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(world.out()).unwrap().count(), 1, "nothing but the archive");

    let report = world.verifies();
    assert_eq!(report.first_seq, Some(stays.unsigned_abs()));
    assert!(report.head.seq > before.seq);
    let told = world.events_from(last + 1);
    for event in ["audit.archive_started", "audit.archived", "audit.archive_completed"] {
        assert!(told.iter().any(|told| told == event), "{event} is not in {told:?}");
    }
    let refused = world.database().execute_batch("DELETE FROM local_audit").unwrap_err().to_string();
    assert!(refused.contains("cullis-proxy audit archive"), "{refused}");
}

#[tokio::test]
async fn archives_follow_each_other_and_the_newest_entry_always_stays() {
    let world = World::new().await;
    world.day(10).await;
    let first = world.archive("2026-01-02").await.unwrap();
    world.day(10).await;
    let second = world.archive("2027-01-01").await.unwrap();
    assert_eq!(second.span.first, first.span.last + 1);
    let marks = world.marks().await;
    let [one, two] = marks.clone().try_into().unwrap();
    assert_eq!(two.span, second.span);
    assert_ne!(one.head_hash, two.head_hash);
    let series = Series::verify(&[world.out()], &mut |_, _| {}).unwrap();
    let spans: Vec<_> = series.archives.iter().map(|(_, segment)| segment.span).collect();
    assert_eq!(spans, [one.span, two.span]);
    series.leads_to(&marks).unwrap();
    let lost = series.leads_to(std::slice::from_ref(&one)).unwrap_err().to_string();
    assert!(lost.contains("belong to the database that was lost"), "{lost}");
    assert!(matches!(series.leads_to(&[]).unwrap_err(), SeriesError::Untold { .. }));
    // The oldest is elsewhere: what is left is one chain by itself.
    let aside = world.out().join("2026");
    fs::create_dir(&aside).unwrap();
    let moved = aside.join(Path::new(&one.file).file_name().unwrap());
    fs::rename(&one.file, &moved).unwrap();
    let both = [world.out(), aside.clone()];
    Series::verify(&both, &mut |_, _| {}).unwrap().leads_to(&marks).unwrap();
    Series::verify(&[world.out()], &mut |_, _| {}).unwrap().leads_to(&marks).unwrap();
    fs::rename(&moved, world.dir.path().join("gone")).unwrap();
    let missing = Series::verify(&[world.out()], &mut |_, _| {}).unwrap().leads_to(&marks).unwrap_err();
    assert_eq!(
        missing.to_string(),
        format!("entries 1 to {} are missing: the log tells that they went to {}", one.span.last, one.file)
    );
    let left = world.verifies();
    assert_eq!(left.first_seq, Some((second.span.last + 1).unsigned_abs()));

    let error = world.ledger.begin_archive(world.wanted("2026-01-01")).await.unwrap_err();
    assert!(matches!(error, ArchiveError::Nothing(_)), "{error}");
    let world = world.restarted().await;
    world.day(1).await;
    assert_eq!(world.verifies().first_seq, left.first_seq);
}

#[tokio::test]
async fn archives_of_which_one_is_gone_or_foreign_are_no_chain() {
    let world = World::new().await;
    let mut files = Vec::new();
    for day in 2..5 {
        world.day(10).await;
        files.push(world.archive(&format!("2026-01-0{day}")).await.unwrap().file);
    }
    let aside = world.dir.path().join("aside");
    fs::rename(&files[1], &aside).unwrap();
    let broken = Series::verify(&[world.out()], &mut |_, _| {}).unwrap_err();
    assert!(matches!(broken, SeriesError::Link { .. }), "{broken}");

    let other = World::new().await;
    other.day(11).await;
    other.day(10).await;
    fs::rename(other.archive("2026-01-03").await.unwrap().file, &files[1]).unwrap();
    let broken = Series::verify(&[world.out()], &mut |_, _| {}).unwrap_err();
    assert!(matches!(broken, SeriesError::Link { .. }), "{broken}");

    fs::rename(&aside, &files[1]).unwrap();
    Series::verify(&[world.out()], &mut |_, _| {}).unwrap();
}

#[tokio::test]
async fn an_archive_that_was_cut_off_is_carried_on_by_the_next_start() {
    for step in [Step::Writing, Step::Marking, Step::Deleting] {
        let world = World::new().await;
        world.day(1200).await;
        world.day(3).await;
        let head = world.verifies().head.seq;
        let job = world.ledger.begin_archive(world.wanted("2026-01-02")).await.unwrap();

        let mut progress = world.ledger.archive_progress();
        let ledger = world.ledger.clone();
        let run = tokio::spawn(async move { ledger.run_archive().await });
        // Of the deletion, the second chunk: some entries are gone, some are not.
        progress
            .wait_for(|now| {
                now.as_ref().is_some_and(|now| now.step == step && (step < Step::Deleting || now.done > 0))
            })
            .await
            .unwrap();
        run.abort();
        assert!(run.await.unwrap_err().is_cancelled(), "cut off at {step:?}");
        drop(progress);
        let world = world.restarted().await;

        let (under_way, marks) = world.ledger.archives().await.unwrap();
        assert_eq!(under_way.map(|now| now.span), Some(job.span), "{step:?}");
        assert_eq!(marks.len(), usize::from(step == Step::Deleting), "{step:?}");
        let rows = world.count("SELECT count(*) FROM local_audit").unsigned_abs();
        assert_eq!(rows >= head, step < Step::Deleting, "{step:?}: {rows} of {head}");
        world.verifies();
        let error = world.ledger.begin_archive(world.wanted("2026-01-02")).await.unwrap_err();
        match step {
            Step::Deleting => {
                assert!(matches!(error, ArchiveError::UnderWay | ArchiveError::Nothing(_)), "{error}");
            }
            _ => assert!(matches!(error, ArchiveError::UnderWay), "{error}"),
        }

        world.ledger.run_archive().await.unwrap().unwrap();
        assert_eq!(world.count("SELECT min(chain_seq) FROM local_audit"), job.span.last + 1, "{step:?}");
        assert!(Path::new(&job.file).exists());
        assert_eq!(fs::read_dir(world.out()).unwrap().count(), 1, "{step:?}");
        for event in ["audit.archive_started", "audit.archived", "audit.archive_completed"] {
            assert_eq!(world.told(event), 1, "{step:?}: {event}");
        }
        world.verifies();
        assert!(world.ledger.run_archive().await.unwrap().is_none());
    }
}
