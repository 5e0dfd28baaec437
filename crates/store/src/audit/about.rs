//! What the audit log says about one agent, and how far the chain has got.

use mastio_core::{AgentId, OrgId, Stamp};

use crate::{Query, ReadError, Row, RowError, Store};

const TABLE: &str = "local_audit";

/// One entry, in the words in which it is stored: its hash covers exactly these.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Entry {
    /// Its row.
    pub id: i64,
    /// When.
    pub timestamp: String,
    /// What happened.
    pub event_type: String,
    /// `ok`, `denied` or `error`.
    pub result: String,
    /// Canonical JSON, as text.
    pub details: Option<String>,
    /// The session or correlation it belongs to.
    pub session_id: Option<String>,
    /// Its place in the chain; entries of the existing system may have none.
    pub chain_seq: Option<i64>,
    /// Its hash, in hex.
    pub entry_hash: Option<String>,
}

impl Entry {
    fn read(row: &Row) -> Result<Self, RowError> {
        let owned = |column| Ok::<_, RowError>(row.text_or_null(column)?.map(str::to_owned));
        Ok(Self {
            id: row.int("id")?,
            timestamp: row.text("timestamp")?.to_owned(),
            event_type: row.text("event_type")?.to_owned(),
            result: row.text("result")?.to_owned(),
            details: owned("details")?,
            session_id: owned("session_id")?,
            chain_seq: row.int_or_null("chain_seq")?,
            entry_hash: owned("entry_hash")?,
        })
    }
}

/// The newest entries about `agent`, newest first, at most `limit`.
///
/// # Errors
/// When the database cannot be read.
pub async fn about(store: &Store, agent: &AgentId, limit: u32) -> Result<Vec<Entry>, ReadError> {
    let sql = "SELECT id, timestamp, event_type, result, details, session_id, chain_seq, entry_hash \
        FROM local_audit WHERE agent_id = ?1 ORDER BY id DESC LIMIT ?2";
    let rows = store.rows(Query::new(TABLE, sql, vec![agent.into(), i64::from(limit).into()])).await?;
    rows.iter().map(Entry::read).collect::<Result<_, RowError>>().map_err(Into::into)
}

/// The newest entry of a chain.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Head {
    /// Its place.
    pub chain_seq: i64,
    /// Its hash, in hex.
    pub entry_hash: String,
}

/// The head of the chain of `org`; `None` while it is empty.
///
/// # Errors
/// When the database cannot be read.
pub async fn head(store: &Store, org: &OrgId) -> Result<Option<Head>, ReadError> {
    let sql = "SELECT chain_seq, entry_hash FROM local_audit \
        WHERE org_id = ?1 AND chain_seq IS NOT NULL ORDER BY chain_seq DESC LIMIT 1";
    let rows = store.rows(Query::new(TABLE, sql, vec![org.as_str().into()])).await?;
    let read = |row: &Row| {
        Ok::<_, RowError>(Head {
            chain_seq: row.int("chain_seq")?,
            entry_hash: row.text("entry_hash")?.to_owned(),
        })
    };
    Ok(rows.first().map(read).transpose()?)
}

/// When the newest entry of the chain of `org` is dated; `None` while it is empty.
///
/// # Errors
/// When the database cannot be read.
pub async fn newest_time(store: &Store, org: &OrgId) -> Result<Option<Stamp>, ReadError> {
    let sql = "SELECT chain_seq, timestamp FROM local_audit \
        WHERE org_id = ?1 AND chain_seq IS NOT NULL ORDER BY chain_seq DESC LIMIT 1";
    let rows = store.rows(Query::new(TABLE, sql, vec![org.as_str().into()])).await?;
    Ok(rows.first().map(|row| row.stamp("timestamp")).transpose()?)
}
