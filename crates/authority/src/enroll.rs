//! Agents coming in and being switched off: by an operator, and with a certificate of the organisation's own CA
//! (contract `enrollment.md` §4, §5).

use mastio_core::{
    AgentId, AgentName, Event, Jkt, SpiffeId, Stamp, Thumbprint, TrustDomain, event::catalogue,
};
use mastio_jose::{Jwk, JwkError};
use mastio_pki::{Certificate, KeyPair, PathError, pem, profile};
use mastio_store::{
    Rejection, Unit, WriteError,
    agents::{self, AgentRow, Method, NewAgent},
};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    Authority, Outage, Refusal,
    admin::Operator,
    authenticate::{AuthError, identity},
    trust::Halt,
};

/// Why an agent was not enrolled or changed.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// Not a certificate.
    #[error("cert_pem is not a valid X.509 PEM")]
    Certificate,
    /// Not a private key.
    #[error("private_key_pem is not a private key in PEM")]
    Key,
    /// Certificate and key do not belong together.
    #[error("private_key_pem does not match cert_pem public key")]
    KeyMismatch,
    /// Of the pair only one came.
    #[error("cert_pem and private_key_pem must be provided together")]
    HalfPair,
    /// The path does not lead to our root.
    #[error("cert_pem is not signed by this Mastio's Org CA")]
    Path(PathError),
    /// The path leads to our root, but the certificate cannot serve.
    #[error("cert_pem cannot be used: {0}")]
    Unfit(PathError),
    /// Its key is too weak.
    #[error(
        "cert_pem has a key that is too weak or of an unsupported kind; use EC P-256, P-384, P-521 or RSA with at least 2048 bits"
    )]
    WeakKey,
    /// It names somebody else.
    #[error(
        "cert_pem names {named}, not {expected}; the CN must be {expected}, or the SPIFFE URI must lead to it"
    )]
    Identity {
        /// Whom it names.
        named: String,
        /// Whom it must name.
        expected: AgentId,
    },
    /// Its SPIFFE id is of another trust domain.
    #[error("cert_pem names the trust domain {named}, but this Mastio's is {expected}")]
    TrustDomain {
        /// What it names.
        named: TrustDomain,
        /// Ours.
        expected: TrustDomain,
    },
    /// The DPoP key.
    #[error("{}", jwk_detail(.0))]
    DpopKey(JwkError),
    /// Enrolled already.
    #[error("agent {0} already enrolled")]
    Enrolled(AgentId),
    /// Made already.
    #[error("agent '{0}' already registered")]
    Registered(AgentId),
    /// No such agent.
    #[error("{0}")]
    NotFound(&'static str),
    /// There is no CA to issue with.
    #[error("agent manager not initialized — Org CA not loaded")]
    NoIssuer,
    /// Issuing is halted.
    #[error(transparent)]
    Halted(#[from] Halt),
    /// Something of ours.
    #[error(transparent)]
    Outage(#[from] Outage),
}

fn jwk_detail(error: &JwkError) -> String {
    match error {
        JwkError::PrivateMaterial => {
            "dpop_jwk must be the public JWK — private material ('d') rejected".into()
        }
        JwkError::UnsupportedKeyType(kty) => {
            format!("dpop_jwk kty '{kty}' unsupported — expected 'EC' (P-256) or 'RSA'")
        }
        JwkError::Malformed(what) => format!("dpop_jwk is malformed: {what}"),
    }
}

impl Refusal for EnrollError {
    fn status(&self) -> u16 {
        match self {
            Self::Enrolled(_) | Self::Registered(_) => 409,
            Self::NotFound(_) => 404,
            Self::NoIssuer | Self::Halted(_) => 503,
            Self::Outage(outage) => outage.status(),
            _ => 400,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Certificate => "cert_invalid",
            Self::Key => "key_invalid",
            Self::KeyMismatch => "key_mismatch",
            Self::HalfPair => "half_pair",
            Self::Path(error) | Self::Unfit(error) => error.reason(),
            Self::WeakKey => "key_weak",
            Self::Identity { .. } => "identity_mismatch",
            Self::TrustDomain { .. } => "trust_domain_mismatch",
            Self::DpopKey(_) => "dpop_jwk_invalid",
            Self::Enrolled(_) | Self::Registered(_) => "already_exists",
            Self::NotFound(_) => "not_found",
            Self::NoIssuer => "no_issuer",
            Self::Halted(_) => "signing_halted",
            Self::Outage(outage) => outage.reason(),
        }
    }

    fn unavailable(&self) -> Option<&Outage> {
        match self {
            Self::Outage(outage) => Some(outage),
            _ => None,
        }
    }
}

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
        let lifetime = profile::LEAF_LIFETIME;
        let leaf = profile::agent(issuer, &id, &spiffe, key.spki_der(), lifetime, now, self.rng.as_ref())
            .map_err(Outage::internal)?;
        let certificates = trust.chain_of(&leaf);
        let pem = key.to_pkcs8_pem();
        let row = self.new_agent(&id, candidate, &certificates, Method::Admin, None, Some(&spiffe));
        let event = catalogue::AgentCreated {
            method: Method::Admin.as_str(),
            cert_thumbprint: leaf.thumbprint(),
            spiffe_id: Some(spiffe.clone()),
            not_after: leaf.not_after(),
            key_escrowed: escrow,
            by: operator.fingerprint.clone(),
        };
        let mut unit = Unit::of(Event::new(&event).about(id.as_str())).write(row.insert());
        if escrow {
            let name = agents::key_name(&id);
            let sealed = self.custody.wrap(&name, &pem).map_err(Outage::internal)?;
            unit = unit.write(agents::escrow_key(&id, &sealed));
        }
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
        let row = self.new_agent(&id, candidate, &certificates, Method::Byoca, dpop_jkt, spiffe.as_ref());
        let event = catalogue::AgentEnrolledByoca {
            cert_thumbprint: judged.leaf.thumbprint(),
            spiffe_id: spiffe.clone(),
            dpop_jkt,
            not_after: judged.not_after,
            issuer: judged.issuer,
            re_pinned: false,
            by: operator.fingerprint.clone(),
        };
        let unit = Unit::of(Event::new(&event).about(id.as_str())).write(row.insert());
        self.insert(unit, &id, EnrollError::Enrolled).await?;
        let thumbprint = judged.leaf.thumbprint();
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
        certificates: &'a str,
        method: Method,
        dpop_jkt: Option<Jkt>,
        spiffe_id: Option<&'a SpiffeId>,
    ) -> NewAgent<'a> {
        NewAgent {
            id,
            display_name: if candidate.display_name.is_empty() { id.name() } else { &candidate.display_name },
            capabilities: &candidate.capabilities,
            certificates,
            method,
            dpop_jkt,
            spiffe_id,
            federated: candidate.federated,
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
            Err(error) => Err(Outage::from(error).into()),
        }
    }

    /// All agents, newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn agents(&self) -> Result<Vec<AgentRow>, Outage> {
        Ok(agents::list(&self.store).await?)
    }

    /// Switches an agent off: certificate and tokens stop working before this returns.
    ///
    /// # Errors
    /// When there is no such active agent.
    pub async fn deactivate(&self, id: &AgentId, operator: &Operator) -> Result<(), EnrollError> {
        let gone = || EnrollError::NotFound("agent not found or already inactive");
        for _ in 0..3 {
            let agent = agents::find(&self.store, id).await.map_err(Outage::from)?.ok_or_else(gone)?;
            if agent.standing != agents::Standing::Active {
                return Err(gone());
            }
            let event = catalogue::AgentDeactivated { by: operator.fingerprint.clone() };
            let unit = agents::deactivate(Unit::of(Event::new(&event).about(id.as_str())), &agent);
            match self.commit(unit).await {
                Ok(_) => return Ok(()),
                // Somebody changed it in between: look again.
                Err(WriteError::Rejected(_)) => {}
                Err(error) => return Err(Outage::from(error).into()),
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
    ) -> Result<Jkt, EnrollError> {
        let jkt = public_key(jwk)?;
        let gone = || EnrollError::NotFound("agent not found or inactive");
        for _ in 0..3 {
            let agent = agents::find(&self.store, id).await.map_err(Outage::from)?.ok_or_else(gone)?;
            if agent.standing != agents::Standing::Active {
                return Err(gone());
            }
            let by = operator.fingerprint.clone();
            let event = match agent.dpop_jkt {
                Some(previous) if previous != jkt => Event::new(&catalogue::DpopKeyRotated {
                    previous_dpop_jkt: previous,
                    new_dpop_jkt: jkt,
                    grace_period_expires_at: self.dpop_grace(),
                    by,
                }),
                _ => Event::new(&catalogue::DpopKeySet { dpop_jkt: jkt, by }),
            };
            let grace = agent.dpop_jkt.filter(|previous| *previous != jkt).and_then(|_| self.dpop_grace());
            let unit = Unit::of(event.about(id.as_str()))
                .write(agents::set_dpop_key(&agent, jkt, grace))
                .touch(mastio_store::Touch::Agent(id.clone()));
            match self.commit(unit).await {
                Ok(_) => return Ok(jkt),
                Err(WriteError::Rejected(_)) => {}
                Err(error) => return Err(Outage::from(error).into()),
            }
        }
        Err(Outage::Contended.into())
    }

    fn dpop_grace(&self) -> Option<Stamp> {
        let grace = self.settings.agent_cert_grace;
        (!grace.is_zero()).then(|| self.clock.now().plus(grace))
    }
}

fn public_key(jwk: &serde_json::Value) -> Result<Jkt, EnrollError> {
    Jwk::from_value(jwk).map(|jwk| jwk.thumbprint()).map_err(EnrollError::DpopKey)
}
