//! Finding others: peers, recipients, certificates and keys (contract `calls.md` §4).

use mastio_authority::{Outage, Refusal, authenticate::Caller};
use mastio_core::{AgentId, SpiffeId, Thumbprint};
use mastio_pki::Certificate;
use mastio_store::agents::{self, AgentRow};
use serde::Serialize;

use crate::{Gateway, Path, ReachDenied, RecipientError, UnknownRecipient, reach};

/// Most rows of a peer list; also what a limit of 0 stands for.
const MAX_PEERS: u32 = 1000;
/// Longest search text in characters.
const MAX_NEEDLE: usize = 256;

/// Somebody to talk to: a row of `GET /v1/egress/peers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// `<org>::<name>`.
    pub agent_id: AgentId,
    /// Its organisation.
    pub org_id: String,
    /// What people call it.
    pub display_name: String,
    /// Its capabilities.
    pub capabilities: Vec<String>,
    /// Nothing stores one yet; clients expect the key.
    pub description: Option<String>,
    /// Always `active`: others are not listed.
    pub status: &'static str,
    /// Where it is.
    pub scope: Path,
}

impl From<AgentRow> for Peer {
    fn from(row: AgentRow) -> Self {
        Self {
            org_id: row.id.org().to_owned(),
            agent_id: row.id,
            display_name: row.display_name,
            capabilities: row.capabilities,
            description: None,
            status: "active",
            scope: Path::IntraOrg,
        }
    }
}

