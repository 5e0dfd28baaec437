//! Services of others that tests run for real. For dev-dependencies only: everything here panics when it fails.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod responder;
pub mod tsa;
