//! Writing down an agent whose certificate was judged: as a new one, or in place of the certificate it had.

use mastio_core::{AgentId, Event, Jkt, SpiffeId, Stamp, Thumbprint};
use mastio_jose::Jwk;
use mastio_pki::{Certificate, Group, pem};
use mastio_store::{
    Touch, Unit, WriteError,
    agents::{self, AgentRow, DpopChange, Method, NewPin, PinnedLeaf},
    cas, spiffe as bindings,
};

use super::{Candidate, EnrollError, Enrolled, keep_jwk, spiffe};
use crate::{
    Authority, Outage,
    admin::Operator,
    lifecycle::{ATTEMPTS, pinned_leaf},
};

/// An agent whose certificate was judged.
pub(super) struct Arrival<'a> {
    pub(super) id: AgentId,
    pub(super) candidate: &'a Candidate,
    pub(super) leaf: Certificate,
    /// PEM, leaf first.
    pub(super) certificates: String,
    pub(super) spiffe_id: Option<SpiffeId>,
    pub(super) method: Method,
    pub(super) dpop: Option<Jwk>,
    pub(super) update_existing: bool,
    /// The CA of ours that vouches for it, unless SPIRE does.
    pub(super) vouched_by: Option<Thumbprint>,
    /// Which intermediate of ours issued it, if one did.
    pub(super) issuer: Option<Thumbprint>,
    /// CAs that came with an SVID and that the bundle of its trust domain lacks.
    pub(super) sent: Vec<Certificate>,
    pub(super) operator: &'a Operator,
}

impl Arrival<'_> {
    pub(super) fn dpop_jkt(&self) -> Option<Jkt> {
        self.dpop.as_ref().map(Jwk::thumbprint)
    }

    /// What the database keeps of its certificate.
    fn facts(&self) -> PinnedLeaf {
        pinned_leaf(&self.leaf, self.issuer)
    }

    /// What is answered; `before` is the agent as it was, if it was here.
    fn enrolled(&self, before: Option<AgentRow>) -> Enrolled {
        let (re_pinned, kept_jkt) = (before.is_some(), before.as_ref().and_then(|agent| agent.dpop_jkt));
        let (display_name, capabilities, federated) = match before {
            Some(agent) => (agent.display_name, agent.capabilities, agent.federated),
            None => {
                let new = self.candidate;
                (new.name_shown(&self.id).to_owned(), new.capabilities.clone(), new.federated)
            }
        };
        Enrolled {
            id: self.id.clone(),
            re_pinned,
            federated,
            display_name,
            capabilities,
            certificates: self.certificates.clone(),
            thumbprint: self.leaf.thumbprint(),
            key: None,
            spiffe_id: self.spiffe_id.clone(),
            dpop_jkt: self.dpop_jkt().or(kept_jkt),
            dpop_jwk: self.dpop.as_ref().map(Jwk::to_value),
            not_after: self.leaf.not_after(),
        }
    }
}

impl Authority {
    /// Writes `arrival`; `tell` makes its event, given the agent as it was, if it was here before. It is decided
    /// again when somebody else was faster.
    pub(super) async fn take_in(
        &self,
        arrival: &Arrival<'_>,
        tell: &(dyn Fn(Option<&AgentRow>) -> Event + Sync),
    ) -> Result<Enrolled, EnrollError> {
        // Its key may go on after a certificate was superseded, the certificate may not.
        if self.registry.is_revoked(&arrival.leaf.thumbprint()) {
            return Err(EnrollError::Revoked);
        }
        for _ in 0..ATTEMPTS {
            let before = agents::find(&self.store, &arrival.id).await.map_err(Outage::from)?;
            let unit = Unit::of(tell(before.as_ref()).about(arrival.id.as_str()));
            let unit = self.growing(unit, arrival).await?;
            let now = self.clock.now();
            let unit = match &before {
                None => {
                    self.refuse_lookalike(&arrival.id).await?;
                    let reuse = arrival.candidate.reuse;
                    let unit = self.giving_id(unit, &arrival.id, reuse, arrival.operator).await??;
                    adding(unit, arrival, now)
                }
                Some(agent) => {
                    self.may_replace(agent, arrival)?;
                    self.replacing(unit, agent, arrival, now)
                }
            };
            let thumbprint = arrival.leaf.thumbprint();
            let unit = self
                .pinning(unit, &arrival.id, arrival.vouched_by, true, now)
                .write_all(arrival.candidate.remembering(&arrival.id, thumbprint, now))
                .write_all(arrival.vouched_by.map(cas::is_believed));
            match self.commit(unit).await {
                Ok(_) => return Ok(arrival.enrolled(before)),
                Err(WriteError::Rejected(_)) => self.why_rejected(arrival).await?,
                Err(error) => return Err(Outage::from(error).into()),
            }
        }
        Err(Outage::Contended.into())
    }

