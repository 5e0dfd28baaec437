//! Why the Org CA was not rotated.

use mastio_core::Thumbprint;
use mastio_custody::CustodyError;

use super::CandidateError;
use crate::{Outage, Refusal, updates::UpdateUnderWay};

/// Why the Org CA was not rotated. What was before is still so.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The new root.
    #[error(transparent)]
    Candidate(#[from] CandidateError),
    /// One is under way.
    #[error(
        "another rotation of the Org CA is in progress; wait until it is over, or abort it: mastio pki abort (--offline \
         if the Mastio is stopped), or POST /pki/rotations/{{id}}/abort; a rotation for a compromise ends it by itself"
    )]
    InProgress,
    /// A framework update is.
    #[error(transparent)]
    Update(#[from] UpdateUnderWay),
    /// The prepared root that the operator named was used, or its time is over.
    #[error("the prepared CA is not here any more; prepare it again and confirm within 10 minutes")]
    NotPrepared,
    /// The words of the commit are not those of the dry run.
    #[error(
        "the prepared CA was shown with another mode, transition or reason; leave these out to get what was shown, or \
         prepare it again"
    )]
    OtherPlan,
    /// The active root changed since the plan was made.
    #[error("the active Org CA is not {0} any more: somebody else rotated it; look before you rotate again")]
    OtherRoot(Thumbprint),
    /// The keys.
    #[error("the key store failed, and nothing was changed: {0}")]
    Custody(#[from] CustodyError),
    /// Something of ours.
    #[error("{0}")]
    Outage(#[from] Outage),
}

/// The detail of what was refused, with the reason that scripts look at. A failure of ours is told in words, and its
/// reason beside them.
pub(super) fn with_reason(refusal: &impl Refusal, docs: &str) -> serde_json::Value {
    match refusal.status() {
        500.. => refusal.to_string().into(),
        _ => serde_json::json!({ "reason": refusal.reason(), "hint": refusal.to_string(), "docs": docs }),
    }
}

impl Refusal for RotationError {
    fn status(&self) -> u16 {
        match self {
            Self::Candidate(error) => error.status(),
            Self::InProgress | Self::Update(_) | Self::OtherPlan | Self::OtherRoot(_) => 409,
            Self::NotPrepared => 404,
            Self::Custody(_) => 503,
            Self::Outage(outage) => outage.status(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Candidate(error) => error.reason(),
            Self::InProgress => "rotation_in_progress",
            Self::Update(_) => UpdateUnderWay::REASON,
            Self::OtherPlan => "plan_differs",
            Self::OtherRoot(_) => "root_changed",
            Self::NotPrepared => "candidate_gone",
            Self::Custody(_) => "custody_unavailable",
            Self::Outage(outage) => outage.reason(),
        }
    }

    fn detail(&self) -> serde_json::Value {
        match self {
            Self::Candidate(error) => error.detail(),
            other => with_reason(other, "docs/rotate-ca.md"),
        }
    }
}
