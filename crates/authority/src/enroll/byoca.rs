//! Agents with a certificate of the organisation's own CA (contract `enrollment.md` §5).

use mastio_core::{AgentId, Event, SpiffeId, event::catalogue};
use mastio_pki::{Certificate, Group, ValidPath};
use mastio_store::agents::{AgentRow, Method};

use super::{Brought, Candidate, EnrollError, Enrolled, arrival::Arrival, brought::Presented, error::Fields};
use crate::{
    Authority,
    admin::Operator,
    authenticate::{AuthError, identity},
    lifecycle::current_leaf,
};

impl Authority {
    /// Takes in an agent with a certificate below our root. An agent of this name whose pin is not live any more is
    /// given the certificate too, and any other when `update_existing` says so.
    ///
    /// # Errors
    /// What does not hold of the certificate, or when the name is taken.
    pub async fn enroll_byoca(
        &self,
        candidate: &Candidate,
        brought: &Brought,
        operator: &Operator,
    ) -> Result<Enrolled, EnrollError> {
        let dpop = candidate.dpop_key()?;
        let id = AgentId::new(&self.trust().org, &candidate.name);
        let (Presented { leaf, above }, path) = self.judge_byoca(&id, brought)?;
        let arrival = Arrival {
            issuer: self.trust().issuer_of(&leaf).map(Certificate::thumbprint),
            vouched_by: Some(path.anchor.thumbprint()),
            spiffe_id: leaf.spiffe_id().cloned(),
            certificates: mastio_pki::issued_chain(&leaf, &above),
            method: Method::Byoca,
            update_existing: brought.update_existing,
            sent: vec![],
            id,
            candidate,
            leaf,
            dpop,
            operator,
        };
        let tell = |before: Option<&AgentRow>| {
            Event::new(&catalogue::AgentEnrolledByoca {
                cert_thumbprint: arrival.leaf.thumbprint(),
                spiffe_id: arrival.spiffe_id.clone(),
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
        self.take_in(&arrival, &tell).await
    }

    /// Possession, strength, path and identity of a certificate that was brought.
    fn judge_byoca(&self, id: &AgentId, brought: &Brought) -> Result<(Presented, ValidPath), EnrollError> {
        let trust = self.trust();
        let mut presented = brought.read(Fields::Byoca)?;
        // The root may have been sent along; it is an anchor, not a link.
        presented.above.retain(|certificate| *certificate != trust.root);
        let Presented { leaf, above } = &presented;
        let path = trust
            .anchors
            .validate_within(&Group::Org, leaf, above, self.clock.now())
            .map_err(|error| EnrollError::of_path(Fields::Byoca, error))?;
        if leaf.uri_sans().iter().filter(|uri| SpiffeId::parse(uri).is_ok()).count() > 1 {
            return Err(EnrollError::SeveralSpiffeIds);
        }
        let named = match identity(leaf, trust.org.as_str()) {
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
        Ok((presented, path))
    }
}
