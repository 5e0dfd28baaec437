//! What is counted about requests, and the text that Prometheus reads.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header::CONTENT_TYPE};
use prometheus::{Encoder, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder};

use crate::answer::ApiError;

/// Upper bounds of the duration histogram, in seconds: fine around the budget of a call, coarse to a long poll.
const BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// The metrics of requests.
#[derive(Debug, Clone)]
pub struct HttpMetrics {
    requests: IntCounterVec,
    durations: HistogramVec,
    sheds: IntCounterVec,
}

impl HttpMetrics {
    /// Makes them known to `registry`.
    ///
    /// # Errors
    /// [`prometheus::Error::AlreadyReg`] if they are known to it already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = Opts::new("cullis_http_requests_total", "Requests by route and class of status.");
        let durations = HistogramOpts::new(
            "cullis_http_request_duration_seconds",
            "Time until the head of the answer, by route and class of status.",
        );
        let sheds =
            Opts::new("cullis_http_sheds_total", "Requests refused to protect the server, by reason.");
        let metrics = Self {
            requests: IntCounterVec::new(requests, &["route", "status"])?,
            durations: HistogramVec::new(durations.buckets(BUCKETS.to_vec()), &["route", "status"])?,
            sheds: IntCounterVec::new(sheds, &["reason"])?,
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.durations.clone()))?;
        registry.register(Box::new(metrics.sheds.clone()))?;
        Ok(metrics)
    }

    /// Counts an answered request; `route` is the pattern that matched, never what the client wrote.
    pub(crate) fn answered(&self, route: &str, status: StatusCode, duration: Duration) {
        let labels = [route, class(status)];
        self.requests.with_label_values(&labels).inc();
        self.durations.with_label_values(&labels).observe(duration.as_secs_f64());
    }

    /// Counts a shed request.
    pub(crate) fn shed(&self, reason: &str) {
        self.sheds.with_label_values(&[reason]).inc();
    }
}

/// The metrics of listeners.
#[derive(Debug, Clone)]
pub struct ConnectionMetrics {
    refused: IntCounterVec,
}

impl ConnectionMetrics {
    /// Makes them known to `registry`.
    ///
    /// # Errors
    /// [`prometheus::Error::AlreadyReg`] if they are known to it already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let refused =
            Opts::new("cullis_http_connections_refused_total", "Connections closed unserved, by reason.");
        let metrics = Self { refused: IntCounterVec::new(refused, &["reason"])? };
        registry.register(Box::new(metrics.refused.clone()))?;
        Ok(metrics)
    }

    /// Counts a connection that was closed because of a bound.
    pub(crate) fn refused(&self, bound: Bound) {
        self.refused.with_label_values(&[bound.as_str()]).inc();
    }
}

/// A bound on connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    /// Of the listener.
    Listener,
    /// Of one address.
    Address,
}

impl Bound {
    fn as_str(self) -> &'static str {
        match self {
            Self::Listener => "listener",
            Self::Address => "address",
        }
    }
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

/// The whole registry in the text format 0.0.4.
#[must_use]
pub fn render(registry: &Registry) -> Response {
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    match encoder.encode(&registry.gather(), &mut text) {
        Ok(()) => ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be rendered");
            ApiError::internal().into_response()
        }
    }
}
