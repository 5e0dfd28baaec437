//! What happened in a session, for its peers: `GET /v1/audit/session/{session_id}` (contract `audit-and-database.md`
//! §1.7, §1.13).

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use mastio_store::audit::{SessionEntry, Source};
use serde_json::{Value, json};

use super::export::archived_header;
use crate::{
    answer::{ApiError, StrictPath},
    routes::{Shared, caller::Agent},
};

pub(crate) async fn session(
    State(app): Shared,
    Agent(caller): Agent,
    StrictPath(session): StrictPath,
) -> Result<Response, ApiError> {
    let entries = app.ledger.session(&session, caller.agent.id()).await?;
    let archived = app.ledger.archived_through(None).await?;
    let mut response = Json(entries.iter().map(shown).collect::<Vec<_>>()).into_response();
    response.headers_mut().extend(archived_header(archived));
    Ok(response)
}

/// An entry in the words of `audit_log`, which existing clients know.
fn shown(entry: &SessionEntry) -> Value {
    let details: Option<Value> = entry.detail.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let within = |key| details.as_ref().and_then(|details| details.get(key));
    let done = entry.source == Source::Local && entry.status == "ok";
    json!({
        "timestamp": entry.timestamp,
        "agent_id": entry.agent_id,
        "action": entry.action,
        "tool_name": entry.tool_name.as_deref().or_else(|| within("tool")?.as_str()),
        "status": if done { "success" } else { &entry.status },
        "detail": entry.detail,
        "duration_ms": entry.duration_ms.or_else(|| within("duration_ms")?.as_f64()),
    })
}
