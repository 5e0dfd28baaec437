//! What of rotations is in memory: that one runs, and the roots that were prepared.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use mastio_core::Thumbprint;
use mastio_store::rotations::{Rotation, following::Progress};
use tokio::sync::{Mutex, MutexGuard};

use super::{Candidate, Plan};

/// How long an operator may look at a prepared root before it is forgotten.
const LOOKING: Duration = Duration::from_secs(10 * 60);
/// Counting that is faster is done whenever somebody asks.
const CHEAP: Duration = Duration::from_millis(50);
/// For how many times as long as counting took nothing is counted again: who watches a large fleet costs it a twentieth of
/// a processor.
const REST: u32 = 20;
/// How many are kept.
const MOST: u64 = 16;

/// A root that was looked at, with what would have been done with it.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) candidate: Arc<Candidate>,
    pub(super) plan: Plan,
    /// The root whose place it was shown to take.
    pub(super) instead_of: Thumbprint,
    /// When it is forgotten, in the time of [`Clock::elapsed`](mastio_core::Clock::elapsed).
    end: Duration,
}

/// How far the agents were when they were counted last.
struct Counted {
    rotation: Rotation,
    bundle: Thumbprint,
    progress: Progress,
    /// Until when that will do.
    end: Duration,
}

/// That one rotation runs, the roots that were prepared, and how far the agents are.
pub(crate) struct Rotations {
    running: Mutex<()>,
    cutting: Mutex<()>,
    keys: Mutex<()>,
    /// By name.
    prepared: moka::sync::Cache<String, Held>,
    counted: std::sync::Mutex<Option<Counted>>,
}

impl Default for Rotations {
    fn default() -> Self {
        // The cache's own time bounds memory only; our clock says what has run out.
        let prepared = moka::sync::Cache::builder().max_capacity(MOST).time_to_live(2 * LOOKING).build();
        Self {
            running: Mutex::default(),
            cutting: Mutex::default(),
            keys: Mutex::default(),
            prepared,
            counted: std::sync::Mutex::default(),
        }
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

    /// The same, however long a step of another one takes.
    pub(super) async fn wait(&self) -> MutexGuard<'_, ()> {
        self.running.lock().await
    }

    /// Keeps other cuts out until it is dropped; `None` while one runs or waits. Take it before the rest.
    pub(super) fn cut(&self) -> Option<MutexGuard<'_, ()>> {
        self.cutting.try_lock().ok()
    }

    /// Keeps the signing key and the intermediate what they are until it is dropped. Who replaces them takes it for the
    /// commit and for reading anew what has changed; a cut, from before it reads what there is. Take it last.
    pub(crate) async fn keys(&self) -> MutexGuard<'_, ()> {
        self.keys.lock().await
    }

    pub(super) fn hold(
        &self,
        name: String,
        candidate: Arc<Candidate>,
        (plan, instead_of): (Plan, Thumbprint),
        now: Duration,
    ) {
        self.prepared.insert(name, Held { candidate, plan, instead_of, end: now + LOOKING });
    }

    /// A look at one, which stays.
    pub(super) fn find(&self, name: &str, now: Duration) -> Option<Held> {
        self.prepared.get(name).filter(|held| held.end > now)
    }

    /// How far the agents of `rotation` are, if they were counted lately.
    pub(super) fn counted(&self, rotation: &Rotation, bundle: Thumbprint, now: Duration) -> Option<Progress> {
        let counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = |counted: &&Counted| {
            (&counted.rotation, counted.bundle) == (rotation, bundle) && now < counted.end
        };
        counted.as_ref().filter(lately).map(|counted| counted.progress)
    }

    /// Keeps what was counted from `since` to `now`: the longer it takes, the less often it is done.
    pub(super) fn keep_counted(
        &self,
        rotation: &Rotation,
        bundle: Thumbprint,
        progress: Progress,
        (since, now): (Duration, Duration),
    ) {
        let took = now.saturating_sub(since);
        let end = if took < CHEAP { now } else { now + took * REST };
        let counted = Counted { rotation: rotation.clone(), bundle, progress, end };
        *self.counted.lock().unwrap_or_else(PoisonError::into_inner) = Some(counted);
    }

    /// It is handed out once.
    pub(super) fn take(&self, name: &str, now: Duration) -> Option<Arc<Candidate>> {
        self.prepared.remove(name).filter(|held| held.end > now).map(|held| held.candidate)
    }
}

#[cfg(test)]
mod tests {
    use mastio_core::Stamp;
    use mastio_store::rotations::{Mode, Phase, Transition};

    use super::*;

    #[test]
    fn what_takes_long_to_count_is_not_counted_whenever_somebody_asks() {
        let (bundle, at) = (Thumbprint::of(b"bundle"), Stamp::from_unix(1_790_000_000));
        let rotation = Rotation {
            id: "r".to_owned(),
            mode: Mode::Mint,
            transition: Transition::Overlap,
            phase: Phase::Reissue,
            paused: false,
            compromise: false,
            old_root: bundle,
            new_root: bundle,
            started_by: String::new(),
            started_at: at,
            changed_at: at,
            ended_at: None,
            error: None,
        };
        let (rotations, second) = (Rotations::default(), Duration::from_secs(1));
        let progress = Progress { agents: 7, ..Progress::default() };
        rotations.keep_counted(&rotation, bundle, progress, (second, second + CHEAP / 2));
        assert_eq!(rotations.counted(&rotation, bundle, second + CHEAP / 2), None, "a small fleet");
        rotations.keep_counted(&rotation, bundle, progress, (second, 2 * second));
        assert_eq!(rotations.counted(&rotation, bundle, 21 * second), Some(progress));
        assert_eq!(rotations.counted(&rotation, bundle, 22 * second), None, "its time is over");
        let next = Rotation { phase: Phase::Activated, ..rotation };
        assert_eq!(rotations.counted(&next, bundle, 21 * second), None, "it has gone on");
    }
}
