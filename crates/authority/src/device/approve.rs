//! An operator decides (contract `enrollment.md` §3.3).

use mastio_core::{AgentId, AgentName, EnrollmentId, Event, event::catalogue};
use mastio_store::{
    Touch, Unit, WriteError,
    agents::{self, AgentRow, DpopChange, Method, NewAgent},
    pending::{self, Approved, PendingRow, State},
};

use super::DeviceError;
use crate::{
    Authority, Outage,
    admin::Operator,
    certified::Certified,
    lifecycle::{ATTEMPTS, LifecycleError, Replacement},
    lifetime::Lifetime,
    possession::HeldKey,
};

/// What an operator decides on.
#[derive(Debug, Clone, Default)]
pub struct Approval {
    /// `<name>` or `<own org>::<name>`. An agent of that name gets another certificate, else there will be one.
    pub agent_id: String,
    /// The capabilities of a new agent; one that is there keeps its own.
    pub capabilities: Vec<String>,
    /// Groups, which are kept and not used.
    pub groups: Vec<String>,
    /// Whether a new agent may have the id of a deleted one.
    pub reuse: bool,
}

/// An enrolment that becomes an agent, with the certificate that was made for it.
struct Admission<'a> {
    row: &'a PendingRow,
    approval: &'a Approval,
    id: &'a AgentId,
    new: &'a Certified,
    operator: &'a Operator,
}

impl Authority {
    /// Approves an enrolment: certifies its key and makes it the agent's, all in one. Of several who decide at once,
    /// one wins.
    ///
    /// # Errors
    /// When it is decided or over already, or such an agent cannot be.
    pub async fn approve_enrollment(
        &self,
        id: &EnrollmentId,
        approval: &Approval,
        operator: &Operator,
    ) -> Result<AgentId, DeviceError> {
        let agent_id = self.own_agent_id(&approval.agent_id)?;
        for _ in 0..ATTEMPTS {
            let row = self.undecided(id, "approve").await?;
            if !self.devices.has_proved(id) {
                return Err(DeviceError::Unproven);
            }
            let key = HeldKey::from_pem(&row.public_key_pem)?;
            if let Some(trouble) = self.key_trouble(key.spki_der(), &agent_id)? {
                // Perhaps because somebody else has just approved it under another name.
                self.undecided(id, "approve").await?;
                return Err(trouble.into());
            }
            let known = agents::find(&self.store, &agent_id).await?;
            let lifetime = known.as_ref().and_then(|agent| agent.lifetime).unwrap_or(Lifetime::MOST);
            let new = self.certify(&agent_id, key.spki_der(), lifetime)?;
            let admission = Admission { row: &row, approval, id: &agent_id, new: &new, operator };
            let unit = match known {
                None => match agents::lookalike(&self.store, &agent_id).await? {
                    None => {
                        let unit = self.newcomer(&admission);
                        self.giving_id(unit, &agent_id, approval.reuse, operator).await??
                    }
                    Some(other) => return Err(DeviceError::Lookalike(other)),
                },
                Some(agent) if agent.method == Some(Method::Spiffe) => {
                    return Err(LifecycleError::OwnedBySpire(agent_id).into());
                }
                Some(agent) => self.comes_again(&admission, &agent),
            };
            match self.commit(unit).await {
                Ok(_) => {
                    self.decided(id, "approved");
                    return Ok(agent_id);
                }
                Err(error) if self.is_overtaken(&error) => {}
                // Somebody decided, or changed the agent, since both were read.
                Err(WriteError::Rejected(_)) => {}
                Err(error) => return Err(Outage::from(error).into()),
            }
        }
        Err(Outage::Contended.into())
    }

    /// Rejects an enrolment.
    ///
    /// # Errors
    /// When it is decided or over already.
    pub async fn reject_enrollment(
        &self,
        id: &EnrollmentId,
        reason: &str,
        operator: &Operator,
    ) -> Result<(), DeviceError> {
        for _ in 0..ATTEMPTS {
            let row = self.undecided(id, "reject").await?;
            let event = catalogue::EnrollmentRejected {
                reason: reason.to_owned(),
                pubkey_sha256: row.fingerprint.clone(),
                by: operator.fingerprint.clone(),
            };
            let unit = Unit::of(Event::new(&event).within(id.as_str())).write(row.reject(
                reason,
                &operator.fingerprint,
                self.clock.now(),
            ));
            if self.applied(unit).await? {
                self.decided(id, "rejected");
                return Ok(());
            }
        }
        Err(Outage::Contended.into())
    }

