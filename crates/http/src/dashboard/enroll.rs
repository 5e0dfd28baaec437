//! `/enroll?session=`: the page that a Connector sends its user to. Whoever has the link learns how the request stands
//! and by which fingerprint to compare it; what the requester typed is for operators alone.

use askama::Template;
use axum::{extract::State, response::Response};
use mastio_store::pending::State as Stands;
use serde::Deserialize;

use super::{
    enrollments::Ask,
    page::{PageError, render},
    session::{NotLoggedIn, Session},
    text,
};
use crate::{
    answer::StrictQuery,
    routes::{Shared, caller::Anyone, enrollment},
};

#[derive(Template)]
#[template(path = "enroll.html")]
struct EnrollPage {
    org: String,
    status: &'static str,
    fingerprint: String,
    code: String,
    since: String,
    /// For operators.
    more: Option<More>,
}

struct More {
    csrf: String,
    ask: Ask,
    agent: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Which {
    #[serde(default)]
    session: String,
}

pub(super) async fn show(
    State(app): Shared,
    _: Anyone,
    session: Result<Session, NotLoggedIn>,
    StrictQuery(which): StrictQuery<Which>,
) -> Result<Response, PageError> {
    let authority = &app.authority;
    let row = enrollment::find(authority, &which.session).await;
    let row = row.map_err(|error| match &session {
        Ok(_) => PageError::from(error),
        Err(_) => PageError::RefusedToStranger(error.into()),
    })?;
    let now = authority.clock().now();
    let agent = match &row.state {
        Stands::Approved { agent, .. } => Some(agent.to_string()),
        _ => None,
    };
    render(&EnrollPage {
        org: authority.trust().org.to_string(),
        status: row.state.as_str(),
        fingerprint: text::grouped(&row.fingerprint),
        code: text::code(&row.fingerprint),
        since: text::distance(row.created_at, now),
        more: session.ok().map(|Session(session)| More {
            csrf: session.csrf_token().to_owned(),
            ask: Ask::new(row, now),
            agent,
        }),
    })
}
