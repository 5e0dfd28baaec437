use std::num::NonZeroU32;

use axum::{
    Extension,
    routing::{get, post},
};
use mastio_core::{ManualClock, SeededRng, Stamp};
use prometheus::Registry;
use tower::ServiceExt;

use super::*;
use crate::answer::StrictJson;

struct App {
    router: Router,
    clock: Arc<ManualClock>,
    registry: Registry,
}

fn app(rate: Option<(u32, u32)>) -> App {
    let (clock, registry) = (Arc::new(ManualClock::at(Stamp::from_unix(0))), Registry::new());
    let rate = rate.map(|(per_second, burst)| Rate {
        per_second: f64::from(per_second),
        burst: NonZeroU32::new(burst).unwrap(),
    });
    let routes = Router::new()
        .route("/id", get(async |Extension(id): Extension<RequestId>| id.0.to_string()))
        .route(
            "/headers",
            get(async |headers: HeaderMap| {
                headers
                    .keys()
                    .map(HeaderName::as_str)
                    .collect::<std::collections::BTreeSet<_>>()
                    .into_iter()
                    .collect::<Vec<_>>()
                    .join(" ")
            }),
        )
        .route(
            "/denied",
            get(async || {
                let denied = ApiError::new(http::StatusCode::FORBIDDEN, "policy_denied", "no");
                (Extension(Principal("acme::buyer".into())), denied).into_response()
            }),
        )
        .route("/panic", get(async || -> String { panic!("on purpose") }))
        .route("/deaf", post(async || "answered without a look"))
        .route("/kept/{name}", get(async || ([(header::CACHE_CONTROL, "max-age=60")], "kept")))
        .route("/json", post(async |StrictJson(value): StrictJson<serde_json::Value>| value.to_string()))
        .route(
            "/lenient",
            post(async |body: Result<String, axum::extract::rejection::StringRejection>| {
                body.unwrap_or_default()
            }),
        )
        .route("/health", post(async |body: String| body))
        .route("/readyz", get(async || "ready"));
    let metrics = HttpMetrics::register(&registry).unwrap();
    let middleware = Middleware::new(clock.clone(), Arc::new(SeededRng::new(1)), metrics, 10, rate);
    App { router: middleware.around(routes), clock, registry }
}

impl App {
    async fn send(
        &self,
        request: http::request::Builder,
        body: impl Into<Body>,
    ) -> (http::response::Parts, String) {
        let request = request.body(body.into()).unwrap();
        let (head, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        (head, String::from_utf8(bytes.to_vec()).unwrap())
    }

    async fn get(&self, path: &str) -> (http::response::Parts, String) {
        self.send(Request::get(path), Body::empty()).await
    }
}

/// A body without a declared length.
fn chunked(text: &'static str) -> Body {
    struct Unsized(Body);
    impl axum::body::HttpBody for Unsized {
        type Data = bytes::Bytes;
        type Error = axum::Error;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
        ) -> Poll<Option<Result<hyper::body::Frame<bytes::Bytes>, axum::Error>>> {
            std::pin::Pin::new(&mut self.0).poll_frame(context)
        }
    }
    Body::new(Unsized(Body::from(text)))
}

#[tokio::test]
async fn a_request_id_is_taken_over_or_made() {
    let app = app(None);
    let (head, body) = app.send(Request::get("/id").header("x-request-id", "abc-1"), Body::empty()).await;
    assert_eq!((head.headers["x-request-id"].to_str().unwrap(), body.as_str()), ("abc-1", "abc-1"));
    for bad in [&b""[..], b"with blank", b"\xff\xfe", &[b'a'; 129]] {
        let (head, body) = app.send(Request::get("/id").header("x-request-id", bad), Body::empty()).await;
        assert_eq!(head.headers["x-request-id"].to_str().unwrap(), body);
        assert_eq!(body.len(), 36, "{bad:?}");
    }
}

