//! Applying an update: snapshot, leaves, and one unit that makes the change.

use std::sync::Arc;

use mastio_core::{Event, Stamp, event::catalogue};
use mastio_store::{
    Statement, Touch, Unit,
    updates::{self, Status, UnderWay, UpdateRow},
};

use super::{Migration, Plan, Scene, Snapshot, UpdateError, detect::settle, registered, under_way::failed};
use crate::{Authority, Outage, admin::Operator};

/// An update that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Which.
    pub migration: &'static str,
    /// Whether anything was: one that is not needed any more counts as applied, and changes nothing.
    pub changed: bool,
    /// How, if there is more than one way and it was needed still.
    pub strategy: Option<&'static str>,
    /// When.
    pub at: Stamp,
    /// How many leaves it reissued.
    pub reissued_leaves: u64,
}

impl Authority {
    pub(super) fn scene(&self) -> Scene<'_> {
        Scene {
            database: self.store.database(),
            custody: self.custody.as_ref(),
            strict_pki: self.settings.strict_pki,
            rng: self.rng.as_ref(),
            now: self.clock.now(),
        }
    }

    /// Runs what reads much, or makes keys, off the runtime's threads.
    pub(super) async fn aside<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Scene<'_>) -> Result<T, UpdateError> + Send + 'static,
    ) -> Result<T, UpdateError> {
        let authority = Arc::clone(self);
        let worked = tokio::task::spawn_blocking(move || work(&authority.scene())).await;
        worked.map_err(Outage::internal)?
    }

    /// What applying `id` would do.
    ///
    /// # Errors
    /// As [`apply_update`](Self::apply_update) would refuse; nothing is written in any case.
    pub fn plan_update(&self, id: &str, strategy: Option<&str>) -> Result<Plan, UpdateError> {
        let migration = registered(id)?;
        let strategy = chosen(migration, strategy)?;
        self.may_apply(migration)?;
        let scene = self.scene();
        match migration.check(scene.database, scene.custody)? {
            true => migration.plan(&scene, strategy),
            false => Ok(Plan::nothing()),
        }
    }

    /// Applies `id`, and returns when it counts. It goes on when the caller leaves. One that is not needed any more is
    /// settled, and nothing else changes.
    ///
    /// # Errors
    /// When it is refused, or fails; nothing has changed then, but that a failure is in its row.
    pub async fn apply_update(
        self: &Arc<Self>,
        id: &str,
        strategy: Option<&str>,
        operator: &Operator,
    ) -> Result<Applied, UpdateError> {
        let migration = registered(id)?;
        let strategy = chosen(migration, strategy)?;
        let (authority, operator) = (Arc::clone(self), operator.clone());
        let applying = async move { authority.apply_in_turn(migration, strategy, &operator).await };
        tokio::spawn(applying).await.map_err(Outage::internal)?
    }

    async fn apply_in_turn(
        self: Arc<Self>,
        migration: &'static dyn Migration,
        strategy: Option<&'static str>,
        operator: &Operator,
    ) -> Result<Applied, UpdateError> {
        let _turn = self.updating.turn().await?;
        self.may_apply(migration)?;
        let under_way = self.begin_update(migration, operator).await?;
        self.updating.progress.begin(Some(migration.id()), 0);
        let applied = self.change(migration, strategy, &under_way).await;
        self.updating.progress.begin(None, 0);
        match &applied {
            Ok(_) => self.settle().await,
            Err(error) => self.give_update_up(&under_way, error).await,
        }
        applied
    }

    /// Whether `migration` waits and nothing is in its way.
    fn may_apply(&self, migration: &'static dyn Migration) -> Result<(), UpdateError> {
        let (id, database) = (migration.id(), self.store.database());
        let row = updates::all(database)?.into_iter().find(|row| row.migration == id);
        match row.map(|row| row.status) {
            Some(Status::Pending | Status::Failed) => {}
            Some(Status::Applied) => return Err(UpdateError::AlreadyApplied),
            Some(Status::RolledBack) => return Err(UpdateError::RolledBack(id)),
            None => return Err(UpdateError::NotPending(id)),
        }
        match self.trust().updates.halting {
            Some(owner) if owner != id => return Err(UpdateError::HaltMismatch(owner)),
            _ => {}
        }
        self.no_rotation()
    }

    async fn change(
        self: &Arc<Self>,
        migration: &'static dyn Migration,
        strategy: Option<&'static str>,
        under_way: &UnderWay,
    ) -> Result<Applied, UpdateError> {
        let id = migration.id();
        let Some((before, kept)) = self.aside(move |scene| before(scene, migration)).await? else {
            let at = self.clock.now();
            self.commit(settle(over(under_way), id, at)).await?;
            return Ok(Applied { migration: id, changed: false, strategy: None, at, reissued_leaves: 0 });
        };
        self.commit(Unit::default().write_all(kept)).await?;
        let changed = self.change_kept(migration, strategy, before, under_way).await;
        if matches!(changed, Err(UpdateError::Raced)) {
            self.forget_snapshot(id).await;
        }
        changed
    }

    /// The change of what `before` holds, which is kept.
    async fn change_kept(
        self: &Arc<Self>,
        migration: &'static dyn Migration,
        strategy: Option<&'static str>,
        before: Snapshot,
        under_way: &UnderWay,
    ) -> Result<Applied, UpdateError> {
        let id = migration.id();
        let up = self.aside(move |scene| migration.up(scene, strategy, &before)).await?;
        let mut unit = over(under_way).write_all(up.statements);
        let mut reissued = None;
        if let Some(issuer) = up.reissue_under {
            let above = issuer.certificate().pem();
            reissued = Some(self.reissue_leaves(id, Arc::new(issuer)).await?);
            unit = unit.write(updates::flip_leaves(id, &above, self.clock.now()));
        }
        let at = self.clock.now();
        let count = reissued.as_ref().map_or(0, |reissued| reissued.count);
        let event = catalogue::UpdateApplied {
            migration_id: id,
            strategy,
            reissued_leaves: count,
            leaves_sha256: reissued.map(|reissued| reissued.digest()),
            by: under_way.begun_by.clone(),
        };
        self.commit(unit.write(updates::mark_applied(id, at)).tell(Event::new(&event))).await?;
        Ok(Applied { migration: id, changed: true, strategy, at, reissued_leaves: count })
    }

    /// Rotations may begin again. Why it failed stands in its row; one that was refused waits as before.
    async fn give_update_up(&self, under_way: &UnderWay, error: &UpdateError) {
        let unit = match error.is_failure() {
            true => failed(under_way, &error.to_string()),
            false => Unit::default().write(under_way.end()),
        };
        if let Err(error) = self.commit(unit).await {
            tracing::warn!(
                migration_id = under_way.migration,
                %error,
                "that an update is over could not be written; it is tried again within a minute"
            );
        }
    }
}

