//! What all pages have in common: the frame around them, what is said after an action, and how an error looks.

use askama::Template;
use axum::response::{Html, IntoResponse, Redirect, Response};
use http::StatusCode;
use mastio_authority::{Outage, Refusal, dashboard};
use mastio_store::pending;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, de::DeserializeOwned};

use super::session::NotLoggedIn;
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

/// What surrounds a page of a logged-in operator.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) org: String,
    pub(super) csrf: String,
    /// Enrolments that wait for a decision.
    pub(super) waiting: u64,
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
        Ok(Self {
            waiting,
            org: authority.trust().org.to_string(),
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
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let error = match self {
            Self::NotLoggedIn(error) => return error.into_response(),
            Self::Refused(error) => error,
        };
        let title = error.status.canonical_reason().unwrap_or("Error");
        let page = ErrorPage { title, text: sentence(&error.detail) };
        let Ok(mut response) = render(&page) else {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        *response.status_mut() = error.status;
        response.headers_mut().extend(error.headers);
        response.extensions_mut().insert(Reason(error.reason));
        response
    }
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
