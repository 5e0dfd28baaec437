//! What of rotations is in memory: that one runs, and the roots that were prepared.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Mutex, MutexGuard};

use super::{Candidate, Plan};

/// How long an operator may look at a prepared root before it is forgotten.
const LOOKING: Duration = Duration::from_secs(10 * 60);
/// How many are kept.
const MOST: u64 = 16;

/// A root that was looked at, with what would have been done with it.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) candidate: Arc<Candidate>,
    pub(super) plan: Plan,
    /// When it is forgotten, in the time of [`Clock::elapsed`](mastio_core::Clock::elapsed).
    end: Duration,
}

/// That one rotation runs, and the roots that were prepared.
pub(crate) struct Rotations {
    running: Mutex<()>,
    /// By name.
    prepared: moka::sync::Cache<String, Held>,
}

impl Default for Rotations {
    fn default() -> Self {
        // The cache's own time bounds memory only; our clock says what has run out.
        let prepared = moka::sync::Cache::builder().max_capacity(MOST).time_to_live(2 * LOOKING).build();
        Self { running: Mutex::new(()), prepared }
    }
}

impl std::fmt::Debug for Rotations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rotations").finish_non_exhaustive()
    }
}

impl Rotations {
    /// Keeps others out until it is dropped; `None` while another one runs in this process.
    pub(crate) fn begin(&self) -> Option<MutexGuard<'_, ()>> {
        self.running.try_lock().ok()
    }

    pub(super) fn hold(&self, name: String, candidate: Arc<Candidate>, plan: Plan, now: Duration) {
        self.prepared.insert(name, Held { candidate, plan, end: now + LOOKING });
    }

    /// A look at one, which stays.
    pub(super) fn find(&self, name: &str, now: Duration) -> Option<Held> {
        self.prepared.get(name).filter(|held| held.end > now)
    }

    /// It is handed out once.
    pub(super) fn take(&self, name: &str, now: Duration) -> Option<Arc<Candidate>> {
        self.prepared.remove(name).filter(|held| held.end > now).map(|held| held.candidate)
    }
}
