//! Keeps the audit log provable to those who trust nobody here (design §4, decisions 15 to 19).
//!
//! The chain itself is written by the store's writer. What is here reads committed entries and makes evidence of them;
//! when it fails nothing that agents do waits for it. [`Ledger`] is the whole; each use case is a module that adds
//! methods to it.

pub mod anchor;
pub mod archive;
pub mod bundle;
pub mod checkpoint_file;
pub mod checkpoints;
mod clock;
pub mod disk;
pub mod explain;
pub mod export;
mod keep;
mod leaves;
pub mod log_key;
pub mod outbound;
pub mod portions;
pub mod proofs;
mod published_log;
pub mod rebuild;
pub mod rewind;
pub mod search;
pub mod self_check;
mod sentence;
pub mod session;
pub mod syslog;
pub mod tree;
pub mod witness;

use std::sync::Arc;

use mastio_authority::{Authority, Outage};
use mastio_store::sqlite::Database;

use checkpoint_file::CheckpointFile;

pub use clock::ClockWatch;

/// The audit log as seen from outside: what is proved of it, and what is handed out.
#[derive(Debug, Clone)]
pub struct Ledger {
    authority: Arc<Authority>,
    log: Arc<Log>,
    bundling: Arc<tokio::sync::Semaphore>,
}

/// What is kept in memory of the log. Clones of a [`Ledger`] share it.
#[derive(Debug)]
struct Log {
    file: CheckpointFile,
    key: log_key::KeyCell,
    growing: tokio::sync::Mutex<Option<tree::Growing>>,
    signing: tokio::sync::Mutex<()>,
    rewind: rewind::RewindCell,
    /// The tree was found not to be that of the entries. That takes a stopped server to mend.
    damaged: std::sync::OnceLock<()>,
    pace: keep::Pace,
    witness: witness::State,
    archives: archive::Archives,
    disk: disk::Disk,
}

impl Ledger {
    /// The audit log of `authority`.
    #[must_use]
    pub fn new(authority: Arc<Authority>) -> Self {
        let log = Log {
            file: CheckpointFile::beside(authority.store().database().path()),
            key: log_key::KeyCell::default(),
            growing: tokio::sync::Mutex::default(),
            signing: tokio::sync::Mutex::default(),
            rewind: rewind::RewindCell::default(),
            damaged: std::sync::OnceLock::new(),
            pace: keep::Pace::default(),
            witness: witness::State::default(),
            archives: archive::Archives::default(),
            disk: disk::Disk::default(),
        };
        let ledger =
            Self { authority, log: Arc::new(log), bundling: Arc::new(tokio::sync::Semaphore::new(1)) };
        if let Err(error) = ledger.count_split_views() {
            tracing::warn!(%error, "split views could not be counted; the next one is");
        }
        ledger
    }

    /// Whose log it is.
    #[must_use]
    pub fn authority(&self) -> &Arc<Authority> {
        &self.authority
    }

    /// Reads the database off the threads that serve.
    async fn reading<T, E>(
        &self,
        read: impl FnOnce(&Database) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Outage> + Send + 'static,
    {
        let database = Arc::clone(self.authority.store().database());
        let read = tokio::task::spawn_blocking(move || read(&database)).await;
        read.unwrap_or_else(|join| Err(Outage::internal(join).into()))
    }
}
