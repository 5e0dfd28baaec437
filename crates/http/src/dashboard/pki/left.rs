//! `/proxy/pki/rotations/{id}`: everybody whom a rotation with overlap waits for, page by page.

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use mastio_authority::rotation::overlap::Half;
use mastio_core::AgentId;
use serde::Deserialize;

use super::rotation::Waiter;
use crate::{
    answer::{StrictPath, StrictQuery},
    dashboard::{
        page::{Frame, PageError, Said, render},
        session::Session,
    },
    routes::Shared,
};

const PER_PAGE: u32 = 50;

#[derive(Template)]
#[template(path = "rotation-left.html")]
struct LeftPage {
    frame: Frame,
    id: String,
    summary: String,
    is_open: bool,
    operators: bool,
    agents: Vec<Waiter>,
    on_first: bool,
    next: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Query {
    who: Option<String>,
    after: Option<String>,
}

pub(super) async fn show(
    State(app): Shared,
    Session(session): Session,
    StrictPath(id): StrictPath,
    StrictQuery(asked): StrictQuery<Query>,
    RawQuery(query): RawQuery,
) -> Result<Response, PageError> {
    let status = app.authority.rotation(&id).await?;
    let half = if asked.who.as_deref() == Some("operators") { Half::Operators } else { Half::Agents };
    let after = asked.after.as_deref().and_then(|text| AgentId::parse(text).ok());
    let waiters = app.authority.waiters(&status.rotation, half, after.as_ref(), PER_PAGE).await?;
    let now = app.authority.clock().now();
    render(&LeftPage {
        frame: Frame::new(&app, &session, "pki", Said::read(query.as_deref(), &session)).await?,
        summary: status.summary(),
        is_open: status.progress.is_some(),
        id: status.rotation.id,
        operators: half == Half::Operators,
        agents: waiters.agents.into_iter().map(|agent| Waiter::new(agent, now)).collect(),
        on_first: after.is_none(),
        next: waiters.next.map(|id| id.to_string()),
    })
}
