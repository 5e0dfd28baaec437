//! What a database must offer to be written by the one writer.

use mastio_audit::{Head, Sealed};
use mastio_core::OrgId;

use super::Unavailable;
use crate::{Rejection, Statement};

/// One open connection for writing, with a transaction at a time. What a database must offer to be written by us.
pub trait Session: Send {
    /// Opens the transaction and takes the write lock.
    ///
    /// # Errors
    /// When it cannot.
    fn begin(&mut self) -> Result<(), Unavailable>;

    /// The head of `org`'s chain, inside the transaction.
    ///
    /// # Errors
    /// When it cannot be read.
    fn head(&mut self, org: &OrgId) -> Result<Head, Unavailable>;

    /// Runs statements in a savepoint of their own; all or none of them stay.
    ///
    /// # Errors
    /// The outer error ends the transaction; the inner one only this unit.
    fn apply(&mut self, statements: &[Statement]) -> Result<Result<(), Rejection>, Unavailable>;

    /// Inserts audit entries.
    ///
    /// # Errors
    /// When one of them is not accepted; the transaction ends.
    fn append(&mut self, entries: &[Sealed]) -> Result<(), Unavailable>;

    /// Marks the transaction with `ticket` and commits it.
    ///
    /// # Errors
    /// When the outcome is a failure or not known; [`Session::has_committed`] of a new session tells.
    fn commit(&mut self, ticket: u64) -> Result<(), Unavailable>;

    /// Gives the transaction up, if there is one.
    fn rollback(&mut self);

    /// Whether the last committed transaction of ours carried `ticket`.
    ///
    /// # Errors
    /// When it cannot be read.
    fn has_committed(&mut self, ticket: u64) -> Result<bool, Unavailable>;

    /// Whether somebody else has committed since the last call.
    ///
    /// # Errors
    /// When it cannot be read.
    fn foreign_commits(&mut self) -> Result<bool, Unavailable>;
}

/// Opens sessions; the only thing that outlives a failed one.
pub trait Connect: Send {
    /// A new session.
    ///
    /// # Errors
    /// When the database cannot be opened.
    fn connect(&mut self) -> Result<Box<dyn Session>, Unavailable>;
}
