//! Why an update is not applied or taken back.

use mastio_custody::CustodyError;
use mastio_store::{ReadError, Rejection, WriteError, updates::Status};

use crate::{Outage, Refusal};

/// An update is being applied, and nothing else changes keys meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "framework update {0} is being applied; wait until it is done: GET /proxy/updates/api shows how far it is"
)]
pub struct UpdateUnderWay(pub String);

impl UpdateUnderWay {
    /// The stable word for it.
    pub const REASON: &'static str = "update_under_way";
}

/// Why an update is not applied, or not taken back.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UpdateError {
    /// Without a word that it is meant.
    #[error("confirm it: send {0}")]
    Unconfirmed(&'static str),
    /// No migration has this name.
    #[error("no migration {0} is registered; GET /proxy/updates/api lists them")]
    Unknown(String),
    /// It cannot be applied in this way.
    #[error("this migration has no strategy {asked}; it has: {has}")]
    Strategy {
        /// What was asked for.
        asked: String,
        /// What there is.
        has: String,
    },
    /// There is nothing to go back to.
    #[error(
        "no snapshot of {0}: it was not applied, was rolled back already, or its snapshot was wiped, as rotations of the Org \
         CA do; without one only a backup brings back what was before"
    )]
    NoSnapshot(&'static str),
    /// It was interrupted so early that there is nothing to go back from.
    #[error(
        "no snapshot of {0}: it failed before one was written, so nothing was changed; apply it again, or set the status \
         of its row in pending_updates to rolled_back to set it aside"
    )]
    FailedEarly(&'static str),
    /// Its row is gone, and a snapshot is there.
    #[error(
        "{0} has no row in pending_updates, so nothing says that it was applied; put the row back with the status \
         applied to roll it back, or wipe the snapshot"
    )]
    NoRow(&'static str),
    /// It was applied before.
    #[error("already applied")]
    AlreadyApplied,
    /// It was taken back or set aside.
    #[error(
        "{0} was rolled back, so it is not proposed any more; delete its row in pending_updates and restart to have \
         it proposed again"
    )]
    RolledBack(&'static str),
    /// Nothing says that it is needed.
    #[error("{0} is not pending: it is not needed here, or is proposed at the next start")]
    NotPending(&'static str),
    /// It was not applied, so there is nothing to take back.
    #[error("{id} is {}, so there is nothing to roll back", status.as_str())]
    NotApplied {
        /// The migration.
        id: &'static str,
        /// Where it is.
        status: Status,
    },
    /// One at a time.
    #[error("another update is being applied or rolled back; GET /proxy/updates/api shows how far it is")]
    Busy,
    /// The Org CA is being rotated.
    #[error(
        "rotation {0} of the Org CA is under way; finish or abort it first: mastio pki rotation shows how far it is"
    )]
    Rotation(String),
    /// Another migration holds the halt.
    #[error("sign halt mismatch: {0} holds the halt; apply it first, or set it aside")]
    HaltMismatch(&'static str),
    /// The repair would hide that the root has ended.
    #[error("the Org CA has expired; an update must not extend it: rotate it with POST /pki/rotate-ca")]
    RootExpired,
    /// What was written then was changed by something else since.
    #[error(
        "{0}, so the state of before the update cannot be restored; rotate the Org CA or restore a backup"
    )]
    MovedOn(&'static str),
    /// The next start would be refused.
    #[error(
        "MCP_PROXY_STRICT_PKI=1 refuses to start with the root of before, which has path length 0; if you want that root \
         all the same, unset it, restart, and roll back then"
    )]
    StrictPki,
    /// Somebody else changed what it is about at the same moment.
    #[error(
        "the Org CA, or the update itself, was changed at the same moment; nothing was done, look at both and ask again"
    )]
    Raced,
    /// The snapshot does not hold what the way back needs.
    #[error("the snapshot of this update cannot be used: {0}")]
    Snapshot(String),
    /// It was tried, and nothing changed.
    #[error("apply failed: {0}")]
    Failed(String),
    /// Ours.
    #[error(transparent)]
    Outage(#[from] Outage),
}

impl Refusal for UpdateError {
    fn status(&self) -> u16 {
        match self {
            Self::Unconfirmed(_) | Self::Strategy { .. } => 400,
            Self::Unknown(_) | Self::NoSnapshot(_) | Self::FailedEarly(_) => 404,
            Self::HaltMismatch(_) => 412,
            Self::Failed(_) => 500,
            Self::Outage(outage) => outage.status(),
            _ => 409,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Unconfirmed(_) => "unconfirmed",
            Self::Unknown(_) => "unknown_migration",
            Self::Strategy { .. } => "unknown_strategy",
            Self::NoSnapshot(_) | Self::FailedEarly(_) => "no_snapshot",
            Self::AlreadyApplied => "already_applied",
            Self::RolledBack(_) => "rolled_back",
            Self::NotPending(_) => "not_pending",
            Self::NotApplied { .. } | Self::NoRow(_) => "not_applied",
            Self::Busy => UpdateUnderWay::REASON,
            Self::Rotation(_) => "rotation_under_way",
            Self::HaltMismatch(_) => "sign_halt_mismatch",
            Self::RootExpired => "org_ca_expired",
            Self::MovedOn(_) => "moved_on",
            Self::StrictPki => "strict_pki",
            Self::Raced => "update_raced",
            Self::Snapshot(_) => "snapshot_unusable",
            Self::Failed(_) => "apply_failed",
            Self::Outage(outage) => outage.reason(),
        }
    }
}

impl UpdateError {
    /// Whether the update itself failed, as opposed to being refused or unable to write at all.
    pub(super) fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_))
    }

    pub(super) fn failed(error: impl ToString) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<ReadError> for UpdateError {
    fn from(error: ReadError) -> Self {
        Outage::from(error).into()
    }
}

impl From<WriteError> for UpdateError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Rejected(Rejection::Rows { .. }) => Self::Raced,
            WriteError::Rejected(rejection) => Self::failed(rejection),
            WriteError::Unavailable(unavailable) => Outage::Write(unavailable).into(),
        }
    }
}

impl From<CustodyError> for UpdateError {
    fn from(error: CustodyError) -> Self {
        match error {
            CustodyError::Read(error) => error.into(),
            error => Self::failed(error),
        }
    }
}
