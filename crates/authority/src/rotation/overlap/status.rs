//! How far a rotation is, and who is left.

use mastio_core::{AgentId, Stamp};
use mastio_store::rotations::{
    self, Phase, Rotation, Transition,
    following::{self, Left, Progress, Waiting},
};

use super::OverlapError;
use crate::{Authority, Outage};

/// How far a rotation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationStatus {
    /// Its row.
    pub rotation: Rotation,
    /// For how long the old root is believed after the new one became the active one; `None` of a cut.
    pub grace_days: Option<u32>,
    /// Until when that is, once it is known.
    pub grace_until: Option<Stamp>,
    /// How far the agents are, while it is open.
    pub progress: Option<Progress>,
}

impl RotationStatus {
    /// What an operator wants to know: "212 of 240 moved".
    #[must_use]
    pub fn summary(&self) -> String {
        let phase = self.rotation.phase;
        self.progress.as_ref().map_or_else(|| phase.as_str().to_owned(), |progress| summary(phase, progress))
    }
}

pub(crate) fn summary(phase: Phase, progress: &Progress) -> String {
    match phase {
        Phase::Distribute => format!("{} of {} have the trust file", progress.fetched, progress.agents),
        _ => format!("{} of {} moved", progress.moved, progress.agents),
    }
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Half {
    /// Agents that follow by themselves.
    #[default]
    Agents,
    /// Those that the operator must see to.
    Operators,
}

/// Some of those that are left, in the order of their ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waiters {
    /// They.
    pub agents: Vec<Waiting>,
    /// The id after which the next page begins, if there is one.
    pub next: Option<AgentId>,
}

impl Authority {
    /// The newest rotations, at most `limit`, without the progress of those that are over.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn rotations(&self, limit: u32) -> Result<Vec<RotationStatus>, OverlapError> {
        let mut found = Vec::new();
        for rotation in rotations::newest(self.store.database(), limit.into()).map_err(Outage::from)? {
            found.push(self.status_of(rotation).await?);
        }
        Ok(found)
    }

    /// One rotation.
    ///
    /// # Errors
    /// When there is none of this name.
    pub async fn rotation(&self, id: &str) -> Result<RotationStatus, OverlapError> {
        self.status_of(self.named_rotation(id)?).await
    }

    async fn status_of(&self, rotation: Rotation) -> Result<RotationStatus, OverlapError> {
        let overlap = rotation.transition == Transition::Overlap;
        let days = following::grace_days(self.store.database(), &rotation).map_err(Outage::from)?;
        let until =
            (rotation.phase == Phase::Activated).then(|| self.old_root_until(&rotation)).transpose()?;
        let open = overlap && !rotation.phase.is_end();
        let progress = if open { Some(self.progress_lately(&rotation).await?) } else { None };
        Ok(RotationStatus { grace_days: days.filter(|_| overlap), grace_until: until, progress, rotation })
    }

    /// How far the agents are, or were a moment ago: whoever watches does not make the counting never end.
    async fn progress_lately(&self, rotation: &Rotation) -> Result<Progress, Outage> {
        let (bundle, since) = (self.trust().bundle, self.clock.elapsed());
        if let Some(counted) = self.rotations.counted(rotation, bundle, since) {
            return Ok(counted);
        }
        let progress = self.progress(rotation).await?;
        self.rotations.keep_counted(rotation, bundle, progress, (since, self.clock.elapsed()));
        Ok(progress)
    }

    /// At most `limit` of those that `rotation` waits for, behind `after`; nobody once it is over.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn waiters(
        &self,
        rotation: &Rotation,
        half: Half,
        after: Option<&AgentId>,
        limit: u32,
    ) -> Result<Waiters, OverlapError> {
        if rotation.transition != Transition::Overlap || rotation.phase.is_end() {
            return Ok(Waiters::default());
        }
        let trust = self.trust();
        let left = match (half, rotation.phase) {
            (Half::Operators, _) => Left::Operators(rotation, trust.bundle),
            (Half::Agents, Phase::Staged | Phase::Distribute) => Left::Unfetched(trust.bundle),
            (Half::Agents, _) => Left::Unmoved(rotation),
        };
        // One more than asked for tells whether there is a next page.
        let fleet = self.followers(&trust);
        let found = following::left(&self.store, fleet, left, after, limit.saturating_add(1)).await;
        let mut agents = found.map_err(Outage::from)?;
        let more = agents.len() > limit as usize;
        agents.truncate(limit as usize);
        Ok(Waiters { next: agents.last().filter(|_| more).map(|last| last.agent.clone()), agents })
    }
}
