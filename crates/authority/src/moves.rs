//! Who has presented a certificate of the root that a rotation brings.
//!
//! Noticed where agents authenticate, without a read or a write there: what is new waits in memory until it is written
//! down with others. An agent that a crash makes us forget calls again.

use std::{
    collections::HashSet,
    sync::{PoisonError, RwLock},
};

use mastio_core::{AgentId, Thumbprint};
use mastio_store::{
    Unit,
    rotations::{Phase, following},
};

use crate::{Authority, Outage, trust::Trust};

/// How many moves one statement writes down.
const AT_ONCE: usize = 250;

/// The moves of the rotation that is under way.
#[derive(Debug, Default)]
pub(crate) struct Moves(RwLock<Seen>);

#[derive(Debug, Default)]
struct Seen {
    rotation: String,
    known: HashSet<AgentId>,
    /// Those that are not written down yet.
    waiting: Vec<AgentId>,
}

impl Moves {
    /// Notes that `agent` presented a certificate that leads to the CA that `leads_to` finds, if that is one that the
    /// rotation brings.
    pub(crate) fn note(&self, trust: &Trust, agent: &AgentId, leads_to: impl FnOnce() -> Option<Thumbprint>) {
        let Some(rotation) = trust.followed().filter(|rotation| rotation.phase >= Phase::Reissue) else {
            return;
        };
        if leads_to().is_none_or(|ca| !trust.cas.is_incoming(&ca)) {
            return;
        }
        let knows = |seen: &Seen| seen.rotation == rotation.id && seen.known.contains(agent);
        if knows(&self.0.read().unwrap_or_else(PoisonError::into_inner)) {
            return;
        }
        let mut seen = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if seen.rotation != rotation.id {
            *seen = Seen { rotation: rotation.id.clone(), ..Seen::default() };
        }
        if seen.known.insert(agent.clone()) {
            seen.waiting.push(agent.clone());
        }
    }

    fn take(&self) -> (String, Vec<AgentId>) {
        let mut seen = self.0.write().unwrap_or_else(PoisonError::into_inner);
        (seen.rotation.clone(), std::mem::take(&mut seen.waiting))
    }

    /// What could not be written down waits again.
    fn put_back(&self, rotation: &str, agents: Vec<AgentId>) {
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
}
