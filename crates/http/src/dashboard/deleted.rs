//! Deleting an agent, and what is shown in its place from then on.

use askama::Template;
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::header::CONTENT_DISPOSITION;
use mastio_authority::{Outage, Refusal, dashboard};
use mastio_core::AgentId;
use mastio_store::agents;

use super::{
    change::{Revoke, readable_reason},
    history::{self, Told},
    page::{Frame, PageError, Said, go, render},
    session::{Session, Submitted},
    text,
};
use crate::{
    answer::StrictPath,
    routes::{App, Shared, decommission, lifecycle::agent_id},
};

#[derive(Template)]
#[template(path = "deleted.html")]
struct DeletedPage {
    frame: Frame,
    id: String,
    at: String,
    reason: String,
    history: Vec<Told>,
}

/// The page of an agent that was deleted, if there was one.
pub(super) async fn page(
    app: &App,
    session: &dashboard::Session,
    said: Said,
    id: &AgentId,
) -> Result<Option<Response>, PageError> {
    let Some(tombstone) = agents::tombstone(app.authority.store(), id).await.map_err(Outage::from)? else {
        return Ok(None);
    };
    let page = DeletedPage {
        frame: Frame::new(app, session, "agents", said).await?,
        id: id.to_string(),
        at: text::moment(tombstone.deleted_at),
        reason: tombstone.reason,
        history: history::of(app, id).await?,
    };
    render(&page).map(Some)
}

pub(super) async fn delete(
    State(app): Shared,
    StrictPath(id): StrictPath,
    Submitted { session, fields }: Submitted<Revoke>,
) -> Result<Response, PageError> {
    let id = agent_id(&id)?;
    let path = format!("/proxy/agents/{id}");
    let reason = match readable_reason(&fields) {
        Ok(reason) => reason,
        Err(text) => return Ok(go(&session, &path, "error", &text)),
    };
    match app.authority.decommission(&id, reason, &session.operator).await {
        Ok(_) => Ok(go(&session, &path, "flash", "Deleted. Download the receipt and keep it.")),
        Err(error) if error.status() < 500 => Ok(go(&session, &path, "error", &error.to_string())),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn receipt(
    State(app): Shared,
    Session(_): Session,
    StrictPath(id): StrictPath,
) -> Result<Response, PageError> {
    let id = agent_id(&id)?;
    let receipt = decommission::receipt(&app, &app.authority.receipt(&id).await?).await;
    let name = format!("attachment; filename=\"{}-receipt.json\"", id.name());
    Ok(([(CONTENT_DISPOSITION, name)], Json(receipt)).into_response())
}
