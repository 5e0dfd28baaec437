//! Whether the log is behind what it published: an older copy of the database was put back, or history was rewritten
//! (design decision 18).
//!
//! The newest checkpoint is kept where a restore does not reach: in the file beside the database, and at witnesses. If
//! the tree is smaller than one of them or has another root at its size, no checkpoint is signed under that origin any
//! more; everything else is served. `mastio audit accept-restore` begins the next origin.

pub mod accept;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use mastio_audit::tree::{Tree, TreeError, TreeHead};
use mastio_authority::Outage;
use mastio_core::{Event, OrgId, event::catalogue};
use mastio_store::{
    ReadError, Statement, Touch, Unit,
    audit::{checkpoints, origins::OriginRow, tree::StoredTiles},
    config, crl,
    sqlite::Database,
};

use crate::{
    Ledger,
    checkpoint_file::{self, CheckpointFile, Known},
    checkpoints::CheckpointError,
    leaves::{LeafError, Leaves},
    log_key::LogKey,
};

/// Under which of our own names it is kept which rewind was told.
const TOLD: &str = "audit_rolled_back";

/// How the log contradicts a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It has fewer entries.
    Behind,
    /// It has other entries.
    Rewritten,
    /// The checkpoint is of this log, but of a key that the database does not know.
    UnknownKey,
}

impl Reason {
    /// A stable word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Behind => "behind",
            Self::Rewritten => "rewritten",
            Self::UnknownKey => "unknown_key",
        }
    }
}

/// A checkpoint that the log published and that its database contradicts.
#[derive(Debug, Clone)]
pub struct Rewind {
    /// How.
    pub reason: Reason,
    /// The checkpoint.
    pub known: Known,
    /// Who has it: the file's name, or a witness.
    pub seen_in: String,
    /// How many entries the tree had when this was found.
    pub entries: u64,
}

/// The rewind that was found, until it is accepted.
#[derive(Debug, Default)]
pub(crate) struct RewindCell(ArcSwapOption<Rewind>);

impl RewindCell {
    pub(crate) fn is_clear(&self) -> bool {
        self.0.load().is_none()
    }
}

/// Compares the tree of `size` leaves with a checkpoint that was published. `None`: the one continues the other, or the
/// checkpoint is of another log or of a generation that is over.
///
/// # Errors
/// When the tree cannot be read.
pub fn judge(
    database: &Database,
    key: &LogKey,
    size: u64,
    known: &Known,
) -> Result<Option<Reason>, TreeError<ReadError>> {
    let said = known.note.unverified();
    match key.generation_of(&said.origin) {
        None => return Ok(None),
        Some(generation) if generation < key.generation => return Ok(None),
        Some(generation) if generation > key.generation => {
            return Ok(is_next_at_most(key, generation).then_some(Reason::UnknownKey));
        }
        Some(_) => {}
    }
    if known.note.verify(key.vkey()).is_err() {
        return Ok(Some(Reason::UnknownKey));
    }
    if said.head.size > size {
        return Ok(Some(Reason::Behind));
    }
    let tiles = StoredTiles(database);
    let tree = Tree::new(size, &tiles);
    let continued = tree.consistency(said.head.size)?.verify(&said.head, &tree.head()?);
    Ok(continued.is_err().then_some(Reason::Rewritten))
}

/// [`judge`], but nothing is lost or rewritten while the entries have the root that was published: then it is the tree.
///
/// # Errors
/// When the tree cannot be read, or is damaged.
fn judge_entries(
    database: &Database,
    org: &OrgId,
    key: &LogKey,
    size: u64,
    known: &Known,
) -> Result<Option<Reason>, TreeError<ReadError>> {
    let reason = judge(database, key, size, known)?;
    if matches!(reason, Some(Reason::Behind | Reason::Rewritten)) {
        let said = known.note.unverified().head;
        let leaves = Leaves::of(database, org, key.base_seq).map_err(TreeError::Source)?;
        match leaves.head(said.size) {
            Ok(Some(head)) if head == said => return Err(TreeError::Damaged),
            Err(LeafError::Read(error)) => return Err(TreeError::Source(error)),
            _ => {}
        }
    }
    Ok(reason)
}

