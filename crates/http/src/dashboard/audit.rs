//! `/proxy/audit`: the audit log, searched and handed out; and one entry explained.

use std::time::Duration;

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    response::{Html, IntoResponse, Response},
};
use mastio_core::Stamp;
use mastio_ledger::{
    explain::{ExplainError, Explained, Reference},
    search::{Place, Told},
};
use mastio_store::audit::{self, EventName, Filter, Words};
use serde::Deserialize;

use super::{
    page::{Frame, PageError, Said, render},
    session::Session,
    text,
};
use crate::{
    answer::{StrictPath, StrictQuery},
    routes::{App, Shared, audit::export, audit::query, lifecycle::named},
};

/// Entries on one page.
const PER_PAGE: u32 = 50;
/// How far the badge looks back, and where it stops counting.
const BADGE: (Duration, u32) = (Duration::from_secs(3600), 999);

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    frame: Frame,
    agent: String,
    action: String,
    status: &'static str,
    words: String,
    head: Option<String>,
    entries: Vec<Line>,
    on_first: bool,
    next: Option<String>,
}

struct Line {
    seq: Option<i64>,
    at: String,
    agent: String,
    event: String,
    result: String,
    sentence: String,
}

/// What the page is asked. Anything goes: what cannot be read is not asked. `page` and `source` are of the existing
/// system; all entries are in one list here, and pages follow each other by a cursor.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    agent: String,
    action: String,
    status: String,
    text: String,
    cursor: String,
}

pub(super) async fn list(
    State(app): Shared,
    Session(session): Session,
    RawQuery(query): RawQuery,
) -> Result<Response, PageError> {
    let asked: Asked = serde_urlencoded::from_str(query.as_deref().unwrap_or_default()).unwrap_or_default();
    let status = match asked.status.as_str() {
        "ok" | "success" => "ok",
        "denied" => "denied",
        "error" => "error",
        _ => "",
    };
    let after = query::cursor(Some(asked.cursor)).unwrap_or_default().local;
    let page =
        app.ledger().search(filter(&app, &asked.agent, &asked.action, status, &asked.text), after, PER_PAGE);
    let page = page.await?;
    let org = app.authority.trust().org.clone();
    let head = audit::head(app.authority.store(), &org).await.map_err(mastio_authority::Outage::from)?;
    render(&AuditPage {
        frame: Frame::new(&app, &session, "audit", Said::read(query.as_deref(), &session)).await?,
        agent: asked.agent,
        action: asked.action,
        status,
        words: asked.text,
        head: head.map(|head| format!("{org}:{} {}", head.chain_seq, head.entry_hash)),
        entries: page.entries.into_iter().map(Told::local).map(line).collect(),
        on_first: after.is_none(),
        next: page.next.map(|id| query::cursor_of(Place { local: Some(id), admin: None })),
    })
}

fn filter(app: &App, agent: &str, action: &str, status: &str, words: &str) -> Filter {
    let given = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    Filter {
        // What is no agent's id is nobody's: nothing is found.
        agent: given(agent).map(|text| named(app, &text).map_or(text, |id| id.to_string())),
        event: given(action).map(|text| EventName::read(&text)),
        result: given(status),
        text: Words::read(words),
        ..Filter::default()
    }
}

fn line(Told { sentence, entry, .. }: Told) -> Line {
    Line {
        seq: entry.chain_seq,
        at: Stamp::parse(&entry.timestamp).map_or(entry.timestamp, text::second),
        agent: entry.agent_id.unwrap_or_default(),
        event: entry.event_type,
        result: entry.result,
        sentence,
    }
}

#[derive(Template)]
#[template(path = "entry.html")]
struct EntryPage {
    frame: Frame,
    id: String,
    at: String,
    explained: Explained,
}

pub(super) async fn explain(
    State(app): Shared,
    Session(session): Session,
    StrictPath(seq): StrictPath,
) -> Result<Response, PageError> {
    let (org, seq) = query::place(&seq)?;
    let explained =
        app.ledger().explain(org, seq).await.map_err(|error: ExplainError| PageError::from(error))?;
    let entry = &explained.told.entry;
    render(&EntryPage {
        id: format!("{}:{seq}", entry.org_id.as_deref().unwrap_or_default()),
        at: Stamp::parse(&entry.timestamp).map_or_else(|_| entry.timestamp.clone(), text::second),
        frame: Frame::new(&app, &session, "audit", Said::default()).await?,
        explained,
    })
}

/// The log as a file, by the query of the admin API's export.
pub(super) async fn hand_out(
    State(app): Shared,
    Session(session): Session,
    StrictQuery(query): StrictQuery<query::ExportQuery>,
) -> Result<Response, PageError> {
    Ok(export::answer(&app, query, &session.operator).await?)
}

/// How many entries the last hour has (contract `audit-and-database.md` §1.7).
pub(super) async fn badge(State(app): Shared, Session(_): Session) -> Result<Response, PageError> {
    let (back, most) = BADGE;
    let filter = Filter { from: Some(app.authority.clock().now().minus(back)), ..Filter::default() };
    let page = app.ledger().search(filter, None, most).await?;
    let more = if page.next.is_some() { "+" } else { "" };
    Ok(Html(format!("{}{more}", page.entries.len())).into_response())
}

/// Other entries in the words of a page.
fn at(reference: &Reference) -> String {
    Stamp::parse(&reference.timestamp).map_or_else(|_| reference.timestamp.clone(), text::second)
}
