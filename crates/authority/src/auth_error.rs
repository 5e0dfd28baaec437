//! Why a caller is not let in, and what each reason looks like to clients (contract `auth.md` §2, §3, §6).

use mastio_jose::{AssertionError, DpopError, TokenError};
use serde_json::{Value, json};

use crate::{Outage, Refusal};

/// Why a caller is not let in.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuthError {
    /// No client certificate, or the proxy did not verify it.
    #[error("client certificate required")]
    NotVerified {
        /// What the proxy said, or why the path does not hold.
        presented: String,
    },
    /// The proxy says SUCCESS and forwards nothing.
    #[error("the proxy verified a client certificate but did not forward it")]
    HeaderMissing,
    /// It does not parse.
    #[error("the client certificate is not a valid X.509 PEM")]
    InvalidPem,
    /// Neither SAN nor CN name a principal.
    #[error("the client certificate names no agent")]
    NoIdentity {
        /// Its URI SANs.
        sans: Vec<String>,
        /// Its serial.
        serial: String,
    },
    /// Of another organisation.
    #[error("the client certificate belongs to another organisation")]
    OrgMismatch {
        /// Ours.
        expected: String,
        /// Theirs.
        presented: String,
        /// The name within it.
        agent_name: String,
    },
    /// Of a CA of ours that another one took the place of in one cut.
    #[error(
        "this certificate was issued under an Org CA that has been replaced; get a new one: an operator's rotate-cert, another enrolment, or, if the organisation's own CA makes it, enrol with update_existing"
    )]
    CaRotated {
        /// The id in it.
        agent_id: String,
    },
    /// No active row.
    #[error("agent not registered or deactivated")]
    Unknown {
        /// The id.
        agent_id: String,
    },
    /// Users and workloads have no rows yet.
    #[error("this kind of principal cannot log in here")]
    TypedPrincipal {
        /// The id.
        principal_id: String,
        /// Its kind.
        kind: &'static str,
    },
    /// The row has no certificate.
    #[error("no certificate is pinned for this agent")]
    NoPin {
        /// The id.
        agent_id: String,
    },
    /// Another certificate is pinned.
    #[error("the client certificate is not the one pinned for this agent")]
    PinMismatch {
        /// The id.
        agent_id: String,
        /// The presented serial.
        serial: String,
        /// The presented URI SANs.
        sans: Vec<String>,
    },
    /// Revoked, not merely switched off.
    #[error("Certificate has been revoked")]
    Revoked {
        /// The id.
        agent_id: String,
    },
    /// The DPoP proof.
    #[error(transparent)]
    Dpop(#[from] DpopError),
    /// More than one `DPoP` header.
    #[error("Invalid DPoP proof: more than one DPoP header")]
    SeveralProofs,
    /// The proof's key is not the agent's.
    #[error("DPoP proof was signed by a key not registered for this agent.")]
    KeyNotRegistered,
    /// Proofs are required and the agent has no key.
    #[error(
        "Agent has no DPoP key registered. Re-enroll the Connector so it can publish its JWK thumbprint."
    )]
    NoKeyRegistered,
    /// Proofs are required and none came.
    #[error("DPoP proof header required")]
    ProofRequired,
    /// The token.
    #[error("{}", .0.detail())]
    Token(TokenError),
    /// The token is of an older epoch.
    #[error("local token rejected")]
    TokenEnded,
    /// The token is bound to a key and no proof came.
    #[error("LOCAL_TOKEN is DPoP-bound but no DPoP proof presented")]
    TokenProofMissing,
    /// The proof's key is not the token's.
    #[error("DPoP proof key does not match LOCAL_TOKEN cnf.jkt")]
    TokenKeyMismatch,
    /// The assertion.
    #[error(transparent)]
    Assertion(#[from] AssertionError),
    /// Its certificates do not lead to us.
    #[error("x509 chain: {0}")]
    AssertionChain(String),
    /// It speaks for somebody else than its certificate.
    #[error("sub does not match client cert")]
    AssertionSubject,
    /// It and the TLS certificate belong to different agents.
    #[error("the client assertion and the TLS client certificate belong to different agents")]
    AssertionPeer,
    /// Used before.
    #[error("assertion: already used; sign a new one")]
    AssertionReplayed,
    /// No room to remember the proof.
    #[error("too many proofs at the moment; try again in a minute")]
    ReplayMemoryFull,
    /// An API key, which is not a credential any more.
    #[error("API keys are not accepted; authenticate with the agent's client certificate (mTLS)")]
    ApiKey,
    /// The database.
    #[error("{0}")]
    Outage(#[from] Outage),
}

impl From<TokenError> for AuthError {
    fn from(error: TokenError) -> Self {
        Self::Token(error)
    }
}

impl AuthError {
    /// The facts that go with the reason in the answer, for errors that clients read as an object.
    fn facts(&self) -> Option<Value> {
        Some(match self {
            Self::NotVerified { presented } => json!({ "presented_verify": presented }),
            Self::HeaderMissing | Self::InvalidPem => json!({}),
            Self::NoIdentity { sans, serial } => json!({ "cert_san": sans, "cert_serial": serial }),
            Self::OrgMismatch { expected, presented, agent_name } => {
                json!({ "expected_org": expected, "presented_org": presented, "agent_name": agent_name })
            }
            Self::Unknown { agent_id } | Self::NoPin { agent_id } | Self::CaRotated { agent_id } => {
                json!({ "agent_id": agent_id })
            }
            Self::PinMismatch { agent_id, serial, sans } => {
                json!({ "agent_id": agent_id, "cert_serial": serial, "cert_san": sans })
            }
            Self::TypedPrincipal { principal_id, kind } => {
                json!({ "principal_id": principal_id, "principal_kind": kind })
            }
            _ => return None,
        })
    }

    /// Whether the answer must carry a fresh `DPoP-Nonce` and its challenge.
    #[must_use]
    pub fn wants_nonce(&self) -> bool {
        matches!(self, Self::Dpop(DpopError::UseNonce))
    }

    /// Whether our public URL and the client's disagree.
    #[must_use]
    pub fn is_htu_mismatch(&self) -> bool {
        matches!(self, Self::Dpop(DpopError::Url { .. }))
    }
}

impl Refusal for AuthError {
    fn status(&self) -> u16 {
        match self {
            Self::Outage(outage) => outage.status(),
            Self::ReplayMemoryFull => 503,
            _ => 401,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NotVerified { .. } => "client_cert_not_verified",
            Self::HeaderMissing => "client_cert_header_missing",
            Self::InvalidPem => "client_cert_invalid_pem",
            Self::NoIdentity { .. } => "client_cert_no_parseable_identity",
            Self::OrgMismatch { .. } => "client_cert_org_mismatch",
            Self::CaRotated { .. } => "ca_rotated",
            Self::Unknown { .. } => "agent_unknown_or_inactive",
            Self::TypedPrincipal { .. } => "typed_principal_unknown",
            Self::NoPin { .. } => "agent_cert_pin_unavailable",
            Self::PinMismatch { .. } => "client_cert_pin_mismatch",
            Self::Revoked { .. } => "certificate_revoked",
            Self::Dpop(error) => error.reason(),
            Self::SeveralProofs => "dpop_several_headers",
            Self::KeyNotRegistered => "dpop_key_not_registered",
            Self::NoKeyRegistered => "dpop_no_key_registered",
            Self::ProofRequired | Self::TokenProofMissing => "dpop_missing",
            Self::Token(error) => error.reason(),
            Self::TokenEnded => "token_epoch_ended",
            Self::TokenKeyMismatch => "dpop_key_mismatch",
            Self::Assertion(error) => error.reason(),
            Self::AssertionChain(_) => "assertion_chain",
            Self::AssertionSubject => "assertion_sub_mismatch",
            Self::AssertionPeer => "assertion_peer_mismatch",
            Self::AssertionReplayed => "assertion_replayed",
            Self::ReplayMemoryFull => "replay_memory_full",
            Self::ApiKey => "api_key_unsupported",
            Self::Outage(outage) => outage.reason(),
        }
    }

    fn detail(&self) -> Value {
        let Some(Value::Object(mut detail)) = self.facts() else { return Value::String(self.to_string()) };
        detail.insert("reason".into(), self.reason().into());
        detail.insert("hint".into(), self.to_string().into());
        detail.insert("docs".into(), "docs/troubleshooting.md".into());
        Value::Object(detail)
    }
}
