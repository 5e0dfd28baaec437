//! The one writer: takes what is queued, commits it as one transaction, answers after the commit.
//!
//! The promise (design §4): **acknowledged ⇒ durable; refused ⇒ not written; unanswered ⇒ either.** An audit entry
//! gets its place here, in [`Writer::seal`].

mod queue;
mod session;
mod unavailable;

use std::{
    sync::{Arc, atomic::Ordering, mpsc},
    time::Duration,
};

use mastio_audit::{Draft, Head, Sealed};
use mastio_core::{Clock, OrgId, Rng};

pub use queue::Queue;
use queue::{Job, Shared};
pub use session::{Connect, Session};
pub use unavailable::Unavailable;

use crate::{Committed, Rejection, Touch, Unit, WriteError};

/// How many units may wait. Beyond that callers get 503 at once.
pub const QUEUE_CAPACITY: usize = 8192;
/// How many units one transaction takes at most.
const BATCH_UNITS: usize = 1024;
/// How often an idle writer looks for foreign commits, a replaced file and recovery.
const IDLE_TICK: Duration = Duration::from_millis(200);

/// What the writer announces to whoever keeps state in memory.
#[derive(Debug)]
pub enum Notice<'a> {
    /// A unit of ours is durable. Runs before its caller is answered.
    Committed(&'a [Touch]),
    /// Somebody else committed: a command-line tool, an operator's SQL. Reload.
    Foreign,
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
        foreign: false,
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
    /// Somebody else may have committed and it was not announced yet. It outlives failed transactions and sessions.
    foreign: bool,
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
        let written = self.transact(&units);
        self.announce_foreign();
        match written {
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
        self.foreign |= foreign;
        let session = self.session()?;
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
        self.foreign |= matches!(looked, Ok(true));
        self.announce_foreign();
        match looked {
            Ok(_) => {
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
            none => {
                // What was committed while there was no session goes unseen by the new one.
                self.foreign = true;
                Ok(none.insert(self.connect.connect()?))
            }
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

    fn announce_foreign(&mut self) {
        if std::mem::take(&mut self.foreign) {
            self.announce(&Notice::Foreign);
        }
    }

    fn announce(&self, notice: &Notice<'_>) {
        if let Some(hook) = self.shared.hook.get() {
            hook(notice);
        }
    }
}
