//! The disk of the database: how full it is, when that is told, and what may be done about it (runbook §2).

use std::{
    io,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use mastio_core::{Event, event::catalogue};
use mastio_store::Unit;
use tokio::sync::watch;

use crate::{
    Ledger,
    archive::{ArchiveError, Wanted},
};

/// How often the disk is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How many points the disk must be emptier than the threshold until it counts as good again.
const MARGIN: u8 = 2;
/// How often an archive is begun because the disk is full.
const RELIEVE_EVERY: Duration = Duration::from_secs(3600);

/// A file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that are used.
    pub used: u64,
    /// Bytes that can still be written by this process.
    pub available: u64,
}

impl Space {
    /// The file system that `path` is on.
    ///
    /// # Errors
    /// When the path leads nowhere.
    pub fn of(path: &Path) -> io::Result<Self> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(Self {
            used: stat.f_blocks.saturating_sub(stat.f_bfree).saturating_mul(stat.f_frsize),
            available: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }

    /// Which part is used, as `df` says it: blocks that are kept for root count as neither.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    pub fn used_ratio(self) -> f64 {
        self.used as f64 / (self.used.saturating_add(self.available)).max(1) as f64
    }

    /// The same in whole percent, rounded up.
    #[must_use]
    pub fn used_percent(self) -> u8 {
        let (used, all) = (u128::from(self.used), u128::from(self.used) + u128::from(self.available));
        (used * 100).div_ceil(all.max(1)).try_into().unwrap_or(100)
    }
}

/// What was seen of the disk.
#[derive(Debug, Default)]
pub struct Disk {
    low: AtomicBool,
    /// Whether the log tells that it is low. A full disk may refuse that entry at first.
    told: AtomicBool,
    relieved_at: std::sync::Mutex<Option<Duration>>,
}

impl Ledger {
    /// Whether the disk of the database is fuller than it should be.
    #[must_use]
    pub fn disk_is_low(&self) -> bool {
        self.log.disk.low.load(Ordering::Relaxed)
    }

    /// Looks at the disk until the server stops.
    pub async fn watch_disk(&self, mut stopping: watch::Receiver<bool>) {
        loop {
            self.look_at_disk().await;
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Looks at the disk once: counts, tells when it crosses the threshold, and archives if that is wanted.
    pub async fn look_at_disk(&self) {
        let path = self.authority.store().database().path();
        let space = match Space::of(path) {
            Ok(space) => space,
            Err(error) => {
                tracing::warn!(%error, "the disk of the database cannot be looked at");
                return;
            }
        };
        let (metrics, database_bytes) = (&self.authority.metrics.disk, database_bytes(path));
        metrics.used_ratio.set(space.used_ratio());
        metrics.database_bytes.set(database_bytes.try_into().unwrap_or(i64::MAX));
        let low = self.crosses(space.used_percent());
        metrics.low.set(low.into());
        if low && !self.log.disk.told.load(Ordering::Relaxed) {
            let event = catalogue::DiskLow {
                used_percent: space.used_percent().into(),
                available_bytes: space.available,
                database_bytes,
            };
            let told = self.authority.commit(Unit::of(Event::new(&event))).await;
            self.log.disk.told.store(told.is_ok(), Ordering::Relaxed);
        }
        if low {
            self.relieve_disk().await;
        }
    }

    /// Whether the disk is low now, with one line in the log for each change.
    fn crosses(&self, used_percent: u8) -> bool {
        let threshold = self.authority.settings.audit.disk_warn_percent;
        let was = self.disk_is_low();
        let low = used_percent >= if was { threshold.saturating_sub(MARGIN) } else { threshold };
        self.log.disk.low.store(low, Ordering::Relaxed);
        match (was, low) {
            (false, true) => tracing::warn!(
                used_percent,
                "the disk of the database fills up; archive old entries with: cullis-proxy audit archive \
                 --before DATE --out DIR"
            ),
            (true, false) => {
                self.log.disk.told.store(false, Ordering::Relaxed);
                tracing::info!(used_percent, "the disk of the database has room again");
            }
            _ => {}
        }
        low
    }

    /// Begins an archive, if the settings ask for it and none was begun for a while.
    async fn relieve_disk(&self) {
        let settings = &self.authority.settings.audit;
        let (Some(age), true) = (settings.auto_archive, self.relief_is_due()) else { return };
        let wanted = Wanted {
            before: self.authority.clock().now().minus(age),
            out: settings.archive_dir.clone(),
            by: "disk pressure".to_owned(),
        };
        match self.begin_archive(wanted).await {
            Ok(job) => tracing::info!(file = job.file, "old entries are archived because the disk fills up"),
            Err(error @ (ArchiveError::Nothing(_) | ArchiveError::UnderWay)) => tracing::info!("{error}"),
            Err(error) => tracing::error!("the disk fills up, and old entries cannot be archived: {error}"),
        }
    }

    fn relief_is_due(&self) -> bool {
        let now = self.authority.clock().elapsed();
        let mut last = self.log.disk.relieved_at.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let due = last.is_none_or(|last| now.saturating_sub(last) >= RELIEVE_EVERY);
        if due {
            *last = Some(now);
        }
        due
    }
}

fn database_bytes(path: &Path) -> u64 {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    [path, Path::new(&log)]
        .iter()
        .filter_map(|file| std::fs::metadata(file).ok())
        .map(|file| file.len())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_as_full_as_df_says() {
        let percent = |used, available| Space { used, available }.used_percent();
        assert_eq!(
            [percent(0, 100), percent(799, 201), percent(80, 20), percent(1, 0), percent(0, 0)],
            [0, 80, 80, 100, 0]
        );
        assert!(Space::of(Path::new("/")).unwrap().used_ratio() <= 1.0);
        assert!(Space::of(Path::new("/nowhere/at/all")).is_err());
    }
}
