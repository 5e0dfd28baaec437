//! What surrounds every route, outermost first: request id, log line and metrics; the body cap; the strip of foreign
//! headers; the global bucket; the security headers; and the net under a handler that panics
//! (contract `operations.md` §8).

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use mastio_core::{Clock, Rng};
use tracing::Instrument;

use crate::{
    answer::{self, ApiError, Reason, SHED_REASON},
    body::{Capped, Fate},
    bucket::{Bucket, Rate},
    metrics::HttpMetrics,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest request id that is taken over, in characters.
const MAX_REQUEST_ID: usize = 128;

/// What clients may send of our own headers; the rest only we may set.
const OWN_PREFIX: &str = "x-cullis-";
const OWN_ALLOWED: [&str; 3] =
    ["x-cullis-session-token", "x-cullis-on-behalf-of-user", "x-cullis-device-attestation"];

/// On every answer that was not shed, unless the handler set its own.
const SECURITY: [(HeaderName, HeaderValue); 7] = [
    (HeaderName::from_static("x-cullis-mode"), HeaderValue::from_static("standalone")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("strict-origin-when-cross-origin")),
    (
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static("camera=(), microphone=(), geolocation=()"),
    ),
    (header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000; includeSubDomains")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// The name of a request: the client's `X-Request-Id` or one of ours. In the extensions of the request, in its span
/// and in the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(pub Arc<str>);

/// Who acted, for the access log: a handler puts it into the extensions of its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal(pub String);

/// What the middleware needs.
pub struct Middleware {
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    metrics: HttpMetrics,
    body_limit: u64,
    bucket: Option<Bucket>,
}

impl Middleware {
    /// `body_limit` in bytes; no global bucket without a `rate` (design decision 14).
    #[must_use]
    pub fn new(
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
        metrics: HttpMetrics,
        body_limit: u64,
        rate: Option<Rate>,
    ) -> Self {
        Self { clock, rng, metrics, body_limit, bucket: rate.map(Bucket::new) }
    }

    /// Surrounds all routes, and answers what no route does. Add routes before, not after.
    pub fn around(self, router: Router) -> Router {
        router
            .fallback(answer::not_found)
            .method_not_allowed_fallback(answer::method_not_allowed)
            .layer(DefaultBodyLimit::disable())
            .layer(from_fn_with_state(Arc::new(self), observe))
    }

    fn request_id(&self, headers: &HeaderMap) -> RequestId {
        let theirs = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(|id| {
            (1..=MAX_REQUEST_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
        });
        RequestId(theirs.map_or_else(|| self.rng.uuid().to_string().into(), Arc::from))
    }

    /// One request, from its arrival to its line in the log.
    async fn serve(&self, id: RequestId, mut request: Request, next: Next) -> Response {
        let started = self.clock.elapsed();
        let method = request.method().clone();
        let route = request.extensions().get::<MatchedPath>().cloned();
        let route = route.as_ref().map_or("other", MatchedPath::as_str);
        let echo = HeaderValue::from_str(&id.0);
        request.extensions_mut().insert(id);
        let mut response = match self.admit(request) {
            Ok((request, body)) => self.secured(request, body, next).await,
            Err(refusal) => refusal.into_response(),
        };
        if let Ok(echo) = echo {
            response.headers_mut().insert(REQUEST_ID, echo);
        }
        self.record(&method, route, &response, self.clock.elapsed().saturating_sub(started));
        response
    }

    /// Lets a request in, with its body capped, or says why it is shed.
    fn admit(&self, mut request: Request) -> Result<(Request, Fate), ApiError> {
        let fate = Fate::default();
        strip_own(request.headers_mut());
        if is_exempt(request.uri().path()) {
            return Ok((request, fate));
        }
        if declared_length(request.headers()).is_some_and(|length| length > self.body_limit) {
            return Err(ApiError::body_too_large(self.body_limit));
        }
        if self.bucket.as_ref().is_some_and(|bucket| !bucket.take(self.clock.elapsed())) {
            let (detail, shed) = ("Global rate limit exceeded: retry in a second.", "global_rate_limit");
            return Err(ApiError::unavailable(detail, "global_rate_limit_exceeded", 1, shed));
        }
        let capped = request.map(|body| Body::new(Capped::new(body, self.body_limit, fate.clone())));
        Ok((capped, fate))
    }

    /// The handler's answer, or what replaces it, with the security headers.
    async fn secured(&self, request: Request, body: Fate, next: Next) -> Response {
        let answered = unpanicked(next.run(request)).await;
        let mut response = answered.unwrap_or_else(|panic| {
            tracing::error!(panic = panic_text(&*panic), "a handler panicked");
            ApiError::internal().into_response()
        });
        body.read_rest().await;
        if body.was_cut() {
            response = ApiError::body_too_large(self.body_limit).into_response();
        }
        for (name, value) in SECURITY {
            response.headers_mut().entry(name).or_insert(value);
        }
        response
    }

    fn record(&self, method: &Method, route: &str, response: &Response, duration: Duration) {
        let (status, extensions) = (response.status(), response.extensions());
        self.metrics.answered(route, status, duration);
        if let Some(reason) = response.headers().get(SHED_REASON).and_then(|value| value.to_str().ok()) {
            self.metrics.shed(reason);
        }
        tracing::info!(
            %method,
            route,
            status = status.as_u16(),
            duration_ms = duration.as_secs_f64() * 1000.0,
            principal = extensions.get::<Principal>().map(|principal| principal.0.as_str()),
            reason = extensions.get::<Reason>().map(|reason| reason.0),
            "answered"
        );
    }
}

async fn observe(State(middleware): State<Arc<Middleware>>, request: Request, next: Next) -> Response {
    let id = middleware.request_id(request.headers());
    // At the highest level, so that no filter parts a line from its request.
    let span = tracing::error_span!("request", request_id = &*id.0);
    middleware.serve(id, request, next).instrument(span).await
}

/// Neither capped nor shed: what must answer while the server is busy.
fn is_exempt(path: &str) -> bool {
    matches!(path, "/readyz" | "/metrics") || path.starts_with("/health") || path.starts_with("/.well-known/")
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn strip_own(headers: &mut HeaderMap) {
    let foreign =
        |name: &&HeaderName| name.as_str().starts_with(OWN_PREFIX) && !OWN_ALLOWED.contains(&name.as_str());
    let names: Vec<_> = headers.keys().filter(foreign).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Runs a future whose panic must not end the connection; it is dropped, not polled again, after one.
async fn unpanicked<F: Future>(work: F) -> Result<F::Output, Box<dyn Any + Send>> {
    let mut work = pin!(work);
    std::future::poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

#[cfg(test)]
#[path = "middleware/tests.rs"]
mod tests;
