//! Asking the audit log: entries, one entry explained, what happened to an agent, and the head.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, Uri, header::LINK};
use mastio_authority::Outage;
use mastio_ledger::search::{Place, Told};
use mastio_store::audit;
use serde_json::{Value, json};

use super::{
    export::archived_header,
    query::{PageQuery, SearchQuery, cursor_of, place},
};
use crate::{
    answer::{ApiError, StrictPath, StrictQuery},
    routes::{Shared, caller::Admin, fleet::link, lifecycle::named},
};

pub(crate) async fn list(
    State(app): Shared,
    Admin(_): Admin,
    uri: Uri,
    StrictQuery(query): StrictQuery<SearchQuery>,
) -> Result<Response, ApiError> {
    let (filter, after, limit) = query.read(&app)?;
    let archived = app.ledger().archived_through(filter.from).await?;
    let page = app.ledger().search(filter, after, limit).await?;
    let next = page.next.map(|id| Place { local: Some(id), admin: None });
    Ok(paged(&uri, page.entries.into_iter().map(Told::local).collect(), next, archived))
}

pub(crate) async fn timeline(
    State(app): Shared,
    Admin(_): Admin,
    StrictPath(id): StrictPath,
    uri: Uri,
    StrictQuery(query): StrictQuery<PageQuery>,
) -> Result<Response, ApiError> {
    let (after, limit) = query.read()?;
    // An agent that was deleted has a past all the same.
    let timeline = app.ledger().timeline(&named(&app, &id)?, after, limit).await?;
    let archived = app.ledger().archived_through(None).await?;
    Ok(paged(&uri, timeline.entries, timeline.next, archived))
}

/// `archived`: up to which place entries are in archives, and not found.
fn paged(uri: &Uri, entries: Vec<Told>, next: Option<Place>, archived: Option<i64>) -> Response {
    let cursor = next.map(cursor_of);
    let entries: Vec<Value> = entries.iter().map(Told::document).collect();
    let body = json!({ "entries": entries, "next": cursor, "archived_through": archived });
    let mut response = Json(body).into_response();
    let next = cursor.and_then(|cursor| HeaderValue::try_from(link(uri, &cursor)).ok());
    response.headers_mut().extend(next.map(|next| (LINK, next)));
    response.headers_mut().extend(archived_header(archived));
    response
}

pub(crate) async fn one(
    State(app): Shared,
    Admin(_): Admin,
    StrictPath(seq): StrictPath,
) -> Result<Json<Value>, ApiError> {
    let (org, seq) = place(&seq)?;
    Ok(Json(app.ledger().explain(org, seq).await?.document()))
}

pub(crate) async fn head(State(app): Shared, Admin(_): Admin) -> Result<Json<Value>, ApiError> {
    let org = app.authority.trust().org.clone();
    let head = audit::head(app.authority.store(), &org).await.map_err(Outage::from)?;
    let id = head.as_ref().map(|head| format!("{org}:{}", head.chain_seq));
    Ok(Json(json!({
        "last_id": id,
        "last_hash": head.as_ref().map(|head| &head.entry_hash),
        "last_timestamp": head.as_ref().map(|head| &head.timestamp),
        "chain_seq": head.as_ref().map(|head| head.chain_seq),
    })))
}
