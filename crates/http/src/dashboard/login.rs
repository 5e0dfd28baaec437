//! `/proxy/login` and `/proxy/logout`.

use askama::Template;
use axum::{
    extract::{Request, State},
    response::{IntoResponse, Redirect, Response},
};
use http::{
    HeaderValue, StatusCode,
    header::{RETRY_AFTER, SET_COOKIE, USER_AGENT},
};
use mastio_authority::{Refusal, dashboard::LoginError, seconds_up};
use mastio_config::Environment;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{
    cookie,
    page::{PageError, render},
    session::{self, LOGIN, Session, Submitted},
};
use crate::{
    answer::{ApiError, Reason, read_body},
    routes::{App, Shared, caller::peer},
};

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    org: String,
    error: Option<String>,
}

impl LoginPage {
    fn new(app: &App, error: Option<String>) -> Self {
        Self { org: app.authority.trust().org.to_string(), error }
    }
}

/// Browsers send the cookie back over https alone where that is known to be the way in (contract `auth.md` §10).
fn is_secure(app: &App) -> bool {
    let settings = &app.authority.settings;
    settings.environment == Environment::Production
        || settings.public_url.as_ref().is_some_and(|url| url.scheme() == "https")
}

pub(super) async fn show(
    State(app): Shared,
    session: Result<Session, session::NotLoggedIn>,
) -> Result<Response, PageError> {
    match session {
        Ok(_) => Ok(Redirect::to("/proxy/overview").into_response()),
        Err(_) => render(&LoginPage::new(&app, None)),
    }
}

#[derive(Deserialize)]
pub(crate) struct Form {
    #[serde(default)]
    password: SecretString,
}

/// The form of a login.
pub(crate) fn read(body: &[u8]) -> Result<Form, ApiError> {
    session::form(body)
}

pub(super) async fn log_in(State(app): Shared, request: Request) -> Result<Response, PageError> {
    let (parts, body) = request.into_parts();
    session::same_site(&parts)?;
    let form = read(&read_body(body).await?)?;
    let browser = parts.headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or("unknown");
    match app.authority.log_in(form.password, peer(&parts).address, browser).await {
        Ok(opened) => {
            let mut response = Redirect::to("/proxy/overview").into_response();
            if let Some(cookie) = cookie::set(opened.cookie.expose_secret(), is_secure(&app)) {
                response.headers_mut().insert(SET_COOKIE, cookie);
            }
            Ok(response)
        }
        Err(LoginError::Outage(outage)) => Err(outage.into()),
        Err(refused) => refuse(&app, &refused),
    }
}

/// The form again, with what was wrong.
fn refuse(app: &App, refused: &LoginError) -> Result<Response, PageError> {
    let mut response = render(&LoginPage::new(app, Some(refused.to_string())))?;
    *response.status_mut() = StatusCode::from_u16(refused.status()).unwrap_or(StatusCode::FORBIDDEN);
    response.extensions_mut().insert(Reason(refused.reason()));
    if let Some(time) = refused.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds_up(time)));
    }
    Ok(response)
}

#[derive(Deserialize)]
pub(super) struct Nothing {}

pub(super) async fn log_out(
    State(app): Shared,
    submitted: Submitted<Nothing>,
) -> Result<Response, PageError> {
    app.authority.log_out(&submitted.session).await?;
    let mut response = Redirect::to(LOGIN).into_response();
    if let Some(cookie) = cookie::clear(is_secure(&app)) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    Ok(response)
}
