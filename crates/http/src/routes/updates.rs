//! Framework updates for operators (contract `pki.md` §8): JSON with `X-Admin-Secret`, forms with a session.

use std::sync::Arc;

use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Request, State},
    response::{IntoResponse, Response},
};
use http::request::Parts;
use mastio_authority::{
    Refusal,
    admin::Operator,
    updates::{Applied, Listed, UpdateError},
};
use mastio_store::updates::Status;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{App, Shared, caller::Admin};
use crate::{
    answer::{ApiError, Invalid, OptionalJson, StrictPath, StrictQuery, flag},
    dashboard::{session::Session, updates as page},
};

/// An operator who reads, by the admin secret or logged in.
pub(crate) struct Reader;

impl FromRequestParts<Arc<App>> for Reader {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Response> {
        if !parts.headers.contains_key("x-admin-secret")
            && let Ok(Session(_)) = Session::from_request_parts(parts, app).await
        {
            return Ok(Self);
        }
        let Admin(_) = Admin::from_request_parts(parts, app).await.map_err(ApiError::into_response)?;
        Ok(Self)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    status: Option<String>,
}

/// A bare array, in the order in which updates are applied.
pub(crate) async fn list(
    State(app): Shared,
    Reader: Reader,
    StrictQuery(query): StrictQuery<ListQuery>,
) -> Result<Json<Value>, ApiError> {
    let wanted = query.status.as_deref().map(|word| {
        let known = || {
            ApiError::unprocessable(vec![Invalid::query("status", "pending, applied, failed or rolled_back")])
        };
        Status::from_word(word).ok_or_else(known)
    });
    let wanted = wanted.transpose()?;
    let updates = read(&app, |app| app.authority.updates()).await?;
    let status = |update: &Listed| update.row.as_ref().map(|row| row.status);
    let shown = updates.iter().filter(|update| wanted.is_none() || status(update) == wanted);
    Ok(Json(shown.map(entry).collect()))
}

/// Runs what reads the database off the runtime's threads.
pub(crate) async fn read<T: Send + 'static>(
    app: &Arc<App>,
    ask: impl FnOnce(&App) -> Result<T, UpdateError> + Send + 'static,
) -> Result<T, UpdateError> {
    let app = Arc::clone(app);
    let asked = tokio::task::spawn_blocking(move || ask(&app)).await;
    asked.map_err(mastio_authority::Outage::internal)?
}

fn entry(update: &Listed) -> Value {
    let (migration, row) = (update.migration, update.row.as_ref());
    json!({
        "migration_id": migration.id(),
        "description": migration.description(),
        "migration_type": migration.kind(),
        "criticality": migration.criticality(),
        "affects_enrollments": migration.affects(),
        "preserves_enrollments": true,
        "strategies": migration.strategies(),
        "status": row.map(|row| row.status),
        "proposed_at_next_start": update.proposed_next,
        "detected_at": row.and_then(|row| row.detected_at),
        "applied_at": row.and_then(|row| row.applied_at),
        "error": row.and_then(|row| row.error.as_deref()),
        "snapshot": update.snapshot,
        "progress": update.progress.map(|(done, total)| json!({ "done": done, "total": total })),
    })
}

/// What becomes of an update.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Apply,
    RollBack,
    /// Deletes the snapshot, which may hold a readable key; the way back goes with it.
    Wipe,
}

/// The body. What is mistyped must not apply anything.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Order {
    confirm: bool,
    dry_run: bool,
    strategy: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrderQuery {
    #[serde(default, deserialize_with = "flag")]
    dry_run: bool,
    strategy: Option<String>,
}

pub(crate) async fn apply(
    State(app): Shared,
    StrictPath(id): StrictPath,
    StrictQuery(query): StrictQuery<OrderQuery>,
    request: Request,
) -> Response {
    act(&app, Act::Apply, id, query, request).await
}

pub(crate) async fn roll_back(
    State(app): Shared,
    StrictPath(id): StrictPath,
    StrictQuery(query): StrictQuery<OrderQuery>,
    request: Request,
) -> Response {
    act(&app, Act::RollBack, id, query, request).await
}

