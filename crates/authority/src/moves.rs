//! Who has presented a certificate of the root that a rotation brings. Of those that are brought it is known when they
//! come in: see [`Authority::pinning`].
//!
//! Noticed where agents authenticate, without a read or a write there: what is new waits in memory until it is written
//! down with others. An agent that a crash makes us forget calls again.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use mastio_core::{AgentId, Stamp, Thumbprint};
use mastio_pki::Certificate;
use mastio_store::{Unit, rotations::following};

use crate::{Authority, Outage, trust::Trust};

/// How many moves one statement writes down.
const AT_ONCE: usize = 250;

/// The moves of the rotation that is under way.
#[derive(Debug, Default)]
pub(crate) struct Moves(RwLock<Seen>);

#[derive(Debug, Default)]
struct Seen {
    rotation: String,
    /// The certificate of the new root that each presented last.
    known: HashMap<AgentId, Thumbprint>,
    /// Those that are not written down yet.
    waiting: Vec<(AgentId, Thumbprint)>,
}

impl Moves {
    /// Notes that `agent` presented `leaf`, which leads to the CA that `leads_to` finds, if that is one that the rotation
    /// brings.
    pub(crate) fn note(
        &self,
        trust: &Trust,
        agent: &AgentId,
        leaf: &Certificate,
        leads_to: impl FnOnce() -> Option<Thumbprint>,
    ) {
        let Some(rotation) = trust.followed() else { return };
        if leads_to().is_none_or(|ca| !trust.cas.is_incoming(&ca)) {
            return;
        }
        let leaf = leaf.thumbprint();
        let knows = |seen: &Seen| seen.rotation == rotation.id && seen.known.get(agent) == Some(&leaf);
        if knows(&self.0.read().unwrap_or_else(PoisonError::into_inner)) {
            return;
        }
        let mut seen = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if seen.rotation != rotation.id {
            *seen = Seen { rotation: rotation.id.clone(), ..Seen::default() };
        }
        if seen.known.insert(agent.clone(), leaf) != Some(leaf) {
            seen.waiting.push((agent.clone(), leaf));
        }
    }

    fn take(&self) -> (String, Vec<(AgentId, Thumbprint)>) {
        let mut seen = self.0.write().unwrap_or_else(PoisonError::into_inner);
        (seen.rotation.clone(), std::mem::take(&mut seen.waiting))
    }

    /// What could not be written down waits again.
    fn put_back(&self, rotation: &str, agents: Vec<(AgentId, Thumbprint)>) {
        let mut seen = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if seen.rotation == rotation {
            seen.waiting.extend(agents);
        }
    }
}

impl Authority {
    /// Writes down who has moved since the last time.
    pub(crate) async fn keep_moves(&self) -> Result<(), Outage> {
        let (rotation, agents) = self.moves.take();
        if agents.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        let notes = agents.chunks(AT_ONCE).map(|agents| following::note_moved(&rotation, agents, now));
        let written = self.commit(Unit::default().write_all(notes)).await;
        if written.is_err() {
            self.moves.put_back(&rotation, agents);
        }
        written.map(drop).map_err(Into::into)
    }

    /// What goes with every certificate that takes the place of another: `agent` has moved to no other root than the one
    /// above `issuer`, and counts as moved there at once if the certificate was `brought`.
    pub(crate) fn pinning(
        &self,
        unit: Unit,
        agent: &AgentId,
        issuer: Option<Thumbprint>,
        brought: bool,
        at: Stamp,
    ) -> Unit {
        let root = issuer.and_then(|ca| self.trust().cas.root_above(&ca));
        let unit = unit.write(following::forget_moves(agent, root));
        let brought = root.filter(|_| brought);
        unit.write_all(brought.map(|root| following::note_brought(agent, root, at)))
    }
}
