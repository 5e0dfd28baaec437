//! The rotation with overlap: agents get from the old root to the new one one after the other, and nobody is refused.
//!
//! | phase | believed | certifies agents | shown by the server | on to the next when |
//! |---|---|---|---|---|
//! | `distribute` | both roots | old | old | every agent has the trust file with both |
//! | `reissue` | both | new | old | every agent has presented a certificate of the new one |
//! | `activated` | both | new | new | the grace is over, and nobody is left |
//! | `done` | new | new | new | |
//!
//! Each step is one unit that applies to its phase only, so whoever is killed finds the state of before or after it.
//! Until the last step the rotation can be [aborted](Authority::abort_rotation). Agents of BYOCA and SPIFFE cannot
//! follow by themselves; they are told to the operator and hold nothing up.

mod ended;
mod error;
mod exchange;
mod status;
mod tend;

use std::{sync::Arc, time::Duration};

use mastio_core::{Event, Stamp, event::catalogue};
use mastio_store::{
    ReadError, Rejection, Touch, Unit, WriteError, cas,
    rotations::{
        self, Phase, Rotation, Transition,
        following::{self, Fleet, Left, Progress},
    },
    sqlite::Database,
};

pub(crate) use self::status::summary;
pub use self::{
    error::OverlapError,
    status::{Half, RotationStatus, Waiters},
};
use super::{Plan, RotationError, Source};
use crate::{Authority, Outage, admin::Operator, trust::Trust};

/// For how long the old root is believed after the new one became the active one, unless the operator says otherwise.
pub const GRACE_DAYS: u32 = 14;
/// The longest that it may be.
pub const MOST_GRACE_DAYS: u32 = 365;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// What the audit log says of steps that nobody asked for.
const BY_ITSELF: &str = "mastio";

/// Who takes a step.
#[derive(Clone, Copy)]
enum By<'a> {
    /// The rotation goes on by itself.
    Itself,
    /// The Mastio starts, and has no certificate to show under the old root.
    Start,
    /// An operator, who may force it.
    Operator(&'a Operator, bool),
}

impl By<'_> {
    fn name(self) -> String {
        match self {
            Self::Itself | Self::Start => BY_ITSELF.to_owned(),
            Self::Operator(operator, _) => operator.fingerprint.clone(),
        }
    }

    fn forces(self) -> bool {
        matches!(self, Self::Operator(_, true))
    }
}

/// How the row of a rotation says that an operator gave it up, before who it was.
const ABORTED_BY: &str = "aborted by ";

/// Whether an operator gave it up, as opposed to a failure.
pub(crate) fn was_given_up(rotation: &Rotation) -> bool {
    rotation.phase == Phase::Aborted
        && rotation.error.as_deref().is_some_and(|error| error.starts_with(ABORTED_BY))
}

/// When the old root may go; without meaning before the new one is the active one.
pub(crate) fn old_root_until(database: &Database, rotation: &Rotation) -> Result<Stamp, ReadError> {
    let days = following::grace_days(database, rotation)?;
    Ok(rotation.changed_at.plus(DAY * days.unwrap_or(GRACE_DAYS)))
}

impl Authority {
    /// Begins: the new root is stored, and from then on both are believed. Returns when agents can fetch the trust file
    /// that says so.
    ///
    /// # Errors
    /// When another rotation is open, or something speaks against this one. Then what was before is still so.
    pub async fn begin_overlap(
        self: &Arc<Self>,
        source: Source,
        grace_days: u32,
        operator: &Operator,
    ) -> Result<Rotation, OverlapError> {
        let (authority, operator) = (Arc::clone(self), operator.clone());
        // Once begun it goes on even if nobody waits for it.
        let run = async move { authority.begin_now(&source, grace_days, &operator).await };
        let ended = tokio::spawn(run).await.unwrap_or_else(|error| Err(Outage::internal(error).into()));
        ended.inspect_err(
            |error| tracing::error!(%error, "pki.rotate: the rotation with overlap did not begin"),
        )
    }

    /// Whether there could be an overlap now: agents must be able to go on under the old root, and to get certificates.
    ///
    /// # Errors
    /// When they are not.
    pub fn may_overlap(&self) -> Result<(), OverlapError> {
        self.no_update_runs::<RotationError>()?;
        let trust = self.trust();
        match &trust.halt {
            Some(halt) => Err(halt.clone().into()),
            None if trust.root.not_after() <= self.clock.now() => {
                Err(OverlapError::Expired(trust.root.not_after()))
            }
            None => Ok(()),
        }
    }

