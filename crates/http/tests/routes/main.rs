//! The real router over a real authority, with a clock that stands still and no socket.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod agents;
mod audit;
mod dashboard;
mod health;
mod keys;
mod pki;
mod rotations;
mod updates;
mod witness;
mod world;
