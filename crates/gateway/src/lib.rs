//! Use cases of calls: who may reach whom, messages (contract `calls.md` §3, §4, §7).
//!
//! [`Gateway`] is the whole; each use case is a module that adds methods to it. A message goes [`Outgoing`] → [`send`]
//! → the recipient's [`inbox`]. Who is calling was settled before, by [`mastio_authority::authenticate`].

pub mod directory;
pub mod inbox;
mod outgoing;
mod reach;
mod recipient;
pub mod search;
pub mod send;

use std::sync::Arc;

use mastio_authority::{Authority, Outage, registry::Agent};
use mastio_core::Principal;

pub use outgoing::{Mode, Outgoing};
pub use reach::ReachDenied;
pub use recipient::{Path, Recipient, RecipientError, UnknownRecipient};

/// What agents do with each other, on top of what the authority knows about them.
#[derive(Debug, Clone)]
pub struct Gateway {
    authority: Arc<Authority>,
}

impl Gateway {
    /// A gateway between the agents of `authority`.
    #[must_use]
    pub fn new(authority: Arc<Authority>) -> Self {
        Self { authority }
    }

    /// Reads a recipient as seen from our organisation and trust domain.
    fn recipient(&self, text: &str) -> Result<Recipient, RecipientError> {
        let trust = self.authority.trust();
        Recipient::parse(text, &trust.org, &trust.domain)
    }

    /// The agent `principal`, if it is one and may act. Users and workloads have no rows.
    async fn active_agent(&self, principal: &Principal) -> Result<Option<Arc<Agent>>, Outage> {
        let Some(id) = principal.agent_id() else { return Ok(None) };
        let agent = self.authority.registry().find(&id).await?;
        Ok(agent.filter(|agent| agent.is_active()))
    }
}
