//! What happens to an agent after it came in: switched off and on, revoked, given another certificate or DPoP key
//! (contract `enrollment.md` §6, §7; design decisions 7, 8, 10).
//!
//! Each change is decided on a row as it was read and applies to that row only; if somebody else was faster it is
//! decided again, except for a rotation, of which one wins.

mod error;
mod federation;
mod key;
mod replace;
mod rotate;
mod sessions;
mod sweep;

use mastio_core::{AgentId, Event, Jkt, Stamp, Thumbprint, event::catalogue};
use mastio_jose::Jwk;
use mastio_pki::{Certificate, pem};
use mastio_store::{
    Rejection, Touch, Unit, WriteError,
    agents::{self, AgentRow, Method, PinnedLeaf, Standing},
    revocations::{self, Revocation},
    spiffe,
};

pub(crate) use self::replace::Replacement;
pub use self::{
    error::LifecycleError,
    key::KeyTrouble,
    rotate::{ProvenKey, Rotated, Rotation},
};
use crate::{Authority, Outage, admin::Operator};

/// `revoked_reason` of an operator's revocation (contract `pki.md` §5).
pub const ADMIN_REVOCATION: &str = "admin_revocation";
/// The reason of a certificate that another one took the place of.
pub(crate) const SUPERSEDED: &str = "superseded";
/// The reason of a certificate whose time beside its successor is over. Tokens that it got go on to their own end.
pub const GRACE_OVER: &str = "grace_over";

/// How often a change is decided again when others change the same agent.
pub(crate) const ATTEMPTS: u32 = 8;

/// A revocation, this one or the one of before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// Whose.
    pub agent: AgentId,
    /// Since when.
    pub at: Stamp,
    /// A stable word.
    pub reason: String,
    /// The certificate that was pinned.
    pub thumbprint: Option<Thumbprint>,
    /// Whether it was revoked before.
    pub already: bool,
    /// What ended with it.
    pub ended: agents::Ended,
}

impl Authority {
    /// Revokes an agent: its certificates, tokens, sessions, bindings and waiting enrolments end before this returns.
    /// Revoking twice tells of the first time.
    ///
    /// # Errors
    /// When there is no such agent.
    pub async fn revoke(
        &self,
        id: &AgentId,
        reason: Option<&str>,
        operator: &Operator,
    ) -> Result<Revoked, LifecycleError> {
        for _ in 0..ATTEMPTS {
            let agent = self.row(id, "agent not found").await?;
            if let Standing::Revoked { at, reason } = &agent.standing {
                return self.revoked(&agent, *at, reason.clone().unwrap_or_default(), true).await;
            }
            let (at, reason) = (self.clock.now(), reason.unwrap_or(ADMIN_REVOCATION));
            match self.commit(self.revocation(&agent, reason, at, operator)).await {
                Ok(_) => return self.revoked(&agent, at, reason.to_owned(), false).await,
                Err(WriteError::Rejected(_)) => {}
                Err(error) => return Err(Outage::from(error).into()),
            }
        }
        Err(Outage::Contended.into())
    }

    /// What ends with a revocation, and the revocation itself. The first statement touches no row when `agent` changed.
    pub(crate) fn revocation(&self, agent: &AgentRow, reason: &str, at: Stamp, operator: &Operator) -> Unit {
        let leaves = known_leaves(agent);
        let facts: Vec<PinnedLeaf> = leaves.iter().map(|leaf| pinned_leaf(leaf, None)).collect();
        let event = catalogue::AgentRevoked {
            reason: reason.to_owned(),
            cert_thumbprint: current_leaf(agent).map(|leaf| leaf.thumbprint()),
            revoked_certificates: leaves.iter().map(Certificate::thumbprint).collect(),
            by: operator.fingerprint.clone(),
        };
        let unit = Unit::of(Event::new(&event).about(agent.id.as_str()))
            .write(agents::mark_revoked(agent, reason, at))
            .write(agents::drop_escrow(&agent.id))
            .write_all(agents::cascade(agent, &facts, at))
            .write_all(spiffe::refuse_issued_until(&agent.id, at))
            .touch(Touch::Agent(agent.id.clone()));
        let unit = agents::raise_epoch(unit, agent);
        let end = |unit, leaf| self.end_certificate(unit, &agent.id, leaf, reason, at, true);
        leaves.iter().fold(unit, end).write(revocations::bar_keys(&agent.id))
    }

