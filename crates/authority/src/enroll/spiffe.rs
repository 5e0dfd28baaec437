//! Agents with an SVID (contract `enrollment.md` §5; design decision 1).
//!
//! What is pinned is the SPIFFE id, on the word of its trust domain's bundle: the next SVID of the same workload just
//! works. The SVID of the enrolment is kept for those who verify the agent's messages.

use std::sync::Arc;

use mastio_core::{AgentId, Event, SpiffeId, TrustDomain, event::catalogue};
use mastio_pki::{Anchors, Certificate, Group, ValidPath, pem, spire_bundle};
use mastio_store::{
    Touch, Unit,
    agents::{AgentRow, Method},
    spiffe::{self, Bundle},
};

use super::{Brought, Candidate, EnrollError, Enrolled, arrival::Arrival, brought::Presented, error::Fields};
use crate::{Authority, Outage, admin::Operator, lifecycle::current_leaf, spire};

/// The CAs that an SVID is judged by, and what is stored of them.
struct Believed {
    stored: Option<Bundle>,
    certificates: Vec<Certificate>,
    /// Whether some of them came with the request.
    grown: bool,
}

impl Authority {
    /// Takes in an agent with an SVID. CAs that are sent along are added to the bundle of its trust domain.
    ///
    /// # Errors
    /// What does not hold of SVID or bundle, or when the name or the SPIFFE id is taken.
    pub async fn enroll_spiffe(
        self: &Arc<Self>,
        candidate: &Candidate,
        brought: &Brought,
        trust_bundle: Option<&str>,
        operator: &Operator,
    ) -> Result<Enrolled, EnrollError> {
        let dpop = candidate.dpop_key()?;
        let id = AgentId::new(&self.trust().org, &candidate.name);
        let presented = brought.read(Fields::Spiffe)?;
        let spiffe = self.spiffe_id_of(&id, &presented.leaf)?;
        let sent = match trust_bundle {
            Some(text) => spire_bundle(text).map_err(EnrollError::BundleUnreadable)?,
            None => vec![],
        };
        let believed = self.believed(spiffe.trust_domain(), &sent).await?;
        let path = self.judge_svid(&spiffe, &presented, &believed.certificates)?;
        self.refuse_old_svid(&id, &spiffe, &presented.leaf).await?;
        let arrival = Arrival {
            certificates: mastio_pki::issued_chain(&presented.leaf, &presented.above),
            spiffe_id: Some(spiffe.clone()),
            method: Method::Spiffe,
            update_existing: brought.update_existing,
            sent: if believed.grown { sent } else { vec![] },
            vouched_by: None,
            issuer: None,
            id,
            candidate,
            leaf: presented.leaf,
            dpop,
            operator,
        };
        let tell = |before: Option<&AgentRow>| {
            Event::new(&catalogue::AgentEnrolledSpiffe {
                cert_thumbprint: arrival.leaf.thumbprint(),
                spiffe_id: spiffe.clone(),
                dpop_jkt: arrival.dpop_jkt(),
                not_after: arrival.leaf.not_after(),
                issuer: path.issuer.subject().to_owned(),
                re_pinned: before.is_some(),
                previous_cert_thumbprint: before.and_then(current_leaf).map(|leaf| leaf.thumbprint()),
                previous_dpop_jkt: before.and_then(|agent| agent.dpop_jkt),
                reactivated: before.is_some_and(|agent| !agent.is_active()),
                by: operator.fingerprint.clone(),
            })
        };
        let enrolled = self.take_in(&arrival, &tell).await?;
        if believed.grown {
            self.reload_now().await;
        }
        Ok(enrolled)
    }

