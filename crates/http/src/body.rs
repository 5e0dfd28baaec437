//! A request body that ends with an error when it grows over its limit, declared or not.

use std::{
    error::Error,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
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

/// Whether a body was cut: an extractor or handler that met the error may have answered something else.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cut(Arc<AtomicBool>);

impl Cut {
    pub(crate) fn happened(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A body of at most `limit` bytes.
#[derive(Debug)]
pub(crate) struct Capped {
    inner: Body,
    limit: u64,
    left: u64,
    cut: Cut,
}

impl Capped {
    pub(crate) fn new(inner: Body, limit: u64, cut: Cut) -> Self {
        Self { inner, limit, left: limit, cut }
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
                self.cut.0.store(true, Ordering::Relaxed);
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
