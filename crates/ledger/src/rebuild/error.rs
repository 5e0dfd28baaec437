//! Why the tree was not computed anew.

use mastio_audit::Break;
use mastio_core::{OrgId, counted};
use mastio_jose::JwsError;
use mastio_store::{ReadError, WriteError, audit::archive, sqlite::Database};

use crate::leaves::LeafError;

/// Why the tree was not computed anew. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// Nothing says what the tree must be.
    #[error(
        "the audit log has no signed checkpoint that its tree could be held against; start the Mastio once"
    )]
    NoCheckpoint,
    /// The newest checkpoint is not by the key of the log.
    #[error(
        "the newest checkpoint of {0} is not signed by the key that is stored for it; restore the newest backup"
    )]
    Unsigned(String),
    /// The announcement does not say where the tree begins.
    #[error("the announcement of the log's key cannot be read ({0}); restore the newest backup")]
    Announcement(#[from] JwsError),
    /// The entries do not hold.
    #[error("the tree was left as it is, because the entries themselves do not verify: {0}")]
    Broken(#[from] Break),
    /// There are fewer entries than were signed.
    #[error(
        "the newest checkpoint has {} and only {entries} are here: the others were cut off, or an older copy was put back; run mastio audit verify",
        counted(*signed, "entry", "entries")
    )]
    Cut {
        /// How many the checkpoint has.
        signed: u64,
        /// How many there are.
        entries: u64,
    },
    /// The entries are not those that were signed.
    #[error(
        "the first {} not have the root that was signed for them: they were changed, and not the tree; keep the database and its data folder, and restore a backup",
        counted(*size, "entry does", "entries do")
    )]
    Changed {
        /// How many entries the checkpoint has.
        size: u64,
    },
    /// The stored hashes of archived entries do not lead to the signed root.
    #[error(
        "the tree does not have the root that was signed, and entries up to {through} are in archives, so their stored hashes may be damaged too; bring them back with: mastio audit restore-archive {files}; run this again, and then: mastio audit restore-archive --drop"
    )]
    Archived {
        /// The place of the last archived entry.
        through: u64,
        /// Where the archives were written.
        files: String,
    },
    /// An entry is missing.
    #[error("entry {0} is not in the log; run mastio audit verify")]
    Missing(u64),
    /// The database cannot be read.
    #[error("the database cannot be read: {0}")]
    Read(#[from] ReadError),
    /// The database cannot be written.
    #[error("the tree could not be written: {0}")]
    Write(#[from] WriteError),
}

impl RebuildError {
    pub(super) fn of(error: LeafError, database: &Database, org: &OrgId) -> Self {
        match error {
            LeafError::Archived(through) => Self::archived(through, database, org),
            LeafError::Missing(seq) => Self::Missing(seq),
            LeafError::Read(error) => error.into(),
        }
    }

    /// That the stored hashes of archived entries, which are those up to `through`, do not serve.
    pub(super) fn archived(through: u64, database: &Database, org: &OrgId) -> Self {
        match archive::marks(database, org) {
            Ok(marks) => {
                let files: Vec<String> = marks.into_iter().map(|mark| mark.file).collect();
                Self::Archived { through, files: files.join(" ") }
            }
            Err(error) => error.into(),
        }
    }
}
