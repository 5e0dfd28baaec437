//! `/proxy/updates`: framework updates with their plans, and applying or taking them back.

use mastio_core::counted;
use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{FromRequest, RawQuery, Request, State},
    response::{Html, Response},
};
use mastio_authority::updates::{Criticality, Listed, UpdateError};
use serde::Deserialize;

use super::{
    page::{Frame, PageError, Said, go, render},
    session::{Session, Submitted},
    text,
};
use crate::routes::{
    App, Shared,
    updates::{read, told},
};

#[derive(Template)]
#[template(path = "updates.html")]
struct UpdatesPage {
    frame: Frame,
    updates: Vec<Row>,
}

struct Row {
    id: &'static str,
    description: &'static str,
    criticality: &'static str,
    /// The class of its badge.
    badge: &'static str,
    status: &'static str,
    detected: Option<String>,
    applied: Option<String>,
    error: Option<String>,
    snapshot: Option<String>,
    progress: Option<(u64, u64)>,
    strategies: &'static [&'static str],
    /// What applying does, if it may be applied now.
    plan: Option<Vec<String>>,
    /// What taking it back does, if it may be taken back now.
    way_back: Option<&'static [&'static str]>,
}

pub(super) async fn list(
    State(app): Shared,
    Session(session): Session,
    RawQuery(query): RawQuery,
) -> Result<Response, PageError> {
    let updates =
        read(&app, |app| Ok(app.authority.updates()?.iter().map(|update| row(app, update)).collect()))
            .await?;
    let frame = Frame::new(&app, &session, "updates", Said::read(query.as_deref(), &session)).await?;
    render(&UpdatesPage { frame, updates })
}

fn row(app: &App, update: &Listed) -> Row {
    let (migration, row) = (update.migration, update.row.as_ref());
    let id = migration.id();
    Row {
        id,
        description: migration.description(),
        criticality: migration.criticality().as_str(),
        badge: match migration.criticality() {
            Criticality::Critical => "revoked",
            Criticality::Warning => "pending",
            Criticality::Info => "",
        },
        status: row.map_or("not needed", |row| row.status.as_str()),
        detected: row.map(|row| text::moment(row.detected_at)),
        applied: row.and_then(|row| row.applied_at).map(text::moment),
        error: row.and_then(|row| row.error.clone()),
        snapshot: update.snapshot.map(|kept| match kept.wiped_after {
            Some(after) => format!(
                "{}, with readable keys, wiped after {}",
                text::moment(kept.created_at),
                text::moment(after)
            ),
            None => text::moment(kept.created_at),
        }),
        progress: update.progress,
        strategies: migration.strategies(),
        plan: app.authority.plan_update(id, None).ok().map(|plan| plan.steps),
        way_back: app.authority.plan_roll_back(id).ok(),
    }
}

/// Updates that wait, red when a critical one does; empty when none (contract `pki.md` §8).
pub(super) async fn badge(State(app): Shared, Session(_): Session) -> Html<String> {
    let trust = app.authority.trust();
    let class = if trust.updates.critical { "revoked" } else { "pending" };
    Html(match trust.updates.waiting() {
        0 => String::new(),
        count => {
            format!("<span class=\"badge {class}\">{count}<span class=\"hidden\"> pending</span></span>")
        }
    })
}

#[derive(Deserialize)]
struct Confirmed {
    #[serde(default)]
    confirm_text: String,
    strategy: Option<String>,
}

const PATH: &str = "/proxy/updates";

pub(crate) async fn apply(app: &Arc<App>, id: &str, request: Request) -> Result<Response, PageError> {
    let Submitted { session, fields } = Submitted::<Confirmed>::from_request(request, app).await?;
    confirmed(&fields, "confirm_text=APPLY")?;
    let strategy = fields.strategy.as_deref().filter(|strategy| !strategy.is_empty());
    let applied = app.authority.apply_update(id, strategy, &session.operator).await.map_err(told)?;
    let text = match applied.reissued_leaves {
        0 => "Applied.".to_owned(),
        count => format!(
            "Applied. {} reissued; agents go on with those that they have.",
            counted(count, "certificate was", "certificates were")
        ),
    };
    Ok(go(&session, PATH, "flash", &text))
}

pub(crate) async fn roll_back(app: &Arc<App>, id: &str, request: Request) -> Result<Response, PageError> {
    let Submitted { session, fields } = Submitted::<Confirmed>::from_request(request, app).await?;
    confirmed(&fields, "confirm_text=ROLLBACK")?;
    app.authority.roll_back_update(id, &session.operator).await.map_err(told)?;
    Ok(go(&session, PATH, "flash", "Rolled back. What was before is again."))
}

fn confirmed(fields: &Confirmed, wanted: &'static str) -> Result<(), UpdateError> {
    let is_meant = wanted.split_once('=').is_some_and(|(_, word)| word == fields.confirm_text.trim());
    is_meant.then_some(()).ok_or(UpdateError::Unconfirmed(wanted))
}
