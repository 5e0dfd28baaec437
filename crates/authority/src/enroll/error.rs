//! Why an agent was not enrolled or changed.

use std::fmt;

use mastio_core::{AgentId, SpiffeId, Stamp, TrustDomain};
use mastio_jose::JwkError;
use mastio_pki::{CsrError, PathError, PemError};

use crate::{Outage, Refusal, decommission::Buried, lifecycle::KeyTrouble, spire::BundleError, trust::Halt};

/// The route's names for what was brought, so that refusals speak of the fields that were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fields {
    /// `cert_pem`, `private_key_pem`.
    Byoca,
    /// `svid_pem`, `svid_key_pem`.
    Spiffe,
}

impl Fields {
    fn key(self) -> &'static str {
        match self {
            Self::Byoca => "private_key_pem",
            Self::Spiffe => "svid_key_pem",
        }
    }

    fn issuer(self) -> &'static str {
        match self {
            Self::Byoca => "this Mastio's Org CA",
            Self::Spiffe => "the configured SPIRE trust bundle",
        }
    }
}

/// The field of the certificates.
impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Byoca => "cert_pem",
            Self::Spiffe => "svid_pem",
        })
    }
}

/// Why an agent was not enrolled or changed.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// Not a certificate.
    #[error("{0} is not a valid X.509 PEM: {1}")]
    Certificate(Fields, PemError),
    /// Not a private key.
    #[error("{key} is not a private key in PEM", key = .0.key())]
    Key(Fields),
    /// Certificate and key do not belong together.
    #[error("{key} does not match {0} public key", key = .0.key())]
    KeyMismatch(Fields),
    /// Of the pair only one came.
    #[error("cert_pem and private_key_pem must be provided together")]
    HalfPair,
    /// The certificate request that proves possession.
    #[error("csr_pem cannot be used: {0}")]
    Request(#[from] CsrError),
    /// It is of another key.
    #[error("csr_pem does not match {0} public key")]
    RequestMismatch(Fields),
    /// The signature that proves possession.
    #[error(
        "pop_signature does not verify against {0} public key; sign enrollment-pop:v1|<hex SHA-256 of the public key in DER>"
    )]
    Proof(Fields),
    /// More than one certificate that is not a CA.
    #[error("{0} holds two leaf certificates; send the agent's first and then only the CAs above it")]
    SecondLeaf(Fields),
    /// The path does not lead to our root, or to the bundle.
    #[error("{0} is not signed by {issuer}", issuer = .0.issuer())]
    Path(Fields, PathError),
    /// The path leads there, but the certificate cannot serve.
    #[error("{0} cannot be used: {1}")]
    Unfit(Fields, PathError),
    /// Its key is too weak.
    #[error(
        "{0} has a key that is too weak or of an unsupported kind; use EC P-256, P-384, P-521 or RSA with at least 2048 bits"
    )]
    WeakKey(Fields),
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
    /// Others than we may read another one of them.
    #[error("cert_pem carries several SPIFFE URI SANs; it may carry one")]
    SeveralSpiffeIds,
    /// Not an SVID.
    #[error("svid_pem carries no SPIFFE URI SAN — not a valid SVID")]
    NoSpiffeId,
    /// It has the name of another principal of ours.
    #[error(
        "svid_pem names {named}; enroll it under that name, or register the workload under another SPIFFE id"
    )]
    SvidOfAnother {
        /// Whom it names.
        named: String,
    },
    /// It may be in wrong hands.
    #[error("svid_pem was issued before this agent was revoked at {revoked}; have SPIRE issue a new one")]
    OldSvid {
        /// When.
        revoked: Stamp,
    },
    /// Another agent has the SPIFFE id.
    #[error("SPIFFE id {id} already enrolled as {agent}")]
    SpiffeIdTaken {
        /// The id.
        id: SpiffeId,
        /// Whose it is.
        agent: AgentId,
    },
    /// Nobody vouches for the trust domain.
    #[error(
        "SPIRE trust bundle not configured — send trust_bundle_pem, or PUT the bundle to /v1/admin/spiffe/bundles/{0}"
    )]
    NoBundle(TrustDomain),
    /// Not certificates.
    #[error("trust_bundle_pem is not a valid X.509 PEM: {0}")]
    BundleUnreadable(mastio_pki::BundleError),
    /// Certificates that cannot be this bundle.
    #[error("trust_bundle_pem: {0}")]
    Bundle(BundleError),
    /// The DPoP key.
    #[error("{}", jwk_detail(.0))]
    DpopKey(JwkError),
    /// The key of the certificate.
    #[error(transparent)]
    NotFree(#[from] KeyTrouble),
    /// The certificate is revoked, its key is not.
    #[error("this certificate was revoked or superseded; bring a new one")]
    Revoked,
    /// Of the two kinds of agents it is the other one.
    #[error(
        "agent {0} already enrolled, and SPIFFE agents cannot become others or the reverse; enroll it under another name"
    )]
    OtherMethod(AgentId),
    /// Enrolled already, and switched off or revoked since.
    #[error(
        "agent {0} already enrolled, and switched off or revoked since; send update_existing to bring it back"
    )]
    SwitchedOff(AgentId),
    /// Enrolled already.
    #[error("agent {0} already enrolled")]
    Enrolled(AgentId),
    /// Made already.
    #[error("agent '{0}' already registered")]
    Registered(AgentId),
    /// People would take it for another one.
    #[error("there is an agent {0} already; two names that differ in upper and lower case only are refused")]
    Lookalike(AgentId),
    /// It was the id of a deleted agent.
    #[error(transparent)]
    Buried(#[from] Buried),
    /// There is no CA to issue with.
    #[error("agent manager not initialized — Org CA not loaded")]
    NoIssuer,
    /// Issuing is halted.
    #[error(transparent)]
    Halted(#[from] Halt),
    /// Something of ours.
    #[error("{0}")]
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

impl EnrollError {
    pub(super) fn of_path(fields: Fields, error: PathError) -> Self {
        match error {
            PathError::UnknownIssuer => Self::Path(fields, error),
            error => Self::Unfit(fields, error),
        }
    }
}

impl Refusal for EnrollError {
    fn status(&self) -> u16 {
        match self {
            Self::Enrolled(_) | Self::Registered(_) | Self::OtherMethod(_) | Self::Lookalike(_) => 409,
            Self::NotFree(_)
            | Self::SwitchedOff(_)
            | Self::Buried(_)
            | Self::Revoked
            | Self::OldSvid { .. }
            | Self::SpiffeIdTaken { .. } => 409,
            Self::NoIssuer | Self::Halted(_) | Self::NoBundle(_) => 503,
            Self::Outage(outage) => outage.status(),
            _ => 400,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Certificate(..) => "cert_invalid",
            Self::Key(_) => "key_invalid",
            Self::KeyMismatch(_) | Self::RequestMismatch(_) => "key_mismatch",
            Self::HalfPair => "half_pair",
            Self::Request(_) => "csr_invalid",
            Self::Proof(_) => "possession_not_proved",
            Self::SecondLeaf(_) => "second_leaf",
            Self::Path(_, error) | Self::Unfit(_, error) => error.reason(),
            Self::WeakKey(_) => "key_weak",
            Self::Identity { .. } | Self::SvidOfAnother { .. } => "identity_mismatch",
            Self::TrustDomain { .. } => "trust_domain_mismatch",
            Self::SeveralSpiffeIds => "several_spiffe_ids",
            Self::NoSpiffeId => "svid_without_spiffe_id",
            Self::OldSvid { .. } => "svid_of_before_revocation",
            Self::SpiffeIdTaken { .. } => "spiffe_id_taken",
            Self::NoBundle(_) => "no_spire_bundle",
            Self::BundleUnreadable(_) => "bundle_unreadable",
            Self::Bundle(error) => error.reason(),
            Self::DpopKey(_) => "dpop_jwk_invalid",
            Self::Enrolled(_) | Self::Registered(_) => "already_exists",
            Self::OtherMethod(_) => "other_method",
            Self::Lookalike(_) => "agent_id_lookalike",
            Self::Buried(_) => "agent_decommissioned",
            Self::NotFree(trouble) => trouble.reason(),
            Self::SwitchedOff(_) => "switched_off",
            Self::Revoked => "certificate_revoked",
            Self::NoIssuer => "no_issuer",
            Self::Halted(_) => "signing_halted",
            Self::Outage(outage) => outage.reason(),
        }
    }
}
