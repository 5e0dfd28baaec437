//! That an update is being applied: a row that rotations look at, and what becomes of it when the process ends.
//!
//! Updates and rotations exclude each other in the database: what begins either of them is a unit that is rejected while
//! the other one is open, so that of two that begin at once one wins.

use mastio_core::{Event, event::catalogue};
use mastio_store::{
    ReadError, Rejection, Touch, Unit, WriteError, rotations,
    sqlite::Database,
    updates::{self, UnderWay},
};

use super::{Migration, UpdateError, UpdateUnderWay};
use crate::{Authority, Outage, admin::Operator};

/// Why an update failed whose process ended.
const INTERRUPTED: &str =
    "the Mastio stopped, or its database failed it, before the update counted; apply it again";

impl Authority {
    /// Refuses while an update is being applied: for whatever else changes keys.
    pub(crate) fn no_update_runs<E: From<UpdateUnderWay> + From<Outage>>(&self) -> Result<(), E> {
        match updates::under_way(self.store.database()).map_err(Outage::from)? {
            Some(under_way) => Err(UpdateUnderWay(under_way.migration).into()),
            None => Ok(()),
        }
    }

    pub(super) fn no_rotation(&self) -> Result<(), UpdateError> {
        match rotations::open(self.store.database())? {
            Some(rotation) => Err(UpdateError::Rotation(rotation.id)),
            None => Ok(()),
        }
    }

    /// The first unit of an update: from then on no rotation begins. Only one update is applied in this process, and that
    /// is the caller's.
    pub(super) async fn begin_update(
        &self,
        migration: &dyn Migration,
        operator: &Operator,
    ) -> Result<UnderWay, UpdateError> {
        self.end_interrupted_update().await?;
        let under_way = UnderWay {
            migration: migration.id().to_owned(),
            begun_by: operator.fingerprint.clone(),
            begun_at: self.clock.now(),
        };
        let unit = Unit::default().write(under_way.begin()).write(rotations::none_is_open());
        match self.commit(unit).await {
            Ok(_) => Ok(under_way),
            Err(WriteError::Rejected(Rejection::Rows { .. })) => {
                self.no_rotation()?;
                Err(UpdateError::Raced)
            }
            Err(WriteError::Rejected(_)) => Err(UpdateError::Busy),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends what an earlier update of this process could not end itself, because the database failed it. The caller holds
    /// the turn.
    pub(super) async fn end_interrupted_update(&self) -> Result<(), UpdateError> {
        if let Some(unit) = interrupted(self.store.database())? {
            self.commit(unit).await?;
        }
        Ok(())
    }
}

/// What ends an update that nobody applies any more, if there is one. Nothing of it counts.
///
/// # Errors
/// When the database cannot be read.
pub(crate) fn interrupted(database: &Database) -> Result<Option<Unit>, ReadError> {
    Ok(updates::under_way(database)?.map(|under_way| failed(&under_way, INTERRUPTED)))
}

/// What ends an update that failed: its row says why.
pub(super) fn failed(under_way: &UnderWay, problem: &str) -> Unit {
    let migration_id = under_way.migration.clone();
    tracing::error!(migration_id, problem, "cullis_proxy_update_apply_failed");
    let by = under_way.begun_by.clone();
    let event = catalogue::UpdateApplyFailed { migration_id, problem: problem.to_owned(), by };
    Unit::of(Event::new(&event))
        .write(under_way.end())
        .write(updates::mark_failed(&under_way.migration, problem))
        .touch(Touch::Trust)
}
