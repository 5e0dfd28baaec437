//! SPIFFE agents: known by the id in whatever SVID they present, on the word of their trust domain's bundle
//! (contract `pki.md` §5; design decision 1).

use std::sync::Arc;

use mastio_core::{Event, SpiffeId, event::catalogue};
use mastio_pki::Certificate;
use mastio_store::{Rejection, Touch, Unit, WriteError, agents};

use crate::{
    Authority, Outage, authenticate::AuthError, lifecycle::pinned_leaf, peer::ClientChain, registry::Agent,
};

impl Authority {
    /// The active agent behind an SVID whose path leads to the bundle of its trust domain.
    pub(crate) async fn bound(&self, chain: &ClientChain) -> Result<Arc<Agent>, AuthError> {
        let leaf = &chain.leaf;
        let spiffe = leaf.spiffe_id().ok_or_else(|| AuthError::NoIdentity {
            sans: leaf.uri_sans().to_vec(),
            serial: leaf.serial_hex(),
        })?;
        let unknown = || AuthError::Unknown { agent_id: spiffe.to_string() };
        let binding = self.registry.bound(spiffe).await.map_err(Outage::from)?.ok_or_else(unknown)?;
        let agent = self.active(&binding.agent).await?;
        if !agent.is_spiffe() || agent.row.spiffe_id.as_ref() != Some(spiffe) {
            return Err(unknown());
        }
        if binding.issued_after.is_some_and(|revoked| leaf.not_before() <= revoked) {
            return Err(AuthError::Revoked { agent_id: agent.id().to_string() });
        }
        if agent.pin == Some(leaf.thumbprint()) {
            return Ok(agent);
        }
        let presenting = agent.presenting(chain);
        self.keep_newer(&agent, &presenting, spiffe).await;
        Ok(Arc::new(presenting))
    }

    /// Keeps an SVID that is newer than the one that was kept, so that others can verify what its key signs. Several
    /// instances of a workload have one SVID each: the newest one counts. The caller is let in all the same.
    async fn keep_newer(&self, kept: &Agent, presenting: &Agent, spiffe: &SpiffeId) {
        let (Some(leaf), previous) = (presenting.certificates.first(), kept.certificates.first()) else {
            return;
        };
        if previous.is_some_and(|previous| leaf.not_before() <= previous.not_before()) {
            return;
        }
        let event = catalogue::SvidRotated {
            spiffe_id: spiffe.clone(),
            previous_cert_thumbprint: previous.map(Certificate::thumbprint),
            new_cert_thumbprint: leaf.thumbprint(),
            not_after: leaf.not_after(),
        };
        let certificates = mastio_pki::issued_chain(leaf, presenting.above());
        let unit = Unit::of(Event::new(&event).about(kept.id().as_str()))
            .write_all(agents::renew_svid(&kept.row, &certificates, &pinned_leaf(leaf, None)))
            .touch(Touch::Agent(kept.id().clone()));
        match self.commit(unit).await {
            // Another request with the same SVID was faster, or the agent was changed.
            Ok(_) | Err(WriteError::Rejected(Rejection::Rows { .. })) => {}
            Err(error) => {
                tracing::warn!(%error, agent = %kept.id(), "a new SVID could not be kept; it is tried again with the next request");
            }
        }
    }
}