pub(crate) async fn wipe(
    State(app): Shared,
    StrictPath(id): StrictPath,
    StrictQuery(query): StrictQuery<OrderQuery>,
    request: Request,
) -> Response {
    act(&app, Act::Wipe, id, query, request).await
}

async fn act(app: &Arc<App>, act: Act, id: String, query: OrderQuery, request: Request) -> Response {
    if is_page(&request) {
        return page::act(app, act, &id, request).await.into_response();
    }
    let ordered = async {
        let (operator, order) = ordered(app, act == Act::Apply, request, query).await?;
        match order.dry_run {
            true => plan(app, act, id, order.strategy).await,
            false => carry_out(app, act, &id, order.strategy.as_deref(), &operator).await,
        }
    };
    ordered.await.map(Json).into_response()
}

/// What an operator with the admin secret asks for: the body, or the query in its place.
async fn ordered(
    app: &Arc<App>,
    has_strategies: bool,
    request: Request,
    query: OrderQuery,
) -> Result<(Operator, Order), ApiError> {
    let (mut parts, body) = request.into_parts();
    let Admin(operator) = Admin::from_request_parts(&mut parts, app).await?;
    let OptionalJson(mut order): OptionalJson<Order> =
        OptionalJson::from_request(Request::from_parts(parts, body), app).await?;
    order.dry_run |= query.dry_run;
    let wrong = match (&order.strategy, &query.strategy) {
        (Some(body), Some(query)) if body != query => Some("is another one than that of the body"),
        (None, None) => None,
        _ => (!has_strategies).then_some("goes with apply alone"),
    };
    if let Some(wrong) = wrong {
        return Err(ApiError::unprocessable(vec![Invalid::query("strategy", wrong)]));
    }
    order.strategy = order.strategy.or(query.strategy);
    if !order.confirm && !order.dry_run {
        return Err(UpdateError::Unconfirmed("{\"confirm\": true}").into());
    }
    Ok((operator, order))
}

async fn plan(app: &Arc<App>, act: Act, id: String, strategy: Option<String>) -> Result<Value, ApiError> {
    let named = id.clone();
    let plan = match act {
        Act::Apply => json!(read(app, move |app| app.authority.plan_update(&id, strategy.as_deref())).await?),
        Act::RollBack => {
            json!({ "rollback": read(app, move |app| app.authority.plan_roll_back(&id)).await? })
        }
        Act::Wipe => json!({ "steps": read(app, move |app| app.authority.plan_wipe(&id)).await? }),
    };
    Ok(json!({ "migration_id": named, "dry_run": true, "plan": plan }))
}

async fn carry_out(
    app: &Arc<App>,
    act: Act,
    id: &str,
    strategy: Option<&str>,
    operator: &Operator,
) -> Result<Value, ApiError> {
    match act {
        Act::Apply => {
            let applied = app.authority.apply_update(id, strategy, operator).await;
            let Applied { migration, changed, strategy, at, reissued_leaves } = applied.map_err(told)?;
            Ok(json!({
                "migration_id": migration,
                "status": Status::Applied,
                "applied_at": at,
                "changed": changed,
                "strategy": strategy,
                "reissued_leaves": reissued_leaves,
            }))
        }
        Act::RollBack => {
            let done = app.authority.roll_back_update(id, operator).await.map_err(told)?;
            Ok(json!({
                "migration_id": done.migration,
                "status": Status::RolledBack,
                "rolled_back_at": done.at,
            }))
        }
        Act::Wipe => {
            app.authority.wipe_snapshot(id, operator).await?;
            Ok(json!({ "migration_id": id, "snapshot": "wiped" }))
        }
    }
}

/// A browser, and no program with the admin secret.
fn is_page(request: &Request) -> bool {
    let headers = request.headers();
    !headers.contains_key("x-admin-secret") && headers.contains_key(http::header::COOKIE)
}

/// A failed update says so, with what to look at: the usual answer to what fails here says nothing.
pub(crate) fn told(error: UpdateError) -> ApiError {
    let UpdateError::Failed(_) = &error else { return error.into() };
    let detail = format!("{error}; nothing was changed, see cullis_proxy_update_apply_failed in the log");
    ApiError::new(http::StatusCode::INTERNAL_SERVER_ERROR, error.reason(), detail)
}
