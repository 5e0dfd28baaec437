//! Evidence bundles of the audit log: a range of entries with everything that proves it to somebody who has nothing else.
//!
//! [`mod@format`] says what is in one. A [`Survey`] looks at the entries and makes the [`Manifest`](format::Manifest),
//! [`Writer`] writes the archive, [`verify`] checks one: offline, in constant memory, step by step, and the first step
//! that fails is named. [`receipt`] checks the small siblings of a bundle, about a single entry. Nothing here does I/O
//! but on the reader or writer that it is given.

mod archive;
mod digesting;
mod entries;
pub mod format;
mod hand_over;
mod log;
mod problem;
pub mod receipt;
mod report;
mod survey;
mod timestamp;
mod verify;
mod write;

pub use problem::Unreadable;
pub use report::{Check, Report, Span, Step, Verdict};
pub use survey::{Survey, SurveyError, Surveyed};
pub use verify::{Trusted, verify, verify_entries};
pub use write::{Evidence, Occasion, Plan, Stamped, WriteError, Writer};
