//! Handing out the audit log, however long it is (contract `audit-and-database.md` §1.8).
//!
//! One thread reads in one transaction and writes [`Portions`]. The log tells who was given what before the first byte
//! leaves; that entry is behind what is handed out.

use mastio_audit::lines;
use mastio_authority::{Outage, Refusal, admin::Operator};
use mastio_core::{Event, Stamp, counted, event::catalogue};
use mastio_store::{
    ReadError, Unavailable, Unit,
    audit::{Filter, Range, View},
};
use tokio::sync::oneshot;

use crate::{
    Ledger,
    portions::{Feed, Portions, Stalled},
};

/// How many entries are handed out unless more are asked for.
pub const USUAL_LIMIT: u64 = 10_000;

/// How entries are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A JSON object on each line; time stamps after the entries.
    Ndjson,
    /// Records of RFC 4180 after a header.
    Csv,
}

impl Format {
    /// The word that asks for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Question {
    /// How it is written.
    pub format: Format,
    /// Whose chain; `None`: all that there are.
    pub org: Option<String>,
    /// Which entries of it.
    pub filter: Filter,
    /// How many at most.
    pub limit: u64,
}

impl Question {
    fn told(&self, begun: &Export, operator: &Operator) -> Event {
        let Filter { from, until, event, agent, .. } = &self.filter;
        Event::new(&catalogue::AuditExported {
            format: self.format.as_str(),
            org_id: self.org.clone().unwrap_or_else(|| "*".to_owned()),
            start: *from,
            end: *until,
            event_type: event.as_ref().map(ToString::to_string),
            actor: agent.clone(),
            entries: begun.entries,
            archived_through: begun.archived_through,
            by: operator.fingerprint.clone(),
        })
    }
}

