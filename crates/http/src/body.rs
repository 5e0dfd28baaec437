//! A request body that ends with an error when it grows over its limit, declared or not, and whose rest is read when a
//! handler answers without it.

use std::{
    error::Error,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

/// The body is longer than this many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("request body exceeds {0} bytes: send less")]
pub(crate) struct TooLarge(pub(crate) u64);

impl TooLarge {
    /// Looks for it among the causes of an error.
    pub(crate) fn find(error: &(dyn Error + 'static)) -> Option<Self> {
        std::iter::successors(Some(error), |cause| (*cause).source())
            .find_map(|cause| cause.downcast_ref().copied())
    }
}

/// How much of an unread body is read before the answer goes out, and for how long at most.
const REST: usize = 64 << 10;
const REST_TIME: Duration = Duration::from_secs(1);

/// What became of a body.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fate(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    cut: AtomicBool,
    unread: Mutex<Option<Body>>,
}

impl Fate {
    /// Whether it was cut: an extractor or handler that met the error may have answered something else.
    pub(crate) fn was_cut(&self) -> bool {
        self.0.cut.load(Ordering::Relaxed)
    }

    /// Reads what the handler left. A client that is still sending when its stream is reset or its connection closed
    /// may never see the answer: curl reports a framing error over HTTP/2, others a connection that ended.
    pub(crate) async fn read_rest(&self) {
        let unread = self.0.unread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(unread) = unread {
            let _ = tokio::time::timeout(REST_TIME, axum::body::to_bytes(unread, REST)).await;
        }
    }
}

/// A body of at most `limit` bytes.
#[derive(Debug)]
pub(crate) struct Capped {
    inner: Body,
    limit: u64,
    left: u64,
    fate: Fate,
}

impl Capped {
    pub(crate) fn new(inner: Body, limit: u64, fate: Fate) -> Self {
        Self { inner, limit, left: limit, fate }
    }
}

impl Drop for Capped {
    fn drop(&mut self) {
        if !self.inner.is_end_stream() && !self.fate.was_cut() {
            let unread = std::mem::take(&mut self.inner);
            *self.fate.0.unread.lock().unwrap_or_else(PoisonError::into_inner) = Some(unread);
        }
    }
}

impl HttpBody for Capped {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        let length = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
            _ => 0,
        };
        match self.left.checked_sub(length) {
            Some(left) => {
                self.left = left;
                Poll::Ready(frame)
            }
            None => {
                self.fate.0.cut.store(true, Ordering::Relaxed);
                Poll::Ready(Some(Err(axum::Error::new(TooLarge(self.limit)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
