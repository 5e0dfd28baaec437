//! Why an agent was not enrolled or changed.

use mastio_core::{AgentId, TrustDomain};
use mastio_jose::JwkError;
use mastio_pki::PathError;

use crate::{Outage, Refusal, trust::Halt};

/// Why an agent was not enrolled or changed.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// Not a certificate.
    #[error("cert_pem is not a valid X.509 PEM")]
    Certificate,
    /// Not a private key.
    #[error("private_key_pem is not a private key in PEM")]
    Key,
    /// Certificate and key do not belong together.
    #[error("private_key_pem does not match cert_pem public key")]
    KeyMismatch,
    /// Of the pair only one came.
    #[error("cert_pem and private_key_pem must be provided together")]
    HalfPair,
    /// The path does not lead to our root.
    #[error("cert_pem is not signed by this Mastio's Org CA")]
    Path(PathError),
    /// The path leads to our root, but the certificate cannot serve.
    #[error("cert_pem cannot be used: {0}")]
    Unfit(PathError),
    /// Its key is too weak.
    #[error(
        "cert_pem has a key that is too weak or of an unsupported kind; use EC P-256, P-384, P-521 or RSA with at least 2048 bits"
    )]
    WeakKey,
    /// It names somebody else.
    #[error(
        "cert_pem names {named}, not {expected}; the CN must be {expected}, or the SPIFFE URI must lead to it"
    )]
    Identity {
        /// Whom it names.
        named: String,
        /// Whom it must name.
        expected: AgentId,
    },
    /// Its SPIFFE id is of another trust domain.
    #[error("cert_pem names the trust domain {named}, but this Mastio's is {expected}")]
    TrustDomain {
        /// What it names.
        named: TrustDomain,
        /// Ours.
        expected: TrustDomain,
    },
    /// The DPoP key.
    #[error("{}", jwk_detail(.0))]
    DpopKey(JwkError),
    /// The key is revoked.
    #[error("key_revoked: the key of this certificate was revoked; make a new one")]
    KeyRevoked,
    /// Enrolled already.
    #[error("agent {0} already enrolled")]
    Enrolled(AgentId),
    /// Made already.
    #[error("agent '{0}' already registered")]
    Registered(AgentId),
    /// There is no CA to issue with.
    #[error("agent manager not initialized — Org CA not loaded")]
    NoIssuer,
    /// Issuing is halted.
    #[error(transparent)]
    Halted(#[from] Halt),
    /// Something of ours.
    #[error(transparent)]
    Outage(#[from] Outage),
}

pub(crate) fn jwk_detail(error: &JwkError) -> String {
    match error {
        JwkError::PrivateMaterial => {
            "dpop_jwk must be the public JWK — private material ('d') rejected".into()
        }
        JwkError::UnsupportedKeyType(kty) => {
            format!("dpop_jwk kty '{kty}' unsupported — expected 'EC' (P-256) or 'RSA'")
        }
        JwkError::Malformed(what) => format!("dpop_jwk is malformed: {what}"),
    }
}

impl Refusal for EnrollError {
    fn status(&self) -> u16 {
        match self {
            Self::Enrolled(_) | Self::Registered(_) | Self::KeyRevoked => 409,
            Self::NoIssuer | Self::Halted(_) => 503,
            Self::Outage(outage) => outage.status(),
            _ => 400,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Certificate => "cert_invalid",
            Self::Key => "key_invalid",
            Self::KeyMismatch => "key_mismatch",
            Self::HalfPair => "half_pair",
            Self::Path(error) | Self::Unfit(error) => error.reason(),
            Self::WeakKey => "key_weak",
            Self::Identity { .. } => "identity_mismatch",
            Self::TrustDomain { .. } => "trust_domain_mismatch",
            Self::DpopKey(_) => "dpop_jwk_invalid",
            Self::Enrolled(_) | Self::Registered(_) => "already_exists",
            Self::KeyRevoked => "key_revoked",
            Self::NoIssuer => "no_issuer",
            Self::Halted(_) => "signing_halted",
            Self::Outage(outage) => outage.reason(),
        }
    }

    fn unavailable(&self) -> Option<&Outage> {
        match self {
            Self::Outage(outage) => Some(outage),
            _ => None,
        }
    }
}
