//! Time stamps (RFC 3161): what is asked of a time stamping authority, and whether to believe its answer. Pure.
//!
//! [`Request`] asks for the time of a hash, [`Token::from_response`] reads the answer, and [`Token::verify`] says
//! whether it is what an [`Expectation`] asks for. Nothing here does I/O; time and randomness come in as arguments.
//!
//! Signatures and certificates are over bytes as they came, so nothing that was read is ever encoded again: the
//! structures of CMS (RFC 5652) are taken apart in place.

mod asn1;
mod attributes;
mod cms;
mod error;
mod expectation;
pub mod fuzz;
mod info;
mod request;
mod response;
mod token;
mod trust;

pub use error::TimestampError;
pub use expectation::{Expectation, TimeStamp};
pub use request::{Nonce, Request};
pub use response::tsr_of;
pub use token::Token;
pub use trust::{Anchors, AnchorsError};

/// Longest answer or token that is read, in bytes.
pub const MAX_LENGTH: usize = 64 * 1024;

/// Most certificates that are looked at: those in a token and those passed beside it.
pub const MAX_CERTIFICATES: usize = 16;
