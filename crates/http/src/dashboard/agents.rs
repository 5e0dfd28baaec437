//! `/proxy/agents` and the page of one agent.

use std::time::Duration;

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    response::{IntoResponse, Response},
};
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use mastio_authority::{Outage, lifecycle::LifecycleError, registry};
use mastio_core::{AgentId, Stamp};
use mastio_store::agents::{
    self, Method, Standing,
    fleet::{self, Filter, Listed, Status},
};
use serde::Deserialize;

use super::{
    deleted,
    history::{self, Told},
    page::{Frame, PageError, Said, render},
    session::Session,
    text,
};
use crate::{
    answer::{StrictPath, StrictQuery},
    routes::{App, Shared, lifecycle::agent_id},
};

/// The certificates that end within this time are marked.
const SOON: Duration = Duration::from_secs(30 * 24 * 3600);
/// What the list calls the agents who have them, beside the states.
const ENDING: &str = "ending";
/// Agents on one page of the list.
const PER_PAGE: u32 = 25;

#[derive(Template)]
#[template(path = "agents.html")]
struct AgentsPage {
    frame: Frame,
    needle: String,
    state: &'static str,
    agents: Vec<Line>,
    total: u64,
    on_first: bool,
    next: Option<String>,
}

struct Line {
    id: String,
    display_name: String,
    state: &'static str,
    method: &'static str,
    until: String,
    ends_soon: bool,
}

#[derive(Deserialize)]
pub(super) struct Search {
    q: Option<String>,
    state: Option<String>,
    after: Option<String>,
}

pub(super) async fn list(
    State(app): Shared,
    Session(session): Session,
    StrictQuery(search): StrictQuery<Search>,
    RawQuery(query): RawQuery,
) -> Result<Response, PageError> {
    let needle = search.q.map(|q| q.trim().to_owned()).unwrap_or_default();
    let now = app.authority.clock().now();
    let (state, narrowed) = match search.state.as_deref() {
        Some(ENDING) => (ENDING, ending(now)),
        word => {
            let status = word.and_then(Status::from_word);
            (status.map_or("", Status::as_str), Filter { status, ..Filter::default() })
        }
    };
    let filter = Filter { needle: (!needle.is_empty()).then(|| needle.clone()), ..narrowed };
    let after = search.after.as_deref().and_then(|text| AgentId::parse(text).ok());
    let store = app.authority.store();
    let total = fleet::count(store, &filter).await.map_err(Outage::from)?;
    let page = fleet::page(store, &filter, after.as_ref(), PER_PAGE).await.map_err(Outage::from)?;
    render(&AgentsPage {
        frame: Frame::new(&app, &session, "agents", Said::read(query.as_deref(), &session)).await?,
        needle,
        state,
        total,
        on_first: after.is_none(),
        next: page.next.map(|id| id.to_string()),
        agents: page.agents.into_iter().map(|listed| line(&listed, now)).collect(),
    })
}

/// The active agents whose certificate ends soon or has ended. SPIRE renews its own every hour.
pub(super) fn ending(now: Stamp) -> Filter {
    Filter {
        status: Some(Status::Active),
        other_than: Some(Method::Spiffe),
        expiring_before: Some(now.plus(SOON)),
        ..Filter::default()
    }
}

fn line(Listed { agent, not_after, .. }: &Listed, now: Stamp) -> Line {
    Line {
        id: agent.id.to_string(),
        display_name: agent.display_name.clone(),
        state: Status::from(&agent.standing).as_str(),
        method: method(agent.method),
        ends_soon: agent.is_active()
            && agent.method != Some(Method::Spiffe)
            && not_after.is_some_and(|end| end < now.plus(SOON)),
        until: not_after.map_or_else(|| "none".to_owned(), |end| text::distance(end, now)),
    }
}

/// How an agent came in, in words.
pub(super) fn method(method: Option<Method>) -> &'static str {
    match method {
        Some(Method::Admin) => "by an operator",
        Some(Method::Connector) => "by Connector",
        Some(Method::Byoca) => "with own CA",
        Some(Method::Spiffe) => "by SPIFFE",
        None => "unknown",
    }
}

