//! JWK, JWT, DPoP proofs, client assertions and access tokens. Pure: no I/O, time is an argument.
//!
//! Three credentials arrive as compact JWS, and all are read the same way: [`Compact`] splits and decodes once, a
//! typed header says which key and algorithm to use, the signature is checked, and only then are claims believed.
//!
//! - [`dpop`]: the proof of possession beside a request (RFC 9449; contract `auth.md` §3),
//! - [`assertion`]: an agent's certificate-backed login (contract `auth.md` §4),
//! - [`continuity`]: the word of a signing key for the one that takes its place (contract `pki.md` §1),
//! - [`token`]: the access token that we mint and check (contract `auth.md` §6).
//!
//! Consuming a `jti`, comparing a `jkt` with a registered one and validating certificate paths need state or trust
//! anchors; they belong to the callers.

pub mod assertion;
mod base64url;
pub mod continuity;
pub mod dpop;
pub mod envelope;
pub mod fuzz;
mod htu;
mod jwk;
mod jwks;
pub mod jws;
mod member;
mod nonce;
mod sign;
#[cfg(test)]
mod test_keys;
pub mod token;
mod verify;

pub use assertion::{Assertion, AssertionClaims, AssertionError};
pub use continuity::ContinuityProof;
pub use dpop::{DpopError, Expectation, NonceCheck, Proof, ProofKey, VerifiedProof, Window, ath, replay_key};
pub use envelope::Envelope;
pub use htu::{HtuError, HtuSet};
pub use jwk::{Jwk, JwkError};
pub use jwks::JwkSet;
pub use jws::{Compact, Header, JwsError, MAX_COMPACT};
pub use nonce::{NonceKey, NonceRing};
pub use sign::{SigningError, SigningKey};
pub use token::{Confirmation, TokenClaims, TokenError};
pub use verify::{Algorithm, Curve, KeyKind, SignatureError, VerifyingKey};
