//! The one place where an error becomes an HTTP answer.

use std::time::Duration;

use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header::RETRY_AFTER, request::Parts};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error},
};
use serde_json::{Value, json};

use crate::body::TooLarge;

/// Says why a request was shed, for operators and metrics (contract `operations.md` §8).
pub(crate) const SHED_REASON: HeaderName = HeaderName::from_static("x-cullis-shed-reason");

/// What the answer says happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Detail {
    /// A sentence.
    Text(String),
    /// An object, such as `{reason, hint}`, or the list of a 422.
    Object(Value),
}

impl From<&str> for Detail {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Detail {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Value> for Detail {
    fn from(value: Value) -> Self {
        match value {
            Value::String(text) => Self::Text(text),
            other => Self::Object(other),
        }
    }
}

/// Why a request was refused, in a word for the access log: found in the extensions of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason(pub &'static str);

/// A refusal: `{"detail": …}`, with `"error"` where clients expect a code.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    /// The status.
    pub status: StatusCode,
    /// The `detail` member.
    pub detail: Detail,
    /// The `error` member, left out if there is none.
    pub error: Option<&'static str>,
    /// Headers to set.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What the access log calls it.
    pub reason: &'static str,
}

impl ApiError {
    /// Any refusal, without code or headers.
    #[must_use]
    pub fn new(status: StatusCode, reason: &'static str, detail: impl Into<Detail>) -> Self {
        Self { status, detail: detail.into(), error: None, headers: Vec::new(), reason }
    }

    /// 400.
    #[must_use]
    pub fn bad_request(detail: impl Into<Detail>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    /// 404.
    #[must_use]
    pub fn not_found(detail: impl Into<Detail>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// 413, as the contract words it (`operations.md` §8.1); `limit` in bytes.
    #[must_use]
    pub fn body_too_large(limit: u64) -> Self {
        let code = "request_body_too_large";
        let text = format!("Request body exceeds the per-request size limit of {limit} bytes.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, code, text).with_error(code).shed(code)
    }

    /// 422: `{"detail": [{type, loc, msg, input}]}`.
    #[must_use]
    pub fn unprocessable(problems: Vec<Invalid>) -> Self {
        let list = problems.into_iter().map(Invalid::into_json).collect();
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", Value::Array(list))
    }

    /// 429; `retry_after` in seconds, left out if `None`.
    #[must_use]
    pub fn too_many(detail: impl Into<Detail>, retry_after: Option<u32>) -> Self {
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail);
        match retry_after {
            Some(seconds) => error.with_header(RETRY_AFTER, HeaderValue::from(seconds)),
            None => error,
        }
    }

    /// 503; `error` is the code in the body, `retry_after` in seconds, `shed` the value of `x-cullis-shed-reason`.
    #[must_use]
    pub fn unavailable(
        detail: impl Into<Detail>,
        error: &'static str,
        retry_after: u32,
        shed: &'static str,
    ) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error, detail)
            .with_error(error)
            .with_header(RETRY_AFTER, HeaderValue::from(retry_after))
            .shed(shed)
    }

    /// 500. What happened belongs into the log, not into the answer.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "Internal server error")
    }

    /// Adds the `error` member.
    #[must_use]
    pub fn with_error(mut self, code: &'static str) -> Self {
        self.error = Some(code);
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    fn shed(self, reason: &'static str) -> Self {
        self.with_header(SHED_REASON, HeaderValue::from_static(reason))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body {
            detail: Detail,
            #[serde(skip_serializing_if = "Option::is_none")]
            error: Option<&'static str>,
        }
        let body = axum::Json(Body { detail: self.detail, error: self.error });
        let mut response = (self.status, body).into_response();
        response.headers_mut().extend(self.headers);
        response.extensions_mut().insert(Reason(self.reason));
        response
    }
}

/// One problem of a request that cannot be processed.
#[derive(Debug, Clone, PartialEq)]
pub struct Invalid {
    /// A word for it, such as `missing`.
    pub kind: &'static str,
    /// Where it is: `["body", "name"]`, `["query", "limit"]`.
    pub loc: Vec<Value>,
    /// A sentence.
    pub msg: String,
    /// What was found there. Leave it null where a secret may stand.
    pub input: Value,
}

impl Invalid {
    /// A problem of a member of the body.
    #[must_use]
    pub fn member(name: &str, kind: &'static str, msg: impl Into<String>) -> Self {
        Self { kind, loc: vec!["body".into(), name.into()], msg: msg.into(), input: Value::Null }
    }

    /// A problem of a parameter of the query.
    #[must_use]
    pub fn query(name: &str, msg: impl Into<String>) -> Self {
        let loc = vec!["query".into(), name.into()];
        Self { kind: "value_error", loc, msg: msg.into(), input: Value::Null }
    }

    fn at(place: &str, msg: impl Into<String>) -> Self {
        Self { kind: "value_error", loc: vec![place.into()], msg: msg.into(), input: Value::Null }
    }

    fn body(kind: &'static str, msg: impl Into<String>) -> Self {
        Self { kind, loc: vec!["body".into()], msg: msg.into(), input: Value::Null }
    }

