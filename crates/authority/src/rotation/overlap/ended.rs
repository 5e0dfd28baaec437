//! When a root ends, or is given up, before its rotation is over.
//!
//! With the old root everything ends that it certified. Whoever has not followed cannot any more, so nothing is waited for,
//! and there is no way back; the rotation goes on by itself. Without the new root there is only the way back.

use std::sync::Arc;

use mastio_core::{Stamp, Thumbprint};
use mastio_store::{
    Unit, cas,
    rotations::{Phase, Rotation},
};

use super::{By, OverlapError};
use crate::{Authority, Outage, admin::Operator};

impl Authority {
    /// Since when a CA of the registry is past its end, if it is.
    fn ended(&self, ca: Thumbprint) -> Option<Stamp> {
        let trust = self.trust();
        let known = trust.cas.iter().find(|known| known.certificate.thumbprint() == ca);
        known.map(|known| known.certificate.not_after()).filter(|end| *end <= self.clock.now())
    }

    /// Whether the old root is past its end.
    pub(super) fn waits_for_nobody(&self, rotation: &Rotation) -> bool {
        self.ended(rotation.old_root).is_some()
    }

    /// The new root must certify from `reissue` on.
    pub(super) fn may_go_on(&self, rotation: &Rotation, next: Phase) -> Result<(), OverlapError> {
        match self.ended(rotation.new_root) {
            Some(end) if matches!(next, Phase::Reissue | Phase::Activated) => {
                Err(OverlapError::NewEnded(end))
            }
            _ => Ok(()),
        }
    }

    /// The old root must certify afterwards. If both have ended, or the keys of the new one are gone, giving up the new one
    /// loses nothing, as long as it is not the active one: a cut comes next.
    pub(super) fn may_go_back(&self, rotation: &Rotation) -> Result<(), OverlapError> {
        let trust = self.trust();
        let mut before = trust.cas.iter().filter(|ca| ca.certificate.thumbprint() == rotation.old_root);
        let is_legacy = before.any(|root| root.certificate.path_len() == Some(0));
        if self.settings.strict_pki && is_legacy && rotation.phase == Phase::Activated {
            return Err(OverlapError::StrictPki);
        }
        let key_gone = || matches!(self.holds_new_keys(rotation), Err(OverlapError::KeyGone(_)));
        let is_of_use = || self.ended(rotation.new_root).is_none() && !key_gone();
        let is_worse = || rotation.phase == Phase::Activated || is_of_use();
        match self.ended(rotation.old_root) {
            Some(end) if is_worse() => Err(OverlapError::OldEnded(end)),
            _ => Ok(()),
        }
    }

    /// Takes the steps that make the new root the active one, if the old one has ended: a Mastio that starts has no
    /// certificate to show without that. A rotation that was paused goes on, too.
    pub async fn leave_ended_root(self: &Arc<Self>) {
        loop {
            let trust = self.trust();
            let due = trust
                .followed()
                .filter(|rotation| rotation.phase < Phase::Activated && self.waits_for_nobody(rotation));
            let Some(rotation) = due else { return };
            if let Err(error) = self.step(rotation, By::Start).await {
                tracing::error!(%error, "pki.rotate: the rotation with overlap does not go on, and the old Org CA has ended");
                return;
            }
        }
    }

    /// What ends an open rotation, because a key may be known to others: nothing that either of its roots certified is
    /// believed, and the unit goes on to say so of all superseded CAs.
    pub(in crate::rotation) async fn broken_off(
        &self,
        rotation: &Rotation,
        operator: &Operator,
    ) -> Result<Unit, Outage> {
        let now = self.clock.now();
        let why = format!("ended by {}, who rotated for a compromise", operator.fingerprint);
        let unit = self.entering(rotation, Phase::Aborted, By::Operator(operator, true)).await?;
        Ok(unit.write(rotation.give_up(&why, now)).write(cas::supersede_staged(now)))
    }
}
