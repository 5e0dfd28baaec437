//! The chain against the vectors of the reference, against tampering, and for arbitrary contents.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod properties;
mod rows;
mod tampering;
mod vectors;
