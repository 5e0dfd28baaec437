//! Agents coming in: made by an operator, with a certificate of the organisation's own CA, or with an SVID
//! (contract `enrollment.md` §4, §5).

mod arrival;
mod brought;
mod byoca;
mod error;
mod spiffe;

use mastio_core::{
    AgentId, AgentName, Event, Jkt, PrincipalKind, SpiffeId, Stamp, Thumbprint, event::catalogue,
};
use mastio_jose::Jwk;
use mastio_pki::KeyPair;
use mastio_store::{
    Rejection, Statement, Unit, WriteError,
    agents::{self, Method, NewAgent, PinnedLeaf},
};
use secrecy::SecretString;
use serde_json::Value;

use crate::{
    Authority, Outage,
    admin::Operator,
    certified::Certified,
    lifecycle::{ATTEMPTS, KeyTrouble},
    lifetime::Lifetime,
    once::Once,
};

pub use self::{
    brought::{Brought, Possession},
    error::{EnrollError, Fields},
};
pub(crate) use error::jwk_detail;

/// What every way in has in common.
#[derive(Debug)]
pub struct Candidate {
    /// The short name.
    pub name: AgentName,
    /// What people call it.
    pub display_name: String,
    /// Its capabilities.
    pub capabilities: Vec<String>,
    /// Whether it is published to a Court.
    pub federated: bool,
    /// Its public DPoP key.
    pub dpop_jwk: Option<Value>,
    /// How long the certificates live that are made here for it; 365 days when not given.
    pub lifetime: Option<Lifetime>,
    /// Whether it may have the id of a deleted agent.
    pub reuse: bool,
    /// What the request is called, when it may be sent again.
    pub once: Option<Once>,
}

impl Candidate {
    fn dpop_key(&self) -> Result<Option<Jwk>, EnrollError> {
        self.dpop_jwk.as_ref().map(Jwk::from_value).transpose().map_err(EnrollError::DpopKey)
    }

    /// What its unit writes beside the agent, so that the request can be sent again.
    fn remembering(&self, id: &AgentId, thumbprint: Thumbprint, at: Stamp) -> Option<Statement> {
        self.once.as_ref().map(|once| once.remember(id, thumbprint, at))
    }

    /// Its row as a new agent with `certificates` in PEM, of which `leaf` is the first, at `at`.
    fn row<'a>(
        &'a self,
        id: &'a AgentId,
        (certificates, leaf): (&'a str, &'a PinnedLeaf),
        method: Method,
        dpop_jkt: Option<Jkt>,
        spiffe_id: Option<&'a SpiffeId>,
        at: Stamp,
    ) -> NewAgent<'a> {
        NewAgent {
            id,
            display_name: self.name_shown(id),
            capabilities: &self.capabilities,
            certificates,
            leaf,
            method,
            dpop_jkt,
            spiffe_id,
            federated: self.federated,
            device_info: None,
            kind: PrincipalKind::Agent,
            reuse: self.reuse,
            at,
        }
    }

    fn name_shown<'a>(&'a self, id: &'a AgentId) -> &'a str {
        if self.display_name.is_empty() { id.name() } else { &self.display_name }
    }
}

fn keep_jwk(jwk: &Jwk) -> Statement {
    agents::keep_jwk(jwk.thumbprint(), &jwk.to_value())
}

/// An agent that came in.
#[derive(Debug)]
pub struct Enrolled {
    /// Its id.
    pub id: AgentId,
    /// Whether it was here before, and only its certificate is new.
    pub re_pinned: bool,
    /// Whether it is published to a Court.
    pub federated: bool,
    /// What people call it.
    pub display_name: String,
    /// Its capabilities.
    pub capabilities: Vec<String>,
    /// Leaf and intermediate in PEM.
    pub certificates: String,
    /// The pin.
    pub thumbprint: Thumbprint,
    /// Its key in PEM, if it was made here: shown once.
    pub key: Option<SecretString>,
    /// Its SPIFFE id.
    pub spiffe_id: Option<SpiffeId>,
    /// Its DPoP key.
    pub dpop_jkt: Option<Jkt>,
    /// That key as a public JWK, if it was sent along.
    pub dpop_jwk: Option<Value>,
    /// When its certificate ends.
    pub not_after: Stamp,
}

impl Authority {
    /// Makes an agent: key, certificate and row. With `escrow` the key is kept for `sign-assertion` (design decision 7).
    ///
    /// # Errors
    /// When the name is taken, or nothing can be issued.
    pub async fn create_agent(
        &self,
        candidate: &Candidate,
        escrow: bool,
        operator: &Operator,
    ) -> Result<Enrolled, EnrollError> {
        for _ in 0..ATTEMPTS {
            if let Some(enrolled) = self.try_to_create(candidate, escrow, operator).await? {
                return Ok(enrolled);
            }
        }
        Err(Outage::Contended.into())
    }

