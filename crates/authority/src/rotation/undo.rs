//! Undoing a rotation that was left after its first unit: the new CAs are given up, and what was before is untouched.

use std::sync::Arc;

use mastio_core::{Event, Stamp, event::catalogue};
use mastio_store::{
    Touch, Unit, cas,
    rotations::{self, Phase, Rotation},
};

use super::RotationError;
use crate::{Authority, Outage};

/// What undoes `rotation`, if it was left after its first unit. Nobody was told that it began.
pub(crate) fn undone(rotation: &Rotation, why: &str, at: Stamp) -> Option<Unit> {
    (rotation.phase == Phase::Staged).then(|| {
        tracing::error!(
            rotation = rotation.id,
            "pki.rotate: a rotation of the Org CA is undone: {why}; the Org CA of before is still the active one"
        );
        let failed = catalogue::RotationFailed {
            rotation_id: rotation.id.clone(),
            phase: rotation.phase.as_str(),
            error: why.to_owned(),
        };
        Unit::of(Event::new(&failed))
            .write(rotation.give_up(why, at))
            .write(cas::retire_staged(at))
            .touch(Touch::Trust)
    })
}

impl Authority {
    /// Undoes what an earlier rotation of this process could not undo itself, because the database failed it twice.
    /// Only one rotation runs, and that is the caller's. Returns the rotation that is open all the same: one that goes on
    /// by itself.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn undo_leftover(self: &Arc<Self>) -> Result<Option<Rotation>, RotationError> {
        let Some(open) = rotations::open(self.store.database()).map_err(Outage::from)? else {
            return Ok(None);
        };
        let why = "it was interrupted before the new Org CA counted";
        let Some(unit) = undone(&open, why, self.clock.now()) else { return Ok(Some(open)) };
        self.commit(unit).await.map_err(Outage::from)?;
        self.reload_now().await;
        Ok(None)
    }
}
