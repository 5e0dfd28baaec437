//! `/proxy/mastio-key`: the key that signs tokens, and what can be done with it (contract `pki.md` §6).

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use mastio_authority::{
    Authority,
    signing_key::{Decision, GraceDays},
};
use mastio_core::Stamp;
use mastio_store::keys::SigningKeyRow;
use serde::Deserialize;

use super::{
    page::{Frame, PageError, Said, confirmed, go, go_with, render, sealed},
    session::{Session, Submitted},
    text,
};
use crate::{
    answer::ApiError,
    routes::{
        Shared,
        keys::{GRACE_BOUNDS, not_after, state, verifies_until},
    },
};

const HERE: &str = "/proxy/mastio-key";

#[derive(Template)]
#[template(path = "mastio_key.html")]
struct KeyPage {
    frame: Frame,
    rotated: Option<Rotated>,
    staged: Option<String>,
    keys: Vec<Key>,
    grace_days: u32,
    is_automatic: bool,
}

/// What the address says after a rotation.
#[derive(Deserialize)]
struct Rotated {
    old_kid: String,
    new_kid: String,
}

struct Key {
    kid: String,
    state: &'static str,
    since: String,
    /// Until when its tokens verify, or verified.
    verifies: String,
    /// When its certificate ends.
    ends: String,
}

impl Key {
    fn of(row: &SigningKeyRow, now: Stamp) -> Self {
        Self {
            kid: row.kid.to_string(),
            state: state(row, now),
            since: text::moment(row.activated_at.unwrap_or(row.created_at)),
            verifies: verifies_until(row).map_or_else(String::new, text::moment),
            ends: not_after(row).map_or_else(String::new, |end| text::distance(end, now)),
        }
    }
}

pub(super) async fn show(
    State(app): Shared,
    Session(session): Session,
    RawQuery(query): RawQuery,
) -> Result<Response, PageError> {
    let authority: &Authority = &app.authority;
    let (stored, now) = (authority.signing_keys().await?, authority.clock().now());
    render(&KeyPage {
        frame: Frame::new(&app, &session, "mastio-key", Said::read(query.as_deref(), &session)).await?,
        rotated: sealed(query.as_deref(), &session),
        staged: stored.staged().map(|key| key.kid.to_string()),
        keys: stored.keys.iter().map(|row| Key::of(row, now)).collect(),
        grace_days: stored.grace.get(),
        is_automatic: authority.settings.key_rotation.automatic,
    })
}

#[derive(Deserialize)]
pub(super) struct Grace {
    #[serde(default)]
    grace_days: String,
}

pub(super) async fn set_grace_days(
    State(app): Shared,
    Submitted { session, fields }: Submitted<Grace>,
) -> Result<Response, PageError> {
    let days = fields.grace_days.trim().parse().ok().and_then(GraceDays::new);
    let days = days.ok_or_else(|| ApiError::bad_request(GRACE_BOUNDS))?;
    app.authority.set_grace_days(days, &session.operator).await?;
    Ok(go(&session, HERE, "flash", "Set. It counts for the next rotation."))
}

#[derive(Deserialize)]
pub(super) struct Confirm {
    #[serde(default)]
    confirm_text: String,
    #[serde(default)]
    decision: String,
}

pub(super) async fn rotate(
    State(app): Shared,
    Submitted { session, fields }: Submitted<Confirm>,
) -> Result<Response, PageError> {
    confirmed(&fields.confirm_text, "ROTATE")?;
    let rotated = app.authority.rotate_signing_key(&session.operator).await?;
    let kids = [("old_kid", rotated.old_kid.as_str()), ("new_kid", rotated.new_kid.as_str())];
    Ok(go_with(&session, HERE, &[&[("rotated", "1")], &kids[..]].concat()))
}

pub(super) async fn complete_staged(
    State(app): Shared,
    Submitted { session, fields }: Submitted<Confirm>,
) -> Result<Response, PageError> {
    let decision = Decision::from_word(&fields.decision)
        .ok_or_else(|| ApiError::bad_request("decision must be activate or drop"))?;
    confirmed(&fields.confirm_text, &decision.as_str().to_ascii_uppercase())?;
    let kid = app.authority.complete_staged(decision, &session.operator).await?;
    let done = match decision {
        Decision::Activate => format!("{kid} signs from now on."),
        Decision::Drop => format!("{kid} was dropped."),
    };
    Ok(go(&session, HERE, "flash", &format!("{done} Signing goes on.")))
}
