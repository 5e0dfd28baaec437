//! Another certificate takes the place of an agent's pinned one, whoever asked for it.

use mastio_core::{EnrollmentId, Event, Stamp, event::catalogue};
use mastio_pki::Certificate;
use mastio_store::{
    Touch, Unit,
    agents::{self, AgentRow, DpopChange, NewPin},
};

use super::{SUPERSEDED, current_leaf, held_leaf, known_leaves};
use crate::{Authority, certified::Certified};

/// What takes the place of an agent's certificate.
pub(crate) struct Replacement<'a> {
    /// The agent as it was read; the change applies to no other state of it.
    pub(crate) agent: &'a AgentRow,
    /// The new certificate.
    pub(crate) new: &'a Certified,
    /// What happens to the DPoP key.
    pub(crate) dpop: DpopChange,
    /// Until when the credentials of before are accepted too; `None` ends them, and every token, at once.
    pub(crate) grace: Option<Stamp>,
    /// What the audit log calls the way that it came.
    pub(crate) source: &'static str,
    /// The enrolment by device code that it came from, if it did.
    pub(crate) session: Option<&'a EnrollmentId>,
    /// Who decided: an operator, or the agent itself.
    pub(crate) by: &'a str,
}

impl Authority {
    /// The change. Its first statement touches no row when the agent changed, or the new key is revoked; the second when
    /// what issued the certificate was [cut off](Authority::is_overtaken).
    pub(crate) fn replacement(&self, new: &Replacement<'_>) -> Unit {
        let Replacement { agent, dpop, grace, .. } = *new;
        let (leaf, facts, now) = (&new.new.leaf, new.new.facts(), self.clock.now());
        let pin = NewPin {
            certificates: &new.new.certificates,
            leaf: &facts,
            spiffe_id: leaf.spiffe_id(),
            dpop,
            grace,
            at: now,
        };
        let event = catalogue::CertificateRotated {
            source: new.source,
            previous_cert_thumbprint: current_leaf(agent).map(|leaf| leaf.thumbprint()),
            new_cert_thumbprint: leaf.thumbprint(),
            previous_dpop_jkt: agent.dpop_jkt,
            new_dpop_jkt: match dpop {
                DpopChange::Keep => agent.dpop_jkt,
                DpopChange::Replace(jkt) => jkt,
            },
            grace_period_expires_at: grace,
            not_after: leaf.not_after(),
            reactivated: !agent.is_active(),
            by: new.by.to_owned(),
        };
        let event = Event::new(&event).about(agent.id.as_str());
        let event = match new.session {
            Some(session) => event.within(session.as_str()),
            None => event,
        };
        let unit = Unit::of(event)
            .write_all(agents::re_pin(agent, &pin))
            .write(agents::drop_escrow(&agent.id))
            .write_all(agents::restore_bindings(agent))
            .touch(Touch::Agent(agent.id.clone()));
        let unit = self.pinning(unit, &agent.id, facts.issuer, false, now);
        if grace.is_some() {
            return self.end_grace(unit, agent);
        }
        self.superseding(agents::raise_epoch(unit, agent), agent, leaf)
    }

    /// Ends the certificates of `agent` other than `leaf`, and their keys where `leaf` has another one. If `leaf` is the
    /// pinned one, what it was reissued from stays as well.
    pub(crate) fn superseding(&self, unit: Unit, agent: &AgentRow, leaf: &Certificate) -> Unit {
        let same = held_leaf(agent).filter(|_| current_leaf(agent).as_ref() == Some(leaf));
        let others = known_leaves(agent).into_iter().filter(|old| old != leaf && Some(old) != same.as_ref());
        others.fold(unit, |unit, old| {
            let and_key = old.spki_der() != leaf.spki_der();
            self.end_certificate(unit, &agent.id, &old, SUPERSEDED, self.clock.now(), and_key)
        })
    }
}
