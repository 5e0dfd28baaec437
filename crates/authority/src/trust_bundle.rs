//! The trust file as agents fetch it, and who fetched which: `GET /v1/agents/self/trust-bundle` (contract `pki.md`,
//! "better than both" 7).

use mastio_core::{AgentId, Thumbprint};
use mastio_store::{
    Unit,
    rotations::{Phase, following},
};

use crate::{Authority, Outage};

/// What an agent should trust from now on.
#[derive(Debug, Clone, serde::Serialize)]
pub struct TrustBundle {
    /// Counts what this process has loaded; of two answers the higher one is newer, until a restart.
    pub generation: u64,
    /// The certificates in PEM, as `/pki/ca.crt` has them.
    pub bundle_pem: String,
    /// The SHA-256 of that text.
    pub sha256: Thumbprint,
    /// The rotation that it belongs to, while there is one that agents follow.
    pub rotation: Option<Followed>,
}

/// A rotation, as agents hear of it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Followed {
    /// Its name.
    pub id: String,
    /// How far it is.
    pub phase: Phase,
}

impl Authority {
    /// The trust file for `agent`. If it is `fetched`, not only looked at, this returns once it is written down that the
    /// agent has it: a rotation counts on that.
    ///
    /// # Errors
    /// When it cannot be written down; the agent then asks again.
    pub async fn trust_bundle(&self, agent: &AgentId, fetched: bool) -> Result<TrustBundle, Outage> {
        let trust = self.trust();
        if fetched && following::fetched_by(&self.store, agent).await? != Some(trust.bundle) {
            let note = following::note_fetched(agent, trust.bundle, self.clock.now());
            self.commit(Unit::default().write(note)).await?;
        }
        let followed = |rotation: &mastio_store::rotations::Rotation| Followed {
            id: rotation.id.clone(),
            phase: rotation.phase,
        };
        Ok(TrustBundle {
            generation: trust.generation,
            bundle_pem: trust.trust_file.clone(),
            sha256: trust.bundle,
            rotation: trust.followed().map(followed),
        })
    }
}