/// Why there is no peer list.
#[derive(Debug, thiserror::Error)]
pub enum PeersError {
    /// The search text is too long.
    #[error("q has more than {MAX_NEEDLE} characters; search for less")]
    Needle,
    /// Something of ours.
    #[error("{0}")]
    Outage(#[from] Outage),
}

impl Refusal for PeersError {
    fn status(&self) -> u16 {
        match self {
            Self::Needle => 422,
            Self::Outage(outage) => outage.status(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Needle => "q_too_long",
            Self::Outage(outage) => outage.reason(),
        }
    }
}

/// How a recipient is reached: the answer of `POST /v1/egress/resolve`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Resolved {
    /// Where it is.
    pub path: Path,
    /// Its name without the organisation; clients put that in front again.
    pub target_agent_id: String,
    /// Its organisation.
    pub target_org_id: String,
    /// Its SPIFFE id, as registered or as the caller wrote it.
    pub target_spiffe: Option<SpiffeId>,
    /// `mtls-only` within the organisation, else `envelope`.
    pub transport: &'static str,
    /// Whether payloads are looked into on their way: never.
    pub egress_inspection: bool,
    /// Its certificate in PEM, if it is ours.
    pub target_cert_pem: Option<String>,
}

/// Why a recipient is not resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Not a recipient.
    #[error("invalid recipient_id")]
    Recipient(#[from] RecipientError),
    /// Beyond the caller's reach.
    #[error(transparent)]
    Reach(#[from] ReachDenied),
    /// Nobody of ours.
    #[error(transparent)]
    NotFound(#[from] UnknownRecipient),
    /// Something of ours.
    #[error("{0}")]
    Outage(#[from] Outage),
}

impl Refusal for ResolveError {
    fn status(&self) -> u16 {
        match self {
            Self::Recipient(_) => 400,
            Self::Reach(_) => 403,
            Self::NotFound(_) => 404,
            Self::Outage(outage) => outage.status(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Recipient(_) => "recipient_invalid",
            Self::Reach(_) => ReachDenied::REASON,
            Self::NotFound(_) => "recipient_unknown",
            Self::Outage(outage) => outage.reason(),
        }
    }
}

/// The answer of `GET /v1/egress/agents/{id}/public-key`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AgentCertificate {
    /// `<org>::<name>`.
    pub agent_id: AgentId,
    /// Its leaf in PEM; `None` when none is pinned.
    pub cert_pem: Option<String>,
}

/// Why there is no certificate to show.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Not an agent id.
    #[error("invalid agent_id")]
    Id(#[from] RecipientError),
    /// Not an active agent of ours.
    #[error("intra-org agent not found: {0}")]
    NotFound(String),
    /// Something of ours.
    #[error("{0}")]
    Outage(#[from] Outage),
}

impl Refusal for CertificateError {
    fn status(&self) -> u16 {
        match self {
            Self::Id(_) => 400,
            Self::NotFound(_) => 404,
            Self::Outage(outage) => outage.status(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Id(_) => "agent_id_invalid",
            Self::NotFound(_) => "not_found",
            Self::Outage(outage) => outage.reason(),
        }
    }
}

/// The answer of `GET /v1/federation/agents/{id}/public-key`: the key bare, and the certificate that verifiers need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AgentKey {
    /// `<org>::<name>`.
    pub agent_id: AgentId,
    /// Its key, SubjectPublicKeyInfo in PEM.
    pub public_key_pem: String,
    /// Its leaf in PEM.
    pub cert_pem: String,
    /// SHA-256 of the leaf's DER.
    pub cert_thumbprint: Thumbprint,
    /// Always `local`.
    pub scope: &'static str,
}

/// Why there is no key to show. Asked without credentials, so it tells as little as it can.
#[derive(Debug, thiserror::Error)]
pub enum PublicKeyError {
    /// Not an active agent of ours with a certificate.
    #[error("agent not found")]
    NotFound,
    /// Something of ours.
    #[error("{0}")]
    Outage(#[from] Outage),
}

impl Refusal for PublicKeyError {
    fn status(&self) -> u16 {
        match self {
            Self::NotFound => 404,
            Self::Outage(outage) => outage.status(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Outage(outage) => outage.reason(),
        }
    }
}

impl Gateway {
    /// Active agents that the caller may reach, without itself, by display name. `needle` is looked for in ids and
    /// display names; at most `limit` rows, 1000 when that is 0 or more.
    ///
    /// # Errors
    /// When `needle` has more than 256 characters, or the database cannot be read.
    pub async fn peers(
        &self,
        caller: &Caller,
        needle: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Peer>, PeersError> {
        if needle.is_some_and(|text| text.chars().count() > MAX_NEEDLE) {
            return Err(PeersError::Needle);
        }
        if !reach::extends(caller.agent.row.reach, Path::IntraOrg) {
            return Ok(vec![]);
        }
        let limit = if limit == 0 { MAX_PEERS } else { limit.min(MAX_PEERS) };
        let found = agents::peers(self.authority.store(), caller.agent.id(), needle, limit).await;
        Ok(found.map_err(Outage::from)?.into_iter().map(Peer::from).collect())
    }

    /// How `recipient_id` is reached. Somebody elsewhere is not looked up: there is nobody to ask.
    ///
    /// # Errors
    /// [`ResolveError`].
    pub async fn resolve(&self, caller: &Caller, recipient_id: &str) -> Result<Resolved, ResolveError> {
        let recipient = self.recipient(recipient_id)?;
        reach::check(caller.agent.row.reach, &recipient)?;
        let (target_agent_id, target_org_id) = (recipient.local_name(), recipient.principal.org.to_string());
        if recipient.path == Path::CrossOrg {
            return Ok(Resolved {
                path: Path::CrossOrg,
                target_agent_id,
                target_org_id,
                target_spiffe: recipient.spiffe_id,
                transport: "envelope",
                egress_inspection: false,
                target_cert_pem: None,
            });
        }
        let found = self.active_agent(&recipient.principal).await?;
        let agent = found.ok_or(UnknownRecipient(recipient.principal))?;
        Ok(Resolved {
            path: Path::IntraOrg,
            target_agent_id,
            target_org_id,
            target_spiffe: agent.row.spiffe_id.clone().or(recipient.spiffe_id),
            transport: "mtls-only",
            egress_inspection: false,
            target_cert_pem: agent.certificates.first().map(Certificate::pem),
        })
    }

    /// The certificate of an active agent of ours, `<org>::<name>` or its SPIFFE id.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub async fn certificate_of(&self, agent_id: &str) -> Result<AgentCertificate, CertificateError> {
        let recipient = self.recipient(agent_id)?;
        let found = match recipient.path {
            Path::IntraOrg => self.active_agent(&recipient.principal).await?,
            Path::CrossOrg => None,
        };
        let agent = found.ok_or_else(|| CertificateError::NotFound(agent_id.to_owned()))?;
        let cert_pem = agent.certificates.first().map(Certificate::pem);
        Ok(AgentCertificate { agent_id: agent.id().clone(), cert_pem })
    }

    /// The key of an active agent of ours, for those who verify its messages without calling as an agent.
    ///
    /// # Errors
    /// [`PublicKeyError`].
    pub async fn public_key(&self, agent_id: &str) -> Result<AgentKey, PublicKeyError> {
        let recipient = self.recipient(agent_id).map_err(|_| PublicKeyError::NotFound)?;
        if recipient.path == Path::CrossOrg {
            return Err(PublicKeyError::NotFound);
        }
        let agent = self.active_agent(&recipient.principal).await?.ok_or(PublicKeyError::NotFound)?;
        let leaf = agent.certificates.first().ok_or(PublicKeyError::NotFound)?;
        Ok(AgentKey {
            agent_id: agent.id().clone(),
            public_key_pem: leaf.spki_pem(),
            cert_pem: leaf.pem(),
            cert_thumbprint: leaf.thumbprint(),
            scope: "local",
        })
    }
}
