//! Old entries leave the log and it stays whole: the archive against a real authority with its database.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod pressure;
mod refused;
mod restored;
mod saga;
mod world;
