//! Agents coming in and being switched off: by an operator, and with a certificate of the organisation's own CA
//! (contract `enrollment.md` §4, §5).

mod error;

use mastio_core::{
    AgentId, AgentName, Event, Jkt, PrincipalKind, SpiffeId, Stamp, Thumbprint, event::catalogue,
};
use mastio_jose::Jwk;
use mastio_pki::{Certificate, KeyPair, pem, profile};
use mastio_store::{
    Rejection, Statement, Unit, WriteError,
    agents::{self, Method, NewAgent, PinnedLeaf},
};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    Authority, Outage,
    admin::Operator,
    authenticate::{AuthError, identity},
    lifecycle::pinned_leaf,
    lifetime::Lifetime,
    once::Once,
};

pub use error::EnrollError;
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
    /// How long the certificates live that are made here for it; 365 days when not given.
    pub lifetime: Option<Lifetime>,
    /// What the request is called, when it may be sent again.
    pub once: Option<Once>,
}

impl Candidate {
    /// What its unit writes beside the agent, so that the request can be sent again.
    fn remembering(&self, id: &AgentId, thumbprint: Thumbprint, at: Stamp) -> Option<Statement> {
        self.once.as_ref().map(|once| once.remember(id, thumbprint, at))
    }
}

/// A certificate with its key, as the operator sends it.
#[derive(Debug)]
pub struct Brought {
    /// PEM, leaf first.
    pub certificates: String,
    /// PEM; checked and dropped.
    pub key: SecretString,
}

/// An agent that came in.
#[derive(Debug)]
pub struct Enrolled {
    /// Its id.
    pub id: AgentId,
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
}