    /// From the commit on `leaf` is refused as revoked; with `and_key` its key is not certified or pinned again either.
    fn end_certificate(
        &self,
        unit: Unit,
        id: &AgentId,
        leaf: &Certificate,
        reason: &str,
        at: Stamp,
        and_key: bool,
    ) -> Unit {
        let trust = self.trust();
        let own = trust.cas.iter().map(|ca| &ca.certificate);
        let revocation = ended(id, leaf, own, (reason, at), and_key);
        unit.write(revocation.insert()).touch(Touch::Revoked(leaf.thumbprint()))
    }

    /// Ends the certificate of the grace slot, which is emptied.
    fn end_grace(&self, unit: Unit, agent: &AgentRow) -> Unit {
        let Some(old) = graced_leaf(agent) else { return unit };
        self.end_certificate(unit, &agent.id, &old, GRACE_OVER, self.clock.now(), false)
    }

    async fn revoked(
        &self,
        agent: &AgentRow,
        at: Stamp,
        reason: String,
        already: bool,
    ) -> Result<Revoked, LifecycleError> {
        let ended = agents::ended(&self.store, &agent.id, at).await.map_err(Outage::from)?;
        let thumbprint = current_leaf(agent).map(|leaf| leaf.thumbprint());
        Ok(Revoked { agent: agent.id.clone(), at, reason, thumbprint, already, ended })
    }

    /// Switches an agent off: certificate and tokens stop working before this returns.
    ///
    /// # Errors
    /// When there is no such active agent.
    pub async fn deactivate(&self, id: &AgentId, operator: &Operator) -> Result<(), LifecycleError> {
        const GONE: &str = "agent not found or already inactive";
        for _ in 0..ATTEMPTS {
            let agent = self.row(id, GONE).await?;
            if !agent.is_active() {
                return Err(LifecycleError::NotFound(GONE));
            }
            let event = catalogue::AgentDeactivated { by: operator.fingerprint.clone() };
            let unit = agents::deactivate(Unit::of(Event::new(&event).about(id.as_str())), &agent);
            let unit = match current_leaf(&agent) {
                Some(pinned) => self.superseding(unit, &agent, &pinned),
                None => unit,
            };
            if self.applied(unit).await? {
                return Ok(());
            }
        }
        Err(Outage::Contended.into())
    }

    /// Switches an agent on that was switched off and not revoked. Its certificate counts again; its old tokens do not.
    ///
    /// # Errors
    /// When it is not switched off.
    pub async fn reactivate(&self, id: &AgentId, operator: &Operator) -> Result<(), LifecycleError> {
        for _ in 0..ATTEMPTS {
            let agent = self.row(id, "agent not found").await?;
            match agent.standing {
                Standing::Inactive => {}
                Standing::Active => {
                    return Err(LifecycleError::NotFound("no active quarantine event for this agent"));
                }
                Standing::Revoked { .. } if agent.method == Some(Method::Spiffe) => {
                    return Err(LifecycleError::RevokedSvid(id.clone()));
                }
                Standing::Revoked { .. } => return Err(LifecycleError::Revoked(id.clone())),
            }
            let event = catalogue::AgentReactivated { by: operator.fingerprint.clone() };
            let unit = Unit::of(Event::new(&event).about(id.as_str()))
                .write(agents::reactivate(&agent))
                .touch(Touch::Agent(id.clone()));
            if self.applied(unit).await? {
                return Ok(());
            }
            let key = current_leaf(&agent).map(|leaf| self.key_trouble(leaf.spki_der(), id));
            if let Some(trouble) = key.transpose()?.flatten() {
                return Err(trouble.into());
            }
        }
        Err(Outage::Contended.into())
    }

