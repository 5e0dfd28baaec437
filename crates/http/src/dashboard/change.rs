//! The buttons of an agent's page that change its state.

use axum::{extract::State, response::Response};
use mastio_authority::{Refusal, dashboard, lifecycle::LifecycleError};
use mastio_core::AgentId;
use serde::Deserialize;

use super::{
    login::Nothing,
    page::{PageError, go},
    session::Submitted,
};
use crate::{
    answer::StrictPath,
    plain::is_plain,
    routes::{
        Shared,
        lifecycle::{REASON, agent_id},
    },
};

/// Back to the agent's page, where `text` is said or what was wrong. What is broken gets a page of its own.
pub(super) fn back(
    session: &dashboard::Session,
    id: &AgentId,
    result: Result<&str, LifecycleError>,
) -> Result<Response, PageError> {
    let path = format!("/proxy/agents/{id}");
    match result {
        Ok(text) => Ok(go(session, &path, "flash", text)),
        Err(error) if error.status() < 500 => Ok(go(session, &path, "error", &error.to_string())),
        Err(error) => Err(error.into()),
    }
}

#[derive(Deserialize)]
pub(super) struct Revoke {
    #[serde(default)]
    reason: String,
}

/// The reason that was typed, if any; what is wrong with it otherwise.
pub(super) fn readable_reason(fields: &Revoke) -> Result<Option<&str>, String> {
    let reason = fields.reason.trim();
    if reason.chars().count() > REASON || !is_plain(reason) {
        return Err(format!("the reason is at most {REASON} characters on one line"));
    }
    Ok((!reason.is_empty()).then_some(reason))
}

pub(super) async fn revoke(
    State(app): Shared,
    StrictPath(id): StrictPath,
    Submitted { session, fields }: Submitted<Revoke>,
) -> Result<Response, PageError> {
    let id = agent_id(&id)?;
    let reason = match readable_reason(&fields) {
        Ok(reason) => reason,
        Err(text) => return Ok(go(&session, &format!("/proxy/agents/{id}"), "error", &text)),
    };
    let revoked = app.authority.revoke(&id, reason, &session.operator).await;
    back(&session, &id, revoked.map(|_| "Revoked. Its certificates and tokens stopped working."))
}

pub(super) async fn deactivate(
    State(app): Shared,
    StrictPath(id): StrictPath,
    Submitted { session, .. }: Submitted<Nothing>,
) -> Result<Response, PageError> {
    let id = agent_id(&id)?;
    let done = app.authority.deactivate(&id, &session.operator).await;
    back(&session, &id, done.map(|()| "Switched off. Its certificate and tokens stopped working."))
}

pub(super) async fn reactivate(
    State(app): Shared,
    StrictPath(id): StrictPath,
    Submitted { session, .. }: Submitted<Nothing>,
) -> Result<Response, PageError> {
    let id = agent_id(&id)?;
    let done = app.authority.reactivate(&id, &session.operator).await;
    back(&session, &id, done.map(|()| "Switched on. Its certificate counts again."))
}
