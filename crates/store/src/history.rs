//! What the audit log says about one agent, newest first.

use mastio_core::{AgentId, Stamp};

use crate::{Query, ReadError, Row, RowError, Store};

/// An entry, as a reader needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its row.
    pub id: i64,
    /// When it was written.
    pub at: Stamp,
    /// The name of the event.
    pub event: String,
    /// `ok`, `denied` or `error`.
    pub result: String,
    /// JSON, or what the existing system wrote.
    pub details: Option<String>,
}

impl Entry {
    fn read(row: &Row) -> Result<Self, RowError> {
        Ok(Self {
            id: row.int("id")?,
            at: row.stamp("timestamp")?,
            event: row.text("event_type")?.to_owned(),
            result: row.text("result")?.to_owned(),
            details: row.text_or_null("details")?.map(str::to_owned),
        })
    }
}

/// The last `limit` entries about `agent`.
///
/// # Errors
/// When the database cannot be read or a row is illegal.
pub async fn of_agent(store: &Store, agent: &AgentId, limit: u32) -> Result<Vec<Entry>, ReadError> {
    let sql = "SELECT id, timestamp, event_type, result, details FROM local_audit \
               WHERE agent_id = ?1 ORDER BY id DESC LIMIT ?2";
    let values = vec![agent.into(), i64::from(limit).into()];
    let rows = store.rows(Query::new("local_audit", sql, values)).await?;
    Ok(rows.iter().map(Entry::read).collect::<Result<_, _>>()?)
}
