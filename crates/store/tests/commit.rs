//! What callers are told when COMMIT itself fails: the truth, looked up on a new connection.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};

use mastio_audit::{Head, Sealed};
use mastio_core::{Event, OrgId, SystemClock, SystemRng, event::catalogue};
use mastio_store::{
    Committed, Rejection, Statement, Unavailable, Unit, WriteError,
    writer::{self, Connect, Session},
};

/// How the next COMMIT goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Commit {
    Works,
    /// It fails, and nothing was written.
    Fails,
    /// It was written, but the answer says that it failed.
    LosesItsAnswer,
}

/// A database of one number, shared by all its connections.
#[derive(Default)]
struct Disk {
    ticket: Option<u64>,
    next: Vec<Commit>,
    /// Whether the transaction carries entries; the writer's own probes carry none.
    entries: bool,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Disk>>);

impl Connect for Fake {
    fn connect(&mut self) -> Result<Box<dyn Session>, Unavailable> {
        Ok(Box::new(self.clone()))
    }
}

impl Session for Fake {
    fn begin(&mut self) -> Result<(), Unavailable> {
        Ok(())
    }

    fn head(&mut self, _: &OrgId) -> Result<Head, Unavailable> {
        Ok(Head::GENESIS)
    }

    fn apply(&mut self, _: &[Statement]) -> Result<Result<(), Rejection>, Unavailable> {
        Ok(Ok(()))
    }

    fn append(&mut self, entries: &[Sealed]) -> Result<(), Unavailable> {
        self.0.lock().unwrap().entries = !entries.is_empty();
        Ok(())
    }

    fn commit(&mut self, ticket: u64) -> Result<(), Unavailable> {
        let mut disk = self.0.lock().unwrap();
        let commit = if disk.entries { disk.next.pop() } else { None }.unwrap_or(Commit::Works);
        if commit != Commit::Fails {
            disk.ticket = Some(ticket);
        }
        if commit == Commit::Works { Ok(()) } else { Err(Unavailable::DiskFull("at COMMIT".into())) }
    }

    fn rollback(&mut self) {}

    fn has_committed(&mut self, ticket: u64) -> Result<bool, Unavailable> {
        Ok(self.0.lock().unwrap().ticket == Some(ticket))
    }

    fn foreign_commits(&mut self) -> Result<bool, Unavailable> {
        Ok(false)
    }
}

#[tokio::test]
async fn a_failed_commit_is_answered_by_what_really_happened() {
    let fake = Fake::default();
    let org = OrgId::parse("acme").unwrap();
    let clock = Arc::new(SystemClock::default());
    let (queue, _thread) =
        writer::start(Box::new(fake.clone()), Box::new(fake.clone()), org, clock, &SystemRng).unwrap();
    let unit = || Unit::of(Event::new(&catalogue::AgentDeactivated { by: "x".into() }));
    let submit = async |commit| {
        fake.0.lock().unwrap().next.push(commit);
        queue.submit(unit()).await
    };
    let durable = Ok(Committed { audit: Some((1, 1)) });
    assert_eq!(submit(Commit::Works).await, durable);
    let refused = submit(Commit::Fails).await;
    assert!(matches!(refused, Err(WriteError::Unavailable(Unavailable::DiskFull(_)))), "{refused:?}");
    assert_eq!(submit(Commit::LosesItsAnswer).await, durable, "it is durable, so it is acknowledged");
    assert_eq!(submit(Commit::Works).await, durable, "and the writer goes on");
    assert!(queue.trouble().is_none());
}
