//! What goes on by itself: steps, once everybody has followed, and the end of roots that were given up.

use std::{sync::Arc, time::Duration};

use mastio_core::{Event, event::catalogue};
use mastio_pki::Certificate;
use mastio_store::{
    Touch, Unit,
    cas::{self, CaState},
    keys::CaKind,
    rotations::{self, Phase, Rotation, following},
};

use super::{By, OverlapError, next};
use crate::{
    Authority, Outage,
    trust::{Ca, Trust},
};

/// How often is looked whether everybody has followed.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often a step that fails is told, and roots that were given up are looked at.
const TELL_EVERY: Duration = Duration::from_secs(60);

impl Authority {
    /// Writes down who has moved, and goes on when everybody has followed. Call it every second or so.
    pub async fn tend_rotation(self: &Arc<Self>) {
        if let Err(error) = self.keep_moves().await {
            tracing::warn!(%error, "who has moved to the new root could not be written down; it is tried again");
        }
        let (trust, elapsed) = (self.trust(), self.clock.elapsed());
        let kept = match trust.followed() {
            Some(rotation) if !rotation.paused && self.rounds.rotation.is_due(elapsed, LOOK_EVERY) => {
                self.go_on(rotation).await
            }
            None if self.rounds.given_up.is_due(elapsed, TELL_EVERY) => self.retire_given_up(&trust).await,
            _ => Ok(()),
        };
        if let Err(error) = kept
            && self.rounds.rotation_trouble.is_due(elapsed, TELL_EVERY)
        {
            tracing::error!(%error, "pki.rotate: the rotation with overlap does not go on; it is tried again");
        }
    }

    /// Takes the step if it is time; who looks at the rotation sees why it fails.
    async fn go_on(self: &Arc<Self>, rotation: &Rotation) -> Result<(), OverlapError> {
        let stepped = self.step_if_followed(rotation).await;
        let error = stepped.as_ref().err().map(ToString::to_string);
        if error != rotation.error {
            let unit = Unit::default().write(rotation.set_error(error.as_deref())).touch(Touch::Trust);
            // A database that does not take this either is in the log.
            if self.commit(unit).await.is_ok() {
                self.reload_now().await;
            }
        }
        stepped
    }

    async fn step_if_followed(self: &Arc<Self>, rotation: &Rotation) -> Result<(), OverlapError> {
        let trust = self.trust();
        let Some((next, left)) = next(rotation, &trust) else { return Ok(()) };
        if rotation.phase == Phase::Reissue && trust.issuer.is_none() {
            return Err(OverlapError::KeyGone("new"));
        }
        if self.waits_for_nobody(rotation) {
            return self.step_once(rotation, By::Itself).await;
        }
        if next == Phase::Done && self.clock.now() < self.old_root_until(rotation)? {
            return Ok(());
        }
        if following::anybody_left(&self.store, self.followers(&trust), left).await.map_err(Outage::from)? {
            return Ok(());
        }
        self.step_once(rotation, By::Itself).await
    }

    /// A step that somebody else may be taking.
    pub(super) async fn step_once(
        self: &Arc<Self>,
        rotation: &Rotation,
        by: By<'_>,
    ) -> Result<(), OverlapError> {
        match self.step(rotation, by).await {
            // An operator was faster, or somebody was enrolled meanwhile.
            Err(OverlapError::Waiting { .. } | OverlapError::Moved | OverlapError::StepUnderWay) => Ok(()),
            stepped => stepped,
        }
    }

    /// A root that was given up after it had certified agents, once none of them is left: its intermediates are gone.
    async fn retire_given_up(&self, trust: &Trust) -> Result<(), OverlapError> {
        let ended = self.ended_roots(trust)?;
        if ended.is_empty() {
            return Ok(());
        }
        let unit = ended.iter().fold(Unit::default().touch(Touch::Trust), |unit, root| {
            let retired = catalogue::CaRetired {
                kind: CaKind::Root.as_str(),
                fingerprint_sha256: root.thumbprint(),
                subject: root.subject().to_owned(),
                reason: "given_up",
            };
            unit.write(cas::retire(root.thumbprint(), self.clock.now())).tell(Event::new(&retired))
        });
        self.commit(unit).await.map_err(Outage::from)?;
        Ok(())
    }

    fn ended_roots<'a>(&self, trust: &'a Trust) -> Result<Vec<&'a Certificate>, OverlapError> {
        let is = |ca: &&Ca| (ca.kind, ca.state, ca.cut) == (CaKind::Root, CaState::Superseded, false);
        let superseded: Vec<_> = trust.cas.iter().filter(is).map(|ca| &ca.certificate).collect();
        if superseded.is_empty() {
            return Ok(vec![]);
        }
        let aborted = rotations::aborted(self.store.database()).map_err(Outage::from)?;
        let holds = |root: &Certificate, ca: &Ca| {
            (ca.kind == CaKind::Intermediate && ca.state != CaState::Retired)
                && ca.certificate.is_signed_by(root)
        };
        let ended = |root: &&Certificate| {
            aborted.contains(&root.thumbprint()) && !trust.cas.iter().any(|ca| holds(root, ca))
        };
        Ok(superseded.into_iter().filter(ended).collect())
    }
}
