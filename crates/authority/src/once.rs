//! Requests that may be sent again: `Idempotency-Key` (contract `enrollment.md`, "better than both" 12).
//!
//! The unit that enrols an agent remembers the key too, so they cannot disagree. What is remembered are hashes and whose
//! certificate it was: a repeated request is answered from the rows as they are, and gets a private key only if it is
//! in escrow.

use std::time::Duration;

use mastio_core::{AgentId, Stamp, Thumbprint, sha256};
use mastio_store::{
    Statement, Unit, WriteError,
    agents::{self, AgentRow},
    config,
    idempotency::{self, Remembered},
};
use secrecy::SecretString;

use crate::{Authority, Outage, Refusal, lifecycle::current_leaf};

/// How often keys whose time is over are forgotten.
pub(crate) const PURGE_EVERY: Duration = Duration::from_secs(3600);

/// A request with a key, as hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    key_sha256: String,
    request_sha256: String,
}

impl Once {
    /// The request `request` to `operation` with the key `key`. One key may serve several operations.
    #[must_use]
    pub fn new(operation: &str, key: &[u8], request: &[u8]) -> Self {
        let named = [operation.as_bytes(), &[0], key].concat();
        Self { key_sha256: hex::encode(sha256(&named)), request_sha256: hex::encode(sha256(request)) }
    }

    /// `at` is also when the agent was made, if it was.
    pub(crate) fn remember(&self, agent: &AgentId, thumbprint: Thumbprint, at: Stamp) -> Statement {
        let request_sha256 = self.request_sha256.clone();
        let remembered = Remembered { request_sha256, agent: agent.clone(), thumbprint, at };
        idempotency::remember(&self.key_sha256, &remembered)
    }
}

/// The agent that a request brought in when it was sent before.
#[derive(Debug)]
pub struct Replayed {
    /// The agent as it is now.
    pub agent: AgentRow,
    /// Whether it was here before, and only its certificate was new.
    pub re_pinned: bool,
    /// The certificate that it came in with.
    pub thumbprint: Thumbprint,
    /// That certificate and what followed it, in PEM, if it is still the pinned one.
    pub certificates: Option<String>,
    /// When that certificate ends.
    pub not_after: Option<Stamp>,
    /// Its key in PEM, if it is in escrow.
    pub key: Option<SecretString>,
    /// Its public DPoP key as JSON, if it is known.
    pub dpop_jwk: Option<String>,
}

/// Why a request with a key is not answered as before.
#[derive(Debug, thiserror::Error)]
pub enum OnceError {
    /// The key was used for something else.
    #[error("this Idempotency-Key was used for another request; use another key, or send the same request")]
    OtherRequest,
    /// The agent that came in is gone.
    #[error("the agent that this Idempotency-Key brought in is gone; use another key")]
    Gone,
    /// Something of ours.
    #[error("{0}")]
    Outage(#[from] Outage),
}

impl Refusal for OnceError {
    fn status(&self) -> u16 {
        match self {
            Self::OtherRequest => 422,
            Self::Gone => 404,
            Self::Outage(outage) => outage.status(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::OtherRequest => "idempotency_key_reused",
            Self::Gone => "not_found",
            Self::Outage(outage) => outage.reason(),
        }
    }
}

impl Authority {
    /// What `once` led to when it was sent before; `None` when it was not, or too long ago.
    ///
    /// # Errors
    /// When its key was used for another request.
    pub async fn replayed(&self, once: &Once) -> Result<Option<Replayed>, OnceError> {
        let found = idempotency::find(&self.store, &once.key_sha256, self.clock.now()).await;
        let Some(remembered) = found.map_err(Outage::from)? else { return Ok(None) };
        if remembered.request_sha256 != once.request_sha256 {
            return Err(OnceError::OtherRequest);
        }
        let row = agents::find(&self.store, &remembered.agent).await.map_err(Outage::from)?;
        let agent = row.ok_or(OnceError::Gone)?;
        let Remembered { thumbprint, at, .. } = remembered;
        let pinned = current_leaf(&agent).filter(|leaf| leaf.thumbprint() == thumbprint);
        let (certificates, key) = match &pinned {
            Some(_) => (agent.certificates.clone(), self.escrowed(&agent.id).await?),
            None => (None, None),
        };
        let dpop_jwk = match agent.dpop_jkt {
            Some(jkt) => agents::jwk(&self.store, jkt).await.map_err(Outage::from)?,
            None => None,
        };
        let not_after = pinned.map(|leaf| leaf.not_after());
        let re_pinned = agent.created_at != at;
        Ok(Some(Replayed { agent, re_pinned, thumbprint, certificates, not_after, key, dpop_jwk }))
    }

    async fn escrowed(&self, id: &AgentId) -> Result<Option<SecretString>, Outage> {
        let (name, database) = (agents::key_name(id), std::sync::Arc::clone(self.store.database()));
        let read =
            move || Ok(config::get(&database, &name)?.map(|stored| (name, SecretString::from(stored))));
        let stored: Result<_, Outage> = tokio::task::spawn_blocking(read).await.map_err(Outage::internal)?;
        let unwrap = |(name, stored): (String, SecretString)| self.custody.unwrap(&name, &stored);
        stored?.map(unwrap).transpose().map_err(Outage::internal)
    }

    /// Forgets keys whose time is over.
    pub(crate) async fn forget_keys(&self) -> Result<(), WriteError> {
        self.commit(Unit::default().write(idempotency::purge(self.clock.now()))).await.map(drop)
    }
}
