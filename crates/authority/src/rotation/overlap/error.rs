//! Why a rotation with overlap did not begin, go on, or stop.

use mastio_core::Stamp;
use mastio_custody::CustodyError;
use mastio_store::rotations::Phase;

use crate::{
    Outage, Refusal,
    rotation::{RotationError, error::with_reason},
    trust::Halt,
};

/// Why a rotation with overlap did not begin, go on, or stop. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OverlapError {
    /// No rotation of this name.
    #[error("there is no such rotation; GET /pki/rotations lists them")]
    NotFound,
    /// It is one that has no phases to act upon.
    #[error(
        "this rotation is a hard cut, which is over as soon as it is begun; there is nothing to go on with, pause or abort"
    )]
    Cut,
    /// It is over.
    #[error("the rotation is over ({})", .0.as_str())]
    Over(Phase),
    /// Somebody has not followed yet.
    #[error(
        "{left} of {agents} agents {}; wait for them, see who they are with GET /pki/rotations/{{id}}, or go on without them with force=true",
        if *.fetched { "have not fetched the new trust file" } else { "have not presented a certificate of the new root" }
    )]
    Waiting {
        /// How many have not.
        left: u64,
        /// Of how many.
        agents: u64,
        /// What they have not done: fetched the trust file, or moved.
        fetched: bool,
    },
    /// The old root is believed for a while yet.
    #[error("the old root is believed until {0}; wait, or end it now with force=true")]
    Grace(Stamp),
    /// It does not go on by itself already.
    #[error("the rotation is paused already")]
    Paused,
    /// It goes on by itself already.
    #[error("the rotation is not paused")]
    NotPaused,
    /// A step was forced without the phase that it leaves.
    #[error(
        "say which phase the forced step leaves, with from={phase}: it may have gone on by itself meanwhile",
        phase = .0.as_str()
    )]
    ForcedFromWhere(Phase),
    /// Somebody else took a step meanwhile.
    #[error("the rotation has changed meanwhile; look at it, then decide again")]
    Moved,
    /// A step of it is being taken, or it is being given up.
    #[error("a step of this rotation is being taken; try again in a moment")]
    StepUnderWay,
    /// Agents could not get certificates.
    #[error(
        "agents cannot move while nothing is signed: {0}; end that first: mastio pki updates for a migration, \
         mastio pki complete-staged for a staged key"
    )]
    Halted(#[from] Halt),
    /// Agents could not go on meanwhile.
    #[error(
        "the Org CA expired at {0}, so agents cannot go on under it meanwhile; rotate with transition=cut"
    )]
    Expired(Stamp),
    /// The new root would be over before the old one may go.
    #[error(
        "the new Org CA ends at {0}, before the grace of the old one is over; bring one that lives longer"
    )]
    EndsTooSoon(Stamp),
    /// The old root cannot be gone back to.
    #[error(
        "the Org CA of before, or its intermediate, ended at {0}, and going back would leave nothing that certifies; the \
         rotation goes on by itself, or with advance"
    )]
    OldEnded(Stamp),
    /// The next start would refuse the old root.
    #[error(
        "the Org CA of before has path length 0, and with MCP_PROXY_STRICT_PKI=1 no server starts with it; go on with \
         advance, or unset the variable and restart first"
    )]
    StrictPki,
    /// The new root cannot be gone on to.
    #[error("the new Org CA ended at {0}, and nothing can be certified under it; abort, then rotate again")]
    NewEnded(Stamp),
    /// A CA whose key should be in the registry is not there, or without it.
    #[error(
        "the key of the {which} root, or of its intermediate, is gone or damaged, and there is no way to it; {next}",
        which = .0, next = next_without(.0)
    )]
    KeyGone(&'static str),
    /// The keys.
    #[error("the key store failed, and nothing was changed: {0}")]
    Custody(#[from] CustodyError),
    /// The new root, or another rotation.
    #[error(transparent)]
    Rotation(#[from] RotationError),
    /// Something of ours.
    #[error("{0}")]
    Outage(#[from] Outage),
}

fn next_without(which: &str) -> &'static str {
    if which == "new" { "abort, then rotate again" } else { "go on with advance" }
}

impl Refusal for OverlapError {
    fn status(&self) -> u16 {
        match self {
            Self::NotFound => 404,
            Self::Cut
            | Self::Over(_)
            | Self::Waiting { .. }
            | Self::Grace(_)
            | Self::Paused
            | Self::NotPaused
            | Self::ForcedFromWhere(_)
            | Self::Moved
            | Self::StepUnderWay
            | Self::Halted(_)
            | Self::Expired(_)
            | Self::EndsTooSoon(_)
            | Self::OldEnded(_)
            | Self::StrictPki
            | Self::NewEnded(_)
            | Self::KeyGone(_) => 409,
            Self::Custody(_) => 503,
            Self::Rotation(error) => error.status(),
            Self::Outage(outage) => outage.status(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Cut => "rotation_is_a_cut",
            Self::Over(_) => "rotation_over",
            Self::Waiting { .. } => "agents_left",
            Self::Grace(_) => "grace_not_over",
            Self::Paused => "already_paused",
            Self::NotPaused => "not_paused",
            Self::ForcedFromWhere(_) => "from_missing",
            Self::Moved => "rotation_changed",
            Self::StepUnderWay => "step_under_way",
            Self::Halted(_) => "signing_halted",
            Self::Expired(_) => "root_expired",
            Self::EndsTooSoon(_) => "ends_too_soon",
            Self::OldEnded(_) => "old_root_ended",
            Self::StrictPki => "strict_pki",
            Self::NewEnded(_) => "new_root_ended",
            Self::KeyGone(_) => "key_gone",
            Self::Custody(_) => "custody_unavailable",
            Self::Rotation(error) => error.reason(),
            Self::Outage(outage) => outage.reason(),
        }
    }

    fn detail(&self) -> serde_json::Value {
        match self {
            Self::Rotation(error) => error.detail(),
            other => with_reason(other, "docs/rotate-ca-overlap.md"),
        }
    }
}
