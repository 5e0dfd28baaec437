//! The one writer: takes what is queued, commits it as one transaction, answers after the commit.
//!
//! The promise (design §4): **acknowledged ⇒ durable; refused ⇒ not written; unanswered ⇒ either.** An audit entry
//! gets its place here, in [`Writer::seal`].

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use mastio_audit::{Draft, Head, Sealed};
use mastio_core::{Clock, OrgId, Rng};
use tokio::sync::oneshot;

use crate::{Committed, Rejection, Statement, Touch, Unit, WriteError};

/// How many units may wait. Beyond that callers get 503 at once.
pub const QUEUE_CAPACITY: usize = 8192;
/// How many units one transaction takes at most.
const BATCH_UNITS: usize = 1024;
/// How long a caller waits for its unit to be taken up.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often an idle writer looks for foreign commits, a replaced file and recovery.
const IDLE_TICK: Duration = Duration::from_millis(200);

/// Why the database cannot be used now. `Display` uses the words that the runbook tells operators to look for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// More than [`QUEUE_CAPACITY`] units wait.
    #[error("the write queue is full; try again in a moment")]
    QueueFull,
    /// The unit was not taken up in time and was withdrawn.
    #[error("the writer did not take the change up in time; it was withdrawn, try again")]
    TimedOut,
    /// SQLITE_FULL, or an I/O error while writing.
    #[error("database or disk is full: {0}")]
    DiskFull(String),
    /// The file or its folder may not be written.
    #[error("attempt to write a readonly database: {0}")]
    ReadOnly(String),
    /// Another process holds the write lock.
    #[error("database is locked: {0}")]
    Locked(String),
    /// The file that was opened is not the file at its path any more.
    #[error("unable to open database file: {0}")]
    Gone(String),
    /// Anything else.
    #[error("database error: {0}")]
    Broken(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl Unavailable {
    /// A stable word for metrics and answers.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::TimedOut => "timed_out",
            Self::DiskFull(_) => "disk_full",
            Self::ReadOnly(_) => "read_only",
            Self::Locked(_) => "locked",
            Self::Gone(_) => "file_gone",
            Self::Broken(_) => "broken",
            Self::Closed => "closed",
        }
    }
}

/// What the writer announces to whoever keeps state in memory.
#[derive(Debug)]
pub enum Notice<'a> {
    /// A unit of ours is durable. Runs before its caller is answered.
    Committed(&'a [Touch]),
    /// Somebody else committed: a command-line tool, an operator's SQL. Reload.
    Foreign,
}

/// One open connection for writing, with a transaction at a time. What a database must offer to be written by us.
pub trait Session: Send {
    /// Opens the transaction and takes the write lock.
    ///
    /// # Errors
    /// When it cannot.
    fn begin(&mut self) -> Result<(), Unavailable>;

    /// The head of `org`'s chain, inside the transaction.
    ///
    /// # Errors
    /// When it cannot be read.
    fn head(&mut self, org: &OrgId) -> Result<Head, Unavailable>;

    /// Runs statements in a savepoint of their own; all or none of them stay.
    ///
    /// # Errors
    /// The outer error ends the transaction; the inner one only this unit.
    fn apply(&mut self, statements: &[Statement]) -> Result<Result<(), Rejection>, Unavailable>;

    /// Inserts audit entries.
    ///
    /// # Errors
    /// When one of them is not accepted; the transaction ends.
    fn append(&mut self, entries: &[Sealed]) -> Result<(), Unavailable>;

    /// Marks the transaction with `ticket` and commits it.
    ///
    /// # Errors
    /// When the outcome is a failure or not known; [`Session::has_committed`] of a new session tells.
    fn commit(&mut self, ticket: u64) -> Result<(), Unavailable>;

    /// Gives the transaction up, if there is one.
    fn rollback(&mut self);

    /// Whether the last committed transaction of ours carried `ticket`.
    ///
    /// # Errors
    /// When it cannot be read.
    fn has_committed(&mut self, ticket: u64) -> Result<bool, Unavailable>;

    /// Whether somebody else has committed since the last call.
    ///
    /// # Errors
    /// When it cannot be read.
    fn foreign_commits(&mut self) -> Result<bool, Unavailable>;
}