    async fn begin_now(
        self: &Arc<Self>,
        source: &Source,
        grace_days: u32,
        operator: &Operator,
    ) -> Result<Rotation, OverlapError> {
        let _one_at_a_time = self.rotations.begin().ok_or(RotationError::InProgress)?;
        if self.undo_leftover().await?.is_some() {
            return Err(RotationError::InProgress.into());
        }
        self.may_overlap()?;
        let candidate = self.candidate_for(source, Plan::Overlap)?;
        self.outlives_grace(&candidate, grace_days)?;
        let staged = self.stage(&candidate, Plan::Overlap, operator).await?;
        let rotation = &staged.rotation;
        let unit = self
            .entering(rotation, Phase::Distribute, By::Operator(operator, false))
            .await?
            .write(rotation.enter(Phase::Distribute, self.clock.now()))
            .write(following::keep_grace_days(&rotation.id, grace_days));
        if let Err(error) = self.commit(unit).await {
            let error = RotationError::from(Outage::from(error));
            self.give_up(&staged, &error).await;
            return Err(error.into());
        }
        self.settle().await;
        self.named_rotation(&rotation.id)
    }

    /// Goes on from the phase `from` to the next one. Without `force` only when everybody has followed and the grace is
    /// over. With it `from` must be given: a step that goes on by itself meanwhile would make it another one, and the
    /// last one cannot be taken back.
    ///
    /// # Errors
    /// When somebody has not followed, or the rotation is in another phase or over.
    pub async fn advance_rotation(
        self: &Arc<Self>,
        id: &str,
        from: Option<Phase>,
        force: bool,
        operator: &Operator,
    ) -> Result<Rotation, OverlapError> {
        let rotation = self.open_overlap(id)?;
        match from {
            None if force => return Err(OverlapError::ForcedFromWhere(rotation.phase)),
            Some(from) if from != rotation.phase => return Err(OverlapError::Moved),
            _ => {}
        }
        let (authority, operator) = (Arc::clone(self), operator.clone());
        whole(async move { authority.step(&rotation, By::Operator(&operator, force)).await }).await?;
        self.named_rotation(id)
    }

    /// Stops it from going on by itself, or lets it. An operator can take steps in any case.
    ///
    /// # Errors
    /// When it is so already, or over.
    pub async fn pause_rotation(
        self: &Arc<Self>,
        id: &str,
        paused: bool,
        operator: &Operator,
    ) -> Result<Rotation, OverlapError> {
        let rotation = self.open_overlap(id)?;
        if rotation.paused == paused {
            return Err(if paused { OverlapError::Paused } else { OverlapError::NotPaused });
        }
        let (rotation_id, phase, by) =
            (rotation.id.clone(), rotation.phase.as_str(), operator.fingerprint.clone());
        let event = match paused {
            true => Event::new(&catalogue::RotationPaused { rotation_id, phase, by }),
            false => Event::new(&catalogue::RotationResumed { rotation_id, phase, by }),
        };
        let unit = Unit::of(event).write(rotation.set_paused(paused)).touch(Touch::Trust);
        self.commit(unit).await.map_err(Outage::from)?;
        self.reload_now().await;
        self.named_rotation(id)
    }

    /// Gives it up: what was before is again. Agents that have moved already are believed until they have moved back,
    /// which they do as they came.
    ///
    /// # Errors
    /// When it is over, the old root has ended, or its key is not held any more.
    pub async fn abort_rotation(
        self: &Arc<Self>,
        id: &str,
        operator: &Operator,
    ) -> Result<Rotation, OverlapError> {
        let rotation = self.open_overlap(id)?;
        let (authority, operator) = (Arc::clone(self), operator.clone());
        whole(async move { authority.abort_now(&rotation, &operator).await }).await?;
        self.named_rotation(id)
    }

    async fn abort_now(
        self: &Arc<Self>,
        rotation: &Rotation,
        operator: &Operator,
    ) -> Result<(), OverlapError> {
        let _one_at_a_time = self.rotations.begin().ok_or(OverlapError::StepUnderWay)?;
        let _keys_stay = self.rotations.keys().await;
        self.may_go_back(rotation)?;
        let now = self.clock.now();
        let why = format!("{ABORTED_BY}{}", operator.fingerprint);
        let unit = self
            .entering(rotation, Phase::Aborted, By::Operator(operator, false))
            .await?
            .write(rotation.give_up(&why, now));
        let unit = match rotation.phase {
            Phase::Staged => unit.write(cas::retire_staged(now)),
            // An operator may have brought certificates of the new root already.
            Phase::Distribute => unit
                .write(following::unless_moved(cas::retire_staged(now), rotation))
                .write(cas::supersede_staged(now)),
            // A certificate may be on its way to an agent at this moment, or be revoked: what signed it must stay for both.
            Phase::Reissue => unit.write(cas::supersede_staged(now)),
            Phase::Activated => self.exchange_back(unit, rotation, &operator.fingerprint)?,
            Phase::Done | Phase::Aborted => return Err(OverlapError::Over(rotation.phase)),
        };
        self.commit(unit).await.map_err(Outage::from)?;
        tracing::warn!(rotation = rotation.id, "pki.rotate: the rotation with overlap was aborted");
        self.settle().await;
        Ok(())
    }

