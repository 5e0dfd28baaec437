//! Old entries leave the log for a file that proves as much (design decision 19, contract `audit-and-database.md` §1.11).
//!
//! A saga: its row in `audit_archive_job` says how far it got, and every step can be repeated. The file is written under
//! a temporary name and verified, then it gets its place; mark and `audit.archived` are one unit; the entries go in
//! chunks. Whoever holds the database as its server carries on with what was begun, by itself or by a tool. Until the
//! mark is set nothing has left the log.

mod error;
mod file;
mod restore;
pub mod segment;
mod series;

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use mastio_core::{Event, OrgId, Stamp, event::catalogue};
use mastio_store::{
    Unit, WriteError,
    audit::{
        archive::{self, Job, Mark, Phase, Span},
        told_breaks,
    },
    sqlite::Database,
};
use tokio::sync::{Notify, watch};

pub use error::{ArchiveError, RestoreError};
pub use restore::{drop_restored, restore};
pub use series::{Series, SeriesError};

use self::{
    file::{Called, Draft, Output},
    segment::Segment,
};
use crate::{Ledger, disk::Space, rewind};

/// How many entries one unit deletes: so few that requests do not wait long for the writer.
const CHUNK: i64 = 500;
/// How often a server looks for an archive that a tool has begun.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long it waits after a failure that may pass.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// What an archive needs at least, whatever it holds.
const SMALLEST: u64 = 1 << 20;

/// An archive that somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Entries from before this go.
    pub before: Stamp,
    /// The folder for the file.
    pub out: PathBuf,
    /// Who asks.
    pub by: String,
}

/// What an archive is at, and how much of that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The archive.
    pub job: Job,
    /// What it is at.
    pub step: Step,
    /// How many of its entries went through this step.
    pub done: u64,
}

/// A step of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The file is written and verified.
    Writing,
    /// The file is in its place; the mark is about to be set.
    Marking,
    /// The entries are deleted.
    Deleting,
}

impl Step {
    /// Its name for operators.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Writing => "writing",
            Self::Marking => "marking",
            Self::Deleting => "deleting",
        }
    }
}

/// What this process knows about archives.
#[derive(Debug, Default)]
pub struct Archives {
    begun: Notify,
    progress: watch::Sender<Option<Progress>>,
}

/// Plans what is `wanted`: the archive, and the unit that begins it. That may be committed by a tool beside the server
/// which then makes it.
///
/// # Errors
/// When there is nothing to archive or no room for it. One that is under way rejects the unit.
pub fn plan(
    database: &Database,
    org: &OrgId,
    wanted: &Wanted,
    now: Stamp,
) -> Result<(Job, Unit), ArchiveError> {
    require_intact(database, org)?;
    let span = archive::due(database, org, wanted.before)?.ok_or(ArchiveError::Nothing(wanted.before))?;
    if archive::oldest(database, org, span.first)? != Some(span.first) {
        return Err(ArchiveError::Gap(span.first));
    }
    let out = std::path::absolute(&wanted.out).map_err(|source| io_error(&wanted.out, source))?;
    file::make_folder(&out).map_err(|source| io_error(&out, source))?;
    require_space(database, org, span, &out)?;
    let file = out.join(file::name(org, span)).display().to_string();
    let job = Job { phase: Phase::Writing, span, file, by: wanted.by.clone(), started_at: now };
    let event = catalogue::ArchiveStarted {
        first_seq: span.first,
        last_seq: span.last,
        file: job.file.clone(),
        by: job.by.clone(),
    };
    let unit = Unit::of(Event::new(&event)).write(job.begin());
    Ok((job, unit))
}

/// What is wrong with the log must stay to be looked at: nothing leaves it until that is settled.
fn require_intact(database: &Database, org: &OrgId) -> Result<(), ArchiveError> {
    if rewind::is_told(database)? {
        return Err(ArchiveError::RolledBack);
    }
    match told_breaks(database)?.into_iter().find(|told| told.chain == org.as_str()) {
        Some(told) => Err(ArchiveError::Broken(told.seq)),
        None => Ok(()),
    }
}

/// Compressed, entries take less than a third of what they take in the database; half of it leaves a margin.
fn require_space(database: &Database, org: &OrgId, span: Span, folder: &Path) -> Result<(), ArchiveError> {
    let needed = archive::stored_bytes(database, org, span)? / 2 + SMALLEST;
    let space = Space::of(folder).map_err(|source| io_error(folder, source))?;
    if space.available < needed {
        let (available, folder) = (space.available, folder.to_owned());
        return Err(ArchiveError::NoSpace { needed, available, folder });
    }
    Ok(())
}

