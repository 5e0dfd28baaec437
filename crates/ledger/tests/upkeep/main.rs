//! The audit log verifies itself, and tells agents what they took part in.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod self_check;
mod session;
mod world;
