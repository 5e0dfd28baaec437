//! The audit chain: entries, their canonical text, their hashes, and the proof that a stored chain is intact.
//!
//! Writing: an event becomes a [`Draft`], [`Head::append`] gives it its place and makes it [`Sealed`]. Reading: a
//! verifier ([`LocalVerifier`], [`AdminVerifier`]) walks stored rows in order and stops at the first [`Break`].
//! [`Unchained`] fingerprints the rows that no chain covers. Proving: a [`tree`] over the hashes, a signed [`checkpoint`] for
//! its root, a [`proof`] for one entry or between two roots, alone or as a [`tlog_proof`],
//! and what a [`witness`] makes of it. [`lines`] writes entries
//! for others to read. Nothing here does I/O: rows come in as borrowed text, whatever database or file they are from. The
//! formats are those of contract `audit-and-database.md` §1.3, §1.8 and C2SP.

mod chain;
pub mod checkpoint;
mod entry;
pub mod fuzz;
pub mod lines;
pub mod log_path;
pub mod note;
mod problem;
pub mod proof;
mod row;
pub mod tlog_proof;
pub mod tree;
mod unchained;
mod verify;
pub mod witness;

pub use chain::Head;
pub use entry::{Draft, Sealed};
pub use problem::{Break, Problem};
pub use row::{AdminRow, LocalRow};
pub use unchained::{Unchained, UnchainedReport};
pub use verify::{
    Admin, AdminVerifier, CLOCK_TOLERANCE, ChainReport, Local, LocalVerifier, SetBack, Verifier,
};
