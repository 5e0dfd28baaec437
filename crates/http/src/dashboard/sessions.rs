//! `/proxy/sessions`: who is logged in, and ending it.

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use mastio_authority::dashboard;
use serde::Deserialize;

use super::{
    login::Nothing,
    page::{Frame, PageError, Said, go, render},
    session::{Session, Submitted},
    text,
};
use crate::routes::Shared;

#[derive(Template)]
#[template(path = "sessions.html")]
struct SessionsPage {
    frame: Frame,
    sessions: Vec<Row>,
}

struct Row {
    hash: String,
    /// What the audit log calls it.
    operator: String,
    address: String,
    browser: String,
    since: String,
    until: String,
    is_this: bool,
}

pub(super) async fn list(
    State(app): Shared,
    Session(session): Session,
    RawQuery(query): RawQuery,
) -> Result<Response, PageError> {
    let now = app.authority.clock().now();
    let rows = app.authority.sessions().await?;
    let sessions = rows.into_iter().map(|row| Row {
        is_this: row.hash == session.hash,
        operator: dashboard::operator(&row.hash).fingerprint,
        hash: row.hash,
        address: row.address,
        browser: row.user_agent,
        since: text::distance(row.created_at, now),
        until: text::distance(row.expires_at, now),
    });
    render(&SessionsPage {
        sessions: sessions.collect(),
        frame: Frame::new(&app, &session, "sessions", Said::read(query.as_deref(), &session)).await?,
    })
}

#[derive(Deserialize)]
pub(super) struct Which {
    session: String,
}

pub(super) async fn end(State(app): Shared, submitted: Submitted<Which>) -> Result<Response, PageError> {
    let Submitted { session, fields } = submitted;
    Ok(match app.authority.end_session(&fields.session, &session.operator).await {
        Ok(()) => go(&session, "/proxy/sessions", "flash", "The session was ended."),
        Err(error) => go(&session, "/proxy/sessions", "error", &error.to_string()),
    })
}

pub(super) async fn end_others(
    State(app): Shared,
    Submitted { session, .. }: Submitted<Nothing>,
) -> Result<Response, PageError> {
    app.authority.end_other_sessions(&session).await?;
    Ok(go(&session, "/proxy/sessions", "flash", "All other sessions were ended."))
}