impl Ledger {
    /// Begins the archive that is `wanted` and returns; [`Ledger::keep_archive`] carries it out.
    ///
    /// # Errors
    /// When there is nothing to archive, no room for it, or another one under way.
    pub async fn begin_archive(&self, wanted: Wanted) -> Result<Job, ArchiveError> {
        let (org, now) = (self.authority.trust().org.clone(), self.authority.clock().now());
        if self.is_rolled_back() {
            return Err(ArchiveError::RolledBack);
        }
        let planned = self.reading(move |database| plan(database, &org, &wanted, now)).await?;
        let (job, unit) = planned;
        match self.authority.commit(unit).await {
            Err(WriteError::Rejected(_)) => return Err(ArchiveError::UnderWay),
            committed => committed?,
        };
        self.log.archives.begun.notify_one();
        Ok(job)
    }

    /// Carries on with the archive that was begun, to its end. Returns it; `None` if there was none.
    ///
    /// # Errors
    /// When it is given up, before anything left the log. After an [`ArchiveError::Outage`] it can be carried on later.
    pub async fn run_archive(&self) -> Result<Option<Job>, ArchiveError> {
        let Some(mut job) = archive::job(self.authority.store().database())? else { return Ok(None) };
        if job.phase == Phase::Writing {
            match self.write_and_mark(&job).await {
                Ok(()) => job.phase = Phase::Deleting,
                Err(error) if error.may_pass() => return Err(error),
                Err(error) => {
                    self.give_up(&job, &error).await?;
                    return Err(error);
                }
            }
        } else {
            self.require_covered(&job).await?;
            if !self.is_marked(&job)? {
                let error = ArchiveError::Unmarked(job.span);
                self.give_up(&job, &error).await?;
                return Err(error);
            }
        }
        let deleted = self.delete(&job).await;
        self.log.archives.progress.send_replace(None);
        deleted.map(|()| Some(job))
    }

