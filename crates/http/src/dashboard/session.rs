//! A logged-in operator as an argument of handlers: [`Session`] to read, [`Mutation`] to change something by a JSON
//! request, [`Submitted`] to change something by a form.

use std::sync::Arc;

use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    response::{IntoResponse, Redirect, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header, request::Parts};
use mastio_authority::{Outage, dashboard};
use serde::de::DeserializeOwned;

use super::{cookie, page::PageError};
use crate::{
    answer::{ApiError, Invalid, read_body},
    multipart,
    routes::App,
};

const CSRF_HEADER: HeaderName = HeaderName::from_static("x-csrf-token");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const HTMX: HeaderName = HeaderName::from_static("hx-request");
const HTMX_REDIRECT: HeaderName = HeaderName::from_static("hx-redirect");

pub(crate) const LOGIN: &str = "/proxy/login";

/// An operator who is logged in, for reading.
#[derive(Debug)]
pub(crate) struct Session(pub(crate) dashboard::Session);

/// An operator who is logged in and sent the CSRF token along in `X-CSRF-Token`, for changing by a JSON request.
#[derive(Debug)]
pub(crate) struct Mutation(pub(crate) dashboard::Session);

/// A form of a logged-in operator, with its CSRF token checked. Fields that `T` does not name are ignored.
#[derive(Debug)]
pub(crate) struct Submitted<T> {
    pub(crate) session: dashboard::Session,
    pub(crate) fields: T,
}

/// Why a request is not one of a logged-in operator.
#[derive(Debug)]
pub(crate) enum NotLoggedIn {
    /// A browser that asked for a page goes to the login.
    Page,
    /// A part of a page is not replaced by the login: the browser goes there as a whole.
    Part,
    /// A program is told so.
    Refused(ApiError),
    /// The database cannot say who is logged in.
    Broken(PageError),
}

impl NotLoggedIn {
    fn of(parts: &Parts) -> Self {
        if parts.headers.contains_key(HTMX) {
            Self::Part
        } else if is_api(parts) {
            let text = "Authentication required";
            Self::Refused(ApiError::new(StatusCode::UNAUTHORIZED, "not_logged_in", text))
        } else {
            Self::Page
        }
    }

    fn broken(parts: &Parts, outage: Outage) -> Self {
        if is_api(parts) { Self::Refused(outage.into()) } else { Self::Broken(outage.into()) }
    }
}

fn is_api(parts: &Parts) -> bool {
    parts.uri.path().starts_with("/v1/")
}

impl IntoResponse for NotLoggedIn {
    fn into_response(self) -> Response {
        match self {
            Self::Page => Redirect::to(LOGIN).into_response(),
            Self::Part => {
                (StatusCode::UNAUTHORIZED, [(HTMX_REDIRECT, HeaderValue::from_static(LOGIN))]).into_response()
            }
            Self::Refused(error) => error.into_response(),
            Self::Broken(page) => page.into_response(),
        }
    }
}

impl FromRequestParts<Arc<App>> for Session {
    type Rejection = NotLoggedIn;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, NotLoggedIn> {
        for value in cookie::find(&parts.headers) {
            let found = app.authority.session(&value).await;
            if let Some(session) = found.map_err(|outage| NotLoggedIn::broken(parts, outage))? {
                crate::routes::caller::acts(parts, &session.operator.fingerprint);
                return Ok(Self(session));
            }
        }
        Err(NotLoggedIn::of(parts))
    }
}

impl FromRequestParts<Arc<App>> for Mutation {
    type Rejection = NotLoggedIn;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, NotLoggedIn> {
        let Session(session) = Session::from_request_parts(parts, app).await?;
        let presented = parts.headers.get(CSRF_HEADER).and_then(|value| value.to_str().ok());
        check_token(&session, presented).and_then(|()| same_site(parts)).map_err(NotLoggedIn::Refused)?;
        Ok(Self(session))
    }
}

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Submitted<T> {
    type Rejection = PageError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, PageError> {
        #[derive(serde::Deserialize)]
        struct Token {
            csrf_token: Option<String>,
        }
        let (mut parts, body) = request.into_parts();
        let Session(session) = Session::from_request_parts(&mut parts, app).await?;
        let mut body = read_body(body).await?;
        if multipart::is_sent(&parts.headers) {
            let fields = multipart::fields(&parts.headers, body).await?;
            body = serde_urlencoded::to_string(fields).unwrap_or_default().into();
        }
        let header = parts.headers.get(CSRF_HEADER).and_then(|value| value.to_str().ok());
        let field = form::<Token>(&body)?.csrf_token;
        check_token(&session, field.as_deref().or(header))?;
        same_site(&parts)?;
        Ok(Self { session, fields: form(&body)? })
    }
}

/// The fields of a form.
pub(super) fn form<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_urlencoded::from_bytes(body).map_err(|error| {
        ApiError::unprocessable(vec![Invalid::member("form", "value_error", error.to_string())])
    })
}

fn check_token(session: &dashboard::Session, presented: Option<&str>) -> Result<(), ApiError> {
    let refused = |text| ApiError::new(StatusCode::FORBIDDEN, "csrf", text);
    match presented {
        None => Err(refused("CSRF token missing")),
        Some(token) if !session.has_csrf_token(token) => Err(refused("CSRF token invalid")),
        Some(_) => Ok(()),
    }
}

/// Refuses what a browser says another site sent. Browsers that say nothing are left to the token.
pub(super) fn same_site(parts: &Parts) -> Result<(), ApiError> {
    let text =
        |name| parts.headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("unreadable"));
    let ours = match (text(FETCH_SITE), text(header::ORIGIN)) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        // A proxy may have dropped the port from `Host`: the names are compared.
        (None, Some(origin)) => {
            let host = text(header::HOST).or(parts.uri.host()).map(host_name);
            origin.split_once("://").is_some_and(|(_, rest)| Some(host_name(rest)) == host)
        }
        (None, None) => true,
    };
    let refused = || ApiError::new(StatusCode::FORBIDDEN, "cross_site", "the request came from another site");
    ours.then_some(()).ok_or_else(refused)
}

/// `mastio.test` of `mastio.test:9443`; an IPv6 address keeps its brackets.
fn host_name(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(pairs: &[(&'static str, &'static str)]) -> bool {
        let request = Request::post("/proxy/login");
        let request = pairs.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        same_site(&request.body(axum::body::Body::empty()).unwrap().into_parts().0).is_ok()
    }

    #[test]
    fn what_another_site_sends_is_refused() {
        assert!(sent(&[]));
        assert!(sent(&[("sec-fetch-site", "same-origin"), ("origin", "https://behind.a.proxy")]));
        assert!(!sent(&[("sec-fetch-site", "cross-site")]));
        assert!(!sent(&[("sec-fetch-site", "same-site")]), "a neighbour is another site");
        let host = ("host", "mastio.test:9443");
        assert!(sent(&[("origin", "https://mastio.test:9443"), host]));
        assert!(sent(&[("origin", "https://mastio.test:9443"), ("host", "mastio.test")]));
        assert!(sent(&[("origin", "https://[::1]:9443"), ("host", "[::1]:9443")]));
        assert!(!sent(&[("origin", "https://evil.test"), host]));
        assert!(!sent(&[("origin", "null"), host]));
        assert!(!sent(&[("origin", "https://mastio.test")]));
    }
}