    /// Registers the agent's DPoP key. Another key than before leaves the old one valid for the grace period.
    ///
    /// # Errors
    /// When the key is none, or there is no such active agent.
    pub async fn set_dpop_key(
        &self,
        id: &AgentId,
        jwk: &serde_json::Value,
        operator: &Operator,
    ) -> Result<Jkt, LifecycleError> {
        const GONE: &str = "agent not found or inactive";
        if jwk.as_object().is_none_or(serde_json::Map::is_empty) {
            return Err(LifecycleError::NoDpopKey);
        }
        let jwk = Jwk::from_value(jwk).map_err(LifecycleError::DpopKey)?;
        let jkt = jwk.thumbprint();
        for _ in 0..ATTEMPTS {
            let agent = self.row(id, GONE).await?;
            if !agent.is_active() {
                return Err(LifecycleError::NotFound(GONE));
            }
            let by = operator.fingerprint.clone();
            let grace = agent.dpop_jkt.filter(|previous| *previous != jkt).and_then(|_| self.grace());
            let event = match agent.dpop_jkt {
                Some(previous) if previous != jkt => Event::new(&catalogue::DpopKeyRotated {
                    previous_dpop_jkt: previous,
                    new_dpop_jkt: jkt,
                    grace_period_expires_at: grace,
                    by,
                }),
                _ => Event::new(&catalogue::DpopKeySet { dpop_jkt: jkt, by }),
            };
            let unit = Unit::of(event.about(id.as_str()))
                .write(agents::set_dpop_key(&agent, jkt, grace))
                .write(agents::keep_jwk(jkt, &jwk.to_value()))
                .touch(Touch::Agent(id.clone()));
            let unit = if grace.is_some() { self.end_grace(unit, &agent) } else { unit };
            if self.applied(unit).await? {
                return Ok(jkt);
            }
        }
        Err(Outage::Contended.into())
    }

    pub(crate) async fn row(&self, id: &AgentId, missing: &'static str) -> Result<AgentRow, LifecycleError> {
        let row = agents::find(&self.store, id).await.map_err(Outage::from)?;
        row.ok_or(LifecycleError::NotFound(missing))
    }

    /// Whether `unit` was written; false when somebody else was faster.
    pub(crate) async fn applied(&self, unit: Unit) -> Result<bool, Outage> {
        match self.commit(unit).await {
            Ok(_) => Ok(true),
            Err(WriteError::Rejected(Rejection::Rows { .. })) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Until when credentials that are replaced now are accepted, as the setting says.
    #[must_use]
    pub fn grace(&self) -> Option<Stamp> {
        let grace = self.settings.agent_cert_grace;
        (!grace.is_zero()).then(|| self.clock.now().plus(grace))
    }
}

/// A certificate that ends, with its key or without. `own` are our issuers, whose lists must name it.
pub(crate) fn ended<'a>(
    id: &AgentId,
    leaf: &Certificate,
    mut own: impl Iterator<Item = &'a Certificate>,
    (reason, at): (&str, Stamp),
    key_barred: bool,
) -> Revocation {
    let issuer = own.find(|issuer| leaf.is_signed_by(issuer));
    Revocation {
        thumbprint: leaf.thumbprint(),
        serial: hex::encode(leaf.serial()),
        spki_sha256: hex::encode(leaf.spki_sha256()),
        key_barred,
        issuer_ski: issuer.and_then(Certificate::key_id).map(hex::encode),
        agent: id.clone(),
        at,
        reason: reason.to_owned(),
        not_after: leaf.not_after(),
    }
}

/// What the database keeps of a leaf that is pinned. `issuer` is the intermediate of ours that issued it, if one did.
pub(crate) fn pinned_leaf(leaf: &Certificate, issuer: Option<Thumbprint>) -> PinnedLeaf {
    PinnedLeaf {
        issuer,
        thumbprint: leaf.thumbprint(),
        spki_sha256: hex::encode(leaf.spki_sha256()),
        not_after: leaf.not_after(),
    }
}

fn first_of(certificates: Option<&str>) -> Option<Certificate> {
    certificates.map(pem::certificates).and_then(Result::ok)?.into_iter().next()
}

/// The pinned certificate, if the row has a readable one.
pub(crate) fn current_leaf(agent: &AgentRow) -> Option<Certificate> {
    first_of(agent.certificates.as_deref())
}

/// The certificate of the grace slot, if there is another one than the pinned.
pub(crate) fn graced_leaf(agent: &AgentRow) -> Option<Certificate> {
    let graced = agent.grace.as_ref().and_then(|grace| first_of(grace.certificates.as_deref()));
    graced.filter(|graced| current_leaf(agent).as_ref() != Some(graced))
}

/// The certificate that an update has reissued as the pinned one, and that the agent still has.
pub(crate) fn held_leaf(agent: &AgentRow) -> Option<Certificate> {
    first_of(agent.held.as_deref())
}

/// Every certificate that may authenticate `agent`: the pinned one, what it was reissued from, and that of the grace
/// slot.
pub(crate) fn known_leaves(agent: &AgentRow) -> Vec<Certificate> {
    current_leaf(agent).into_iter().chain(held_leaf(agent)).chain(graced_leaf(agent)).collect()
}
