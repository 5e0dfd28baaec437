//! The second pass: one thread reads and writes portions into a channel of bounded length. Whoever drops [`Portions`]
//! ends it.

use std::{
    io::{self, Write},
    ops::ControlFlow,
    sync::Arc,
    time::Duration,
};

use mastio_authority::Outage;
use mastio_bundle::{Plan, WriteError, Writer};
use mastio_store::{
    Unavailable,
    audit::{Filter, Range, View},
};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, mpsc},
};

use super::BundleError;
use crate::Ledger;

/// How many bytes travel at once.
const PORTION: usize = 64 << 10;
/// How many portions wait for the client.
const WAITING: usize = 4;
/// How long the client may take nothing. The database keeps old pages for as long as it is read.
pub(super) const STALL: Duration = Duration::from_secs(60);

/// The archive, in portions.
#[derive(Debug)]
pub struct Portions(mpsc::Receiver<Portion>);

#[derive(Debug)]
enum Portion {
    Bytes(Vec<u8>),
    Failed(BundleError),
    /// Without it the reader did not get to the end.
    End,
}

impl Portions {
    /// The next portion; `None` at the end.
    ///
    /// # Errors
    /// When the bundle breaks off. What was handed out is then not the whole.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, BundleError> {
        match self.0.recv().await {
            Some(Portion::Bytes(bytes)) => Ok(Some(bytes)),
            Some(Portion::End) => Ok(None),
            Some(Portion::Failed(error)) => Err(error),
            None => Err(BundleError::Stalled),
        }
    }
}

impl Ledger {
    pub(super) fn stream(&self, range: Range, plan: Plan, permit: OwnedSemaphorePermit) -> Portions {
        let database = Arc::clone(self.authority.store().database());
        let (sender, receiver) = mpsc::channel(WAITING);
        let feed = Feed { bytes: Vec::with_capacity(PORTION), sender, runtime: Handle::current() };
        tokio::task::spawn_blocking(move || {
            let _one_at_a_time = permit;
            let (end, runtime) = (feed.sender.clone(), feed.runtime.clone());
            let written = database.audit(|view| write(view, &range, plan, feed));
            let flushed = |written: Result<Feed, WriteError>| written.and_then(|mut feed| Ok(feed.flush()?));
            let last = match written.map(flushed) {
                Ok(Ok(())) => Portion::End,
                Ok(Err(error)) => Portion::Failed(broken_off(error)),
                Err(error) => Portion::Failed(error.into()),
            };
            // The client that left does not need to know how it ended.
            let _ = runtime.block_on(tokio::time::timeout(STALL, end.send(last)));
        });
        Portions(receiver)
    }
}

/// Writes the bundle into `out` and gives that back. The inner error is about the bundle, the outer one about the
/// database.
pub(super) fn write<W: Write>(
    view: &View<'_>,
    range: &Range,
    plan: Plan,
    out: W,
) -> Result<Result<W, WriteError>, Unavailable> {
    let mut writer = match Writer::begin(out, plan) {
        Ok(writer) => writer,
        Err(error) => return Ok(Err(error)),
    };
    let mut failed = None;
    view.walk(range, &Filter::default(), &mut |row| match writer.push(row) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    Ok(match failed {
        Some(error) => Err(error),
        None => writer.finish(),
    })
}

fn broken_off(error: WriteError) -> BundleError {
    match error {
        WriteError::Changed => Outage::internal(error).into(),
        WriteError::Io(_) => BundleError::Stalled,
    }
}

/// Collects bytes and sends them on, as fast as they are taken.
struct Feed {
    bytes: Vec<u8>,
    sender: mpsc::Sender<Portion>,
    runtime: Handle,
}

impl Write for Feed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() >= PORTION {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::replace(&mut self.bytes, Vec::with_capacity(PORTION));
        let send = self.sender.send(Portion::Bytes(bytes));
        match self.runtime.block_on(tokio::time::timeout(STALL, send)) {
            Ok(Ok(())) => Ok(()),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}
