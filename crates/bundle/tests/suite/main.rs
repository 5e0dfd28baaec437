//! Bundles as a whole: written, verified, and tampered with. Every finding is asked of both readers, ours and
//! `docs/verify.py`.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by it, in its helpers too")]

mod attacks;
mod good;
mod parts;
mod python;
mod receipts;
mod world;
