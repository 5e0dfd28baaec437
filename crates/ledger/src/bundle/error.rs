//! Why there is no bundle.

use std::time::Duration;

use mastio_authority::{Outage, Refusal};
use mastio_bundle::SurveyError;
use mastio_store::{ReadError, Unavailable};

use crate::{
    anchor::AnchorError, checkpoints::CheckpointError, log_key::LogKeyError, portions::Stalled,
    proofs::ProveError,
};

/// When to come back while another bundle is written.
const BUSY: Duration = Duration::from_secs(10);

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Nothing is in the range.
    #[error("the audit log has no entries in this range; what was archived is in the archive's own bundles")]
    Empty,
    /// Not all of it is there.
    #[error(
        "of this range only the entries {0} to {1} are in the database; the others were archived, or are not written yet"
    )]
    Missing(i64, i64),
    /// The entries do not follow from each other.
    #[error("no proof covers these entries: {0}")]
    Broken(String),
    /// No verifier would accept this one.
    #[error(
        "entry {0} holds `|` or a control character outside its details and is not older than the log key: under the same \
         hash its columns may be cut elsewhere, and no verifier accepts that; ask for the entries before it and behind it \
         (first_seq, last_seq), and for its own proof: GET /v1/admin/audit/proof?seq={0}"
    )]
    Ambiguous(u64),
    /// No verifier would accept any.
    #[error(
        "no verifier accepts what leads to this Org CA: its path length is 0, and evidence hangs below an intermediate; \
         apply the update that makes it again (mastio pki updates), or rotate it, then ask again"
    )]
    LegacyRoot,
    /// Another bundle is being written.
    #[error("another bundle is being written; try again when it is done")]
    Busy,
    /// The log key was announced by a key whose certificate is gone.
    #[error(
        "the certificate of the key that announced the log key is not in mastio_keys; restore it from a backup"
    )]
    Certificate,
    /// There is no proof.
    #[error("{0}")]
    Prove(#[from] ProveError),
    /// There is no time stamp, and it was required.
    #[error("{0}")]
    Stamp(AnchorError),
    /// The client takes nothing.
    #[error("{0}")]
    Stalled(#[from] Stalled),
    /// Something of ours.
    #[error("{0}")]
    Outage(#[from] Outage),
}

impl From<SurveyError> for BundleError {
    fn from(error: SurveyError) -> Self {
        match error {
            SurveyError::Empty => Self::Empty,
            SurveyError::Broken(why) => Self::Broken(why),
        }
    }
}

impl From<CheckpointError> for BundleError {
    fn from(error: CheckpointError) -> Self {
        Self::Prove(error.into())
    }
}

impl From<LogKeyError> for BundleError {
    fn from(error: LogKeyError) -> Self {
        Self::Prove(error.into())
    }
}

impl From<ReadError> for BundleError {
    fn from(error: ReadError) -> Self {
        Self::Outage(error.into())
    }
}

impl From<Unavailable> for BundleError {
    fn from(unavailable: Unavailable) -> Self {
        ReadError::from(unavailable).into()
    }
}

impl Refusal for BundleError {
    fn status(&self) -> u16 {
        match self {
            Self::Empty | Self::Missing(..) => 404,
            Self::Broken(_) | Self::Ambiguous(_) | Self::LegacyRoot => 409,
            Self::Busy => 429,
            Self::Certificate => 500,
            Self::Prove(error) => error.status(),
            Self::Stamp(error) => error.status(),
            Self::Stalled(_) => 408,
            Self::Outage(outage) => outage.status(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Empty => "no_entries",
            Self::Missing(..) => "entries_missing",
            Self::Broken(_) => "audit_chain_broken",
            Self::Ambiguous(_) => "entry_ambiguous",
            Self::LegacyRoot => "org_ca_legacy_pathlen_zero",
            Self::Busy => "bundle_in_progress",
            Self::Certificate => "signing_certificate_missing",
            Self::Prove(error) => error.reason(),
            Self::Stamp(error) => error.reason(),
            Self::Stalled(_) => "bundle_stalled",
            Self::Outage(outage) => outage.reason(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        matches!(self, Self::Busy).then_some(BUSY)
    }
}