    /// Takes the step out of the phase that `rotation` is in.
    async fn step(self: &Arc<Self>, rotation: &Rotation, by: By<'_>) -> Result<(), OverlapError> {
        let _one_at_a_time = self.rotations.begin().ok_or(OverlapError::StepUnderWay)?;
        let _keys_stay = self.rotations.keys().await;
        // Who moved a moment ago has moved.
        self.keep_moves().await?;
        let (trust, now) = (self.trust(), self.clock.now());
        let (next, left) = next(rotation, &trust).ok_or(OverlapError::Over(rotation.phase))?;
        self.may_go_on(rotation, next)?;
        let mut enter = rotation.enter(next, now);
        if !by.forces() && !self.waits_for_nobody(rotation) {
            let until = self.old_root_until(rotation)?;
            if next == Phase::Done && now < until {
                return Err(OverlapError::Grace(until));
            }
            enter = following::unless_left(enter, self.followers(&trust), left);
        }
        if matches!(by, By::Itself) {
            enter = following::unless_paused(enter);
        }
        let unit = Unit::default().write(enter);
        let unit = match next {
            Phase::Reissue => {
                self.holds_new_keys(rotation)?;
                unit
            }
            Phase::Activated => self.exchange(unit, rotation, &by.name())?,
            Phase::Done => self.retire_old(unit, rotation, by).await?,
            _ => unit,
        };
        let told = self.entering(rotation, next, by).await?;
        let unit = Unit { events: [told.events, unit.events].concat(), touches: told.touches, ..unit };
        match self.commit(unit).await {
            Ok(_) => {}
            Err(WriteError::Rejected(Rejection::Rows { statement: 0, .. })) => {
                return Err(self.why_not(rotation, left).await);
            }
            Err(error) => return Err(Outage::from(error).into()),
        }
        tracing::info!(
            rotation = rotation.id,
            phase = next.as_str(),
            "pki.rotate: the rotation with overlap went on"
        );
        self.settle().await;
        Ok(())
    }

    /// A unit that tells of a step and does nothing yet.
    async fn entering(&self, rotation: &Rotation, next: Phase, by: By<'_>) -> Result<Unit, Outage> {
        let event = catalogue::RotationPhase {
            rotation_id: rotation.id.clone(),
            from: rotation.phase.as_str(),
            to: next.as_str(),
            forced: by.forces(),
            agents_left: self.progress(rotation).await?.left(rotation.phase),
            by: by.name(),
        };
        Ok(Unit::of(Event::new(&event)).touch(Touch::Trust))
    }

    /// Whom a rotation is about, now.
    fn followers<'a>(&self, trust: &'a Trust) -> Fleet<'a> {
        Fleet { org: &trust.org, now: self.clock.now() }
    }

    async fn progress(&self, rotation: &Rotation) -> Result<Progress, Outage> {
        let trust = self.trust();
        Ok(following::progress(&self.store, self.followers(&trust), rotation, trust.bundle).await?)
    }

    fn old_root_until(&self, rotation: &Rotation) -> Result<Stamp, OverlapError> {
        Ok(old_root_until(self.store.database(), rotation).map_err(Outage::from)?)
    }

    /// Why a step that was decided on `rotation` did not apply.
    async fn why_not(&self, rotation: &Rotation, left: Left<'_>) -> OverlapError {
        let now = match self.named_rotation(&rotation.id) {
            Ok(now) => now,
            Err(error) => return error,
        };
        if (now.phase, now.paused) != (rotation.phase, rotation.paused) {
            return OverlapError::Moved;
        }
        match self.progress(rotation).await {
            Ok(progress) => {
                let fetched = matches!(left, Left::Unfetched(_));
                OverlapError::Waiting {
                    left: progress.left(rotation.phase),
                    agents: progress.agents,
                    fetched,
                }
            }
            Err(error) => error.into(),
        }
    }

    fn named_rotation(&self, id: &str) -> Result<Rotation, OverlapError> {
        let found = rotations::find(self.store.database(), id).map_err(Outage::from)?;
        found.ok_or(OverlapError::NotFound)
    }

    fn open_overlap(&self, id: &str) -> Result<Rotation, OverlapError> {
        let rotation = self.named_rotation(id)?;
        if rotation.transition != Transition::Overlap {
            Err(OverlapError::Cut)
        } else if rotation.phase.is_end() {
            Err(OverlapError::Over(rotation.phase))
        } else {
            Ok(rotation)
        }
    }
}

/// Carries `work` out even if nobody waits for it any more: files follow what is committed.
async fn whole<T: Send + 'static>(
    work: impl Future<Output = Result<T, OverlapError>> + Send + 'static,
) -> Result<T, OverlapError> {
    tokio::spawn(work).await.unwrap_or_else(|error| Err(Outage::internal(error).into()))
}

/// The step out of the phase that `rotation` is in, and who holds it up.
fn next<'a>(rotation: &'a Rotation, trust: &Trust) -> Option<(Phase, Left<'a>)> {
    match rotation.phase {
        Phase::Distribute => Some((Phase::Reissue, Left::Unfetched(trust.bundle))),
        Phase::Reissue => Some((Phase::Activated, Left::Unmoved(rotation))),
        Phase::Activated => Some((Phase::Done, Left::Unmoved(rotation))),
        Phase::Staged | Phase::Done | Phase::Aborted => None,
    }
}
