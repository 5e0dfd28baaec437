//! Why an enrolment did not go on.

use mastio_core::{AgentId, OrgId};
use mastio_jose::JwkError;
use mastio_pki::PublicKeyError;
use mastio_store::ReadError;
use serde_json::{Value, json};

use crate::{
    Outage, Refusal,
    decommission::Buried,
    enroll::jwk_detail,
    lifecycle::{KeyTrouble, LifecycleError},
};

/// Why an enrolment by device code did not go on. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// No such session.
    #[error("Enrollment session not found")]
    NotFound,
    /// The key to be certified.
    #[error("Invalid public key PEM: {0}")]
    Key(#[from] PublicKeyError),
    /// Whoever sent the key did not prove to have its private half.
    #[error(
        "pop_signature does not verify against pubkey_pem, sign enrollment-pop:v1|<SHA-256 of the key's DER in hex> \
         with its private key"
    )]
    Possession,
    /// Nobody has proved it yet.
    #[error(
        "the requester has not yet shown that it holds the key; it does when it next asks for the outcome"
    )]
    Unproven,
    /// The DPoP key.
    #[error("{}", jwk_detail(.0))]
    DpopKey(JwkError),
    /// Half of an attestation.
    #[error("tpm_quote_b64 and attestation_nonce_id must both be supplied (or both omitted)")]
    HalfQuote,
    /// The key that should be certified.
    #[error(transparent)]
    NotFree(#[from] KeyTrouble),
    /// Nobody decides what is there.
    #[error("too many enrollments wait for a decision; try again when an operator has looked at them")]
    Full,
    /// Somebody decided before, or it is too late.
    #[error("Cannot {verb} an enrollment in status '{status}'")]
    Decided {
        /// What was asked for.
        verb: &'static str,
        /// How it stands.
        status: &'static str,
    },
    /// No agent of ours can have this name.
    #[error(
        "agent_id must be a name such as kyc-screener, or {0}::kyc-screener: 1 to 64 letters, digits, '.', '_' or '-', \
         and neither '.' nor '..'"
    )]
    Name(OrgId),
    /// People would take it for another one.
    #[error("there is an agent {0} already; two names that differ in upper and lower case only are refused")]
    Lookalike(AgentId),
    /// It was the id of a deleted agent.
    #[error(transparent)]
    Buried(#[from] Buried),
    /// The agent cannot have another certificate, or none can be made.
    #[error(transparent)]
    Agent(#[from] LifecycleError),
}

impl From<Outage> for DeviceError {
    fn from(outage: Outage) -> Self {
        Self::Agent(outage.into())
    }
}

impl From<ReadError> for DeviceError {
    fn from(error: ReadError) -> Self {
        Outage::from(error).into()
    }
}

impl Refusal for DeviceError {
    fn status(&self) -> u16 {
        match self {
            Self::NotFound => 404,
            Self::Key(_) | Self::Possession | Self::DpopKey(_) | Self::HalfQuote => 400,
            Self::Unproven | Self::NotFree(_) => 409,
            Self::Lookalike(_) | Self::Buried(_) | Self::Decided { .. } => 409,
            Self::Name(_) => 422,
            Self::Full => 503,
            Self::Agent(error) => error.status(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NotFound => "enrollment_not_found",
            Self::Key(_) => "pubkey_invalid",
            Self::Possession => "possession_not_proved",
            Self::Unproven => "possession_not_shown",
            Self::DpopKey(_) => "dpop_jwk_invalid",
            Self::HalfQuote => "attestation_incomplete",
            Self::NotFree(trouble) => trouble.reason(),
            Self::Full => "enrollments_full",
            Self::Decided { .. } => "enrollment_decided",
            Self::Name(_) => "agent_id_invalid",
            Self::Lookalike(_) => "agent_id_lookalike",
            Self::Buried(_) => "agent_decommissioned",
            Self::Agent(error) => error.reason(),
        }
    }

    fn detail(&self) -> Value {
        match self {
            Self::Name(_) => json!([{
                "type": "value_error", "loc": ["body", "agent_id"], "msg": self.to_string(), "input": null,
            }]),
            error => error.to_string().into(),
        }
    }
}
