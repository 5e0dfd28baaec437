//! Why the signing key is not rotated.

use std::time::Duration;

use mastio_core::{Kid, Stamp};
use mastio_store::{Unavailable, WriteError};

use crate::{Outage, Refusal, refusal::seconds_up, trust::Halt, updates::UpdateUnderWay};

/// Why the signing key is not rotated, or a staged one neither put in place nor dropped.
#[derive(Debug, thiserror::Error)]
pub enum SigningKeyError {
    /// There is no active key, or no intermediate to certify another.
    #[error(
        "mastio identity not loaded: there is no active signing key or no intermediate; see the start of the log"
    )]
    NotLoaded,
    /// A framework update is being applied.
    #[error(transparent)]
    Update(#[from] UpdateUnderWay),
    /// The intermediate cannot certify.
    #[error("the intermediate ended at {0}: rotate it, which rotates the signing key too")]
    IntermediateEnded(Stamp),
    /// The active key is too young, by so much.
    #[error("the signing key was made a moment ago; wait {} s", seconds_up(*.0))]
    TooSoon(Duration),
    /// An interrupted rotation comes first.
    #[error("a rotation was interrupted and left the staged key {0}: complete it with activate or drop")]
    Staged(Kid),
    /// Nothing is signed.
    #[error(transparent)]
    Halted(Halt),
    /// Somebody else rotated at the same time.
    #[error("another rotation of the signing key came first; look at its result before you rotate again")]
    Raced,
    /// No rotation was interrupted.
    #[error("complete-staged rotation failed: no key is staged")]
    NothingStaged,
    /// The staged key cannot sign.
    #[error("complete-staged rotation failed: {0}; drop it")]
    StagedUnusable(String),
    /// Something of ours.
    #[error("{0}")]
    Outage(#[from] Outage),
}

impl From<WriteError> for SigningKeyError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Rejected(_) => Self::Raced,
            WriteError::Unavailable(unavailable) => Self::from(unavailable),
        }
    }
}

impl From<Unavailable> for SigningKeyError {
    fn from(unavailable: Unavailable) -> Self {
        Self::Outage(Outage::Write(unavailable))
    }
}

impl Refusal for SigningKeyError {
    fn status(&self) -> u16 {
        match self {
            Self::TooSoon(_) => 429,
            Self::Halted(_) => 503,
            Self::Outage(outage) => outage.status(),
            _ => 409,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NotLoaded => "identity_not_loaded",
            Self::IntermediateEnded(_) => "intermediate_ended",
            Self::Update(_) => UpdateUnderWay::REASON,
            Self::TooSoon(_) => "rotated_too_soon",
            Self::Staged(_) => "rotation_staged",
            Self::Halted(_) => "signing_halted",
            Self::Raced => "rotation_raced",
            Self::NothingStaged => "nothing_staged",
            Self::StagedUnusable(_) => "staged_key_unusable",
            Self::Outage(outage) => outage.reason(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooSoon(wait) => Some(*wait),
            _ => None,
        }
    }
}
