//! `/proxy/updates`: framework updates with their plans, and applying or taking them back.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{FromRequest, RawQuery, Request, State},
    response::{Html, Response},
};
use mastio_authority::updates::{Applied, Criticality, Listed, Plan, UpdateError};
use mastio_core::counted;
use serde::Deserialize;

use super::{
    page::{Frame, PageError, Said, go, render},
    session::{Session, Submitted},
    text,
};
use crate::routes::{
    App, Shared,
    updates::{Act, read, told},
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
    /// What applying does, by each strategy, if it may be applied now.
    plans: Vec<Plan>,
    /// What taking it back does, if it may be taken back now.
    way_back: Option<&'static [&'static str]>,
    /// What deleting the snapshot does, if there is one.
    wiping: Option<&'static [&'static str]>,
    /// Why it may neither be applied nor taken back, if it waits for one of them.
    obstacle: Option<String>,
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
    let (plans, mut obstacle) = match plans(app, update) {
        Ok(plans) => (plans, None),
        Err(obstacle) => (vec![], obstacle),
    };
    let way_back = update.snapshot.and_then(|_| match app.authority.way_back(id) {
        Ok(steps) => Some(steps),
        Err(UpdateError::NotApplied { .. }) => None,
        Err(error) => {
            obstacle.get_or_insert_with(|| error.to_string());
            None
        }
    });
    Row {
        id,
        description: migration.description(),
        criticality: migration.criticality().as_str(),
        badge: match migration.criticality() {
            Criticality::Critical => "revoked",
            Criticality::Warning => "pending",
            Criticality::Info => "",
        },
        status: match row {
            Some(row) => row.status.as_str(),
            None if update.proposed_next => "proposed at the next start",
            None => "not needed",
        },
        detected: row.and_then(|row| row.detected_at).map(text::moment),
        applied: row.and_then(|row| row.applied_at).map(text::moment),
        error: row.and_then(|row| row.error.clone()),
        snapshot: update.snapshot.map(|kept| {
            let taken = kept.created_at.map_or_else(|| "at an unknown time".to_owned(), text::moment);
            match kept.wiped_after {
                Some(after) => format!("{taken}, with readable keys, wiped after {}", text::moment(after)),
                None => taken,
            }
        }),
        progress: update.progress,
        plans,
        way_back,
        wiping: update.snapshot.and_then(|_| app.authority.plan_wipe(id).ok()),
        obstacle,
    }
}

/// What applying does, by each strategy; else why it may not be applied, if it was ever needed and is not applied.
fn plans(app: &App, update: &Listed) -> Result<Vec<Plan>, Option<String>> {
    let known = update.migration.strategies();
    let ways = if known.is_empty() { vec![None] } else { known.iter().copied().map(Some).collect() };
    let plan = |strategy: Option<&str>| app.authority.plan_update(update.migration.id(), strategy);
    let plans = ways.into_iter().map(plan).collect::<Result<Vec<_>, _>>();
    let mut plans = plans.map_err(|error| match error {
        UpdateError::AlreadyApplied | UpdateError::NotPending(_) => None,
        obstacle => Some(obstacle.to_string()),
    })?;
    // One that is not needed any more does nothing, whatever the strategy.
    plans.dedup();
    Ok(plans)
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

impl Act {
    /// The word that says that it is meant.
    fn word(self) -> &'static str {
        match self {
            Self::Apply => "APPLY",
            Self::RollBack => "ROLLBACK",
            Self::Wipe => "WIPE",
        }
    }

    fn unconfirmed(self) -> UpdateError {
        UpdateError::Unconfirmed(match self {
            Self::Apply => "confirm_text=APPLY",
            Self::RollBack => "confirm_text=ROLLBACK",
            Self::Wipe => "confirm_text=WIPE",
        })
    }
}

pub(crate) async fn act(app: &Arc<App>, act: Act, id: &str, request: Request) -> Result<Response, PageError> {
    let Submitted { session, fields } = Submitted::<Confirmed>::from_request(request, app).await?;
    if fields.confirm_text.trim() != act.word() {
        return Err(act.unconfirmed().into());
    }
    let text = match act {
        Act::Apply => {
            let strategy = fields.strategy.as_deref().filter(|strategy| !strategy.is_empty());
            let applied = app.authority.apply_update(id, strategy, &session.operator).await.map_err(told)?;
            done(&applied)
        }
        Act::RollBack => {
            app.authority.roll_back_update(id, &session.operator).await.map_err(told)?;
            "Rolled back. What was before is again, and the update is not proposed any more.".to_owned()
        }
        Act::Wipe => {
            app.authority.wipe_snapshot(id, &session.operator).await?;
            "Deleted. Only a backup brings back what was before the update.".to_owned()
        }
    };
    Ok(go(&session, PATH, "flash", &text))
}

fn done(applied: &Applied) -> String {
    if !applied.changed {
        return "Nothing was changed: it is not needed any more, and counts as applied.".to_owned();
    }
    match applied.reissued_leaves {
        0 => "Applied.".to_owned(),
        count => format!(
            "Applied. {} reissued; agents go on with those that they have.",
            counted(count, "certificate was", "certificates were")
        ),
    }
}