/// Generations follow each other. One that is further off is nobody's that we can have been: without this, one line that
/// somebody wrote into the file would stop the log for good.
fn is_next_at_most(key: &LogKey, generation: u64) -> bool {
    key.generation.checked_add(1).is_some_and(|next| generation <= next)
}

/// Whether a checkpoint of the file may be one that this log published.
fn is_plausible(key: &LogKey, known: &Known) -> bool {
    let said = known.note.unverified();
    let plausible = key.generation_of(&said.origin).is_none_or(|generation| is_next_at_most(key, generation));
    if !plausible {
        tracing::warn!(origin = %said.origin, size = said.head.size, "a line in the file of checkpoints is ignored: no key of this log signed it, and the generation before it is unknown");
    }
    plausible
}

/// Generation and size of a checkpoint of this log; `None` when it is another log's.
fn newest_of(key: &LogKey, known: &Known) -> Option<(u64, u64)> {
    let said = known.note.unverified();
    key.generation_of(&said.origin).map(|generation| (generation, said.head.size))
}

/// The checkpoint with which a rewind was told that is not accepted yet.
fn told(database: &Database) -> Result<Option<Known>, ReadError> {
    let told = config::own(database, TOLD)?.unwrap_or_default();
    Ok(checkpoint_file::parse(&told).pop())
}

/// The tree of the checkpoint with which a rewind of the log with this key was told, if that is not accepted yet and the
/// key signed it.
pub(crate) fn told_by(database: &Database, row: &OriginRow) -> Result<Option<TreeHead>, ReadError> {
    let told = told(database)?;
    Ok(told.and_then(|known| Some(known.note.verify(&row.vkey).ok()?.head)))
}

/// No rewind was told.
pub(crate) fn forget() -> Statement {
    config::put_own(TOLD, "")
}

/// Whether a rewind was told that is not accepted yet.
pub(crate) fn is_told(database: &Database) -> Result<bool, ReadError> {
    Ok(told(database)?.is_some())
}

/// What the log published last, by what is kept in the database and beside it.
fn published(
    database: &Database,
    file: &CheckpointFile,
    key: &LogKey,
) -> Result<Vec<(String, Known)>, ReadError> {
    let stored = checkpoints::newest(database, key.origin())?;
    let stored = stored.map(|row| ("database".to_owned(), Known { note: row.note, at: Some(row.signed_at) }));
    // A file that cannot be read is no reason to stop: the witnesses are still there.
    let filed = file.last().unwrap_or_else(|error| {
        tracing::warn!(%error, path = %file.path().display(), "the file of checkpoints cannot be read");
        Vec::new()
    });
    let plausible = filed.into_iter().filter(|known| is_plausible(key, known));
    let newest = plausible.filter_map(|known| Some((newest_of(key, &known)?, known)));
    let filed = newest.max_by_key(|(place, _)| *place).map(|(_, known)| known);
    let name = file.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(filed.map(|known| (name, known)).into_iter().chain(stored).collect())
}

/// The first contradiction between the tree of `size` leaves and what is kept beside the database and in it.
///
/// # Errors
/// When something cannot be read.
pub fn find(
    database: &Database,
    file: &CheckpointFile,
    org: &OrgId,
    key: &LogKey,
    size: u64,
) -> Result<Option<Rewind>, CheckpointError> {
    for (seen_in, known) in published(database, file, key)? {
        if let Some(reason) = judge_entries(database, org, key, size, &known)? {
            return Ok(Some(Rewind { reason, known, seen_in, entries: size }));
        }
    }
    Ok(None)
}

impl Ledger {
    /// The checkpoint that the log contradicts, if there is one.
    #[must_use]
    pub fn rewind(&self) -> Option<Arc<Rewind>> {
        self.log.rewind.0.load_full()
    }