    /// `None` when a rotation of the Org CA has cut off meanwhile what issued the certificate.
    async fn try_to_create(
        &self,
        candidate: &Candidate,
        escrow: bool,
        operator: &Operator,
    ) -> Result<Option<Enrolled>, EnrollError> {
        let dpop = candidate.dpop_key()?;
        let dpop_jkt = dpop.as_ref().map(Jwk::thumbprint);
        let trust = self.trust();
        if let Some(halt) = trust.halt_of_certifying() {
            return Err(halt.into());
        }
        let issuer = trust.issuer.as_ref().ok_or(EnrollError::NoIssuer)?;
        let id = AgentId::new(&trust.org, &candidate.name);
        let spiffe = SpiffeId::of_agent(&trust.domain, &trust.org, &candidate.name);
        let key = KeyPair::generate_p256().map_err(Outage::internal)?;
        let now = self.clock.now();
        let lifetime = candidate.lifetime.map_or(Lifetime::MOST, Lifetime::duration);
        let rng = self.rng.as_ref();
        let new = Certified::by(issuer, (&id, &spiffe), key.spki_der(), lifetime, now, rng)?;
        let (leaf, pem, pin) = (&new.leaf, key.to_pkcs8_pem(), new.facts());
        let pinned = (new.certificates.as_str(), &pin);
        let row = candidate.row(&id, pinned, Method::Admin, dpop_jkt, Some(&spiffe), now);
        let event = catalogue::AgentCreated {
            source: "admin_api",
            method: Method::Admin.as_str(),
            session_id: None,
            capabilities: candidate.capabilities.clone(),
            cert_thumbprint: leaf.thumbprint(),
            spiffe_id: Some(spiffe.clone()),
            dpop_jkt,
            not_after: leaf.not_after(),
            key_escrowed: escrow,
            by: operator.fingerprint.clone(),
        };
        let mut unit = Unit::of(Event::new(&event).about(id.as_str()))
            .write_all(row.insert())
            .write_all(dpop.as_ref().map(keep_jwk));
        if candidate.lifetime.is_some() {
            unit = unit.write(agents::keep_lifetime(&id, lifetime));
        }
        if escrow {
            let name = agents::key_name(&id);
            let sealed = self.custody.wrap(&name, &pem).map_err(Outage::internal)?;
            unit = unit.write(agents::escrow_key(&id, &sealed));
        }
        let unit = unit.write_all(candidate.remembering(&id, pin.thumbprint, now));
        let unit = self.giving_id(unit, &id, candidate.reuse, operator).await??;
        if !self.insert(unit, &id, operator).await? {
            return Ok(None);
        }
        Ok(Some(Enrolled {
            thumbprint: leaf.thumbprint(),
            key: Some(pem),
            spiffe_id: Some(spiffe),
            dpop_jkt,
            dpop_jwk: dpop.as_ref().map(Jwk::to_value),
            not_after: leaf.not_after(),
            certificates: new.certificates,
            re_pinned: false,
            federated: candidate.federated,
            display_name: candidate.name_shown(&id).to_owned(),
            capabilities: candidate.capabilities.clone(),
            id,
        }))
    }

    /// Commits a unit whose first statement inserts the agent; false when its certificate would be dead on arrival.
    async fn insert(&self, unit: Unit, id: &AgentId, operator: &Operator) -> Result<bool, EnrollError> {
        let unit = unit.touch(mastio_store::Touch::Agent(id.clone()));
        match self.commit(unit).await {
            Ok(_) => Ok(true),
            Err(error) if self.is_overtaken(&error) => Ok(false),
            Err(WriteError::Rejected(Rejection::Constraint { statement: 0, .. })) => {
                Err(EnrollError::Registered(id.clone()))
            }
            Err(WriteError::Rejected(Rejection::Rows { statement: 0, .. })) => {
                self.refuse_lookalike(id).await?;
                self.giving_id(Unit::default(), id, false, operator).await??;
                Err(KeyTrouble::Revoked.into())
            }
            Err(error) => Err(Outage::from(error).into()),
        }
    }

    /// Refuses an id that another agent has but for upper and lower case.
    async fn refuse_lookalike(&self, id: &AgentId) -> Result<(), EnrollError> {
        match agents::lookalike(&self.store, id).await.map_err(Outage::from)? {
            Some(other) => Err(EnrollError::Lookalike(other)),
            None => Ok(()),
        }
    }
}
