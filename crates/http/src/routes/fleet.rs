//! Lists of agents for operators (contract `enrollment.md` §4, §6, "better than both" 12).
//!
//! Without `limit` and `cursor` the whole list is streamed, newest first, as a bare array that clients know. With
//! either it is a page in the order of ids, and the header `Link` leads to the next one.

pub(crate) mod query;
mod rows;

use axum::{Json, extract::State, response::Response};
use http::{HeaderMap, HeaderValue, Uri, header::LINK};
use mastio_store::agents::{AgentRow, Standing, fleet::Listed};
use serde_json::{Value, json};

pub(crate) use self::query::link;
use self::{
    query::{Asked, ListQuery},
    rows::Form,
};
use super::{App, Shared, caller::Admin, lifecycle::named};
use crate::answer::{ApiError, StrictPath, StrictQuery};

pub(crate) async fn list(
    State(app): Shared,
    Admin(_): Admin,
    uri: Uri,
    StrictQuery(query): StrictQuery<ListQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    answer(&app, &uri, query.parse()?, Form::wanted(&headers), |listed| summary(&listed.agent)).await
}

/// A superset of [`list`] (contract `enrollment.md` §6).
pub(crate) async fn list_in_full(
    State(app): Shared,
    Admin(_): Admin,
    uri: Uri,
    StrictQuery(query): StrictQuery<ListQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    answer(&app, &uri, query.parse()?, Form::wanted(&headers), in_full).await
}

async fn answer(
    app: &App,
    uri: &Uri,
    asked: Asked,
    form: Form,
    shape: fn(&Listed) -> Value,
) -> Result<Response, ApiError> {
    let Some(limit) = asked.limit else {
        let fleet = app.authority.fleet(&asked.filter).await?;
        return Ok(rows::streamed(form, fleet, shape));
    };
    let page = app.authority.page(&asked.filter, asked.after.as_ref(), limit).await?;
    let mut response = rows::whole(form, page.agents.iter().map(shape));
    if let Some(next) = page.next
        && let Ok(next) = HeaderValue::from_str(&link(uri, next.as_str()))
    {
        response.headers_mut().insert(LINK, next);
    }
    Ok(response)
}

pub(crate) async fn one(
    State(app): Shared,
    Admin(_): Admin,
    StrictPath(id): StrictPath,
) -> Result<Json<Value>, ApiError> {
    let listed = app.authority.agent(&named(&app, &id)?).await?;
    let mut row = in_full(&listed);
    row["cert_pem"] = json!(listed.agent.certificates);
    Ok(Json(row))
}

pub(super) fn summary(agent: &AgentRow) -> Value {
    json!({
        "agent_id": agent.id,
        "display_name": agent.display_name,
        "capabilities": agent.capabilities,
        "federated": agent.federated,
        "federated_at": agent.federated_at,
        "federation_revision": agent.federation_revision,
        "is_active": agent.standing == Standing::Active,
        "created_at": agent.created_at,
    })
}

fn in_full(listed: &Listed) -> Value {
    let agent = &listed.agent;
    let mut row = summary(agent);
    let (revoked_at, revoked_reason) = match &agent.standing {
        Standing::Revoked { at, reason } => (Some(*at), reason.clone()),
        _ => (None, None),
    };
    let more = json!({
        "enrollment_method": agent.method,
        "spiffe_id": agent.spiffe_id,
        "dpop_jkt": agent.dpop_jkt,
        "reach": agent.reach,
        "principal_type": agent.kind.as_str(),
        "enrolled_at": agent.enrolled_at,
        "revoked_at": revoked_at,
        "revoked_reason": revoked_reason,
        "cert_thumbprint": listed.thumbprint,
        "cert_not_after": listed.not_after,
        "cert_lifetime_seconds": agent.lifetime.map(|lifetime| lifetime.as_secs()),
    });
    if let (Value::Object(row), Value::Object(more)) = (&mut row, more) {
        row.extend(more);
    }
    row
}
