//! Incident response in one call: an agent is revoked, and the evidence is handed out with the answer.

use mastio_core::{AgentId, Event, event::catalogue};
use mastio_store::{
    Unit,
    audit::{self, Entry, Newest},
    revocations::{self, Revocation},
};

use crate::{
    Authority, Outage,
    admin::Operator,
    crl::ListFacts,
    lifecycle::{LifecycleError, Revoked},
};

/// How many audit entries about the agent are handed out.
pub const ENTRIES: u32 = 200;

/// An agent that was contained, with what proves it.
#[derive(Debug)]
pub struct Contained {
    /// The revocation, this one or the one of before.
    pub revocation: Revoked,
    /// Every certificate of the agent that is revoked.
    pub certificates: Vec<Revocation>,
    /// In which revocation lists those are or will be.
    pub lists: Vec<Carrier>,
    /// What the audit log says about the agent, newest first, at most [`ENTRIES`].
    pub entries: Vec<Entry>,
    /// The newest entry of the chain.
    pub head: Option<Newest>,
}

/// The revocation list that carries a revocation.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Carrier {
    /// The subject key identifier of its issuer, in hex.
    pub issuer_key_id: String,
    /// The number of the list: of the one that is published if it has the revocation, else of the next one.
    pub number: i64,
    /// Whether that list is published. If not, it will be within a second.
    pub published: bool,
}

impl Authority {
    /// Revokes `id` with everything that hangs on it, unless it is revoked, and collects the evidence.
    ///
    /// # Errors
    /// When there is no such agent.
    pub async fn contain(
        &self,
        id: &AgentId,
        reason: Option<&str>,
        operator: &Operator,
    ) -> Result<Contained, LifecycleError> {
        let revocation = self.revoke(id, reason, operator).await?;
        let event = catalogue::IncidentContained {
            reason: reason.map(str::to_owned),
            already_revoked: revocation.already,
            by: operator.fingerprint.clone(),
        };
        self.commit(Unit::of(Event::new(&event).about(id.as_str()))).await.map_err(Outage::from)?;
        let certificates = revocations::of(&self.store, id).await.map_err(Outage::from)?;
        Ok(Contained {
            lists: self.carriers(&certificates),
            entries: audit::about(&self.store, id, ENTRIES).await.map_err(Outage::from)?,
            head: audit::head(&self.store, &self.trust().org).await.map_err(Outage::from)?,
            revocation,
            certificates,
        })
    }

    fn carriers(&self, certificates: &[Revocation]) -> Vec<Carrier> {
        let Some(published) = self.crl.lists() else { return Vec::new() };
        let carrier = |list: &ListFacts| {
            let of_issuer =
                |revocation: &&Revocation| revocation.issuer_ski.as_ref() == Some(&list.issuer_key_id);
            let mut of_issuer = certificates.iter().filter(of_issuer).peekable();
            of_issuer.peek()?;
            let carried = of_issuer.all(|revocation| published.carry(&revocation.thumbprint));
            Some(Carrier {
                issuer_key_id: list.issuer_key_id.clone(),
                number: if carried { list.number } else { list.number + 1 },
                published: carried,
            })
        };
        published.lists.iter().filter_map(carrier).collect()
    }
}
