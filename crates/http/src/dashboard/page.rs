//! What all pages have in common: the frame around them, what is said after an action, and how an error looks.

use askama::Template;
use axum::response::{Html, IntoResponse, Redirect, Response};
use http::{HeaderMap, StatusCode, header::ACCEPT};
use mastio_authority::{Outage, Refusal, dashboard};
use mastio_store::pending;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, de::DeserializeOwned};

use super::session::{NotLoggedIn, Session};
use crate::{
    answer::{ApiError, Detail, Reason},
    routes::App,
};

const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What is said after an action: in the address that the browser is sent to. Whoever sends an operator a link must not
/// make our pages say anything, so it counts only under the seal of the operator's session.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Said {
    pub(super) flash: Option<String>,
    pub(super) error: Option<String>,
}

/// Between what is said and its seal, at the end of an address.
const SEAL: &str = "&seal=";

impl Said {
    /// What the query of an address says to `session`.
    pub(super) fn read(query: Option<&str>, session: &dashboard::Session) -> Self {
        sealed(query, session).unwrap_or_default()
    }
}

/// What the query of an address holds for `session`: nothing, unless it was sealed for it.
pub(super) fn sealed<T: DeserializeOwned>(query: Option<&str>, session: &dashboard::Session) -> Option<T> {
    let (fields, seal) = query?.rsplit_once(SEAL)?;
    serde_urlencoded::from_str(fields).ok().filter(|_| session.has_sealed(fields, seal))
}

/// Sends the browser to `path`, where `text` is said.
pub(super) fn go(session: &dashboard::Session, path: &str, kind: &str, text: &str) -> Response {
    go_with(session, path, &[(kind, text)])
}

/// Sends the browser to `path` with these fields in the address.
pub(super) fn go_with(session: &dashboard::Session, path: &str, fields: &[(&str, &str)]) -> Response {
    let pair = |(name, text): &(&str, &str)| format!("{name}={}", utf8_percent_encode(text, UNRESERVED));
    let fields = fields.iter().map(pair).collect::<Vec<_>>().join("&");
    Redirect::to(&format!("{path}?{fields}{SEAL}{}", session.seal(&fields))).into_response()
}

/// Whoever does what cannot be taken back typed this word.
pub(super) fn confirmed(typed: &str, word: &str) -> Result<(), ApiError> {
    let is_meant = typed.trim() == word;
    is_meant.then_some(()).ok_or_else(|| ApiError::bad_request(format!("confirm_text must be {word}")))
}

/// What surrounds a page of a logged-in operator.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) org: String,
    pub(super) csrf: String,
    /// Enrollments that wait for a decision.
    pub(super) waiting: u64,
    /// Framework updates that wait.
    pub(super) updates: i64,
    /// Whether a critical one does.
    pub(super) critical: bool,
    /// The entry of the navigation that is lit.
    pub(super) here: &'static str,
    pub(super) flash: Option<String>,
    pub(super) error: Option<String>,
}

impl Frame {
    pub(super) async fn new(
        app: &App,
        session: &dashboard::Session,
        here: &'static str,
        said: Said,
    ) -> Result<Self, Outage> {
        let authority = &app.authority;
        let waiting = pending::count_waiting(authority.store(), authority.clock().now()).await?;
        let trust = authority.trust();
        Ok(Self {
            waiting,
            updates: trust.updates.waiting(),
            critical: trust.updates.critical,
            org: trust.org.to_string(),
            csrf: session.csrf_token().to_owned(),
            here,
            flash: said.flash,
            error: said.error,
        })
    }
}

/// A filled-in template as an answer.
pub(super) fn render(page: &impl Template) -> Result<Response, PageError> {
    match page.render() {
        Ok(text) => Ok(Html(text).into_response()),
        Err(error) => {
            tracing::error!(%error, "a page could not be made");
            Err(PageError::Refused(ApiError::internal()))
        }
    }
}

/// A refusal that a person reads.
#[derive(Debug)]
pub(crate) enum PageError {
    /// Log in first.
    NotLoggedIn(Box<NotLoggedIn>),
    /// It was refused.
    Refused(ApiError),
    /// It was refused to somebody who is no operator.
    RefusedToStranger(ApiError),
}

impl From<NotLoggedIn> for PageError {
    fn from(error: NotLoggedIn) -> Self {
        Self::NotLoggedIn(Box::new(error))
    }
}

impl From<ApiError> for PageError {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}

impl<R: Refusal> From<R> for PageError {
    fn from(refusal: R) -> Self {
        Self::Refused(refusal.into())
    }
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage {
    title: &'static str,
    text: String,
    /// Whether whoever reads it may look at the overview.
    is_operator: bool,
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let (error, is_operator) = match self {
            Self::NotLoggedIn(error) => return error.into_response(),
            Self::Refused(error) => (error, true),
            Self::RefusedToStranger(error) => (error, false),
        };
        let title = error.status.canonical_reason().unwrap_or("Error");
        let page = ErrorPage { title, text: sentence(&error.detail), is_operator };
        let Ok(mut response) = render(&page) else {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        *response.status_mut() = error.status;
        response.headers_mut().extend(error.headers);
        response.extensions_mut().insert(Reason(error.reason));
        response
    }
}

/// What is at none of our addresses: a page for a browser with a session, JSON for a program.
pub(super) async fn nothing(session: Result<Session, NotLoggedIn>, headers: HeaderMap) -> Response {
    let error = ApiError::not_found("Not Found");
    match session {
        _ if !wants_page(&headers) => error.into_response(),
        Ok(_) => PageError::Refused(error).into_response(),
        Err(error) => error.into_response(),
    }
}

/// Whether a browser asks, and not a script.
pub(super) fn wants_page(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(ACCEPT).iter();
    accepts.filter_map(|accept| accept.to_str().ok()).any(|accept| accept.contains("text/html"))
}

/// An error in words: the list of a 422 is read out.
pub(super) fn sentence(detail: &Detail) -> String {
    match detail {
        Detail::Text(text) => text.clone(),
        Detail::Object(serde_json::Value::Array(problems)) => {
            let said = problems.iter().filter_map(|problem| problem.get("msg")?.as_str());
            said.collect::<Vec<_>>().join("; ")
        }
        Detail::Object(object) => object.to_string(),
    }
}
