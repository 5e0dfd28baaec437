//! What any backend of the store must do. SQLite is the first; the next one runs the same functions.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod audit_log;
mod opening;
mod place;
mod rows;
mod writer;
