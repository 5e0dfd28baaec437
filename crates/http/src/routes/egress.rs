//! Calls of agents (contract `calls.md` §4, §7).

use axum::{Extension, Json, extract::State};
use mastio_core::Stamp;
use mastio_gateway::Outgoing;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Shared, caller::Agent};
use crate::{
    answer::{ApiError, StrictJson, StrictPath, StrictQuery},
    middleware::RequestId,
};

type Answer<T> = Result<Json<T>, ApiError>;

#[derive(Deserialize)]
pub(crate) struct PeersQuery {
    q: Option<String>,
    limit: Option<u32>,
}

pub(crate) async fn peers(
    State(app): Shared,
    Agent(caller): Agent,
    StrictQuery(query): StrictQuery<PeersQuery>,
) -> Answer<Value> {
    let peers = app.gateway.peers(&caller, query.q.as_deref(), query.limit.unwrap_or(50)).await?;
    Ok(Json(json!({ "count": peers.len(), "peers": peers })))
}

#[derive(Deserialize)]
pub(crate) struct ResolveBody {
    recipient_id: String,
}

pub(crate) async fn resolve(
    State(app): Shared,
    Agent(caller): Agent,
    StrictJson(body): StrictJson<ResolveBody>,
) -> Answer<impl Serialize> {
    Ok(Json(app.gateway.resolve(&caller, &body.recipient_id).await?))
}

pub(crate) async fn certificate(
    State(app): Shared,
    Agent(_): Agent,
    StrictPath(id): StrictPath,
) -> Answer<impl Serialize> {
    Ok(Json(app.gateway.certificate_of(&id).await?))
}

pub(crate) async fn send(
    State(app): Shared,
    Agent(caller): Agent,
    Extension(id): Extension<RequestId>,
    StrictJson(message): StrictJson<Outgoing>,
) -> Answer<impl Serialize> {
    Ok(Json(app.gateway.send(&caller, &message, &id.0).await?))
}

#[derive(Deserialize)]
pub(crate) struct InboxQuery {
    limit: Option<u32>,
    /// A time. Existing clients may send anything, and have always been given everything.
    since: Option<String>,
}

pub(crate) async fn inbox(
    State(app): Shared,
    Agent(caller): Agent,
    StrictQuery(query): StrictQuery<InboxQuery>,
) -> Answer<Value> {
    let since = query.since.and_then(|text| Stamp::parse(&text).ok());
    let messages = app.gateway.inbox(&caller, since, query.limit.unwrap_or(500)).await?;
    Ok(Json(json!({ "count": messages.len(), "messages": messages })))
}

pub(crate) async fn acknowledge(
    State(app): Shared,
    Agent(caller): Agent,
    StrictPath(msg_id): StrictPath,
) -> Answer<Value> {
    app.gateway.acknowledge(&caller, &msg_id).await?;
    Ok(Json(json!({ "status": "acked", "msg_id": msg_id })))
}
