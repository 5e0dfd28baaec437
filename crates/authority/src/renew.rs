//! An agent replaces its own certificate: `POST /v1/agents/self/renew` (contract `enrollment.md`, "better than both" 3).
//!
//! What is asked for is more than for any other call: the pinned certificate in the TLS connection, a proof by the
//! registered DPoP key, and a certificate request of the key that shall count from now on. The one of before stays
//! valid for a while, and tokens go on: nothing that is under way fails.

use std::sync::Arc;

use mastio_config::EgressDpop;
use mastio_core::{AgentId, Event, Jkt, Stamp, event::catalogue};
use mastio_pki::{Certificate, SigningRequest};
use mastio_store::{
    Unit,
    agents::{self, DpopChange},
};

use crate::{
    Authority,
    authenticate::{AuthError, Pinned},
    certified::Certified,
    lifecycle::{LifecycleError, Replacement, Rotated},
    lifetime::Lifetime,
    peer::Peer,
    proofs::RequestLine,
    registry::Agent,
};

/// What `source` says in the event `agent.cert_rotated` of a renewal.
const BY_ITSELF: &str = "self";

/// An agent that proved both of its keys in one request.
#[derive(Debug, Clone)]
pub struct KeyHolder {
    /// The agent.
    pub agent: Arc<Agent>,
    /// The certificate of its TLS connection: the pinned one, or that of the grace slot.
    pub leaf: Certificate,
    /// The key of the proof: its registered one, or the first that it ever showed.
    pub jkt: Jkt,
}

/// What an agent asks for.
#[derive(Debug, Clone)]
pub struct Renewal {
    /// A certificate request of its next key, which may be the one of before. Only the key is taken from it.
    pub csr_pem: String,
    /// How long this certificate and those after it live; unchanged when not given.
    pub lifetime: Option<Lifetime>,
}

impl Authority {
    /// A client certificate and a proof by the registered DPoP key itself, whatever the mode for other calls.
    ///
    /// An agent without a registered key shows its first one here, unless the mode is `required` (contract
    /// `enrollment.md`, "better than both" 14). The key of the grace slot does not count: it may have been replaced
    /// because it was stolen.
    ///
    /// # Errors
    /// The first step that does not hold.
    pub async fn key_holder(&self, peer: &Peer, request: &RequestLine<'_>) -> Result<KeyHolder, AuthError> {
        let Pinned { agent, leaf } = self.certificate(peer).await?;
        let request = RequestLine { proof: request.proof.filter(|proof| !proof.is_empty()), ..*request };
        let proof = self.proofs.verify(&request, None, true)?.ok_or(AuthError::ProofRequired)?;
        match agent.row.dpop_jkt {
            Some(registered) if registered == proof.jkt => {}
            Some(_) => return Err(AuthError::KeyNotRegistered),
            None if self.settings.dpop.egress_mode == EgressDpop::Required => {
                return Err(AuthError::NoKeyRegistered);
            }
            None => {}
        }
        let jkt = proof.consume(&self.proofs)?;
        Ok(KeyHolder { agent, leaf, jkt })
    }

    /// Since when the certificate of `agent` should be renewed here, if that is so already.
    #[must_use]
    pub fn renewal_due(&self, agent: &Agent) -> Option<Stamp> {
        agent.renewal_due(self.clock.now(), &self.trust())
    }

    /// Replaces the certificate of the agent that asks. Of several requests at once, one wins.
    ///
    /// Asking again for the key that is pinned already, with the certificate that it replaced, brings the answer of
    /// before: an agent that lost it is not locked out. That counts towards the limit of renewals as well.
    ///
    /// # Errors
    /// When it is one too many, the certificate is somebody else's to replace, nothing can be issued, or somebody else
    /// was faster: also a rotation of the Org CA that cuts off what the agent has proved itself with.
    pub async fn renew(&self, holder: &KeyHolder, renewal: &Renewal) -> Result<Rotated, LifecycleError> {
        let agent = &holder.agent;
        self.limits.by_renewing_agent(agent.id())?;
        if agent.is_spiffe() {
            return Err(LifecycleError::OwnedBySpire(agent.id().clone()));
        }
        // Who issued what is pinned counts, not how the agent came in: either CA may have made the next one since.
        if agent.certificates.first().is_none_or(|pinned| self.trust().issuer_of(pinned).is_none()) {
            return Err(LifecycleError::OwnedByOrganisation(agent.id().clone()));
        }
        let request = SigningRequest::from_pem(&renewal.csr_pem)?;
        if !agent.is_pinned_to(&holder.leaf.thumbprint()) {
            return match agent.certificates.first() {
                Some(pinned) if pinned.spki_der() == request.public().spki_der() => {
                    self.renewed(holder, pinned, agent.row.certificates.clone().unwrap_or_default()).await
                }
                _ => Err(LifecycleError::Replaced),
            };
        }
        let asked = renewal.lifetime.map(Lifetime::duration);
        let lifetime = asked.or(agent.row.lifetime).unwrap_or(Lifetime::MOST);
        let new = self.certify(agent.id(), request.public().spki_der(), lifetime)?;
        let mut unit = self.renewal(holder, &new);
        if let Some(asked) = asked {
            unit = unit.write(agents::keep_lifetime(agent.id(), asked));
        }
        if !self.applied(unit).await? {
            return Err(self.why_not_pinned(agent.id(), &new.leaf)?);
        }
        self.renewed(holder, &new.leaf, new.certificates).await
    }

    /// The change. The certificate of before stays good for the usual grace, if it does not end sooner; a grace of
    /// nothing ends it now, and tokens go on in any case (design decision 10).
    fn renewal(&self, holder: &KeyHolder, new: &Certified) -> Unit {
        let KeyHolder { agent, leaf: old, jkt } = holder;
        let overlap = self.clock.now().plus(self.settings.agent_cert_grace).min(old.not_after());
        let first_key = agent.row.dpop_jkt.is_none();
        let unit = self.replacement(&Replacement {
            agent: &agent.row,
            new,
            dpop: if first_key { DpopChange::Replace(Some(*jkt)) } else { DpopChange::Keep },
            grace: Some(overlap),
            source: BY_ITSELF,
            session: None,
            by: agent.id().as_str(),
        });
        if !first_key {
            return unit;
        }
        let event = catalogue::DpopKeySet { dpop_jkt: *jkt, by: agent.id().to_string() };
        unit.tell(Event::new(&event).about(agent.id().as_str()))
    }

    async fn renewed(
        &self,
        holder: &KeyHolder,
        leaf: &Certificate,
        certificates: String,
    ) -> Result<Rotated, LifecycleError> {
        Ok(Rotated {
            agent: AgentId::clone(holder.agent.id()),
            certificates,
            key: None,
            thumbprint: leaf.thumbprint(),
            previous: Some(holder.leaf.thumbprint()),
            not_after: leaf.not_after(),
            dpop_jkt: Some(holder.jkt),
            dpop_jwk: self.public_jwk(Some(holder.jkt)).await?,
        })
    }
}