    /// Whether the log is behind what it published, or contradicts it; then no checkpoints are signed.
    #[must_use]
    pub fn is_rolled_back(&self) -> bool {
        !self.log.rewind.is_clear()
    }

    /// Compares the log with a checkpoint of it that somebody else holds, such as a witness. A contradiction is told,
    /// and stops checkpoints as one in the file does.
    ///
    /// # Errors
    /// When the log cannot be read, or the contradiction cannot be told.
    pub async fn compare_with(&self, seen_in: &str, known: Known) -> Result<bool, CheckpointError> {
        let _one = self.log.signing.lock().await;
        let (key, size) = (self.log_key().await?, self.grow().await?);
        let (seen_in, org) = (seen_in.to_owned(), self.authority.trust().org.clone());
        let judged = self.judging(move |database| {
            let reason = judge_entries(database, &org, &key, size, &known)?;
            Ok(reason.map(|reason| Rewind { reason, known, seen_in, entries: size }))
        });
        match judged.await? {
            None => Ok(false),
            Some(rewind) => {
                self.stop_signing(rewind).await?;
                Ok(true)
            }
        }
    }

    /// Whether the tree of `size` leaves contradicts what was published. Once it does, only another generation helps.
    pub(crate) async fn look_back(&self, key: &Arc<LogKey>, size: u64) -> Result<bool, CheckpointError> {
        if let Some(known) = self.rewind() {
            let origin = known.known.note.unverified().origin.clone();
            if key.generation_of(&origin).is_some_and(|generation| generation >= key.generation) {
                return Ok(true);
            }
            self.log.rewind.0.store(None);
            self.authority.metrics.evidence.rolled_back.set(0);
        }
        let (file, key, org) = (self.log.file.clone(), Arc::clone(key), self.authority.trust().org.clone());
        let found = self.judging(move |database| find(database, &file, &org, &key, size)).await?;
        match found {
            None => Ok(false),
            Some(rewind) => {
                self.stop_signing(rewind).await?;
                Ok(true)
            }
        }
    }

    /// Reads every entry when the tree is not what was published: that is done once.
    async fn judging<T: Send + 'static>(
        &self,
        judge: impl FnOnce(&Database) -> Result<T, CheckpointError> + Send + 'static,
    ) -> Result<T, CheckpointError> {
        if self.log.damaged.get().is_some() {
            return Err(TreeError::Damaged.into());
        }
        let judged = self.reading(judge).await;
        if matches!(judged, Err(CheckpointError::Tree(TreeError::Damaged))) {
            self.log.damaged.get_or_init(|| ());
        }
        judged
    }

    /// From now on nothing is signed. Told once, whatever restarts come.
    async fn stop_signing(&self, rewind: Rewind) -> Result<(), CheckpointError> {
        let said = rewind.known.note.unverified().clone();
        self.authority.metrics.evidence.rolled_back.set(1);
        let event = catalogue::LogRolledBack {
            origin: said.origin.to_string(),
            reason: rewind.reason.as_str(),
            seen_in: rewind.seen_in.clone(),
            entries: rewind.entries,
            last_known_entries: said.head.size,
            last_known_root: hex::encode(said.head.root),
        };
        let known = rewind.known.clone();
        self.log.rewind.0.store(Some(Arc::new(rewind)));
        let told = self.reading(|database| Ok::<_, Outage>(told(database)?)).await?;
        if told.is_some_and(|told| told.note == known.note) {
            tracing::warn!(origin = %said.origin, "the audit log is behind or contradicts its last known checkpoint: no checkpoints are signed until mastio audit accept-restore");
            return Ok(());
        }
        let unit = Unit::of(Event::new(&event))
            .write(config::put_own(TOLD, &checkpoint_file::entry(&known)))
            // What an older copy would number again was published under these numbers already.
            .write(crl::raise_numbers(self.authority.clock().now()))
            .touch(Touch::Trust);
        self.authority.commit(unit).await.map_err(Outage::from)?;
        Ok(())
    }
}
