//! Why the intermediate is not rotated.

use mastio_core::{Kid, Rng, Stamp};
use mastio_store::WriteError;

use crate::{Outage, Refusal, trust::Halt, updates::UpdateUnderWay};

/// Why the intermediate is not rotated.
#[derive(Debug, thiserror::Error)]
pub enum IntermediateError {
    /// There is none, or no root above it.
    #[error("agent manager not initialized — Org CA or intermediate not loaded; see the start of the log")]
    NotLoaded,
    /// The Org CA is being cut, or an overlap begins.
    #[error(
        "rotation {0} of the Org CA is just being begun, and a cut brings another intermediate: look again in a moment"
    )]
    RotationOpen(String),
    /// A framework update is being applied.
    #[error(transparent)]
    Update(#[from] UpdateUnderWay),
    /// The root permits no CA below it.
    #[error(
        "the Org CA cannot sign another intermediate: it was made with path length 0; rotate or reissue the Org CA"
    )]
    RootPathLength,
    /// The root is past its end.
    #[error("the Org CA cannot sign another intermediate: it ended at {0}; rotate the Org CA")]
    RootEnded(Stamp),
    /// An interrupted rotation of the signing key comes first.
    #[error(
        "a rotation of the signing key was interrupted and left the staged key {0}: complete it with activate or drop"
    )]
    Staged(Kid),
    /// Nothing is signed.
    #[error(transparent)]
    Halted(Halt),
    /// Somebody else changed the intermediate, the signing key or the root at the same time.
    #[error("another rotation came first; look at its result before you rotate again")]
    Raced,
    /// Something of ours; what, is in the log beside this id.
    #[error("rotation failed; trace_id={0}")]
    Failed(String),
    /// The database, or something of ours that has no id yet.
    #[error("{0}")]
    Outage(#[from] Outage),
}

impl IntermediateError {
    /// Gives what has no business failing an id, by which the log has more of it.
    pub(super) fn traced(self, rng: &dyn Rng) -> Self {
        let Self::Outage(Outage::Internal(problem)) = self else { return self };
        let mut id = [0; 4];
        rng.fill(&mut id);
        let id = hex::encode(id);
        tracing::error!(trace_id = id, problem, "pki.rotate: the rotation of the intermediate failed");
        Self::Failed(id)
    }
}

impl From<WriteError> for IntermediateError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Rejected(_) => Self::Raced,
            WriteError::Unavailable(unavailable) => Self::Outage(Outage::Write(unavailable)),
        }
    }
}

impl Refusal for IntermediateError {
    fn status(&self) -> u16 {
        match self {
            Self::NotLoaded | Self::Halted(_) => 503,
            Self::Failed(_) => 500,
            Self::Outage(outage) => outage.status(),
            _ => 409,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NotLoaded => "identity_not_loaded",
            Self::RotationOpen(_) => "rotation_open",
            Self::Update(_) => UpdateUnderWay::REASON,
            Self::RootPathLength => "root_path_length",
            Self::RootEnded(_) => "root_ended",
            Self::Staged(_) => "rotation_staged",
            Self::Halted(_) => "signing_halted",
            Self::Raced => "rotation_raced",
            Self::Failed(_) => "rotation_failed",
            Self::Outage(outage) => outage.reason(),
        }
    }
}
