//! `GET /v1/agents/search` (contract `enrollment.md` §12).

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, Uri, header::LINK};
use mastio_gateway::search::{Scope, Search};
use serde_json::json;

use super::{
    Shared,
    caller::Agent,
    fleet::{link, query},
};
use crate::answer::{ApiError, StrictQuery, flag_of};

/// How many capabilities a search may name.
const MAX_CAPABILITIES: usize = 64;
/// How many agents an answer has, unless fewer are asked for.
const DEFAULT_LIMIT: u32 = 500;

pub(crate) async fn search(
    State(app): Shared,
    Agent(caller): Agent,
    uri: Uri,
    StrictQuery(pairs): StrictQuery<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let search = parse(&pairs)?;
    let (agents, next) = app.gateway.search(&caller, &search).await?;
    let body = json!({ "count": agents.len(), "agents": agents, "scope": search.scope });
    let mut response = Json(body).into_response();
    if let Some(next) = next
        && let Ok(next) = HeaderValue::from_str(&link(&uri, next.as_str()))
    {
        response.headers_mut().insert(LINK, next);
    }
    Ok(response)
}

/// `capability` may be there many times; of the others the last one counts.
fn parse(pairs: &[(String, String)]) -> Result<Search, ApiError> {
    let last = |name| pairs.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let named = |name| pairs.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.clone());
    let capabilities: Vec<String> = named("capability").filter(|value| !value.is_empty()).collect();
    let few = |_: &str| (capabilities.len() <= MAX_CAPABILITIES).then_some(());
    query::read("capability", capabilities.first().cloned(), few, "at most 64 capabilities")?;
    let (limit, after) = query::page(last("limit"), last("cursor"))?;
    Ok(Search {
        needle: query::needle(last("q"))?,
        scope: query::read("scope", last("scope"), Scope::from_word, "use local, federated or all")?
            .unwrap_or(Scope::All),
        active: query::read("active", last("active"), flag_of, "use true or false")?.unwrap_or(true),
        limit: limit.unwrap_or(DEFAULT_LIMIT),
        capabilities,
        after,
    })
}
