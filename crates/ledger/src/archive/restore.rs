//! Archived entries come back for a search, into a table of their own.

use std::{path::Path, sync::Arc};

use mastio_authority::Outage;
use mastio_core::{Event, OrgId, event::catalogue};
use mastio_store::{
    Store, Unit,
    audit::{archive, restored},
};
use tokio::sync::mpsc;

use super::{
    RestoreError,
    file::Called,
    segment::{self, Segment},
};

/// How many entries one unit brings back.
const CHUNK: usize = 500;
/// How many units are read ahead of the writer.
const AHEAD: usize = 2;

/// Brings the entries of the archive `file` back for a search, as `by` asks. It must verify and be one of this log's.
/// Bringing the same one back again changes nothing. `progress` is told how many entries there are so far.
///
/// # Errors
/// When it does not verify, or belongs to another log.
pub async fn restore(
    store: &Store,
    org: &OrgId,
    file: &Path,
    by: &str,
    progress: &mut dyn FnMut(u64),
) -> Result<Segment, RestoreError> {
    if archive::job(store.database())?.is_some() {
        return Err(RestoreError::UnderWay);
    }
    let wrong = |source| RestoreError::Segment { file: file.to_owned(), source };
    let segment = segment::verify(file, &Called::default()).map_err(wrong)?;
    let head_hash = hex::encode(segment.last_hash);
    let marks = archive::marks(store.database(), org)?;
    let mut of_it = marks.iter().filter(|mark| mark.span == segment.span && mark.head_hash == head_hash);
    let Some(mark) = of_it.next().filter(|_| segment.org == org.as_str()) else {
        return Err(RestoreError::Foreign { file: file.to_owned(), last: segment.span.last });
    };
    if mark.bundle_sha256 != hex::encode(segment.sha256) {
        return Err(RestoreError::OtherFile { file: file.to_owned(), marked: mark.bundle_sha256.clone() });
    }
    let (units, mut read) = mpsc::channel(AHEAD);
    let path = Arc::<Path>::from(file);
    let reading = tokio::task::spawn_blocking(move || {
        let mut unit = Unit::default();
        segment::walk(&path, &Called::default(), &mut |row| {
            unit.statements.push(restored::add(row));
            if unit.statements.len() == CHUNK {
                // Nobody takes them any more: the failure is the other end's.
                let _ = units.blocking_send(std::mem::take(&mut unit));
            }
        })?;
        let _ = units.blocking_send(unit);
        Ok(())
    });
    let mut done = 0;
    while let Some(unit) = read.recv().await {
        done += unit.statements.len() as u64;
        store.submit(unit).await?;
        progress(done);
    }
    reading.await.map_err(Outage::internal)?.map_err(wrong)?;
    let event = catalogue::ArchiveRestored {
        first_seq: segment.span.first,
        last_seq: segment.span.last,
        bundle_sha256: hex::encode(segment.sha256),
        by: by.to_owned(),
    };
    store.submit(Unit::of(Event::new(&event))).await?;
    Ok(segment)
}

/// Drops all entries that were brought back, and says how many of this log's chain there were.
///
/// # Errors
/// When the database does not answer.
pub async fn drop_restored(store: &Store, org: &OrgId, by: &str) -> Result<u64, RestoreError> {
    let entries = restored::count(store.database(), org)?;
    let event = catalogue::RestoredDropped { entries, by: by.to_owned() };
    store.submit(Unit::of(Event::new(&event)).write(restored::drop_all())).await?;
    Ok(entries)
}
