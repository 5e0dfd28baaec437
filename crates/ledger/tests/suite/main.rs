//! The audit log's evidence over a real authority and database.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod bundles;
mod checkpoints;
mod rebuild;
mod rewind;
mod world;