    /// An agent keeps its name, capabilities and way of coming in; its certificate, tokens and key of before end.
    fn replacing(&self, unit: Unit, agent: &AgentRow, arrival: &Arrival<'_>, now: Stamp) -> Unit {
        let leaf = &arrival.leaf;
        let facts = arrival.facts();
        let pin = NewPin {
            certificates: &arrival.certificates,
            leaf: &facts,
            spiffe_id: arrival.spiffe_id.as_ref(),
            dpop: arrival.dpop_jkt().map_or(DpopChange::Keep, |jkt| DpopChange::Replace(Some(jkt))),
            grace: None,
            at: now,
        };
        let unit = unit
            .write_all(agents::re_pin(agent, &pin))
            .write(agents::drop_escrow(&agent.id))
            .write_all(agents::restore_bindings(agent));
        let unit = agents::raise_epoch(bound(unit, arrival), agent);
        if arrival.method == Method::Spiffe {
            // Other instances of the workload go on with the SVIDs that they have.
            return unit;
        }
        self.superseding(unit, agent, leaf)
    }

    fn may_replace(&self, agent: &AgentRow, arrival: &Arrival<'_>) -> Result<(), EnrollError> {
        let by_spire = agent.method == Some(Method::Spiffe);
        if by_spire != (arrival.method == Method::Spiffe) {
            return Err(EnrollError::OtherMethod(agent.id.clone()));
        }
        if arrival.update_existing {
            return Ok(());
        }
        // A provisioning job that runs again must not undo what an operator did.
        if !agent.is_active() {
            return Err(EnrollError::SwitchedOff(agent.id.clone()));
        }
        if by_spire || self.pin_is_live(agent) {
            return Err(EnrollError::Enrolled(agent.id.clone()));
        }
        Ok(())
    }

    /// Whether the pinned certificate of an active agent can log in.
    fn pin_is_live(&self, agent: &AgentRow) -> bool {
        let pinned = agent.certificates.as_deref().map(pem::certificates).and_then(Result::ok);
        let Some((leaf, above)) = pinned.as_deref().and_then(<[Certificate]>::split_first) else {
            return false;
        };
        let path = self.trust().anchors.validate_within(&Group::Org, leaf, above, self.clock.now());
        path.is_ok() && !self.registry.is_revoked(&leaf.thumbprint())
    }

    /// Why an arrival was not written; `Ok` when somebody else was faster, and it may be decided again.
    async fn why_rejected(&self, arrival: &Arrival<'_>) -> Result<(), EnrollError> {
        if let Some(trouble) = self.key_trouble(arrival.leaf.spki_der(), &arrival.id)? {
            return Err(trouble.into());
        }
        let Some(id) = arrival.spiffe_id.as_ref().filter(|_| arrival.method == Method::Spiffe) else {
            return Ok(());
        };
        let bound = bindings::binding(&self.store, id).await.map_err(Outage::from)?;
        match bound.filter(|bound| bound.agent != arrival.id) {
            Some(bound) => Err(EnrollError::SpiffeIdTaken { id: id.clone(), agent: bound.agent }),
            None => Ok(()),
        }
    }
}

fn adding(unit: Unit, arrival: &Arrival<'_>, now: Stamp) -> Unit {
    let leaf = arrival.facts();
    let (pinned, spiffe) = ((arrival.certificates.as_str(), &leaf), arrival.spiffe_id.as_ref());
    let row = arrival.candidate.row(&arrival.id, pinned, arrival.method, arrival.dpop_jkt(), spiffe, now);
    bound(unit.write_all(row.insert()), arrival)
}

/// What goes with an arrival whether it was here before or not.
fn bound(unit: Unit, arrival: &Arrival<'_>) -> Unit {
    let unit = unit.write_all(arrival.dpop.as_ref().map(keep_jwk)).touch(Touch::Agent(arrival.id.clone()));
    match &arrival.spiffe_id {
        Some(id) if arrival.method == Method::Spiffe => spiffe::binding(unit, id, &arrival.id),
        _ => unit,
    }
}
