//! Why a bundle was not set or shown.

use mastio_core::TrustDomain;
use mastio_pki::AnchorError;

use crate::{Outage, Refusal};

/// Why a bundle was not set or shown. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Neither PEM nor a SPIFFE bundle in JSON.
    #[error("the bundle cannot be read: {0}")]
    Unreadable(#[from] mastio_pki::BundleError),
    /// One of its certificates cannot be believed as a CA.
    #[error("the bundle cannot be used: {0}")]
    Anchor(#[from] AnchorError),
    /// One of its CAs names another trust domain.
    #[error("the bundle cannot be used: {subject} is a CA of the trust domain {named}, not of {domain}")]
    Foreign {
        /// The CA.
        subject: String,
        /// What it names.
        named: TrustDomain,
        /// Whose bundle this is.
        domain: TrustDomain,
    },
    /// One of its CAs is this Mastio's.
    #[error(
        "the bundle cannot be used: {0} is this Mastio's own CA, and every agent's certificate would speak for the trust domain; put SPIRE's own CA below it into the bundle"
    )]
    OwnCa(String),
    /// No CA of it is valid any more.
    #[error("the bundle cannot be used: all of its CAs have expired; fetch it again from SPIRE")]
    Expired,
    /// There is none.
    #[error("no SPIRE bundle for the trust domain {0}")]
    NotFound(TrustDomain),
    /// Something of ours.
    #[error("{0}")]
    Outage(#[from] Outage),
}

impl Refusal for BundleError {
    fn status(&self) -> u16 {
        match self {
            Self::NotFound(_) => 404,
            Self::Outage(outage) => outage.status(),
            _ => 400,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "bundle_unreadable",
            Self::Anchor(_) => "bundle_not_ca",
            Self::Foreign { .. } => "foreign_trust_domain",
            Self::OwnCa(_) => "bundle_own_ca",
            Self::Expired => "bundle_expired",
            Self::NotFound(_) => "not_found",
            Self::Outage(outage) => outage.reason(),
        }
    }
}
