//! Why an archive is not made, or not brought back.

use std::{io, path::PathBuf};

use mastio_authority::{Outage, Refusal};
use mastio_core::Stamp;
use mastio_store::{ReadError, Unavailable, WriteError, audit::archive::Span};

use super::segment::SegmentError;
use crate::checkpoints::CheckpointError;

/// Why an archive is not made. Nothing has left the log.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// No entry is that old, but perhaps the newest one, which stays.
    #[error("nothing to archive: no entry is from before {0}, or only the newest one, which always stays")]
    Nothing(Stamp),
    /// One at a time.
    #[error("an archive is under way; wait until it is done")]
    UnderWay,
    /// Archiving would hide what was rolled back.
    #[error(
        "nothing is archived, because the log is behind or contradicts a checkpoint that it published; run first:          mastio audit accept-restore"
    )]
    RolledBack,
    /// Archiving would hide what was changed.
    #[error(
        "nothing is archived, because the audit log does not verify at entry {0}; run: mastio audit verify"
    )]
    Broken(u64),
    /// Archiving would hide that entries are gone.
    #[error(
        "entry {0} of the audit log is missing, so what is left is not archived; run: mastio audit verify"
    )]
    Gap(i64),
    /// The file would not fit.
    #[error(
        "the archive may need {needed} bytes, but {} has {available}; name another disk with --out",
        folder.display()
    )]
    NoSpace {
        /// What it may need.
        needed: u64,
        /// What there is.
        available: u64,
        /// Where.
        folder: PathBuf,
    },
    /// Another file has its name.
    #[error("{} is there and does not hold the same entries; move it away", .0.display())]
    FileTaken(PathBuf),
    /// The file that was written is not what it should be.
    #[error("the archive that was written does not hold entries {} to {}", .0.first, .0.last)]
    OtherSpan(Span),
    /// The file system.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was worked on.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No checkpoint covers the entries, and none can be signed.
    #[error("the entries cannot be covered by a checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// Writing or verifying it.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// Somebody else wrote that it is made.
    #[error("no mark names entries {} to {} with this file, so nothing is deleted", .0.first, .0.last)]
    Unmarked(Span),
    /// The database refused the mark.
    #[error("the archive cannot be marked: {0}")]
    Mark(String),
    /// The database.
    #[error("{0}")]
    Outage(#[from] Outage),
}

impl ArchiveError {
    /// Whether the same archive may succeed later without anybody's doing.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Outage(outage) => outage.status() == 503,
            Self::Checkpoint(error) => error.status() == 503,
            Self::Segment(SegmentError::Bundle(error)) => error.status() == 503,
            _ => false,
        }
    }
}

impl From<ReadError> for ArchiveError {
    fn from(error: ReadError) -> Self {
        Self::Outage(error.into())
    }
}

impl From<WriteError> for ArchiveError {
    fn from(error: WriteError) -> Self {
        Self::Outage(error.into())
    }
}

impl Refusal for ArchiveError {
    fn status(&self) -> u16 {
        match self {
            Self::Nothing(_)
            | Self::UnderWay
            | Self::RolledBack
            | Self::Broken(_)
            | Self::Gap(_)
            | Self::FileTaken(_) => 409,
            Self::NoSpace { .. } => 507,
            Self::OtherSpan(_) | Self::Io { .. } | Self::Segment(_) | Self::Unmarked(_) | Self::Mark(_) => {
                500
            }
            Self::Checkpoint(error) => error.status(),
            Self::Outage(outage) => outage.status(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Nothing(_) => "nothing_to_archive",
            Self::UnderWay => "archive_under_way",
            Self::RolledBack => "audit_rolled_back",
            Self::Broken(_) | Self::Gap(_) => "audit_chain_broken",
            Self::NoSpace { .. } => "archive_no_space",
            Self::FileTaken(_) => "archive_file_taken",
            Self::OtherSpan(_) | Self::Io { .. } | Self::Segment(_) | Self::Unmarked(_) | Self::Mark(_) => {
                "archive_failed"
            }
            Self::Checkpoint(error) => error.reason(),
            Self::Outage(outage) => outage.reason(),
        }
    }
}

/// Why archived entries were not brought back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It does not verify.
    #[error("{}: {source}", file.display())]
    Segment {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: SegmentError,
    },
    /// It verifies, but it is not of this log.
    #[error("{} is not an archive of this audit log: no mark names entry {last} with this hash", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// Its last entry.
        last: i64,
    },
    /// It holds the same entries, and somebody made it anew.
    #[error("{} is not the file that was archived: its SHA-256 is not that of its mark, {marked}; take a copy of the original", file.display())]
    OtherFile {
        /// The file.
        file: PathBuf,
        /// The SHA-256 of the original, in hex.
        marked: String,
    },
    /// What would come back is still being deleted.
    #[error("an archive is under way; wait until it is done")]
    UnderWay,
    /// The database.
    #[error("{0}")]
    Outage(#[from] Outage),
}

impl From<ReadError> for RestoreError {
    fn from(error: ReadError) -> Self {
        Self::Outage(error.into())
    }
}

impl From<WriteError> for RestoreError {
    fn from(error: WriteError) -> Self {
        Self::Outage(error.into())
    }
}

impl From<Unavailable> for ArchiveError {
    fn from(error: Unavailable) -> Self {
        Self::Outage(ReadError::from(error).into())
    }
}