    fn decided(&self, id: &EnrollmentId, outcome: &str) {
        self.metrics.enrollments.with_label_values(&[outcome]).inc();
        self.devices.wake(id);
    }

    async fn undecided(&self, id: &EnrollmentId, verb: &'static str) -> Result<PendingRow, DeviceError> {
        let row = pending::find(&self.store, id, self.clock.now()).await?.ok_or(DeviceError::NotFound)?;
        match row.state {
            State::Pending => Ok(row),
            _ => Err(DeviceError::Decided { verb, status: row.state.as_str() }),
        }
    }

    /// Whom an operator means by `<name>` or `<own org>::<name>`.
    ///
    /// # Errors
    /// When no agent of this organisation can be called so.
    pub fn own_agent_id(&self, text: &str) -> Result<AgentId, DeviceError> {
        let org = &self.trust().org;
        let name = match text.split_once("::") {
            Some((named, name)) if named == org.as_str() => name,
            Some(_) => return Err(DeviceError::Name(org.clone())),
            None => text,
        };
        let name = AgentName::parse(name).map_err(|_| DeviceError::Name(org.clone()))?;
        Ok(AgentId::new(org, &name))
    }

    /// An agent that was not there before.
    fn newcomer(&self, admission: &Admission<'_>) -> Unit {
        let Admission { row, approval, id, new, operator } = *admission;
        let (leaf, facts) = (&new.leaf, new.facts());
        let agent = NewAgent {
            id,
            display_name: id.name(),
            capabilities: &approval.capabilities,
            certificates: &new.certificates,
            leaf: &facts,
            method: Method::Connector,
            dpop_jkt: row.dpop_jkt,
            spiffe_id: leaf.spiffe_id(),
            federated: true,
            device_info: row.requester.device_info.as_deref(),
            kind: row.kind,
            reuse: approval.reuse,
            at: self.clock.now(),
        };
        let event = catalogue::AgentCreated {
            source: SOURCE,
            method: Method::Connector.as_str(),
            session_id: Some(row.id.clone()),
            capabilities: approval.capabilities.clone(),
            cert_thumbprint: leaf.thumbprint(),
            spiffe_id: leaf.spiffe_id().cloned(),
            dpop_jkt: row.dpop_jkt,
            not_after: leaf.not_after(),
            key_escrowed: false,
            by: operator.fingerprint.clone(),
        };
        let unit = Unit::of(Event::new(&event).about(id.as_str()).within(row.id.as_str()))
            .write_all(agent.insert())
            .touch(Touch::Agent(id.clone()));
        self.approved(unit, admission, &approval.capabilities)
    }

    /// An agent that was there. While it may act, what it had goes on for the grace period; else that ends.
    fn comes_again(&self, admission: &Admission<'_>, agent: &AgentRow) -> Unit {
        let Admission { row, new, operator, .. } = *admission;
        let unit = self.replacement(&Replacement {
            agent,
            new,
            dpop: DpopChange::Replace(row.dpop_jkt),
            grace: self.grace().filter(|_| agent.is_active()),
            source: SOURCE,
            session: Some(&row.id),
            by: &operator.fingerprint,
        });
        let unit = unit.write(agents::re_describe(&agent.id, row.kind, row.requester.device_info.as_deref()));
        self.approved(unit, admission, &agent.capabilities)
    }

    fn approved(&self, unit: Unit, admission: &Admission<'_>, capabilities: &[String]) -> Unit {
        let approved = Approved {
            agent: admission.id,
            capabilities,
            groups: &admission.approval.groups,
            certificates: &admission.new.certificates,
            by: &admission.operator.fingerprint,
            at: self.clock.now(),
        };
        unit.write(admission.row.approve(&approved)).write_all(admission.row.keep_jwk())
    }
}

/// What the audit log calls this way in (contract `enrollment.md` §3.3).
const SOURCE: &str = "device_code_enrollment";
