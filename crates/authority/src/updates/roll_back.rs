//! Taking an update back, and what becomes of snapshots.

use std::sync::Arc;

use mastio_core::{Event, Stamp, event::catalogue};
use mastio_store::{
    Touch, Unit, WriteError, rotations,
    updates::{self, SnapshotRow, Status},
};

use super::{Migration, REGISTRY, Standing, UpdateError, detect::settle, registered, snapshot::Snapshot};
use crate::{Authority, Outage, admin::Operator};

/// An update that was taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RolledBack {
    /// Which.
    pub migration: &'static str,
    /// When.
    pub at: Stamp,
}

impl Authority {
    /// What taking `id` back would do.
    ///
    /// # Errors
    /// As [`roll_back_update`](Self::roll_back_update) would refuse; nothing is written in any case.
    pub fn plan_roll_back(&self, id: &str) -> Result<&'static [&'static str], UpdateError> {
        let migration = registered(id)?;
        let (snapshot, status) = self.may_roll_back(migration)?;
        let snapshot = Snapshot::read(&snapshot);
        if status != Status::Failed {
            migration.leads_back(&self.scene(), &snapshot)?;
        }
        Ok(said(migration, &snapshot, status))
    }

    /// The same without the look at every certificate, for a page that shows it: the snapshot may turn out unusable, or
    /// the Org CA another one, when it is asked for.
    ///
    /// # Errors
    /// When `id` is not one to take back now.
    pub fn way_back(&self, id: &str) -> Result<&'static [&'static str], UpdateError> {
        let migration = registered(id)?;
        let (snapshot, status) = self.may_roll_back(migration)?;
        Ok(said(migration, &Snapshot::read(&snapshot), status))
    }

    /// Takes `id` back, and returns when it counts. It goes on when the caller leaves.
    ///
    /// # Errors
    /// When there is no way back, or nothing can be written; nothing has changed then.
    pub async fn roll_back_update(
        self: &Arc<Self>,
        id: &str,
        operator: &Operator,
    ) -> Result<RolledBack, UpdateError> {
        let migration = registered(id)?;
        let (authority, operator) = (Arc::clone(self), operator.clone());
        let rolling = async move { authority.roll_back_in_turn(migration, &operator).await };
        tokio::spawn(rolling).await.map_err(Outage::internal)?
    }

    async fn roll_back_in_turn(
        self: Arc<Self>,
        migration: &'static dyn Migration,
        operator: &Operator,
    ) -> Result<RolledBack, UpdateError> {
        let _turn = self.updating.turn().await?;
        let id = migration.id();
        let (snapshot, status) = self.may_roll_back(migration)?;
        // One that failed has changed nothing.
        let statements = match status {
            Status::Failed => vec![],
            _ => {
                let snapshot = Snapshot::read(&snapshot);
                self.aside(move |scene| migration.down(scene, &snapshot)).await?
            }
        };
        let at = self.clock.now();
        let event = catalogue::UpdateRolledBack { migration_id: id, by: operator.fingerprint.clone() };
        let unit = Unit::of(Event::new(&event))
            .write_all(statements)
            .write(updates::unflip_leaves(id))
            .write(updates::mark_rolled_back(id))
            .write_all(snapshot.wipe())
            .write(rotations::none_is_open())
            .touch(Touch::Trust);
        if let Err(error) = self.commit(unit).await {
            return Err(self.why_not_back(error));
        }
        self.settle().await;
        if let Err(error) = self.forget_leaves(id).await {
            tracing::warn!(%error, "leaves that count no more could not be deleted; it is tried again");
        }
        Ok(RolledBack { migration: id, at })
    }

    fn may_roll_back(&self, migration: &dyn Migration) -> Result<(SnapshotRow, Status), UpdateError> {
        let (id, database) = (migration.id(), self.store.database());
        let row = updates::all(database)?.into_iter().find(|row| row.migration == id);
        let status = row.map(|row| row.status);
        let snapshot = self.snapshot(id)?.ok_or(match status {
            Some(Status::Failed) => UpdateError::FailedEarly(id),
            _ => UpdateError::NoSnapshot(id),
        })?;
        let status = status.ok_or(UpdateError::NoRow(id))?;
        if !matches!(status, Status::Applied | Status::Failed) {
            return Err(UpdateError::NotApplied { id, status });
        }
        self.no_rotation()?;
        Ok((snapshot, status))
    }

    fn snapshot(&self, id: &str) -> Result<Option<SnapshotRow>, UpdateError> {
        let snapshots = updates::snapshots(self.store.database())?;
        Ok(snapshots.into_iter().find(|snapshot| snapshot.migration == id))
    }

    /// The snapshot of `id`, which may be a migration of another version, and nobody knows any more.
    fn any_snapshot(&self, id: &str) -> Result<SnapshotRow, UpdateError> {
        match self.snapshot(id)? {
            Some(snapshot) => Ok(snapshot),
            None => Err(UpdateError::NoSnapshot(registered(id)?.id())),
        }
    }

    /// A rotation that began meanwhile is named; anything else that changed meanwhile has to be looked at.
    fn why_not_back(&self, error: WriteError) -> UpdateError {
        match (error, self.no_rotation()) {
            (WriteError::Unavailable(unavailable), _) => Outage::Write(unavailable).into(),
            (WriteError::Rejected(_), Err(rotation)) => rotation,
            (WriteError::Rejected(_), Ok(())) => UpdateError::Raced,
        }
    }

    /// What deleting the snapshot of `id` would do.
    ///
    /// # Errors
    /// When there is none.
    pub fn plan_wipe(&self, id: &str) -> Result<&'static [&'static str], UpdateError> {
        self.any_snapshot(id)?;
        Ok(&[
            "the snapshot is deleted, with the keys in it",
            "the update cannot be rolled back any more: only a backup brings back what was before it",
        ])
    }

    /// Deletes the snapshot of `id`, after which it cannot be taken back.
    ///
    /// # Errors
    /// When there is none, an update is being applied, or nothing can be written.
    pub async fn wipe_snapshot(&self, id: &str, operator: &Operator) -> Result<(), UpdateError> {
        let _turn = self.updating.turn().await?;
        let snapshot = self.any_snapshot(id)?;
        self.wipe(&snapshot, "asked", Some(operator)).await
    }

    /// Deletes the snapshot of an update that changed nothing, because somebody set it aside or changed the Org CA
    /// meanwhile.
    pub(super) async fn forget_snapshot(&self, id: &str) {
        let forgotten = async {
            match self.snapshot(id)? {
                Some(snapshot) => self.wipe(&snapshot, "update_raced", None).await,
                None => Ok(()),
            }
        };
        if let Err(error) = forgotten.await {
            tracing::warn!(migration_id = id, %error, "a snapshot that is of no use could not be deleted; wipe it");
        }
    }

    async fn wipe(
        &self,
        snapshot: &SnapshotRow,
        reason: &'static str,
        operator: Option<&Operator>,
    ) -> Result<(), UpdateError> {
        let event = catalogue::UpdateSnapshotWiped {
            migration_id: snapshot.migration.clone(),
            reason,
            by: operator.map(|operator| operator.fingerprint.clone()),
        };
        self.commit(Unit::of(Event::new(&event)).write_all(snapshot.wipe())).await.map_err(Outage::from)?;
        // The key that it held is in no file any more.
        if let Err(error) = self.store.forget_deleted().await {
            tracing::warn!(%error, "the key of a snapshot may be readable in the write-ahead log until the next stop");
        }
        Ok(())
    }

    /// Ends an update that the database failed, wipes snapshots whose readable keys have lain long enough, settles updates
    /// that are not needed any more, sees whether agents came or went for whose sake an update halts, and deletes leaves
    /// that an interrupted update left. Not while one is being applied.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn tidy_updates(self: &Arc<Self>) -> Result<(), UpdateError> {
        let Ok(_turn) = self.updating.turn.try_lock() else { return Ok(()) };
        self.end_interrupted_update().await?;
        let (now, trust) = (self.clock.now(), self.trust());
        for row in updates::snapshots(self.store.database())? {
            // It is what agents get in by again.
            if trust.by_halves.as_ref() == Some(&row.migration) {
                continue;
            }
            if let Some(reason) = Snapshot::read(&row).is_over(now) {
                self.wipe(&row, reason, None).await?;
            }
        }
        let settled = match rotations::open(self.store.database())? {
            Some(_) => vec![],
            None => trust.updates.settled.clone(),
        };
        for id in settled {
            self.commit(settle(Unit::default(), id, now).touch(Touch::Trust)).await.map_err(Outage::from)?;
        }
        let standing = Standing::load(self.store.database(), self.custody.as_ref())?;
        if standing.halting != trust.updates.halting {
            self.reload_now().await;
        }
        for migration in REGISTRY {
            self.forget_some_leaves(migration.id()).await?;
        }
        Ok(())
    }
}

fn said(migration: &dyn Migration, snapshot: &Snapshot, status: Status) -> &'static [&'static str] {
    match status {
        Status::Failed => &["nothing was changed: the snapshot is deleted and the migration set aside"],
        _ => migration.way_back(snapshot),
    }
}
