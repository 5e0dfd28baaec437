//! `/proxy/pki`: the CAs of the organisation, and how an open rotation stands. What changes them has pages of its own.

mod intermediate;
mod left;
mod root;
mod rotation;
mod steer;

use std::sync::Arc;

use askama::Template;
use axum::{
    Router,
    extract::{RawQuery, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use mastio_authority::{
    Refusal, dashboard,
    trust::{Ca, Trust},
};
use mastio_core::Stamp;
use mastio_store::{cas::CaState, keys::CaKind, rotations::Phase};

use self::rotation::Open;
use super::{
    login::Nothing,
    page::{Frame, PageError, Said, go, render},
    session::{Session, Submitted},
    text,
};
use crate::routes::{App, Shared};

const HERE: &str = "/proxy/pki";

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/proxy/pki", get(show))
        .route("/proxy/pki/export-ca", post(export))
        .route("/proxy/pki/rotate-ca", get(root::ask).post(root::rotate))
        .route("/proxy/pki/rotate-intermediate", get(intermediate::ask).post(intermediate::rotate))
        .route("/proxy/pki/rotations/{id}", get(left::show))
        .route("/proxy/pki/rotations/{id}/advance", post(steer::advance))
        .route("/proxy/pki/rotations/{id}/pause", post(steer::pause))
        .route("/proxy/pki/rotations/{id}/resume", post(steer::resume))
        .route("/proxy/pki/rotations/{id}/abort", post(steer::abort))
}

#[derive(Template)]
#[template(path = "pki.html")]
struct PkiPage {
    frame: Frame,
    cas: Vec<Row>,
    rotation: Option<Open>,
    halt: Option<String>,
}

/// A CA in words.
struct Row {
    kind: &'static str,
    state: &'static str,
    /// It signs what is made from now on.
    is_current: bool,
    /// What its state means at the moment.
    meaning: Option<&'static str>,
    compromised: bool,
    /// A link certificate that is shown to clients: that of a key which others may know is not.
    has_link: bool,
    fingerprint: String,
    subject: String,
    until: String,
    since: String,
}

impl Row {
    fn new(ca: &Ca, trust: &Trust, now: Stamp) -> Self {
        Self {
            kind: match ca.kind {
                CaKind::Root => "Org CA",
                CaKind::Intermediate => "Intermediate",
            },
            state: ca.state.as_str(),
            is_current: ca.state == CaState::Active,
            meaning: meaning(ca, trust),
            compromised: ca.compromised,
            has_link: ca.link.is_some() && !ca.compromised,
            fingerprint: text::grouped(&ca.certificate.thumbprint().to_string()),
            subject: ca.certificate.subject().to_owned(),
            until: text::moment(ca.certificate.not_after()),
            since: text::distance(ca.superseded_at.or(ca.activated_at).unwrap_or(ca.created_at), now),
        }
    }
}

/// What a CA does beside the current ones, and where these share their work in a rotation with overlap.
fn meaning(ca: &Ca, trust: &Trust) -> Option<&'static str> {
    let phase = trust.followed().map(|rotation| rotation.phase);
    match (ca.state, ca.kind) {
        (CaState::Active, CaKind::Intermediate) if phase == Some(Phase::Reissue) => {
            Some("certifies this server; agents come under its successor")
        }
        (CaState::Staged, CaKind::Root) if phase.is_some() => Some("believed already"),
        (CaState::Staged, CaKind::Intermediate) if phase == Some(Phase::Reissue) => {
            Some("certifies agents already")
        }
        (CaState::Staged, _) => Some("takes over in this rotation"),
        (CaState::Superseded, _) if ca.cut => Some("cut off"),
        (CaState::Superseded, CaKind::Root) => Some("believed still"),
        (CaState::Superseded, CaKind::Intermediate) => Some("what it certified works until it ends"),
        (CaState::Active | CaState::Retired, _) => None,
    }
}

pub(super) async fn show(
    State(app): Shared,
    Session(session): Session,
    RawQuery(query): RawQuery,
) -> Result<Response, PageError> {
    let (trust, now) = (app.authority.trust(), app.authority.clock().now());
    let mut cas: Vec<&Ca> = trust.cas.iter().collect();
    cas.sort_by_key(|ca| (ca.state != CaState::Active, ca.kind == CaKind::Intermediate));
    render(&PkiPage {
        frame: Frame::new(&app, &session, "pki", Said::read(query.as_deref(), &session)).await?,
        cas: cas.into_iter().map(|ca| Row::new(ca, &trust, now)).collect(),
        rotation: Open::of(&app, &trust, now).await?,
        halt: trust.halt.as_ref().map(ToString::to_string),
    })
}

/// The trust file as a download.
pub(super) async fn export(
    State(app): Shared,
    Submitted { session, .. }: Submitted<Nothing>,
) -> Result<Response, PageError> {
    app.authority.tell_export(&session.operator).await?;
    let headers = [
        (CONTENT_TYPE, "application/x-pem-file"),
        (CONTENT_DISPOSITION, "attachment; filename=\"org-ca.pem\""),
    ];
    Ok((headers, app.authority.trust().trust_file.clone()).into_response())
}

/// Back to `page`, where what was refused is said. What is broken gets a page of its own.
fn refused<R: Refusal>(session: &dashboard::Session, page: &str, error: R) -> Result<Response, PageError>
where
    PageError: From<R>,
{
    match error.status() {
        500.. => Err(error.into()),
        _ => Ok(go(session, page, "error", &error.to_string())),
    }
}