/// Why nothing is handed out.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// More than asked for.
    #[error(
        "at least {} match, and the limit is {limit}: narrow the window with start and end, or raise limit",
        counted(*at_least, "entry", "entries")
    )]
    TooMany {
        /// How many were counted before counting stopped.
        at_least: u64,
        /// How many were asked for at most.
        limit: u64,
    },
    /// More than any client may ask for.
    #[error("limit may be at most {ceiling}: ask for less at a time, or raise CULLIS_AUDIT_EXPORT_MAX")]
    Limit {
        /// What the operator set.
        ceiling: u64,
    },
    /// The client takes nothing.
    #[error("{0}")]
    Stalled(#[from] Stalled),
    /// The database.
    #[error("{0}")]
    Outage(#[from] Outage),
}

impl From<Unavailable> for ExportError {
    fn from(unavailable: Unavailable) -> Self {
        Self::Outage(ReadError::from(unavailable).into())
    }
}

impl Refusal for ExportError {
    fn status(&self) -> u16 {
        match self {
            Self::TooMany { .. } => 413,
            Self::Limit { .. } => 400,
            Self::Stalled(_) => 408,
            Self::Outage(outage) => outage.status(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::TooMany { .. } => "export_too_large",
            Self::Limit { .. } => "export_limit",
            Self::Stalled(_) => "export_stalled",
            Self::Outage(outage) => outage.reason(),
        }
    }
}

/// An export that has begun.
#[derive(Debug)]
pub struct Export {
    /// How many entries it has.
    pub entries: u64,
    /// The place of the last archived entry, if the window reaches to what was archived.
    pub archived_through: Option<i64>,
    /// The text.
    pub portions: Portions<ExportError>,
}

impl Ledger {
    /// Counts what is asked for and, if it is not too much, tells that `operator` was given it and begins to hand it
    /// out.
    ///
    /// # Errors
    /// When it is too much, or the database cannot be read or written. Then nothing is told.
    pub async fn export(&self, question: Question, operator: &Operator) -> Result<Export, ExportError> {
        let ceiling = self.authority.settings.audit.export_max;
        if let Some(ceiling) = ceiling
            && question.limit > ceiling.get()
        {
            return Err(ExportError::Limit { ceiling: ceiling.get() });
        }
        let database = std::sync::Arc::clone(self.authority.store().database());
        let (begun, beginning) = oneshot::channel();
        let asked = question.clone();
        tokio::task::spawn_blocking(move || {
            // Whoever asked may have left; then nobody hears how it went.
            let mut begun = Some(begun);
            let read = database.audit(|view| Ok(begin(view, &question, &mut begun)));
            let outcome = read.map_err(ExportError::from).and_then(|begun| begun);
            if let (Err(error), Some(begun)) = (outcome, begun) {
                let _ = begun.send(Err(error));
            }
        });
        let ended = |_| Outage::internal("the reader of an export ended early");
        let export = beginning.await.map_err(ended)??;
        let told = asked.told(&export, operator);
        self.authority.commit(Unit::of(told)).await.map_err(Outage::from)?;
        Ok(export)
    }
}

type Begun = oneshot::Sender<Result<Export, ExportError>>;

/// Answers whoever waits on `begun`, then writes until the end.
fn begin(view: &View<'_>, question: &Question, begun: &mut Option<Begun>) -> Result<(), ExportError> {
    let ranges = ranges(view, question)?;
    let enough = question.limit.saturating_add(1);
    let mut count = 0;
    for range in &ranges {
        count += view.count(range, &question.filter, enough - count)?;
        if count >= enough {
            return Err(ExportError::TooMany { at_least: count, limit: question.limit });
        }
    }
    let (mut feed, portions) = Feed::new();
    let archived_through = archived_through(view, question.org.as_deref(), question.filter.from)?;
    let export = Export { entries: count, archived_through, portions };
    let Some(begun) = begun.take() else { return Ok(()) };
    if begun.send(Ok(export)).is_err() {
        return Ok(());
    }
    let written = write(view, question, &ranges, &mut feed);
    feed.end(written.map_err(Into::into));
    Ok(())
}

fn ranges(view: &View<'_>, question: &Question) -> Result<Vec<Range>, Unavailable> {
    let chains = match &question.org {
        Some(org) => vec![org.clone()],
        None => view.chains()?,
    };
    let ranges = chains.iter().map(|org| view.range(org, &question.filter));
    ranges.filter_map(Result::transpose).collect()
}

/// Up to which place something of the window from `from` on is in an archive, as far as times tell. Without `org` of any
/// chain; only ours has archives.
pub(crate) fn archived_through(
    view: &View<'_>,
    org: Option<&str>,
    from: Option<Stamp>,
) -> Result<Option<i64>, Unavailable> {
    let chains = org.map_or_else(|| view.chains(), |org| Ok(vec![org.to_owned()]))?;
    let mut through = None;
    for org in chains {
        let Some(mark) = view.archived(&org)? else { continue };
        let oldest = view.oldest(&org)?.and_then(|entry| Stamp::parse(&entry.timestamp).ok());
        let reaches = from.is_none_or(|from| oldest.is_none_or(|oldest| from < oldest));
        through = through.max(reaches.then_some(mark.span.last));
    }
    Ok(through)
}

fn write(
    view: &View<'_>,
    question: &Question,
    ranges: &[Range],
    feed: &mut Feed<ExportError>,
) -> Result<(), Unavailable> {
    let Question { format, filter, .. } = question;
    if *format == Format::Csv && feed.push(|text| text.extend_from_slice(lines::CSV_HEADER)).is_break() {
        return Ok(());
    }
    for range in ranges {
        view.walk(range, filter, &mut |row| {
            feed.push(|text| match format {
                Format::Ndjson => lines::ndjson(row, text),
                Format::Csv => lines::csv(row, text),
            })
        })?;
    }
    if *format == Format::Ndjson {
        for range in ranges {
            view.anchors(range, filter, &mut |anchor| feed.push(|text| lines::anchor(anchor, text)))?;
        }
    }
    Ok(())
}
