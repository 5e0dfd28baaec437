//! What every refusal tells its caller. HTTP turns it into an answer in one place.

use std::time::Duration;

use mastio_core::Stamp;
use mastio_pki::IssueError;
use mastio_store::{ReadError, Unavailable, WriteError};
use serde_json::Value;

/// An error with an HTTP status and a stable reason for audit entries, metrics and logs.
pub trait Refusal: std::error::Error + Send + Sync + 'static {
    /// The HTTP status.
    fn status(&self) -> u16;

    /// A stable word.
    fn reason(&self) -> &'static str;

    /// What the caller reads under `detail`; the message, unless clients expect an object.
    fn detail(&self) -> Value {
        Value::String(self.to_string())
    }

    /// When trying again makes sense, if waiting helps: the `Retry-After` of the answer.
    fn retry_after(&self) -> Option<Duration> {
        None
    }

    /// The failure of ours that is behind it, if there is one. Errors that wrap an [`Outage`] name it as their source.
    fn unavailable(&self) -> Option<&Outage> {
        std::iter::successors(self.source(), |error| error.source()).find_map(|error| error.downcast_ref())
    }
}

/// Whole seconds that are not shorter than `time`, and at least one.
#[must_use]
pub fn seconds_up(time: Duration) -> u64 {
    time.as_millis().div_ceil(1000).max(1).try_into().unwrap_or(u64::MAX)
}

/// The database does not answer or holds an illegal row. The text goes to the log; callers get a general one.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Outage {
    /// It cannot be written; nothing was.
    #[error("the change could not be recorded, and nothing was changed: {0}")]
    Write(Unavailable),
    /// It cannot be read.
    #[error("the database cannot be read: {0}")]
    Read(ReadError),
    /// Who is believed has changed, and is not known yet.
    #[error(
        "CAs or bundles were changed, and who is believed from then on could not be read yet: /readyz says why"
    )]
    Stale,
    /// Another request changed the same thing first, and again when it was tried anew.
    #[error("another change came between; try again")]
    Contended,
    /// What should certify has ended, at that time.
    #[error(
        "the CA that should certify ended at {0}: an operator rotates it first (mastio pki doctor says how)"
    )]
    IssuerEnded(Stamp),
    /// Something of ours failed that has no business failing.
    #[error("internal: {0}")]
    Internal(String),
}

impl Outage {
    /// Wraps an error that the caller cannot have caused.
    #[must_use]
    pub fn internal(error: impl ToString) -> Self {
        Self::Internal(error.to_string())
    }
}

impl From<ReadError> for Outage {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<IssueError> for Outage {
    fn from(error: IssueError) -> Self {
        match error {
            IssueError::IssuerExpired(at) => Self::IssuerEnded(at),
            other => Self::internal(other),
        }
    }
}

impl From<WriteError> for Outage {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Unavailable(unavailable) => Self::Write(unavailable),
            WriteError::Rejected(_) => Self::Contended,
        }
    }
}

impl Refusal for Outage {
    fn status(&self) -> u16 {
        match self {
            Self::Write(_) | Self::Read(ReadError::Unavailable(_)) | Self::Stale => 503,
            Self::Contended | Self::IssuerEnded(_) => 409,
            Self::Read(ReadError::Row(_)) | Self::Internal(_) => 500,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Write(_) => "audit_unavailable",
            Self::Read(ReadError::Unavailable(_)) => "database_unavailable",
            Self::Stale => "trust_stale",
            Self::Contended => "contended",
            Self::IssuerEnded(_) => "issuer_ended",
            Self::Read(ReadError::Row(_)) => "illegal_row",
            Self::Internal(_) => "internal",
        }
    }

    fn unavailable(&self) -> Option<&Outage> {
        Some(self)
    }
}
