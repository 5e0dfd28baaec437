//! The pace of the log: when the tree grows and when a checkpoint is signed.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use mastio_audit::tree::TILE_WIDTH;
use mastio_authority::Outage;
use mastio_store::{
    Unit,
    audit::{checkpoints, origins},
};

use crate::{Ledger, checkpoints::CheckpointError};

/// How long to wait after a failure.
const BACK_OFF: Duration = Duration::from_secs(5);
/// When entries that no checkpoint covers are late, at least and in intervals of checkpoints.
const LATE: Duration = Duration::from_mins(10);
const LATE_INTERVALS: u32 = 10;
/// How long every checkpoint is kept.
const KEPT: Duration = Duration::from_hours(30 * 24);
/// How often older ones are thinned out: often enough for the shortest interval that can be set.
const THIN_OUT_EVERY: Duration = Duration::from_mins(10);

/// When things were done last, on the monotonic clock.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<Moments>);

#[derive(Debug, Clone, Default)]
struct Moments {
    /// When to look at checkpoints next; `None`: now.
    checkpoint_at: Option<Duration>,
    /// When to thin out old ones next; `None`: now.
    thin_out_at: Option<Duration>,
    /// When to try again after a failure.
    again_at: Option<Duration>,
    /// Why it failed last, to say it once.
    trouble: Option<String>,
    /// How many entries the newest checkpoint has, and since when it has no more although there are more.
    covered: (u64, Duration),
}

impl Pace {
    fn change<T>(&self, change: impl FnOnce(&mut Moments) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_backing_off(&self, now: Duration) -> bool {
        self.change(|moments| moments.again_at.is_some_and(|at| now < at))
    }

    fn wants_checkpoint(&self, now: Duration) -> bool {
        self.change(|moments| moments.checkpoint_at.is_none_or(|at| at <= now))
    }

    /// Whether this failure is another one than the last.
    fn failed(&self, error: &CheckpointError, now: Duration) -> bool {
        let text = error.to_string();
        self.change(|moments| {
            moments.again_at = Some(now + BACK_OFF);
            let new = moments.trouble.as_ref() != Some(&text);
            moments.trouble = Some(text);
            new
        })
    }
}

impl Ledger {
    /// Looks after tree and checkpoints. Call it every second or so.
    pub async fn keep_log(&self) {
        let now = self.authority.clock().elapsed();
        self.look_for_late(now).await;
        if self.log.pace.is_backing_off(now) {
            return;
        }
        match self.keep_up(now).await {
            Ok(()) => self.log.pace.change(|moments| moments.trouble = None),
            Err(error) => {
                if self.log.pace.failed(&error, now) {
                    tracing::warn!(%error, "the audit log has no new checkpoint; it is tried again");
                }
            }
        }
    }

    /// Whether entries wait for a checkpoint for too long, whatever keeps it from being signed.
    #[must_use]
    pub fn checkpoint_is_late(&self) -> bool {
        self.authority.metrics.evidence.checkpoint_late.get() > 0
    }

    async fn look_for_late(&self, now: Duration) {
        let limit = LATE.max(self.authority.settings.audit.checkpoint_every * LATE_INTERVALS);
        // What cannot be read covers nothing more.
        let newest = self.covered().await.ok();
        let late = self.log.pace.change(|moments| {
            if let Some((size, all)) = newest
                && (all || size != moments.covered.0)
            {
                moments.covered = (size, now);
            }
            now.saturating_sub(moments.covered.1) > limit
        });
        self.authority.metrics.evidence.checkpoint_late.set(late.into());
    }

    /// How many entries the newest checkpoint has, and whether these are all that it can have.
    async fn covered(&self) -> Result<(u64, bool), CheckpointError> {
        let key = self.log_key().await?;
        let size = self.newest_checkpoint().await?.map_or(0, |newest| newest.head().size);
        Ok((size, key.base_seq + size > self.last_seq().await?))
    }

    async fn keep_up(&self, now: Duration) -> Result<(), CheckpointError> {
        let key = self.log_key().await?;
        let newest = self.reading(|database| Ok::<_, Outage>(origins::newest_generation(database)?)).await?;
        if newest != key.generation {
            // An operator accepted a restore beside us.
            self.log.key.forget();
            self.log.pace.change(|moments| moments.checkpoint_at = None);
        }
        if self.log.pace.wants_checkpoint(now) {
            let _one = self.log.signing.lock().await;
            let key = self.log_key().await?;
            match self.sign(&key).await {
                Ok(_) => self.thin_out(now).await?,
                // A rewind was told when it was found; the tree has grown all the same.
                Err(CheckpointError::Empty | CheckpointError::RolledBack) => {}
                Err(error) => return Err(error),
            }
            let next = now + self.authority.settings.audit.checkpoint_every;
            self.log.pace.change(|moments| moments.checkpoint_at = Some(next));
            return Ok(());
        }
        // Whole tiles are written as they fill: a little more often than needed would write each of them many times.
        let size = u64::try_from(self.authority.metrics.evidence.tree_size.get()).unwrap_or(0);
        if self.last_seq().await? >= key.base_seq + size + TILE_WIDTH as u64 {
            self.grow().await?;
        }
        Ok(())
    }

    /// One of a day proves as much as one of each minute, once whoever watches has long seen all of them.
    async fn thin_out(&self, now: Duration) -> Result<(), Outage> {
        if self.log.pace.change(|moments| moments.thin_out_at.is_some_and(|at| now < at)) {
            return Ok(());
        }
        let before = self.authority.clock().now().minus(KEPT);
        self.authority.commit(Unit::default().write(checkpoints::thin_out(before))).await?;
        self.log.pace.change(|moments| moments.thin_out_at = Some(now + THIN_OUT_EVERY));
        Ok(())
    }
}