    /// Carries out what was begun, by whomever, until the server stops. What is under way then goes on at the next start.
    pub async fn keep_archive(&self, mut stopping: watch::Receiver<bool>) {
        loop {
            let run = tokio::select! {
                run = self.run_archive() => run,
                _ = stopping.wait_for(|stop| *stop) => return,
            };
            let pause = match run {
                Ok(_) => LOOK_EVERY,
                Err(error) => {
                    tracing::error!("an archive of the audit log: {error}");
                    RETRY_AFTER
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.log.archives.begun.notified() => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// What the archive under way in this process is at.
    #[must_use]
    pub fn archive_progress(&self) -> watch::Receiver<Option<Progress>> {
        self.log.archives.progress.subscribe()
    }

    /// The archive under way, whoever makes it, and those that were made, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn archives(&self) -> Result<(Option<Job>, Vec<Mark>), ArchiveError> {
        let org = self.authority.trust().org.clone();
        let read = move |database: &Database| Ok((archive::job(database)?, archive::marks(database, &org)?));
        self.reading(read).await
    }

    /// That nothing is wrong with the log, and a checkpoint covers what goes.
    async fn require_covered(&self, job: &Job) -> Result<(), ArchiveError> {
        let org = self.authority.trust().org.clone();
        self.reading(move |database| require_intact(database, &org)).await?;
        // None is signed without a look at what was published before.
        self.checkpoint_now().await?;
        self.checkpoint_covering(job.span.last.unsigned_abs()).await?;
        Ok(())
    }

    async fn write_and_mark(&self, job: &Job) -> Result<(), ArchiveError> {
        self.at(job, Step::Writing, 0).await;
        self.require_covered(job).await?;
        let segment = self.write(job).await?;
        self.at(job, Step::Marking, 0).await;
        let (org, now) = (self.authority.trust().org.clone(), self.authority.clock().now());
        let event = catalogue::Archived {
            first_seq: job.span.first,
            last_seq: job.span.last,
            first_hash: hex::encode(segment.first_hash),
            last_hash: hex::encode(segment.last_hash),
            bundle_sha256: hex::encode(segment.sha256),
            file: job.file.clone(),
            by: job.by.clone(),
        };
        let mark = job.mark(&org, &hex::encode(segment.last_hash), &hex::encode(segment.sha256), now);
        match self.authority.commit(Unit::of(Event::new(&event)).write_all(mark)).await {
            Err(WriteError::Rejected(rejection)) => return Err(ArchiveError::Mark(rejection.to_string())),
            committed => committed?,
        };
        // So that what is published soon tells of the archive. A checkpoint over what goes is there already.
        if let Err(error) = self.checkpoint_now().await {
            tracing::warn!(%error, "no checkpoint covers the archive's mark yet");
        }
        Ok(())
    }

    /// Writes and verifies the file, unless an attempt before put it into its place already.
    async fn write(&self, job: &Job) -> Result<Segment, ArchiveError> {
        let called = Called::default();
        let _off = called.off_on_drop();
        let (org, span, target) = (self.authority.trust().org.clone(), job.span, PathBuf::from(&job.file));
        let begin = {
            let (target, called) = (target.clone(), called.clone());
            move |database: &Database| begin_file(database, &org, span, &target, &called)
        };
        let (draft, file) = match self.reading(begin).await? {
            Begun::There(segment) => return Ok(segment),
            Begun::Draft(draft, file) => (draft, file),
        };
        let path = draft.path.clone();
        let written = match segment::write(self, span, Output { file, called: called.clone() }).await {
            Ok(()) => self.reading(move |_| Ok(segment::verify(&path, &called)?)).await,
            Err(error) => Err(error.into()),
        };
        let put = move |_: &Database| match written {
            Ok(segment) if segment.span == span => draft.put_into_place().map(|()| Ok(segment)),
            written => draft.discard().map(|()| Err(written.err().unwrap_or(ArchiveError::OtherSpan(span)))),
        };
        self.reading(move |database| put(database).map_err(|source| io_error(&target, source))?).await
    }

    /// Whether its entries may go: the mark of exactly this archive is set.
    fn is_marked(&self, job: &Job) -> Result<bool, ArchiveError> {
        let marks = archive::marks(self.authority.store().database(), &self.authority.trust().org)?;
        Ok(marks.iter().any(|mark| mark.span == job.span && mark.file == job.file))
    }

    async fn delete(&self, job: &Job) -> Result<(), ArchiveError> {
        let (database, org) = (self.authority.store().database(), self.authority.trust().org.clone());
        let Span { first, last } = job.span;
        while let Some(oldest) = archive::oldest(database, &org, first)?.filter(|oldest| *oldest <= last) {
            self.at(job, Step::Deleting, (oldest - first).unsigned_abs()).await;
            let chunk = Span { first: oldest, last: last.min(oldest + CHUNK - 1) };
            self.authority.commit(Unit::default().write_all(archive::remove(&org, chunk))).await?;
        }
        let done = catalogue::ArchiveCompleted { first_seq: first, last_seq: last, file: job.file.clone() };
        self.authority.commit(Unit::of(Event::new(&done)).write(job.end())).await?;
        Ok(())
    }

    async fn give_up(&self, job: &Job, error: &ArchiveError) -> Result<(), ArchiveError> {
        self.log.archives.progress.send_replace(None);
        let event = catalogue::ArchiveFailed {
            first_seq: job.span.first,
            last_seq: job.span.last,
            file: job.file.clone(),
            problem: error.to_string(),
        };
        self.authority.commit(Unit::of(Event::new(&event)).write(job.end())).await?;
        Ok(())
    }

    /// Shows where `job` is, and lets those look who wait for it.
    async fn at(&self, job: &Job, step: Step, done: u64) {
        self.log.archives.progress.send_replace(Some(Progress { job: job.clone(), step, done }));
        tokio::task::yield_now().await;
    }
}

/// What there is to write into.
enum Begun {
    /// Nothing: the file is there and holds the same.
    There(Segment),
    Draft(Draft, File),
}

fn begin_file(
    database: &Database,
    org: &OrgId,
    span: Span,
    target: &Path,
    called: &Called,
) -> Result<Begun, ArchiveError> {
    if target.try_exists().map_err(|source| io_error(target, source))? {
        return match segment::verify(target, called) {
            Ok(segment) if segment.span == span => Ok(Begun::There(segment)),
            _ => Err(ArchiveError::FileTaken(target.to_owned())),
        };
    }
    let folder = target.parent().unwrap_or(Path::new("/"));
    require_space(database, org, span, folder)?;
    let (draft, file) = Draft::create(target).map_err(|source| io_error(target, source))?;
    Ok(Begun::Draft(draft, file))
}

fn io_error(path: &Path, source: io::Error) -> ArchiveError {
    ArchiveError::Io { path: path.to_owned(), source }
}
