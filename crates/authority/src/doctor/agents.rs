//! The agents, a portion at a time: their certificates, what is noted of them, and on whose word they log in.

use std::collections::{BTreeMap, HashMap};

use mastio_core::{SpiffeId, Stamp, Thumbprint};
use mastio_pki::{Anchors, Certificate, Group, PathError, pem};
use mastio_store::{
    ReadError,
    examine::{self, Noted, Pinned},
};

use super::{Kind, Notes, Patient, cas::Registry};
use crate::{lifecycle::pinned_leaf, spire, trust::Cas};

/// How many agents are in memory at once.
const PORTION: u32 = 500;
/// What `enrollment_method` says of agents whose certificates are SPIRE's.
pub(super) const SPIFFE: &str = "spiffe";

/// The agents in numbers.
#[derive(Debug, Default, serde::Serialize)]
pub struct Fleet {
    /// All of them.
    pub total: u64,
    /// Those that may act.
    pub active: u64,
    /// The active ones by how they came in; old rows do not say.
    pub by_enrollment: BTreeMap<String, u64>,
    /// How many active agents have certificates of the organisation's own CA.
    #[serde(skip)]
    pub(super) brought: u64,
    /// How many active agents have certificates of SPIRE.
    #[serde(skip)]
    pub(super) spiffe: u64,
    /// How many active agents log in by each CA.
    #[serde(skip)]
    pub(super) by_ca: HashMap<Thumbprint, u64>,
}

/// Whom certificates may lead to.
struct Judge<'a> {
    patient: &'a Patient<'a>,
    registry: &'a Registry,
    anchors: Anchors,
}

pub(super) fn examine(
    patient: &Patient<'_>,
    registry: &Registry,
    notes: &mut Notes,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Fleet, ReadError> {
    let total = examine::agents(patient.database)?;
    let judge = Judge { patient, registry, anchors: anchors(patient, registry, notes)? };
    let mut fleet = Fleet::default();
    let mut after = String::new();
    loop {
        progress(fleet.total, total);
        let portion = examine::pins(patient.database, &after, PORTION)?;
        let Some(last) = portion.last() else { return Ok(fleet) };
        after.clone_from(&last.agent);
        for pinned in &portion {
            judge.agent(pinned, &mut fleet, notes);
        }
    }
}

/// Whom the server believes.
fn anchors(patient: &Patient<'_>, registry: &Registry, notes: &mut Notes) -> Result<Anchors, ReadError> {
    let own: Vec<_> = registry.cas.iter().map(|ca| ca.certificate.clone()).collect();
    let believed = registry.believed.iter().flat_map(Cas::believed).cloned();
    let bundles = spire::stored(patient.database, &own)?;
    let builder = bundles
        .into_iter()
        .fold(Anchors::builder().org(believed), |builder, (domain, bundle)| builder.spire(domain, bundle));
    Ok(builder.build().unwrap_or_else(|error| {
        notes.find(Kind::ChainBroken, error.to_string());
        Anchors::default()
    }))
}

impl Judge<'_> {
    fn agent(&self, pinned: &Pinned, fleet: &mut Fleet, notes: &mut Notes) {
        fleet.total += 1;
        if pinned.active {
            fleet.active += 1;
            let method = pinned.method.clone().unwrap_or_else(|| "unknown".to_owned());
            *fleet.by_enrollment.entry(method).or_default() += 1;
            match pinned.method.as_deref() {
                Some(SPIFFE) => fleet.spiffe += 1,
                _ => fleet.brought += u64::from(pinned.brought),
            }
        }
        let id = &pinned.agent;
        let Some(text) = &pinned.certificates else {
            if pinned.active {
                notes.find(Kind::AgentBare, id);
            }
            return;
        };
        let chain = match pem::certificates(text) {
            Ok(chain) => chain,
            Err(error) => return notes.find(Kind::AgentUnreadable, format!("{id}: {error}")),
        };
        let Some((leaf, above)) = chain.split_first() else { return };
        if let Some(problem) = wrong_notes(leaf, pinned.noted.as_ref()) {
            notes.find(Kind::AgentFacts, format!("{id}: {problem}"));
        }
        if !pinned.active {
            return;
        }
        if pinned.revoked {
            notes.find(Kind::AgentRevoked, id);
        }
        match pinned.method.as_deref() {
            // SPIRE renews its certificates every hour or so: which one is stored says little.
            Some(SPIFFE) => self.svid(pinned, notes),
            _ => self.leaf(id, leaf, above, fleet, notes),
        }
    }

    fn svid(&self, pinned: &Pinned, notes: &mut Notes) {
        let Some(id) = pinned.spiffe_id.as_deref().and_then(|id| SpiffeId::parse(id).ok()) else {
            return notes.find(Kind::AgentIdentity, format!("{}: it has no SPIFFE id", pinned.agent));
        };
        let bundle = |(group, _): (&Group, &Certificate)| matches!(group, Group::Spire(domain) if domain == id.trust_domain());
        if !self.anchors.iter().any(bundle) {
            notes.find(Kind::SpireBundleMissing, format!("{}: {}", pinned.agent, id.trust_domain()));
        }
    }

    fn leaf(
        &self,
        id: &str,
        leaf: &Certificate,
        above: &[Certificate],
        fleet: &mut Fleet,
        notes: &mut Notes,
    ) {
        let named = leaf.principal().map(|principal| format!("{}::{}", principal.org, principal.name));
        if named.as_deref() != Some(id) {
            let named = named.as_deref().unwrap_or("nobody");
            notes.find(Kind::AgentIdentity, format!("{id}: its certificate names {named}"));
        }
        notes.ends.agent(id, leaf.not_after(), self.patient.now);
        match self.anchors.validate_within(&Group::Org, leaf, above, self.patient.now) {
            Ok(path) => {
                let known = self.registry.cas.iter().any(|ca| ca.certificate == path.issuer);
                let ca = if known { path.issuer } else { path.anchor };
                *fleet.by_ca.entry(ca.thumbprint()).or_default() += 1;
            }
            Err(_) if self.is_of_former(leaf, above) => notes.find(Kind::AgentOfFormerCa, id),
            Err(PathError::Expired) => notes.find(Kind::AgentExpired, format!("{id}: {}", leaf.not_after())),
            Err(error) => notes.find(Kind::AgentPath, format!("{id}: {error}")),
        }
    }

    /// Whether a CA of before signed it, or the CA above it.
    fn is_of_former(&self, leaf: &Certificate, above: &[Certificate]) -> bool {
        let former = self.registry.cas.iter().filter(|ca| ca.is_former()).map(|ca| &ca.certificate);
        let mut signed =
            former.flat_map(|ca| std::iter::once(leaf).chain(above.first()).map(move |one| (ca, one)));
        signed.any(|(ca, one)| one != ca && one.is_signed_by(ca))
    }
}

/// What is noted of a certificate and is not so.
fn wrong_notes(leaf: &Certificate, noted: Option<&Noted>) -> Option<&'static str> {
    let Some(noted) = noted else { return Some("nothing is noted of it") };
    let facts = pinned_leaf(leaf, None);
    if noted.thumbprint != facts.thumbprint.to_string() {
        Some("another thumbprint is noted")
    } else if noted.spki_sha256 != facts.spki_sha256 {
        Some("another public key is noted")
    } else if Stamp::parse(&noted.not_after) != Ok(facts.not_after) {
        Some("another end is noted")
    } else {
        None
    }
}