    fn into_json(self) -> Value {
        json!({"type": self.kind, "loc": self.loc, "msg": self.msg, "input": self.input})
    }

    /// What serde found wrong with a body.
    fn of(error: &serde_json::Error) -> Self {
        let text = error.to_string();
        if !error.is_data() {
            let column = error.column();
            return Self {
                loc: vec!["body".into(), column.into()],
                ..Self::body("json_invalid", "JSON decode error")
            };
        }
        // serde tells a missing member in words only.
        match text.strip_prefix("missing field `").and_then(|rest| rest.split_once('`')) {
            Some((name, _)) => Self::member(name, "missing", "Field required"),
            None => Self::body("value_error", text),
        }
    }
}

/// A JSON body, whatever its `Content-Type`: a bad one is answered by 422 in the shape of all others.
#[derive(Debug, Clone, Copy)]
pub struct StrictJson<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for StrictJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        parse_json(&read_body(request.into_body()).await?).map(Self)
    }
}

/// A JSON body that may be left out: then everything is as by default.
#[derive(Debug, Clone, Copy)]
pub struct OptionalJson<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for OptionalJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let body = read_body(request.into_body()).await?;
        if body.trim_ascii().is_empty() { Ok(Self(T::default())) } else { parse_json(&body).map(Self) }
    }
}

/// What is said of a part or member of a body that is not read there.
pub(crate) const MISPLACED: &str =
    "is not read from the body: parameters belong into the query, behind the ? of the address";

/// The body of a route that reads none. What somebody sends in it all the same they believe to count.
pub(crate) struct NoBody;

impl<S: Send + Sync> FromRequest<S> for NoBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        says_nothing(&read_body(request.into_body()).await?).map(|()| Self)
    }
}

/// Whether a body says nothing: it is empty, or `{}` or `null`, as some clients always send one.
pub(crate) fn says_nothing(bytes: &[u8]) -> Result<(), ApiError> {
    if bytes.trim_ascii().is_empty() {
        return Ok(());
    }
    let problem = match serde_json::from_slice(bytes) {
        Ok(Value::Null) => return Ok(()),
        Ok(Value::Object(members)) => match members.keys().next() {
            None => return Ok(()),
            Some(name) => Invalid::member(name, "value_error", MISPLACED),
        },
        _ => Invalid::body("value_error", format!("what it says {MISPLACED}")),
    };
    Err(ApiError::unprocessable(vec![problem]))
}

/// How long a client may take to send a body.
const BODY_DEADLINE: Duration = Duration::from_secs(30);

/// The whole body. Its length is bounded by the middleware, its time here.
pub(crate) async fn read_body(body: axum::body::Body) -> Result<Bytes, ApiError> {
    let reading = axum::body::to_bytes(body, usize::MAX);
    let read = tokio::time::timeout(BODY_DEADLINE, reading).await.map_err(|_| {
        let text = "request body did not arrive in time: send it again";
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", text)
    })?;
    read.map_err(|error| match TooLarge::find(&error) {
        Some(TooLarge(limit)) => ApiError::body_too_large(limit),
        None => ApiError::bad_request("request body could not be read: send it again"),
    })
}

/// A JSON object, which must not be left out. serde would take an array for the members in their order.
pub(crate) fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let parsed = match bytes.trim_ascii_start().first() {
        None => return Err(ApiError::unprocessable(vec![Invalid::body("missing", "Field required")])),
        Some(b'{') => serde_json::from_slice(bytes),
        Some(_) => serde_json::from_slice::<Value>(bytes)
            .and_then(|_| Err(serde::de::Error::custom("the body must be a JSON object"))),
    };
    parsed.map_err(|error| ApiError::unprocessable(vec![Invalid::of(&error)]))
}

/// A query string: a bad one is answered like a bad body.
pub(crate) struct StrictQuery<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for StrictQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        query
            .map(|query| Self(query.0))
            .map_err(|error| ApiError::unprocessable(vec![Invalid::at("query", error.body_text())]))
    }
}

/// The query of a route that has no parameters: what somebody sends all the same they believe to count.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoQuery {}

/// Yes or no in the words of a query: `true` or `1`, `false` or `0`, and what HTML forms and Python say.
pub(crate) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let text = String::deserialize(deserializer)?;
    flag_of(&text).ok_or_else(|| D::Error::custom("use true or false"))
}

/// The same of a text.
pub(crate) fn flag_of(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// One segment of the path: bytes that are no text are answered like a bad body.
pub(crate) struct StrictPath(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for StrictPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = axum::extract::Path::<String>::from_request_parts(parts, state).await;
        path.map(|path| Self(path.0))
            .map_err(|error| ApiError::unprocessable(vec![Invalid::at("path", error.body_text())]))
    }
}

/// The answer for a path that is not served.
pub async fn not_found() -> ApiError {
    ApiError::not_found("Not Found")
}

/// The answer for a method that a path does not have.
pub async fn method_not_allowed() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method Not Allowed")
}

#[cfg(test)]
#[path = "answer/tests.rs"]
mod tests;