#[derive(Template)]
#[template(path = "agent.html")]
struct AgentPage {
    frame: Frame,
    id: String,
    display_name: String,
    state: &'static str,
    revoked: Option<(String, String)>,
    method: &'static str,
    created: String,
    replaced: Option<String>,
    capabilities: Vec<String>,
    spiffe_id: Option<String>,
    dpop_jkt: Option<String>,
    pin: String,
    certificate: Option<Certificate>,
    grace_until: Option<String>,
    is_owned_by_spire: bool,
    history: Vec<Told>,
}

struct Certificate {
    fingerprint: String,
    serial: String,
    subject: String,
    from: String,
    until: String,
    left: String,
}

pub(super) async fn show(
    State(app): Shared,
    Session(session): Session,
    StrictPath(id): StrictPath,
    RawQuery(query): RawQuery,
) -> Result<Response, PageError> {
    let id = agent_id(&id)?;
    let said = Said::read(query.as_deref(), &session);
    let agent = match find(&app, &id).await? {
        Some(agent) => agent,
        None => {
            let page = deleted::page(&app, &session, said, &id).await?;
            return page.ok_or_else(|| LifecycleError::NotFound("agent not found").into());
        }
    };
    let history = history::of(&app, &id).await?;
    let now = app.authority.clock().now();
    let (row, frame) = (&agent.row, Frame::new(&app, &session, "agents", said).await?);
    let revoked = match &row.standing {
        Standing::Revoked { at, reason } => Some((text::moment(*at), reason.clone().unwrap_or_default())),
        _ => None,
    };
    render(&AgentPage {
        frame,
        id: id.to_string(),
        display_name: row.display_name.clone(),
        state: Status::from(&row.standing).as_str(),
        revoked,
        method: method(row.method),
        created: text::moment(row.created_at),
        replaced: row.enrolled_at.filter(|at| *at != row.created_at).map(text::moment),
        capabilities: row.capabilities.clone(),
        spiffe_id: row.spiffe_id.as_ref().map(ToString::to_string),
        dpop_jkt: row.dpop_jkt.map(|jkt| jkt.to_string()),
        pin: pin(&agent),
        certificate: agent.certificates.first().map(|leaf| certificate(leaf, now)),
        grace_until: agent.grace_until(now).map(text::moment),
        is_owned_by_spire: row.method == Some(Method::Spiffe),
        history,
    })
}

async fn find(app: &App, id: &AgentId) -> Result<Option<registry::Agent>, PageError> {
    let row = agents::find(app.authority.store(), id).await.map_err(Outage::from)?;
    Ok(row.map(registry::Agent::from))
}

/// The thumbprint that an operator has before the eyes, by which a later form is known to be about the same certificate.
pub(super) fn pin(agent: &registry::Agent) -> String {
    agent.pin.map_or_else(String::new, |pin| pin.to_string())
}

fn certificate(leaf: &mastio_pki::Certificate, now: Stamp) -> Certificate {
    Certificate {
        fingerprint: text::grouped(&leaf.thumbprint().to_string()),
        serial: leaf.serial_hex(),
        subject: leaf.subject().to_owned(),
        from: text::moment(leaf.not_before()),
        until: text::moment(leaf.not_after()),
        left: text::distance(leaf.not_after(), now),
    }
}

/// Where agents reach this Mastio: the public address, or the first name of its certificate.
pub(super) fn address(app: &App) -> String {
    let settings = &app.authority.settings;
    match &settings.public_url {
        Some(url) => url.as_str().trim_end_matches('/').to_owned(),
        None => {
            let name = settings.server_names_csv.split(',').next().unwrap_or("localhost").trim();
            format!("https://{name}:{}", settings.listen.tls.port())
        }
    }
}

/// The environment of an agent's process, without secrets.
pub(super) async fn environment(
    State(app): Shared,
    Session(_): Session,
    StrictPath(id): StrictPath,
) -> Result<Response, PageError> {
    let id = agent_id(&id)?;
    find(&app, &id).await?.ok_or(LifecycleError::NotFound("agent not found"))?;
    let text = format!(
        "CULLIS_PROXY_URL={}\nCULLIS_AGENT_ID={id}\nCULLIS_ORG_ID={}\nCULLIS_BROKER_URL=\n",
        address(&app),
        id.org()
    );
    let name = format!("attachment; filename=\"{}.env\"", id.name());
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()), (CONTENT_DISPOSITION, name)], text)
        .into_response())
}
