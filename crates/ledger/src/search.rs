//! What operators ask the audit log.

use std::sync::Arc;

use mastio_authority::Outage;
use mastio_core::{AgentId, Stamp};
use mastio_store::{
    ReadError, Unavailable,
    audit::{self, Entry, Filter, Order, Page, View, index},
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{Ledger, export::archived_through, sentence::sentence};

/// An entry, told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Told {
    /// The table that it is in: `local_audit`, or the `audit_log` of an adopted database.
    pub table: &'static str,
    /// What happened, in one sentence.
    pub sentence: String,
    /// The entry.
    #[serde(flatten)]
    pub entry: Entry,
}

impl Told {
    /// An entry of `local_audit`.
    #[must_use]
    pub fn local(entry: Entry) -> Self {
        Self { table: "local_audit", sentence: sentence(&entry), entry }
    }

    /// As JSON, with its details as they are and not as a text.
    #[must_use]
    pub fn document(&self) -> Value {
        let mut document = json!(self);
        if let Some(details) = &self.entry.details
            && let Ok(details) = serde_json::from_str::<Value>(details)
        {
            document["details"] = details;
        }
        document
    }
}

/// So many new entries between two looks are a busy Mastio.
const BUSY: i64 = 1000;
/// So many entries a search may have to read beside the index: a tenth of a second.
const BACKLOG: i64 = 65_536;

/// How far the log was at the last look.
#[derive(Debug, Clone, Copy, Default)]
pub struct IndexPace {
    newest: i64,
}

/// Where a timeline goes on: after these rows of the two tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// The last one of `local_audit`.
    pub local: Option<i64>,
    /// The last one of `audit_log`.
    pub admin: Option<i64>,
}

/// A page of a timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    /// What happened, newest first.
    pub entries: Vec<Told>,
    /// Where the next page begins, if there is one.
    pub next: Option<Place>,
}

impl Ledger {
    /// At most `limit` entries, newest first, after the one with the row id `after`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn search(&self, filter: Filter, after: Option<i64>, limit: u32) -> Result<Page, Outage> {
        Ok(audit::search(self.authority.store(), filter, after, limit).await?)
    }

    /// What is written about `agent`, in both tables, newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn timeline(&self, agent: &AgentId, after: Place, limit: u32) -> Result<Timeline, Outage> {
        let agent = agent.to_string();
        self.read(move |view| timeline(view, agent, after, limit)).await
    }

    /// Up to which place entries from `from` on are in archives, and not found; `None`: all are here.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn archived_through(&self, from: Option<Stamp>) -> Result<Option<i64>, Outage> {
        let org = self.authority.trust().org.clone();
        self.read(move |view| archived_through(view, Some(org.as_str()), from)).await
    }

    /// How many chunks should be brought into the search index now: all that wait, but none while requests write many
    /// entries, unless searches would have to read too much beside the index. `pace` is what the last look saw.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn chunks_due(&self, pace: &mut IndexPace) -> Result<u64, Outage> {
        let database = Arc::clone(self.authority.store().database());
        let reach = tokio::task::spawn_blocking(move || index::reach(&database));
        let (newest, indexed) = reach.await.map_err(Outage::internal)??;
        let (grown, waiting) = (newest - pace.newest, newest - indexed);
        pace.newest = newest;
        let due = waiting >= BACKLOG || grown < BUSY;
        Ok(if due { waiting.unsigned_abs() / u64::from(index::CHUNK) } else { 0 })
    }

    /// Brings the next chunk of entries into the search index, if there is one.
    ///
    /// # Errors
    /// When the database cannot be read or written; the entries are found all the same.
    pub async fn index_next(&self) -> Result<bool, Outage> {
        let database = Arc::clone(self.authority.store().database());
        let next = tokio::task::spawn_blocking(move || index::next_chunk(&database));
        match next.await.map_err(Outage::internal)?? {
            Some(chunk) => {
                self.authority.store().submit(chunk.unit()).await.map_err(Outage::from).map(|_| true)
            }
            None => Ok(false),
        }
    }

    /// Reads the audit log as it is at this moment.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&View<'_>) -> Result<T, Unavailable> + Send + 'static,
    ) -> Result<T, Outage> {
        let database = Arc::clone(self.authority.store().database());
        let answered = tokio::task::spawn_blocking(move || database.audit(read)).await;
        Ok(answered.map_err(Outage::internal)?.map_err(ReadError::from)?)
    }
}

/// Two lists that are each newest first become one.
fn timeline(view: &View<'_>, agent: String, after: Place, limit: u32) -> Result<Timeline, Unavailable> {
    let admin = view.admin_entries(&agent, after.admin, limit + 1)?;
    let filter = Filter { agent: Some(agent), ..Filter::default() };
    let local = view.search(&filter, Order::NewestFirst, after.local, limit + 1)?.entries;
    let (mut local, mut admin) = (local.into_iter().peekable(), admin.into_iter().peekable());
    let (mut entries, mut at) = (Vec::new(), after);
    while entries.len() < limit as usize {
        let is_local = match (local.peek(), admin.peek()) {
            (Some(one), Some(other)) => time(one) >= time(other),
            (one, _) => one.is_some(),
        };
        let next = if is_local { local.next().map(Told::local) } else { admin.next().map(admin_told) };
        let Some(told) = next else { break };
        let last = if is_local { &mut at.local } else { &mut at.admin };
        *last = Some(told.entry.id);
        entries.push(told);
    }
    let more = local.peek().is_some() || admin.peek().is_some();
    Ok(Timeline { entries, next: more.then_some(at) })
}

fn admin_told(entry: Entry) -> Told {
    Told { table: audit::ADMIN_CHAIN, ..Told::local(entry) }
}

fn time(entry: &Entry) -> Option<Stamp> {
    Stamp::parse(&entry.timestamp).ok()
}