    /// Adds the CAs that came with an arrival to the bundle of its trust domain, as that is stored now.
    pub(super) async fn growing(&self, unit: Unit, arrival: &Arrival<'_>) -> Result<Unit, EnrollError> {
        let Some(spiffe) = arrival.spiffe_id.as_ref().filter(|_| !arrival.sent.is_empty()) else {
            return Ok(unit);
        };
        let believed = self.believed(spiffe.trust_domain(), &arrival.sent).await?;
        let before = believed.stored.as_ref().map(|bundle| bundle.pem.as_str());
        let (by, now) = (arrival.operator.fingerprint.clone(), self.clock.now());
        let (domain, certificates) = (spiffe.trust_domain(), &believed.certificates);
        Ok(spire::writing(unit, domain, certificates, before, ("enrollment", by), now))
    }

    /// The one SPIFFE id of an SVID, which must not be that of somebody of ours.
    fn spiffe_id_of(&self, id: &AgentId, leaf: &Certificate) -> Result<SpiffeId, EnrollError> {
        let only = leaf.spiffe_id().filter(|_| leaf.uri_sans().len() == 1);
        let spiffe = only.ok_or(EnrollError::NoSpiffeId)?;
        let trust = self.trust();
        let ours = spiffe
            .principal()
            .filter(|named| *spiffe.trust_domain() == trust.domain && named.org == trust.org)
            .filter(|named| named.agent_id().as_ref() != Some(id));
        match ours {
            Some(named) => Err(EnrollError::SvidOfAnother { named: named.to_string() }),
            None => Ok(spiffe.clone()),
        }
    }

    /// The stored bundle of the trust domain, and those CAs of the request that it lacks.
    async fn believed(&self, domain: &TrustDomain, sent: &[Certificate]) -> Result<Believed, EnrollError> {
        let (stored, own) = (self.stored_bundle(domain).await?, self.trust().own_cas());
        spire::check(domain, sent, &own).map_err(EnrollError::Bundle)?;
        // What is stored and does not fit counts for nothing, and is replaced.
        let fits = |certificates: &Vec<Certificate>| spire::check(domain, certificates, &own).is_ok();
        let read = stored.as_ref().and_then(|bundle| pem::certificates(&bundle.pem).ok());
        let mut certificates = read.filter(fits).unwrap_or_default();
        let known = certificates.len();
        for ca in sent {
            if !certificates.contains(ca) {
                certificates.push(ca.clone());
            }
        }
        if certificates.is_empty() {
            return Err(EnrollError::NoBundle(domain.clone()));
        }
        Ok(Believed { grown: certificates.len() > known, stored, certificates })
    }

    fn judge_svid(
        &self,
        spiffe: &SpiffeId,
        presented: &Presented,
        bundle: &[Certificate],
    ) -> Result<ValidPath, EnrollError> {
        let domain = spiffe.trust_domain();
        let anchors = Anchors::builder()
            .spire(domain.clone(), bundle.iter().cloned())
            .build()
            .map_err(|error| EnrollError::Bundle(error.into()))?;
        // CAs of the bundle may have been sent along with the SVID; they are anchors, not links.
        let links: Vec<_> = presented.above.iter().filter(|ca| !bundle.contains(ca)).cloned().collect();
        let group = Group::Spire(domain.clone());
        anchors
            .validate_within(&group, &presented.leaf, &links, self.clock.now())
            .map_err(|error| EnrollError::of_path(Fields::Spiffe, error))
    }

    /// SVIDs of before a revocation may be in wrong hands.
    async fn refuse_old_svid(
        &self,
        id: &AgentId,
        spiffe: &SpiffeId,
        leaf: &Certificate,
    ) -> Result<(), EnrollError> {
        match spiffe::issued_after(&self.store, id, spiffe).await.map_err(Outage::from)? {
            Some(revoked) if leaf.not_before() <= revoked => Err(EnrollError::OldSvid { revoked }),
            _ => Ok(()),
        }
    }
}

/// What binds an arrival to its SPIFFE id.
pub(super) fn binding(unit: Unit, spiffe: &SpiffeId, id: &AgentId) -> Unit {
    unit.write(spiffe::bind(spiffe, id)).touch(Touch::Spiffe(spiffe.clone()))
}