/// What is there before the change, if it is needed, and what keeps it for the way back. After an attempt that failed that
/// of its beginning is kept on, if it leads back still: whatever became of things since is not how they were.
fn before(
    scene: &Scene<'_>,
    migration: &dyn Migration,
) -> Result<Option<(Snapshot, [Statement; 2])>, UpdateError> {
    if !migration.check(scene.database, scene.custody)? {
        return Ok(None);
    }
    let (id, now) = (migration.id(), migration.snapshot(scene)?);
    let failed = |row: &UpdateRow| row.migration == id && row.status == Status::Failed;
    let rows = match updates::all(scene.database)?.iter().any(failed) {
        true => updates::snapshots(scene.database)?,
        false => vec![],
    };
    if let Some(row) = rows.iter().find(|row| row.migration == id) {
        let kept = Snapshot::read(row);
        if migration.covers(scene, &kept, &now) {
            return Ok(Some((now, row.replace(&kept.again(scene.now).json()))));
        }
    }
    let keep = updates::keep_snapshot(id, &now.json(), scene.now);
    Ok(Some((now, keep)))
}

fn over(under_way: &UnderWay) -> Unit {
    Unit::default().write(under_way.end()).touch(Touch::Trust)
}

/// The strategy that was asked for, or the usual one.
fn chosen(
    migration: &'static dyn Migration,
    asked: Option<&str>,
) -> Result<Option<&'static str>, UpdateError> {
    let strategies = migration.strategies();
    let Some(asked) = asked else { return Ok(strategies.first().copied()) };
    let found = strategies.iter().copied().find(|strategy| *strategy == asked);
    found.map(Some).ok_or_else(|| UpdateError::Strategy {
        asked: asked.to_owned(),
        has: if strategies.is_empty() { "none".to_owned() } else { strategies.join(", ") },
    })
}
