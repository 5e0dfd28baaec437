//! Rotations of the Org CA: how far they are, who is left, and what an operator does with one that has an overlap
//! (contract `pki.md`, "better than both" 6 and 7).

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, Uri, header::LINK};
use mastio_authority::rotation::overlap::{Half, OverlapError, RotationStatus};
use mastio_store::rotations::{Phase, following::Waiting};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    App, Shared,
    caller::Admin,
    fleet::{
        link,
        query::{page, read},
    },
};
use crate::answer::{ApiError, NoBody, NoQuery, StrictPath, StrictQuery, flag_of};

/// How many rotations are listed.
const NEWEST: u32 = 20;
/// How many of those that are left are named, unless more are asked for.
const NAMED: u32 = 100;

pub(crate) async fn list(State(app): Shared, Admin(_): Admin) -> Result<Json<Value>, ApiError> {
    let newest = app.authority.rotations(NEWEST).await?;
    Ok(Json(newest.iter().map(shape).collect()))
}

/// The query string of one rotation: whose names, and which page of them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WhoQuery {
    who: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
}

pub(crate) async fn one(
    State(app): Shared,
    Admin(_): Admin,
    uri: Uri,
    StrictPath(id): StrictPath,
    StrictQuery(query): StrictQuery<WhoQuery>,
) -> Result<Response, ApiError> {
    let half = |word: &str| match word {
        "agents" => Some(Half::Agents),
        "operators" => Some(Half::Operators),
        _ => None,
    };
    let half = read("who", query.who, half, "use agents or operators")?.unwrap_or_default();
    let (limit, after) = page(query.limit, query.cursor)?;
    let status = app.authority.rotation(&id).await?;
    let limit = limit.unwrap_or(NAMED);
    let left = app.authority.waiters(&status.rotation, half, after.as_ref(), limit).await?;
    let mut body = shape(&status);
    body["left"] = left.agents.iter().map(waiting).collect();
    let mut response = Json(body).into_response();
    if let Some(next) = left.next
        && let Ok(next) = HeaderValue::from_str(&link(&uri, next.as_str()))
    {
        response.headers_mut().insert(LINK, next);
    }
    Ok(response)
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdvanceQuery {
    from: Option<String>,
    force: Option<String>,
}

pub(crate) async fn advance(
    State(app): Shared,
    Admin(operator): Admin,
    StrictPath(id): StrictPath,
    StrictQuery(query): StrictQuery<AdvanceQuery>,
    NoBody: NoBody,
) -> Result<Json<Value>, ApiError> {
    let force = read("force", query.force, flag_of, "use true or false")?.unwrap_or(false);
    let phase = |word: &str| Phase::parse(word).ok();
    let from = read(
        "from",
        query.from,
        phase,
        "use the phase that the rotation is in: distribute, reissue or activated",
    )?;
    app.authority.advance_rotation(&id, from, force, &operator).await?;
    changed(&app, &id).await
}

pub(crate) async fn pause(
    State(app): Shared,
    Admin(operator): Admin,
    StrictPath(id): StrictPath,
    StrictQuery(NoQuery {}): StrictQuery<NoQuery>,
    NoBody: NoBody,
) -> Result<Json<Value>, ApiError> {
    app.authority.pause_rotation(&id, true, &operator).await?;
    changed(&app, &id).await
}

pub(crate) async fn resume(
    State(app): Shared,
    Admin(operator): Admin,
    StrictPath(id): StrictPath,
    StrictQuery(NoQuery {}): StrictQuery<NoQuery>,
    NoBody: NoBody,
) -> Result<Json<Value>, ApiError> {
    app.authority.pause_rotation(&id, false, &operator).await?;
    changed(&app, &id).await
}

pub(crate) async fn abort(
    State(app): Shared,
    Admin(operator): Admin,
    StrictPath(id): StrictPath,
    StrictQuery(NoQuery {}): StrictQuery<NoQuery>,
    NoBody: NoBody,
) -> Result<Json<Value>, ApiError> {
    app.authority.abort_rotation(&id, &operator).await?;
    changed(&app, &id).await
}

async fn changed(app: &App, id: &str) -> Result<Json<Value>, ApiError> {
    let status: Result<_, OverlapError> = app.authority.rotation(id).await;
    Ok(Json(shape(&status?)))
}

/// A rotation as operators read it. Agents that Mastio certifies and the operator's work stand apart.
pub(super) fn shape(status: &RotationStatus) -> Value {
    let RotationStatus { rotation, progress, .. } = status;
    let counts = progress.map(|progress| {
        json!({
            "agents": progress.agents,
            "fetched": progress.fetched,
            "moved": progress.moved,
            "left": progress.left(rotation.phase),
        })
    });
    let operators_work = progress.map(|progress| {
        json!({
            "byoca": { "agents": progress.byoca, "moved": progress.byoca_moved },
            "spiffe": { "agents": progress.spiffe, "fetched": progress.spiffe_fetched },
            "shut_out": { "agents": progress.shut_out },
        })
    });
    json!({
        "id": rotation.id,
        "mode": rotation.mode,
        "transition": rotation.transition,
        "phase": rotation.phase,
        "paused": rotation.paused,
        "compromise": rotation.compromise,
        "summary": status.summary(),
        "progress": counts,
        "operators_work": operators_work,
        "grace_days": status.grace_days,
        "grace_until": status.grace_until,
        "old_root": rotation.old_root,
        "new_root": rotation.new_root,
        "started_by": rotation.started_by,
        "started_at": rotation.started_at,
        "changed_at": rotation.changed_at,
        "ended_at": rotation.ended_at,
        "error": rotation.error,
    })
}

fn waiting(waiting: &Waiting) -> Value {
    json!({
        "agent_id": waiting.agent,
        "display_name": waiting.display_name,
        "enrollment_method": waiting.method,
        "cert_not_after": waiting.not_after,
        "bundle_fetched_at": waiting.fetched_at,
        "shut_out": waiting.shut_out,
    })
}
