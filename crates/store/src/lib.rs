//! Rows, migrations and the one writer, on SQLite.
//!
//! Two paths, never mixed (`docs/architecture.md`):
//!
//! * **Writing.** A [`Unit`] is data: statements, how many rows each must touch, the events that tell the change, and
//!   what in memory it [touches](Touch). Units go to the one [writer](writer), which commits many of them, with their
//!   audit entries, in one transaction and answers each caller after the commit.
//! * **Reading.** A [`Query`] is data too. Each entity's module ([`agents`], [`config`], [`keys`], [`messages`], [`pending`])
//!   holds its queries, the statements that change it, and the row type that cannot be an illegal combination.
//!
//! Only `sqlite` knows the database. A second backend implements [`writer::Session`] and the reader beside it, and
//! passes the same suite.

pub mod agents;
pub mod audit;
pub mod cas;
mod clause;
pub mod config;
pub mod crl;
pub mod dashboard;
pub mod examine;
pub mod expiry;
pub mod idempotency;
pub mod keys;
pub mod messages;
pub mod pending;
mod query;
pub mod revocations;
pub mod rotations;
pub mod sessions;
pub mod spiffe;
pub mod sqlite;
mod unit;
pub mod updates;
pub mod writer;

pub use query::{Query, ReadError, Row, RowError};
pub use sqlite::{Adoption, OpenError, OpenOptions, Store};
pub use unit::{Committed, Rejection, Statement, Touch, Unit, Value, WriteError};
pub use writer::{Notice, Unavailable};
