//! What a time stamp is held against, and what it proves then.

use std::time::Duration;

use mastio_core::Stamp;
use mastio_pki::Certificate;

use crate::{Anchors, Nonce};

/// What a time stamp must be to be believed.
#[derive(Debug, Clone)]
pub struct Expectation<'a> {
    pub(crate) hash: &'a [u8; 32],
    pub(crate) nonce: Option<Nonce>,
    pub(crate) anchors: Option<&'a Anchors>,
    pub(crate) certificates: &'a [Certificate],
    pub(crate) near: Option<(Stamp, Duration)>,
}

impl<'a> Expectation<'a> {
    /// A stamp over `hash`, by anybody, at any time.
    #[must_use]
    pub fn of(hash: &'a [u8; 32]) -> Self {
        Self { hash, nonce: None, anchors: None, certificates: &[], near: None }
    }

    /// The answer to the request with this nonce.
    #[must_use]
    pub fn answering(self, nonce: Nonce) -> Self {
        Self { nonce: Some(nonce), ..self }
    }

    /// By an authority that leads to one of `anchors`, as of the time that is stamped.
    #[must_use]
    pub fn trusting(self, anchors: &'a Anchors) -> Self {
        Self { anchors: Some(anchors), ..self }
    }

    /// Certificates that may stand between the authority and its root, or be its own, where the token has none.
    #[must_use]
    pub fn with_certificates(self, certificates: &'a [Certificate]) -> Self {
        Self { certificates, ..self }
    }

    /// At most `skew` from `clock`, not counting the accuracy that the stamp claims.
    #[must_use]
    pub fn near(self, clock: Stamp, skew: Duration) -> Self {
        Self { near: Some((clock, skew)), ..self }
    }
}

/// What a verified time stamp says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeStamp {
    /// When the hash was there.
    pub gen_time: Stamp,
    /// How far off that may be, either way; zero when the authority does not say.
    pub accuracy: Duration,
    /// The number that the authority gave it, in hex.
    pub serial: String,
    /// The authority's policy, as a dotted object identifier.
    pub policy: String,
    /// Who stamped: the subject of the certificate that signed.
    pub authority: String,
    /// The certificate that signed, those above it, and the anchor. Without anchors to lead to: the certificate that
    /// signed and whatever came with it.
    pub chain: Vec<Certificate>,
}
