//! `/proxy/enrollments`: who waits to become an agent, and deciding it (contract `enrollment.md` §3.3).

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{FromRequest, RawQuery, Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode};
use mastio_authority::{Outage, dashboard, device::Approval};
use mastio_core::Stamp;
use mastio_store::pending::{self, PendingRow};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    page::{Frame, PageError, Said, go, go_with, render, sealed, sentence, wants_page},
    replace,
    session::{Session, Submitted},
    text,
};
use crate::{
    answer::{ApiError, StrictPath},
    routes::{App, Shared, enrollment},
};

const HERE: &str = "/proxy/enrollments";

/// How many are shown. The others come up as these are decided.
const SHOWN: u32 = 50;

#[derive(Template)]
#[template(path = "enrollments.html")]
struct EnrollmentsPage {
    frame: Frame,
    requests: Vec<Ask>,
    address: String,
}

/// A request to become an agent, in words of its sender's.
pub(super) struct Ask {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) email: String,
    pub(super) reason: Option<String>,
    pub(super) device: Option<String>,
    pub(super) kind: &'static str,
    pub(super) fingerprint: String,
    pub(super) code: String,
    pub(super) since: String,
    pub(super) until: String,
    /// What an operator typed before, when that was refused.
    pub(super) draft: Draft,
}

/// What was typed for the enrollment `sid`: in the sealed address, because a link that fills in the form of another
/// requester would have an operator give away an agent.
#[derive(Default, Deserialize)]
pub(super) struct Draft {
    #[serde(default)]
    sid: String,
    #[serde(default)]
    pub(super) agent_id: String,
    #[serde(default)]
    pub(super) capabilities: String,
    #[serde(default)]
    pub(super) groups: String,
}

/// Longest draft that is carried in an address, in bytes.
const MAX_DRAFT: usize = 2048;

impl Ask {
    pub(super) fn new(row: PendingRow, now: Stamp) -> Self {
        Self {
            id: row.id.to_string(),
            code: text::code(&row.fingerprint),
            fingerprint: text::grouped(&row.fingerprint),
            name: row.requester.name,
            email: row.requester.email,
            reason: row.requester.reason.filter(|reason| !reason.is_empty()),
            device: row.requester.device_info.filter(|device| !device.is_empty()),
            kind: row.kind.as_str(),
            since: text::distance(row.created_at, now),
            until: text::distance(row.expires_at, now),
            draft: Draft::default(),
        }
    }
}

pub(super) async fn list(
    State(app): Shared,
    Session(session): Session,
    RawQuery(query): RawQuery,
) -> Result<Response, PageError> {
    let (store, now) = (app.authority.store(), app.authority.clock().now());
    let rows = pending::waiting(store, now, SHOWN).await.map_err(Outage::from)?;
    let mut requests: Vec<Ask> = rows.into_iter().map(|row| Ask::new(row, now)).collect();
    if let Some(draft) = sealed::<Draft>(query.as_deref(), &session)
        && let Some(place) = requests.iter().position(|ask| ask.id == draft.sid)
    {
        // What was refused comes first, below the reason.
        requests[..=place].rotate_right(1);
        requests[0].draft = draft;
    }
    render(&EnrollmentsPage {
        frame: Frame::new(&app, &session, "enrollments", Said::read(query.as_deref(), &session)).await?,
        requests,
        address: super::agents::address(&app),
    })
}

/// A form that decides. One that cannot be read is told to a script like any other mistake.
pub(super) struct Decision<T>(Submitted<T>);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Decision<T> {
    type Rejection = Response;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Response> {
        let wants_page = wants_page(request.headers());
        Submitted::from_request(request, app).await.map(Self).map_err(|error| match error {
            PageError::Refused(error) if error.status == StatusCode::UNPROCESSABLE_ENTITY && !wants_page => {
                told(error)
            }
            error => error.into_response(),
        })
    }
}

/// What a script reads that asked for something wrong (contract `enrollment.md` §3.3).
fn told(error: ApiError) -> Response {
    ApiError { status: StatusCode::BAD_REQUEST, ..error }.into_response()
}

#[derive(Deserialize)]
pub(super) struct Approve {
    #[serde(default)]
    pub(super) agent_id: String,
    #[serde(default)]
    pub(super) capabilities: String,
    #[serde(default)]
    pub(super) groups: String,
    /// The pin of the agent that is replaced, as the operator saw it.
    pub(super) replace: Option<String>,
}

pub(super) async fn approve(
    State(app): Shared,
    StrictPath(id): StrictPath,
    headers: HeaderMap,
    Decision(Submitted { session, fields }): Decision<Approve>,
) -> Result<Response, PageError> {
    let before = replace::present(&app, fields.agent_id.trim()).await?;
    if let Some(agent) = &before
        && wants_page(&headers)
        && !replace::is_confirmed(&fields, agent)
        && let Ok(row) = enrollment::find(&app.authority, &id).await
        && let Some(question) = replace::ask(&app, &session, row, &fields, agent).await?
    {
        return Ok(question);
    }
    let decide = async || {
        let approval = enrollment::checked(Approval {
            agent_id: fields.agent_id.trim().to_owned(),
            capabilities: text::list(&fields.capabilities),
            groups: text::list(&fields.groups),
            reuse: false,
        })?;
        let id = enrollment::session(&id)?;
        let agent = app.authority.approve_enrollment(&id, &approval, &session.operator).await?;
        Ok(match before {
            None => format!("Approved: {agent} gets its certificate the next time it asks."),
            Some(before) => {
                let now = replace::present(&app, agent.as_str()).await?;
                replace::told(&before, now.and_then(|now| now.grace_until(app.authority.clock().now())))
            }
        })
    };
    let typed = [
        ("sid", id.as_str()),
        ("agent_id", &fields.agent_id),
        ("capabilities", &fields.capabilities),
        ("groups", &fields.groups),
    ];
    answer(&session, &headers, &typed, decide().await)
}

#[derive(Deserialize)]
pub(super) struct Reject {
    #[serde(default)]
    reason: String,
}

pub(super) async fn reject(
    State(app): Shared,
    StrictPath(id): StrictPath,
    headers: HeaderMap,
    Decision(Submitted { session, fields }): Decision<Reject>,
) -> Result<Response, PageError> {
    let decide = async || {
        let reason = enrollment::checked_reason(fields.reason.trim())?;
        let id = enrollment::session(&id)?;
        app.authority.reject_enrollment(&id, reason, &session.operator).await?;
        Ok("Rejected.".to_owned())
    };
    answer(&session, &headers, &[], decide().await)
}

/// Back to the list, where it is said and what was `typed` for a refused form stands again; a script that asks for no page is told what was wrong.
fn answer(
    session: &dashboard::Session,
    headers: &HeaderMap,
    typed: &[(&str, &str)],
    decided: Result<String, ApiError>,
) -> Result<Response, PageError> {
    let wants_page = wants_page(headers);
    match decided {
        Ok(text) => Ok(go(session, HERE, "flash", &text)),
        Err(error) if error.status.is_server_error() && wants_page => Err(error.into()),
        Err(error) if wants_page => {
            let text = sentence(&error.detail);
            let length: usize = typed.iter().map(|(_, text)| text.len()).sum();
            let typed = if length > MAX_DRAFT { &[] } else { typed };
            Ok(go_with(session, HERE, &[&[("error", text.as_str())], typed].concat()))
        }
        Err(error) if error.status.is_server_error() => Ok(error.into_response()),
        Err(error) => Ok(told(error)),
    }
}