/// Opens sessions; the only thing that outlives a failed one.
pub trait Connect: Send {
    /// A new session.
    ///
    /// # Errors
    /// When the database cannot be opened.
    fn connect(&mut self) -> Result<Box<dyn Session>, Unavailable>;
}

type Hook = Box<dyn Fn(&Notice<'_>) + Send + Sync>;

/// What callers and the writer share.
#[derive(Default)]
struct Shared {
    depth: AtomicUsize,
    trouble: ArcSwapOption<Unavailable>,
    hook: OnceLock<Hook>,
}

const QUEUED: u8 = 0;
const TAKEN: u8 = 1;
const WITHDRAWN: u8 = 2;

struct Job {
    unit: Unit,
    state: Arc<AtomicU8>,
    answer: Option<oneshot::Sender<Result<Committed, WriteError>>>,
}

impl Job {
    fn take(&self) -> bool {
        self.state.compare_exchange(QUEUED, TAKEN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn finish(self, result: Result<Committed, WriteError>) {
        if let Some(answer) = self.answer {
            // A caller that left gets no answer; what was committed stays.
            let _ = answer.send(result);
        }
    }
}

/// The callers' end of the queue.
#[derive(Clone)]
pub struct Queue {
    sender: mpsc::SyncSender<Job>,
    shared: Arc<Shared>,
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
    pub fn on_commit(&self, hook: impl Fn(&Notice<'_>) + Send + Sync + 'static) {
        // A second hook would mean two owners of the state in memory; the first one stays.
        let _ = self.shared.hook.set(Box::new(hook));
    }
}

/// Where the writer runs, to be joined at the end.
pub type Thread = std::thread::JoinHandle<()>;

/// Starts the writer on a thread of its own. It ends when every [`Queue`] is dropped and the queue is empty.
///
/// # Errors
/// When no thread can be started.
pub fn start(
    connect: Box<dyn Connect>,
    session: Box<dyn Session>,
    org: OrgId,
    clock: Arc<dyn Clock>,
    rng: &dyn Rng,
) -> std::io::Result<(Queue, Thread)> {
    let (sender, receiver) = mpsc::sync_channel(QUEUE_CAPACITY);
    let shared = Arc::new(Shared::default());
    let mut seed = [0; 8];
    rng.fill(&mut seed);
    let mut writer = Writer {
        connect,
        session: Some(session),
        receiver,
        shared: Arc::clone(&shared),
        org,
        clock,
        ticket: u64::from_be_bytes(seed) >> 2,
    };
    let thread = std::thread::Builder::new().name("writer".into()).spawn(move || writer.run())?;
    Ok((Queue { sender, shared }, thread))
}

struct Writer {
    connect: Box<dyn Connect>,
    session: Option<Box<dyn Session>>,
    receiver: mpsc::Receiver<Job>,
    shared: Arc<Shared>,
    org: OrgId,
    clock: Arc<dyn Clock>,
    ticket: u64,
}

impl Writer {
    fn run(&mut self) {
        loop {
            match self.receiver.recv_timeout(IDLE_TICK) {
                Ok(first) => {
                    let batch = self.collect(first);
                    self.write(batch);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => self.look_around(),
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// What is queued right now; nobody waits for more to come.
    fn collect(&self, first: Job) -> Vec<Job> {
        let mut batch = vec![first];
        while batch.len() < BATCH_UNITS
            && let Ok(job) = self.receiver.try_recv()
        {
            batch.push(job);
        }
        self.shared.depth.fetch_sub(batch.len(), Ordering::Relaxed);
        batch.retain(Job::take);
        batch
    }

    fn write(&mut self, batch: Vec<Job>) {
        if batch.is_empty() {
            return;
        }
        let units: Vec<&Unit> = batch.iter().map(|job| &job.unit).collect();
        match self.transact(&units) {
            Ok(results) => {
                self.recovered();
                for (job, result) in batch.into_iter().zip(results) {
                    if result.is_ok() {
                        self.announce(&Notice::Committed(&job.unit.touches));
                    }
                    job.finish(result.map_err(WriteError::Rejected));
                }
            }
            Err(fault) => {
                self.failed(&fault);
                for job in batch {
                    job.finish(Err(WriteError::Unavailable(fault.clone())));
                }
            }
        }
    }

    /// One transaction over all units. Each is applied or rejected by itself; they are committed together.
    fn transact(&mut self, units: &[&Unit]) -> Result<Vec<Result<Committed, Rejection>>, Unavailable> {
        let (org, now) = (self.org.clone(), self.clock.now());
        self.ticket += 1;
        let ticket = self.ticket;
        let session = self.session()?;
        session.begin()?;
        let foreign = session.foreign_commits()?;
        let mut head = session.head(&org)?;
        let mut results = Vec::with_capacity(units.len());
        let mut entries = Vec::new();
        for unit in units {
            let applied =
                if unit.statements.is_empty() { Ok(()) } else { session.apply(&unit.statements)? };
            results.push(applied.map(|()| Self::seal(&mut head, &mut entries, unit, &org, now)));
        }
        session.append(&entries)?;
        if let Err(fault) = session.commit(ticket) {
            return self.resolve(ticket, fault).map(|()| results);
        }
        if foreign {
            self.announce(&Notice::Foreign);
        }
        Ok(results)
    }

    /// Gives the events of a unit their places in the chain.
    fn seal(
        head: &mut Head,
        entries: &mut Vec<Sealed>,
        unit: &Unit,
        org: &OrgId,
        now: mastio_core::Stamp,
    ) -> Committed {
        let first = head.seq + 1;
        entries.extend(unit.events.iter().map(|event| head.append(Draft::new(event, org, now))));
        Committed { audit: (!unit.events.is_empty()).then_some((first, head.seq)) }
    }

    /// COMMIT failed: find out on a new connection whether it happened all the same.
    fn resolve(&mut self, ticket: u64, fault: Unavailable) -> Result<(), Unavailable> {
        self.drop_session();
        match self.session().and_then(|session| session.has_committed(ticket)) {
            Ok(true) => Ok(()),
            Ok(false) => Err(fault),
            Err(unreadable) => {
                // Neither yes nor no can be told truthfully now; keep asking, the callers wait.
                tracing::error!(%fault, %unreadable, "the result of a COMMIT is unknown; looking it up until the database answers");
                self.ask_until_known(ticket, fault)
            }
        }
    }

    fn ask_until_known(&mut self, ticket: u64, fault: Unavailable) -> Result<(), Unavailable> {
        loop {
            std::thread::sleep(IDLE_TICK);
            self.drop_session();
            match self.session().and_then(|session| session.has_committed(ticket)) {
                Ok(true) => return Ok(()),
                Ok(false) => return Err(fault),
                // The file was replaced under us: what was written went with it.
                Err(Unavailable::Gone(_)) => return Err(fault),
                Err(_) => {}
            }
        }
    }

    fn look_around(&mut self) {
        let troubled = self.shared.trouble.load().is_some();
        let looked = self.session().and_then(|session| session.foreign_commits());
        match looked {
            Ok(foreign) => {
                if foreign {
                    self.announce(&Notice::Foreign);
                }
                if troubled && self.probe().is_ok() {
                    self.recovered();
                }
            }
            Err(fault) => self.failed(&fault),
        }
    }

    /// An empty transaction that really writes: proves that writing works again.
    fn probe(&mut self) -> Result<(), Unavailable> {
        self.transact(&[]).map(drop).inspect_err(|_| self.drop_session())
    }

    fn session(&mut self) -> Result<&mut Box<dyn Session>, Unavailable> {
        match &mut self.session {
            Some(session) => Ok(session),
            none => Ok(none.insert(self.connect.connect()?)),
        }
    }

    fn drop_session(&mut self) {
        if let Some(mut session) = self.session.take() {
            session.rollback();
        }
    }

    fn failed(&mut self, fault: &Unavailable) {
        self.drop_session();
        let known = self.shared.trouble.load().as_deref() == Some(fault);
        if !known {
            tracing::error!(reason = fault.reason(), "{fault}");
            self.shared.trouble.store(Some(Arc::new(fault.clone())));
        }
    }

    fn recovered(&self) {
        if self.shared.trouble.swap(None).is_some() {
            tracing::info!("the database can be written again");
        }
    }

    fn announce(&self, notice: &Notice<'_>) {
        if let Some(hook) = self.shared.hook.get() {
            hook(notice);
        }
    }
}
