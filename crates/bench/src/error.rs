//! Why a measurement ended without a figure.

use std::{path::PathBuf, process::ExitStatus};

/// Any failure ends the run: a figure beside refused requests would mean nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// The server is not where this program is.
    #[error("there is no server at {}; build it first: cargo build --release -p mastio", .0.display())]
    NoServer(PathBuf),
    /// It ended instead of becoming ready.
    #[error("the server ended with {status} before it was ready; its log ends:\n{log}")]
    Ended {
        /// How.
        status: ExitStatus,
        /// The last lines of its log.
        log: String,
    },
    /// It did not become ready in time.
    #[error("the server was not ready within {limit} s; its log ends:\n{log}")]
    NotReady {
        /// How long was waited, in seconds.
        limit: u64,
        /// The last lines of its log.
        log: String,
    },
    /// A file of `/proc` is not as documented in proc(5).
    #[error("cannot read {0} of the process from /proc")]
    Proc(&'static str),
    /// The audit log that was just written does not verify.
    #[error("the audit log does not verify as it was written: {0}")]
    Audit(String),
    /// A request was not answered with a success.
    #[error(transparent)]
    Client(#[from] mastio_client::ClientError),
    /// An agent that does not hold together.
    #[error(transparent)]
    Identity(#[from] mastio_client::IdentityError),
    /// A name.
    #[error(transparent)]
    Id(#[from] mastio_core::IdError),
    /// A SPIFFE id.
    #[error(transparent)]
    Spiffe(#[from] mastio_core::SpiffeError),
    /// A signature could not be made.
    #[error(transparent)]
    Signing(#[from] mastio_jose::SigningError),
    /// A signature did not verify.
    #[error(transparent)]
    Signature(#[from] mastio_jose::SignatureError),
    /// A key could not be made.
    #[error(transparent)]
    Key(#[from] mastio_pki::KeyError),
    /// A certificate could not be made.
    #[error(transparent)]
    Issue(#[from] mastio_pki::IssueError),
    /// The CA cannot issue.
    #[error(transparent)]
    Issuer(#[from] mastio_pki::IssuerError),
    /// The database could not be opened.
    #[error(transparent)]
    Open(#[from] mastio_store::OpenError),
    /// The database could not be used.
    #[error(transparent)]
    Unavailable(#[from] mastio_store::Unavailable),
    /// The database could not be written.
    #[error(transparent)]
    Write(#[from] mastio_store::WriteError),
    /// A task panicked.
    #[error(transparent)]
    Task(#[from] tokio::task::JoinError),
    /// A thread of the measurement panicked.
    #[error("a measuring thread panicked")]
    Thread,
    /// A file, a socket or a process.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}
