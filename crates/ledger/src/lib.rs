//! Keeps the audit log provable to those who trust nobody here (design §4, decisions 15 to 19).
//!
//! The chain itself is written by the store's writer. What is here reads committed entries and makes evidence of them;
//! when it fails nothing that agents do waits for it. [`Ledger`] is the whole; each use case is a module that adds
//! methods to it.

mod clock;

use std::sync::Arc;

use mastio_authority::Authority;

pub use clock::ClockWatch;

/// The audit log as seen from outside: what is proved of it, and what is handed out.
#[derive(Debug, Clone)]
pub struct Ledger {
    authority: Arc<Authority>,
}

impl Ledger {
    /// The audit log of `authority`.
    #[must_use]
    pub fn new(authority: Arc<Authority>) -> Self {
        Self { authority }
    }

    /// Whose log it is.
    #[must_use]
    pub fn authority(&self) -> &Arc<Authority> {
        &self.authority
    }
}