#[tokio::test]
async fn every_answer_of_the_app_has_the_security_headers() {
    let app = app(None);
    for (path, status, expected) in [
        ("/id", 200, None),
        ("/nothing", 404, Some(r#"{"detail":"Not Found"}"#)),
        ("/json", 405, Some(r#"{"detail":"Method Not Allowed"}"#)),
        ("/panic", 500, Some(r#"{"detail":"Internal server error"}"#)),
    ] {
        let (head, body) = app.get(path).await;
        assert_eq!(head.status, status, "{path}");
        assert!(expected.is_none_or(|expected| expected == body), "{path}: {body}");
        for (name, value) in SECURITY {
            assert_eq!(head.headers.get_all(&name).iter().collect::<Vec<_>>(), [&value], "{path} {name}");
        }
    }
    let (head, _) = app.get("/kept/x").await;
    assert_eq!(head.headers[header::CACHE_CONTROL], "max-age=60");
}

#[tokio::test]
async fn a_body_over_the_cap_is_refused_declared_or_not() {
    let app = app(None);
    let expected = r#"{"detail":"Request body exceeds the per-request size limit of 10 bytes.","error":"request_body_too_large"}"#;
    let eleven = "[1,2,3,4,5]";
    for path in ["/json", "/lenient"] {
        let declared = Request::post(path).header("content-length", "11");
        for (request, body) in [(declared, Body::from(eleven)), (Request::post(path), chunked(eleven))] {
            let (head, body) = app.send(request, body).await;
            assert_eq!((head.status.as_u16(), body.as_str()), (413, expected), "{path}");
            assert_eq!(head.headers["x-cullis-shed-reason"], "request_body_too_large");
        }
    }
    let (head, body) = app.send(Request::post("/json"), chunked(r#"{"a":1234}"#)).await;
    assert_eq!((head.status.as_u16(), body.as_str()), (200, r#"{"a":1234}"#));
    let (head, _) = app.send(Request::post("/health").header("content-length", "11"), chunked(eleven)).await;
    assert_eq!(head.status, 200);
}

#[tokio::test]
async fn our_own_headers_are_not_taken_from_clients() {
    let request = Request::get("/headers")
        .header("x-cullis-role", "a")
        .header("X-Cullis-Mode", "b")
        .header("x-cullis-session-token", "c")
        .header("x-other", "d");
    assert_eq!(app(None).send(request, Body::empty()).await.1, "x-cullis-session-token x-other");
}

#[tokio::test]
async fn the_global_bucket_sheds_all_but_health() {
    let app = app(Some((1, 2)));
    for expected in [200, 200, 503] {
        assert_eq!(app.get("/id").await.0.status, expected);
    }
    let (head, body) = app.get("/id").await;
    assert!(body.ends_with(r#""error":"global_rate_limit_exceeded"}"#), "{body}");
    assert_eq!(head.headers["retry-after"], "1");
    assert_eq!(head.headers["x-cullis-shed-reason"], "global_rate_limit");
    assert!(head.headers.contains_key("x-request-id") && !head.headers.contains_key("x-cullis-mode"));
    assert_eq!(app.get("/readyz").await.0.status, 200);
    app.clock.advance(Duration::from_secs(1));
    assert_eq!(app.get("/id").await.0.status, 200);
}

#[tokio::test]
async fn requests_are_counted_by_pattern() {
    let app = app(None);
    for path in ["/kept/a", "/kept/b", "/nothing", "/else", "/json"] {
        app.get(path).await;
    }
    let bytes =
        axum::body::to_bytes(crate::metrics::render(&app.registry).into_body(), usize::MAX).await.unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    for line in [
        r#"cullis_http_requests_total{route="/kept/{name}",status="2xx"} 2"#,
        r#"cullis_http_requests_total{route="other",status="4xx"} 2"#,
        r#"cullis_http_requests_total{route="/json",status="4xx"} 1"#,
        r#"cullis_http_request_duration_seconds_count{route="/kept/{name}",status="2xx"} 2"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("nothing"));
}

#[tokio::test]
async fn a_request_is_one_line_of_the_log() {
    let (guard, written) = crate::telemetry::tests::capture(crate::telemetry::Format::Json);
    let app = app(None);
    app.send(Request::get("/denied?secret=1").header("x-request-id", "r-1"), Body::empty()).await;
    app.send(Request::get("/panic").header("x-request-id", "r-2"), Body::empty()).await;
    drop(guard);
    let text = written.lock().unwrap().clone();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert_eq!((&lines[0]["level"], &lines[0]["request_id"]), (&"INFO".into(), &"r-1".into()));
    let extra = serde_json::json!({
        "method": "GET", "route": "/denied", "status": 403, "duration_ms": 0.0,
        "principal": "acme::buyer", "reason": "policy_denied",
    });
    assert_eq!(lines[0]["extra"], extra);
    assert_eq!((&lines[1]["level"], &lines[1]["extra"]["panic"]), (&"ERROR".into(), &"on purpose".into()));
    assert_eq!((&lines[2]["request_id"], &lines[2]["extra"]["status"]), (&"r-2".into(), &500.into()));
}

#[tokio::test]
async fn what_a_handler_leaves_unread_is_read_before_the_answer() {
    /// Ten bytes in ten frames, of which it counts those that were taken.
    struct Counted(Arc<std::sync::atomic::AtomicUsize>);
    impl axum::body::HttpBody for Counted {
        type Data = bytes::Bytes;
        type Error = axum::Error;
        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> Poll<Option<Result<hyper::body::Frame<bytes::Bytes>, axum::Error>>> {
            let taken = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Poll::Ready((taken < 10).then(|| Ok(hyper::body::Frame::data(bytes::Bytes::from_static(b"x")))))
        }
    }
    let taken = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let body = Body::new(Counted(Arc::clone(&taken)));
    let (head, text) = app(None).send(Request::post("/deaf"), body).await;
    assert_eq!((head.status.as_u16(), &*text), (200, "answered without a look"));
    assert_eq!(taken.load(std::sync::atomic::Ordering::Relaxed), 11, "all frames and the end");
}
