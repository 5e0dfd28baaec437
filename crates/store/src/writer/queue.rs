//! The callers' end of the queue: hand a unit over, wait for its answer.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::sync::oneshot;

use super::{Notice, Unavailable};
use crate::{Committed, Unit, WriteError};

/// How long a caller waits for its unit to be taken up.
const PATIENCE: Duration = Duration::from_secs(10);

type Hook = Box<dyn Fn(&Notice<'_>) + Send + Sync>;

/// What callers and the writer share.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) depth: AtomicUsize,
    pub(super) trouble: ArcSwapOption<Unavailable>,
    pub(super) hook: OnceLock<Hook>,
}

const QUEUED: u8 = 0;
const TAKEN: u8 = 1;
const WITHDRAWN: u8 = 2;

pub(super) struct Job {
    pub(super) unit: Unit,
    state: Arc<AtomicU8>,
    answer: Option<oneshot::Sender<Result<Committed, WriteError>>>,
}

impl Job {
    pub(super) fn take(&self) -> bool {
        self.state.compare_exchange(QUEUED, TAKEN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    pub(super) fn finish(self, result: Result<Committed, WriteError>) {
        match (self.answer, result) {
            // A caller that left gets no answer; what was committed stays.
            (Some(answer), result) => drop(answer.send(result)),
            (None, Err(error)) => {
                let events: Vec<_> = self.unit.events.iter().map(|event| event.kind.name).collect();
                tracing::error!(%error, ?events, "entries that nobody waits for could not be written");
            }
            (None, Ok(_)) => {}
        }
    }
}

/// The callers' end of the queue.
#[derive(Clone)]
pub struct Queue {
    pub(super) sender: mpsc::SyncSender<Job>,
    pub(super) shared: Arc<Shared>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("depth", &self.depth()).finish_non_exhaustive()
    }
}

impl Queue {
    /// Writes `unit` and waits until it is durable.
    ///
    /// # Errors
    /// When it was refused; then nothing of it is written.
    pub async fn submit(&self, unit: Unit) -> Result<Committed, WriteError> {
        let state = Arc::new(AtomicU8::new(QUEUED));
        let (answer, mut waiting) = oneshot::channel();
        self.enqueue(Job { unit, state: Arc::clone(&state), answer: Some(answer) })?;
        let answered = match tokio::time::timeout(PATIENCE, &mut waiting).await {
            Ok(answered) => answered,
            Err(_) => {
                let withdrawn =
                    state.compare_exchange(QUEUED, WITHDRAWN, Ordering::AcqRel, Ordering::Acquire).is_ok();
                if withdrawn {
                    return Err(Unavailable::TimedOut.into());
                }
                waiting.await
            }
        };
        answered.unwrap_or(Err(Unavailable::Closed.into()))
    }

    /// Hands `unit` over without waiting: for denials, which are answered before their entry is durable.
    ///
    /// # Errors
    /// When the queue does not take it.
    pub fn post(&self, unit: Unit) -> Result<(), WriteError> {
        self.enqueue(Job { unit, state: Arc::default(), answer: None })
    }

    fn enqueue(&self, job: Job) -> Result<(), WriteError> {
        self.shared.depth.fetch_add(1, Ordering::Relaxed);
        self.sender.try_send(job).map_err(|refused| {
            self.shared.depth.fetch_sub(1, Ordering::Relaxed);
            match refused {
                mpsc::TrySendError::Full(_) => Unavailable::QueueFull.into(),
                mpsc::TrySendError::Disconnected(_) => Unavailable::Closed.into(),
            }
        })
    }

    /// How many units wait.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.shared.depth.load(Ordering::Relaxed)
    }

    /// Why the last transaction failed; `None` while writing works.
    #[must_use]
    pub fn trouble(&self) -> Option<Arc<Unavailable>> {
        self.shared.trouble.load_full()
    }

    /// Sets who hears of commits. Only the first call counts.
    ///
    /// It is told of foreign commits at once: there may have been some before it listened.
    pub fn on_commit(&self, hook: impl Fn(&Notice<'_>) + Send + Sync + 'static) {
        hook(&Notice::Foreign);
        // A second hook would mean two owners of the state in memory; the first one stays.
        let _ = self.shared.hook.set(Box::new(hook));
    }
}
