//! Why an agent's credentials were not changed.

use std::time::Duration;

use mastio_core::{AgentId, OrgId};
use mastio_jose::JwkError;
use mastio_pki::{CsrError, PublicKeyError};

use super::KeyTrouble;
use crate::{Outage, Refusal, limits::OverLimit, trust::Halt};

/// Why an agent's credentials were not changed. Nothing was.
#[derive(Debug, thiserror::Error)]
pub enum LifecycleError {
    /// No such agent, or not in the state that the change is for.
    #[error("{0}")]
    NotFound(&'static str),
    /// Its certificate is revoked, so switching it on is not enough.
    #[error("agent {0} is revoked; give it a new certificate with rotate-cert, which also switches it on")]
    Revoked(AgentId),
    /// The same of an agent whose certificates SPIRE makes.
    #[error("agent {0} is revoked; enroll it with a new SVID and update_existing, which also switches it on")]
    RevokedSvid(AgentId),
    /// SPIRE makes its certificates.
    #[error("the certificate of {0} is an SVID; SPIRE rotates it, see its registration entry")]
    OwnedBySpire(AgentId),
    /// Its organisation's own CA makes its certificates.
    #[error(
        "the certificate of {0} comes from its organisation's own CA; issue the next one there and enrol it with update_existing"
    )]
    OwnedByOrganisation(AgentId),
    /// A row that an adopted database holds of somebody else's agent.
    #[error(
        "agent {agent} is not of {ours}, and no certificate is made here for agents of others; create it as an agent of {ours}"
    )]
    OtherOrganisation {
        /// The agent.
        agent: AgentId,
        /// Our organisation.
        ours: OrgId,
    },
    /// The certificate that was presented is not the pinned one any more.
    #[error(
        "this certificate was replaced; renew with the one that replaced it, or ask an operator for rotate-cert"
    )]
    Replaced,
    /// The key that should be certified.
    #[error(transparent)]
    NotFree(#[from] KeyTrouble),
    /// The certificate request.
    #[error("csr_pem cannot be used: {0}")]
    Request(#[from] CsrError),
    /// The client's own key.
    #[error("pubkey_pem cannot be used: {0}")]
    Key(#[from] PublicKeyError),
    /// Its owner did not prove to have the private half.
    #[error("pop_signature does not verify against pubkey_pem")]
    Possession,
    /// Two keys for one certificate.
    #[error("send either csr_pem, or pubkey_pem with pop_signature")]
    TwoKeys,
    /// A period of grace that is longer than the setting allows.
    #[error("grace_hours is at most {most}, see MCP_PROXY_AGENT_CERT_GRACE_PERIOD_HOURS")]
    Grace {
        /// The most, in hours.
        most: u64,
    },
    /// No DPoP key at all.
    #[error("jwk must be a non-empty object")]
    NoDpopKey,
    /// The DPoP key.
    #[error("{}", jwk_detail(.0))]
    DpopKey(JwkError),
    /// There is no CA to issue with.
    #[error("agent manager not initialized — Org CA not loaded")]
    NoIssuer,
    /// Issuing is halted.
    #[error(transparent)]
    Halted(#[from] Halt),
    /// The agent renewed too often.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    /// Something of ours.
    #[error("{0}")]
    Outage(#[from] Outage),
}

/// As the route words it that is sent nothing but a JWK (contract `enrollment.md` §4).
fn jwk_detail(error: &JwkError) -> String {
    match error {
        JwkError::PrivateMaterial => {
            "private key material ('d') rejected — send the public members only".into()
        }
        JwkError::UnsupportedKeyType(kty) => {
            format!("unsupported kty '{kty}' — expected 'EC' (P-256) or 'RSA'")
        }
        JwkError::Malformed(what) => format!("malformed JWK: {what}"),
    }
}

impl Refusal for LifecycleError {
    fn status(&self) -> u16 {
        match self {
            Self::NotFound(_) => 404,
            Self::Replaced => 403,
            Self::OtherOrganisation { .. } => 409,
            Self::Revoked(_)
            | Self::RevokedSvid(_)
            | Self::OwnedBySpire(_)
            | Self::OwnedByOrganisation(_)
            | Self::NotFree(_) => 409,
            Self::Request(_)
            | Self::Key(_)
            | Self::Possession
            | Self::TwoKeys
            | Self::Grace { .. }
            | Self::NoDpopKey
            | Self::DpopKey(_) => 400,
            Self::OverLimit(over) => over.status(),
            Self::NoIssuer | Self::Halted(_) => 503,
            Self::Outage(outage) => outage.status(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "not_found",
            Self::Revoked(_) | Self::RevokedSvid(_) => "agent_revoked",
            Self::OwnedBySpire(_) => "owned_by_spire",
            Self::OwnedByOrganisation(_) => "owned_by_organisation",
            Self::OtherOrganisation { .. } => "org_mismatch",
            Self::Replaced => "certificate_replaced",
            Self::NotFree(trouble) => trouble.reason(),
            Self::Request(_) => "csr_invalid",
            Self::Key(_) => "pubkey_invalid",
            Self::Possession => "possession_not_proved",
            Self::TwoKeys => "two_keys",
            Self::Grace { .. } => "grace_too_long",
            Self::NoDpopKey | Self::DpopKey(_) => "dpop_jwk_invalid",
            Self::NoIssuer => "no_issuer",
            Self::Halted(_) => "signing_halted",
            Self::OverLimit(over) => over.reason(),
            Self::Outage(outage) => outage.reason(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::OverLimit(over) => over.retry_after(),
            _ => None,
        }
    }
}
