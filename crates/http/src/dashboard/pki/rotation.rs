//! A rotation of the Org CA that is not over: how far it is, what it waits for, and who is left.

use mastio_authority::{
    rotation::overlap::{Half, OverlapError, RotationStatus},
    trust::Trust,
};
use mastio_core::{Stamp, counted};
use mastio_store::rotations::{Phase, Rotation, following::Waiting};

use crate::{
    dashboard::{agents::method, text},
    routes::App,
};

/// How many of those that are left are named where they are not the subject.
const NAMED: u32 = 10;
/// The phases of an overlap.
const PHASES: [Phase; 4] = [Phase::Distribute, Phase::Reissue, Phase::Activated, Phase::Done];

/// A rotation that is not over.
pub(super) struct Open {
    pub(super) id: String,
    pub(super) phase: &'static str,
    pub(super) since: String,
    pub(super) by: String,
    /// If it is one that agents follow.
    pub(super) followed: Option<Followed>,
}

/// A rotation with overlap.
pub(super) struct Followed {
    pub(super) steps: [Step; PHASES.len()],
    pub(super) paused: bool,
    pub(super) summary: String,
    pub(super) followers: u64,
    pub(super) agents: u64,
    /// What holds in this phase, and what ends it.
    pub(super) meaning: &'static str,
    pub(super) grace_until: Option<String>,
    pub(super) next: &'static str,
    /// Whether the next step leaves somebody behind or cuts the grace short.
    pub(super) must_be_forced: bool,
    pub(super) left: Names,
    pub(super) operators_work: OperatorsWork,
}

/// A phase on the way.
pub(super) struct Step {
    pub(super) phase: &'static str,
    pub(super) is_past: bool,
    pub(super) is_now: bool,
}

/// Some agents, and how many there are beside them.
pub(super) struct Names {
    pub(super) shown: Vec<Waiter>,
    pub(super) more: u64,
}

/// The agents that cannot follow by themselves.
pub(super) struct OperatorsWork {
    /// How many BYOCA agents there are, and how many of them have a certificate of the new root.
    pub(super) byoca: (u64, u64),
    /// How many SPIFFE agents there are, and how many of them have the trust file.
    pub(super) spiffe: (u64, u64),
    /// How many agents of ours have no certificate that logs in.
    pub(super) shut_out: u64,
    pub(super) left: Names,
}

/// An agent that has not followed yet.
pub(super) struct Waiter {
    pub(super) id: String,
    pub(super) display_name: String,
    pub(super) method: &'static str,
    pub(super) shut_out: bool,
    pub(super) fetched: String,
    pub(super) until: String,
}

impl Open {
    pub(super) async fn of(app: &App, trust: &Trust, now: Stamp) -> Result<Option<Self>, OverlapError> {
        let Some(rotation) = &trust.rotation else { return Ok(None) };
        let followed = match trust.followed() {
            Some(followed) => {
                let status = app.authority.rotation(&followed.id).await?;
                Followed::of(app, &status, NAMED, now).await?
            }
            None => None,
        };
        Ok(Some(Self {
            id: rotation.id.clone(),
            phase: rotation.phase.as_str(),
            since: text::distance(rotation.started_at, now),
            by: rotation.started_by.clone(),
            followed,
        }))
    }
}

impl Followed {
    /// With at most `named` agents of each half; `None` when it is over.
    pub(super) async fn of(
        app: &App,
        status: &RotationStatus,
        named: u32,
        now: Stamp,
    ) -> Result<Option<Self>, OverlapError> {
        let RotationStatus { rotation, progress: Some(progress), grace_until, .. } = status else {
            return Ok(None);
        };
        let phase = rotation.phase;
        let Some(next) = PHASES.into_iter().find(|next| *next > phase) else { return Ok(None) };
        let left = progress.left(phase);
        let names = async |half, count| Names::of(app, rotation, half, count, named, now).await;
        Ok(Some(Self {
            steps: PHASES.map(|step| Step {
                phase: step.as_str(),
                is_past: step < phase,
                is_now: step == phase,
            }),
            paused: rotation.paused,
            summary: status.summary(),
            followers: progress.agents.saturating_sub(left),
            agents: progress.agents,
            meaning: meaning(phase),
            grace_until: grace_until.map(text::moment),
            next: next.as_str(),
            must_be_forced: left > 0 || grace_until.is_some_and(|until| until > now),
            left: names(Half::Agents, left).await?,
            operators_work: OperatorsWork {
                byoca: (progress.byoca, progress.byoca_moved),
                spiffe: (progress.spiffe, progress.spiffe_fetched),
                shut_out: progress.shut_out,
                left: names(Half::Operators, progress.operators_left()).await?,
            },
        }))
    }

    /// How many agents have not done what the rotation asks of them, whoever must see to it. Who is shut out already loses
    /// nothing.
    pub(super) fn behind(&self) -> u64 {
        let work = &self.operators_work;
        self.left.count() + work.left.count().saturating_sub(work.shut_out)
    }
}

fn meaning(phase: Phase) -> &'static str {
    match phase {
        Phase::Distribute => {
            "Both roots are believed. Agents fetch the trust file with both; certificates still come from the old one."
        }
        Phase::Reissue => {
            "Agents get certificates of the new root when they renew. The server still shows the old one."
        }
        Phase::Activated => {
            "The new root certifies everything. The old one is believed until its grace is over and nobody is left."
        }
        Phase::Staged | Phase::Done | Phase::Aborted => "",
    }
}

impl Names {
    async fn of(
        app: &App,
        rotation: &Rotation,
        half: Half,
        count: u64,
        named: u32,
        now: Stamp,
    ) -> Result<Self, OverlapError> {
        let waiters = app.authority.waiters(rotation, half, None, named).await?;
        let shown: Vec<Waiter> = waiters.agents.into_iter().map(|agent| Waiter::new(agent, now)).collect();
        Ok(Self { more: count.saturating_sub(shown.len() as u64), shown })
    }

    pub(super) fn count(&self) -> u64 {
        self.shown.len() as u64 + self.more
    }
}

impl OperatorsWork {
    pub(super) fn is_any(&self) -> bool {
        self.byoca.0 + self.spiffe.0 + self.shut_out > 0
    }

    /// How far it is.
    pub(super) fn told(&self) -> Vec<String> {
        let told = |(agents, done): (u64, u64), kind: &str, what: &str| {
            (agents > 0).then(|| format!("{kind}: {done} of {agents} with {what}"))
        };
        let byoca = told(self.byoca, "BYOCA", "a certificate of the new root");
        let spiffe = told(self.spiffe, "SPIFFE", "the new trust file");
        let shut_out = (self.shut_out > 0).then(|| {
            counted(self.shut_out, "agent is shut out", "agents are shut out")
                + " until it gets another certificate"
        });
        byoca.into_iter().chain(spiffe).chain(shut_out).collect()
    }
}

impl Waiter {
    pub(super) fn new(waiting: Waiting, now: Stamp) -> Self {
        Self {
            id: waiting.agent.to_string(),
            display_name: waiting.display_name,
            method: method(waiting.method),
            shut_out: waiting.shut_out,
            fetched: waiting.fetched_at.map_or_else(|| "never".to_owned(), |at| text::distance(at, now)),
            until: waiting.not_after.map_or_else(|| "none".to_owned(), |end| text::distance(end, now)),
        }
    }
}
