//! What is handed out while it is read, however long it is.
//!
//! One thread writes portions into a channel of bounded length. Whoever drops [`Portions`] ends it.

use std::{
    io::{self, Write},
    ops::ControlFlow,
    time::Duration,
};

use tokio::{runtime::Handle, sync::mpsc};

/// How many bytes travel at once.
const PORTION: usize = 64 << 10;
/// How much longer a portion may get by the line that fills it, without being moved.
const SLACK: usize = 1 << 10;
/// How many portions wait for the client.
const WAITING: usize = 4;
/// How long the client may take nothing. The database keeps old pages for as long as it is read.
const STALL: Duration = Duration::from_secs(60);

/// The client takes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client took nothing for {} seconds", STALL.as_secs())]
pub struct Stalled;

/// What is handed out, in portions. `E` is why it breaks off.
#[derive(Debug)]
pub struct Portions<E>(mpsc::Receiver<Portion<E>>);

/// A portion; `None` says that it was the last. Without it the writer did not get to the end.
type Portion<E> = Result<Option<Vec<u8>>, E>;

impl<E: From<Stalled>> Portions<E> {
    /// The next portion; `None` at the end.
    ///
    /// # Errors
    /// When it breaks off. What was handed out is then not the whole.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, E> {
        self.0.recv().await.unwrap_or_else(|| Err(Stalled.into()))
    }
}

/// Collects bytes and sends them on, as fast as they are taken. It belongs on a thread that may wait.
#[derive(Debug)]
pub(crate) struct Feed<E> {
    bytes: Vec<u8>,
    sender: mpsc::Sender<Portion<E>>,
    runtime: Handle,
    /// A portion was not taken: after that nothing may follow.
    broken: bool,
}

impl<E> Feed<E> {
    /// A feed, and what comes out of it. It is made within a runtime.
    pub(crate) fn new() -> (Self, Portions<E>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self { bytes: empty(), sender, runtime: Handle::current(), broken: false }, Portions(receiver))
    }

    /// Takes what `write` appends. Breaks when nobody takes it any more.
    pub(crate) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> ControlFlow<()> {
        write(&mut self.bytes);
        if self.bytes.len() < PORTION { ControlFlow::Continue(()) } else { self.pass_on() }
    }

    /// Passes on what is left and how it ended. The client that left does not need to know that.
    pub(crate) fn end(mut self, outcome: Result<(), E>) {
        if self.pass_on().is_continue() {
            let _ = self.send(outcome.map(|()| None));
        }
    }

    fn pass_on(&mut self) -> ControlFlow<()> {
        if self.bytes.is_empty() || self.broken {
            return self.state();
        }
        let bytes = std::mem::replace(&mut self.bytes, empty());
        self.send(Ok(Some(bytes)))
    }

    fn send(&mut self, portion: Portion<E>) -> ControlFlow<()> {
        // Made where the clock of the runtime is.
        let sending = async { tokio::time::timeout(STALL, self.sender.send(portion)).await };
        self.broken = !matches!(self.runtime.block_on(sending), Ok(Ok(())));
        self.state()
    }

    fn state(&self) -> ControlFlow<()> {
        if self.broken { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl<E> Write for Feed<E> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        taken(self.push(|text| text.extend_from_slice(bytes)))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        taken(self.pass_on())
    }
}

fn taken(state: ControlFlow<()>) -> io::Result<()> {
    if state.is_continue() { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
}

fn empty() -> Vec<u8> {
    Vec::with_capacity(PORTION + SLACK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_breaks_off_is_not_taken_for_the_whole() {
        let (feed, mut portions) = Feed::<Stalled>::new();
        drop(feed);
        assert_eq!(portions.next().await, Err(Stalled));

        let (mut feed, mut portions) = Feed::<Stalled>::new();
        feed.write_all(b"the whole").unwrap();
        tokio::task::spawn_blocking(|| feed.end(Ok(()))).await.unwrap();
        assert_eq!(portions.next().await, Ok(Some(b"the whole".to_vec())));
        assert_eq!(portions.next().await, Ok(None));
    }

    #[tokio::test]
    async fn whoever_leaves_ends_it() {
        let (mut feed, portions) = Feed::<Stalled>::new();
        drop(portions);
        let written = tokio::task::spawn_blocking(move || feed.write_all(&[0; PORTION])).await.unwrap();
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
