//! The use cases of calls against a real authority with its database, and clients that sign as the contract says.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod directory;
mod inbox;
mod send;
mod world;