/// A certificate that was brought and holds.
struct Judged {
    leaf: Certificate,
    chain: Vec<Certificate>,
    issuer: String,
    not_after: Stamp,
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
        let trust = self.trust();
        if let Some(halt) = &trust.halt {
            return Err(halt.clone().into());
        }
        let issuer = trust.issuer.as_ref().ok_or(EnrollError::NoIssuer)?;
        let id = AgentId::new(&trust.org, &candidate.name);
        let spiffe = SpiffeId::of_agent(&trust.domain, &trust.org, &candidate.name);
        let key = KeyPair::generate_p256().map_err(Outage::internal)?;
        let now = self.clock.now();
        let lifetime = candidate.lifetime.map_or(Lifetime::MOST, Lifetime::duration);
        let leaf = profile::agent(issuer, &id, &spiffe, key.spki_der(), lifetime, now, self.rng.as_ref())
            .map_err(Outage::internal)?;
        let certificates = trust.chain_of(&leaf);
        let pem = key.to_pkcs8_pem();
        let pin = pinned_leaf(&leaf);
        let row = self.new_agent(&id, candidate, (&certificates, &pin), Method::Admin, None, Some(&spiffe));
        let event = catalogue::AgentCreated {
            source: "admin_api",
            method: Method::Admin.as_str(),
            session_id: None,
            capabilities: candidate.capabilities.clone(),
            cert_thumbprint: leaf.thumbprint(),
            spiffe_id: Some(spiffe.clone()),
            not_after: leaf.not_after(),
            key_escrowed: escrow,
            by: operator.fingerprint.clone(),
        };
        let mut unit = Unit::of(Event::new(&event).about(id.as_str())).write_all(row.insert());
        if candidate.lifetime.is_some() {
            unit = unit.write(agents::keep_lifetime(&id, lifetime));
        }
        if escrow {
            let name = agents::key_name(&id);
            let sealed = self.custody.wrap(&name, &pem).map_err(Outage::internal)?;
            unit = unit.write(agents::escrow_key(&id, &sealed));
        }
        let unit = unit.write_all(candidate.remembering(&id, pin.thumbprint, now));
        self.insert(unit, &id, EnrollError::Registered).await?;
        Ok(Enrolled {
            certificates,
            thumbprint: leaf.thumbprint(),
            key: Some(pem),
            spiffe_id: Some(spiffe),
            dpop_jkt: None,
            id,
        })
    }

    /// Takes in an agent with a certificate below our root. The key proves possession and is dropped.
    ///
    /// # Errors
    /// What does not hold of the certificate, or when the name is taken.
    pub async fn enroll_byoca(
        &self,
        candidate: &Candidate,
        brought: &Brought,
        dpop_jwk: Option<&serde_json::Value>,
        operator: &Operator,
    ) -> Result<Enrolled, EnrollError> {
        let dpop_jkt = dpop_jwk.map(public_key).transpose()?;
        let id = AgentId::new(&self.trust().org, &candidate.name);
        let judged = self.judge(&id, brought)?;
        let spiffe = judged.leaf.spiffe_id().cloned();
        let certificates = mastio_pki::issued_chain(&judged.leaf, &judged.chain);
        let pin = pinned_leaf(&judged.leaf);
        let row =
            self.new_agent(&id, candidate, (&certificates, &pin), Method::Byoca, dpop_jkt, spiffe.as_ref());
        let event = catalogue::AgentEnrolledByoca {
            cert_thumbprint: judged.leaf.thumbprint(),
            spiffe_id: spiffe.clone(),
            dpop_jkt,
            not_after: judged.not_after,
            issuer: judged.issuer,
            re_pinned: false,
            by: operator.fingerprint.clone(),
        };
        let unit = Unit::of(Event::new(&event).about(id.as_str())).write_all(row.insert());
        let thumbprint = judged.leaf.thumbprint();
        let unit = unit.write_all(candidate.remembering(&id, thumbprint, self.clock.now()));
        self.insert(unit, &id, EnrollError::Enrolled).await?;
        Ok(Enrolled { id, certificates, thumbprint, key: None, spiffe_id: spiffe, dpop_jkt })
    }

    /// Path, identity, strength and possession of a certificate that was brought.
    fn judge(&self, id: &AgentId, brought: &Brought) -> Result<Judged, EnrollError> {
        let trust = self.trust();
        let mut chain = pem::certificates(&brought.certificates).map_err(|_| EnrollError::Certificate)?;
        if chain.is_empty() {
            return Err(EnrollError::Certificate);
        }
        let leaf = chain.remove(0);
        let key = KeyPair::from_pem(brought.key.expose_secret()).map_err(|_| EnrollError::Key)?;
        if !key.matches(&leaf) {
            return Err(EnrollError::KeyMismatch);
        }
        if !leaf.key_strength_ok() {
            return Err(EnrollError::WeakKey);
        }
        // The root may have been sent along; it is an anchor, not a link.
        chain.retain(|certificate| *certificate != trust.root);
        let path = trust.anchors.validate(&leaf, &chain, self.clock.now()).map_err(|error| {
            match error.reason() {
                "unknown_issuer" => EnrollError::Path(error),
                _ => EnrollError::Unfit(error),
            }
        })?;
        let named = match identity(&leaf, trust.org.as_str()) {
            Ok(named) if named == *id => None,
            Ok(named) => Some(named.to_string()),
            Err(AuthError::OrgMismatch { presented, agent_name, .. }) => {
                Some(format!("{presented}::{agent_name}"))
            }
            Err(AuthError::TypedPrincipal { principal_id, .. }) => Some(principal_id),
            Err(_) => Some("nobody".to_owned()),
        };
        if let Some(named) = named {
            return Err(EnrollError::Identity { named, expected: id.clone() });
        }
        if let Some(spiffe) = leaf.spiffe_id()
            && *spiffe.trust_domain() != trust.domain
        {
            let (named, expected) = (spiffe.trust_domain().clone(), trust.domain.clone());
            return Err(EnrollError::TrustDomain { named, expected });
        }
        Ok(Judged { issuer: path.issuer.subject().to_owned(), not_after: leaf.not_after(), leaf, chain })
    }

    fn new_agent<'a>(
        &self,
        id: &'a AgentId,
        candidate: &'a Candidate,
        (certificates, leaf): (&'a str, &'a PinnedLeaf),
        method: Method,
        dpop_jkt: Option<Jkt>,
        spiffe_id: Option<&'a SpiffeId>,
    ) -> NewAgent<'a> {
        NewAgent {
            id,
            display_name: if candidate.display_name.is_empty() { id.name() } else { &candidate.display_name },
            capabilities: &candidate.capabilities,
            certificates,
            leaf,
            method,
            dpop_jkt,
            spiffe_id,
            federated: candidate.federated,
            device_info: None,
            kind: PrincipalKind::Agent,
            at: self.clock.now(),
        }
    }

    /// Commits a unit whose first statement inserts the agent.
    async fn insert(
        &self,
        unit: Unit,
        id: &AgentId,
        taken: fn(AgentId) -> EnrollError,
    ) -> Result<(), EnrollError> {
        let unit = unit.touch(mastio_store::Touch::Agent(id.clone()));
        match self.commit(unit).await {
            Ok(_) => Ok(()),
            Err(WriteError::Rejected(Rejection::Constraint { statement: 0, .. })) => Err(taken(id.clone())),
            Err(WriteError::Rejected(Rejection::Rows { statement: 0, .. })) => Err(EnrollError::KeyRevoked),
            Err(error) => Err(Outage::from(error).into()),
        }
    }
}

fn public_key(jwk: &serde_json::Value) -> Result<Jkt, EnrollError> {
    Jwk::from_value(jwk).map(|jwk| jwk.thumbprint()).map_err(EnrollError::DpopKey)
}
