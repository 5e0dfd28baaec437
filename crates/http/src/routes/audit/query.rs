//! What the audit log is asked, read from the query string. A filter that cannot be read is refused: one that silently
//! does not apply would show an auditor something else than what was asked for.

use std::fmt;

use mastio_core::{OrgId, Stamp};
use mastio_ledger::{
    export::{Format, Question, USUAL_LIMIT},
    search::Place,
};
use mastio_store::audit::{EventName, Filter, Words};
use serde::Deserialize;

use crate::{
    answer::{ApiError, Invalid},
    routes::{
        App,
        fleet::query::{TIMES, read, time},
        lifecycle::named,
    },
};

/// The most entries of a page.
const MAX_LIMIT: u32 = 1000;
/// The entries of a page that nobody gave a limit for.
const USUAL_PAGE: u32 = 100;

/// The query of a search. A name that is none of these is refused.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SearchQuery {
    pub(crate) agent: Option<String>,
    pub(crate) event: Option<String>,
    pub(crate) result: Option<String>,
    pub(crate) session: Option<String>,
    pub(crate) from: Option<String>,
    pub(crate) to: Option<String>,
    pub(crate) text: Option<String>,
    pub(crate) limit: Option<String>,
    pub(crate) cursor: Option<String>,
}

impl SearchQuery {
    /// The filter, the entry to go on after, and how many.
    pub(crate) fn read(self, app: &App) -> Result<(Filter, Option<i64>, u32), ApiError> {
        let (from, until) = window(("from", self.from), ("to", self.to))?;
        let filter = Filter {
            org: None,
            agent: agent(app, "agent", self.agent)?,
            event: event("event", self.event)?,
            result: read("result", self.result, result, "use ok, denied or error")?,
            session: given(self.session),
            from,
            until,
            text: read("text", self.text, Words::read, "give at least one letter or digit")?,
        };
        Ok((filter, cursor(self.cursor)?.local, limit(self.limit)?))
    }
}

/// The query of a timeline.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PageQuery {
    limit: Option<String>,
    cursor: Option<String>,
}

impl PageQuery {
    pub(crate) fn read(self) -> Result<(Place, u32), ApiError> {
        Ok((cursor(self.cursor)?, limit(self.limit)?))
    }
}

/// The query of an export (contract `audit-and-database.md` §1.8).
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExportQuery {
    format: Option<String>,
    start: Option<String>,
    end: Option<String>,
    org_id: Option<String>,
    event_type: Option<String>,
    actor: Option<String>,
    limit: Option<String>,
}

impl ExportQuery {
    pub(crate) fn read(self, app: &App) -> Result<Question, ApiError> {
        let number = |text: &str| text.parse().ok().filter(|limit| *limit > 0);
        let (from, until) = window(("start", self.start), ("end", self.end))?;
        let org = match given(self.org_id).as_deref() {
            None => Some(app.authority.trust().org.to_string()),
            Some("*") => None,
            // Of chains that others wrote, such as `__system__`, too.
            Some(org) => Some(org.to_owned()),
        };
        Ok(Question {
            format: read("format", self.format, format, "use ndjson, json or csv")?.unwrap_or(Format::Ndjson),
            org,
            filter: Filter {
                from,
                until,
                event: event("event_type", self.event_type)?,
                agent: agent(app, "actor", self.actor)?,
                ..Filter::default()
            },
            limit: read("limit", self.limit, number, "use a number above 0")?.unwrap_or(USUAL_LIMIT),
        })
    }
}

type Named = (&'static str, Option<String>);

/// The times of two parameters. Nothing lies between an end and a later beginning, and nothing would be the answer.
fn window(first: Named, last: Named) -> Result<(Option<Stamp>, Option<Stamp>), ApiError> {
    let (from, until) = (read(first.0, first.1, time, TIMES)?, read(last.0, last.1, time, TIMES)?);
    match inverted((first.0, from.as_ref()), (last.0, until.as_ref())) {
        Some(problem) => Err(ApiError::unprocessable(vec![Invalid::query(first.0, problem)])),
        None => Ok((from, until)),
    }
}

/// What is said of a range whose first end is behind its last.
pub(crate) fn inverted<T: Ord + fmt::Display>(
    (first, from): (&str, Option<&T>),
    (last, until): (&str, Option<&T>),
) -> Option<String> {
    let (from, until) = from.zip(until).filter(|(from, until)| from > until)?;
    Some(format!("{first} must not be behind {last}, and {from} is behind {until}; exchange them"))
}

fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// With or without the organisation in front.
fn agent(app: &App, name: &str, text: Option<String>) -> Result<Option<String>, ApiError> {
    let id = |text: &str| named(app, text).ok().map(|id| id.to_string());
    read(name, text, id, "use an agent's id or name")
}

fn event(name: &str, text: Option<String>) -> Result<Option<EventName>, ApiError> {
    let is_name =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-*".contains(&byte));
    let event = |text: &str| is_name(text).then(|| EventName::read(text));
    read(name, text, event, "use a name such as agent.revoked, or the beginning of several, such as agent.")
}

fn result(text: &str) -> Option<String> {
    let known = match text {
        "success" => "ok",
        other => ["ok", "denied", "error"].into_iter().find(|known| *known == other)?,
    };
    Some(known.to_owned())
}

fn format(text: &str) -> Option<Format> {
    match text {
        "ndjson" | "json" => Some(Format::Ndjson),
        "csv" => Some(Format::Csv),
        _ => None,
    }
}

fn limit(text: Option<String>) -> Result<u32, ApiError> {
    let number = |text: &str| text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
    Ok(read("limit", text, number, "use a number from 1 to 1000")?.unwrap_or(USUAL_PAGE))
}

/// What [`cursor_of`] wrote.
pub(crate) fn cursor(text: Option<String>) -> Result<Place, ApiError> {
    let id = |text: &str| match text {
        "" => Some(None),
        digits => digits.parse().ok().filter(|id: &i64| *id > 0).map(Some),
    };
    let place = |text: &str| {
        let (local, admin) = text.split_once('.').unwrap_or((text, ""));
        Some(Place { local: id(local)?, admin: id(admin)? })
    };
    Ok(read("cursor", text, place, "take the one of the page before as it is")?.unwrap_or_default())
}

/// Where the next page begins, as clients hand it back.
pub(crate) fn cursor_of(place: Place) -> String {
    let text = |id: Option<i64>| id.map_or_else(String::new, |id| id.to_string());
    match place.admin {
        None => text(place.local),
        admin => format!("{}.{}", text(place.local), text(admin)),
    }
}

/// A place in a chain: a number in ours, or `<org>:<number>` as heads and exports write it.
pub(crate) fn place(text: &str) -> Result<(Option<OrgId>, i64), ApiError> {
    let (org, seq) = match text.rsplit_once(':') {
        Some((org, seq)) => (OrgId::parse(org).ok().map(Some), seq),
        None => (Some(None), text),
    };
    let seq = seq.parse().ok().filter(|seq: &i64| *seq > 0);
    let wrong = || ApiError::bad_request("not an entry: use its number in the chain, or <org>:<number>");
    org.zip(seq).ok_or_else(wrong)
}
