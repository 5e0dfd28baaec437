//! A root that an operator brings is tried out: what we would certify below it is made for throwaway keys, and judged as
//! agents and clients judge it. Nothing of it is kept.

use mastio_core::{AgentId, AgentName, OrgId, Rng, SpiffeId, Stamp, TrustDomain};
use mastio_custody::CaKey;
use mastio_pki::{
    Anchors, Certificate, Group, IssueError, Issuer, KeyPair, PathError, ServerNames, StrictFault, profile,
};

use super::{CandidateError, RotationError};
use crate::Outage;

/// What speaks against a root that was tried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrialFault {
    /// What it should certify cannot be made.
    #[error("cannot be made: {0}")]
    Issue(IssueError),
    /// Whoever believes the root does not believe what hangs below it.
    #[error("is not believed: {0}")]
    Path(PathError),
    /// OpenSSL with strict rules, and Python since 3.13, do not.
    #[error("is refused by strict clients: {0}")]
    Strict(StrictFault),
}

impl TrialFault {
    /// A stable word.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Issue(_) => "cannot_issue",
            Self::Path(error) => error.reason(),
            Self::Strict(_) => "strict_rules",
        }
    }
}

/// For whom a root is tried out.
#[derive(Clone, Copy)]
pub(crate) struct Trial<'a> {
    /// The organisation.
    pub(crate) org: &'a OrgId,
    /// Its SPIFFE trust domain.
    pub(crate) domain: &'a TrustDomain,
    /// The names of this server.
    pub(crate) names: &'a ServerNames,
    /// Now.
    pub(crate) now: Stamp,
    /// For serial numbers.
    pub(crate) rng: &'a dyn Rng,
}

const ROOT: &str = "the new CA itself";
const INTERMEDIATE: &str = "an intermediate below it";
const AGENT: &str = "the certificate of an agent below it";
const SIGNING_KEY: &str = "the certificate of the signing key below it";
const SERVER: &str = "the certificate of this server below it";

impl Trial<'_> {
    /// Whether `root` can carry our certificates.
    ///
    /// # Errors
    /// The first of them that would be refused, and why.
    pub(crate) fn of(&self, root: &CaKey) -> Result<(), RotationError> {
        let Self { org, domain, names, now, rng } = *self;
        is_strict(ROOT, &root.certificate)?;
        let issuer = Issuer::new(root.certificate.clone(), &root.key).map_err(Outage::internal)?;
        let throwaway = || KeyPair::generate_p256().map_err(Outage::internal);
        let (own, leaf) = (throwaway()?, throwaway()?);
        let made = profile::intermediate(&issuer, org, own.spki_der(), now, rng);
        let intermediate = well_made(INTERMEDIATE, made)?;
        let issuer = Issuer::new(intermediate.clone(), &own).map_err(Outage::internal)?;

        let name = AgentName::parse("trial").map_err(Outage::internal)?;
        let (id, spiffe) = (AgentId::new(org, &name), SpiffeId::of_agent(domain, org, &name));
        let (spki, lifetime) = (leaf.spki_der(), profile::LEAF_LIFETIME);
        let agent = well_made(AGENT, profile::agent(&issuer, &id, &spiffe, spki, lifetime, now, rng))?;
        let signs = well_made(SIGNING_KEY, profile::mastio_leaf(&issuer, domain, org, spki, now, rng))?;
        let server = well_made(SERVER, profile::server(&issuer, names, org, spki, now, rng))?;

        let anchors = Anchors::builder().org([root.certificate.clone()]).build();
        let anchors = anchors.map_err(CandidateError::Untrustable)?;
        let above = [intermediate];
        for (what, judged) in [
            (AGENT, anchors.validate_within(&Group::Org, &agent, &above, now)),
            (SIGNING_KEY, anchors.validate_within(&Group::Org, &signs, &above, now)),
            (SERVER, anchors.validate_server(&server, &above, now)),
        ] {
            judged.map_err(|error| CandidateError::Trial(what, TrialFault::Path(error)))?;
        }
        Ok(())
    }
}

fn well_made(
    what: &'static str,
    made: Result<Certificate, IssueError>,
) -> Result<Certificate, CandidateError> {
    let certificate = made.map_err(|error| CandidateError::Trial(what, TrialFault::Issue(error)))?;
    is_strict(what, &certificate)?;
    Ok(certificate)
}

fn is_strict(what: &'static str, certificate: &Certificate) -> Result<(), CandidateError> {
    let fault = certificate.strict_faults().first().copied();
    fault.map_or(Ok(()), |fault| Err(CandidateError::Trial(what, TrialFault::Strict(fault))))
}
