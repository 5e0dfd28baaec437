//! An entry with its own memory.

use mastio_audit::LocalRow;

use crate::{Row, RowError};

/// One entry, in the words in which it is stored: its hash covers exactly these.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Entry {
    /// Its row.
    pub id: i64,
    /// When.
    pub timestamp: String,
    /// What happened.
    pub event_type: String,
    /// The agent that acted, or that it happened to.
    pub agent_id: Option<String>,
    /// `ok`, `denied` or `error`.
    pub result: String,
    /// Canonical JSON, as text.
    pub details: Option<String>,
    /// The session or correlation it belongs to.
    pub session_id: Option<String>,
    /// Whose chain it is in.
    pub org_id: Option<String>,
    /// Its place in the chain; entries of the existing system may have none.
    pub chain_seq: Option<i64>,
    /// The hash of the entry before, in hex.
    pub previous_hash: Option<String>,
    /// Its hash, in hex.
    pub entry_hash: Option<String>,
    /// Which text the hash is taken over.
    pub hash_format: Option<String>,
}

impl Entry {
    /// A copy of a row.
    #[must_use]
    pub fn of(row: &LocalRow<'_>) -> Self {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Self {
            id: row.id,
            timestamp: row.timestamp.to_owned(),
            event_type: row.event_type.to_owned(),
            agent_id: owned(row.agent_id),
            result: row.result.to_owned(),
            details: owned(row.details),
            session_id: owned(row.session_id),
            org_id: owned(row.org_id),
            chain_seq: row.chain_seq,
            previous_hash: owned(row.previous_hash),
            entry_hash: owned(row.entry_hash),
            hash_format: owned(row.hash_format),
        }
    }

    /// Reads a row with all of its columns.
    pub(super) fn read(row: &Row) -> Result<Self, RowError> {
        let owned = |column| row.text(column).map(str::to_owned);
        let or_null = |column| Ok::<_, RowError>(row.text_or_null(column)?.map(str::to_owned));
        Ok(Self {
            id: row.int("id")?,
            timestamp: owned("timestamp")?,
            event_type: owned("event_type")?,
            agent_id: or_null("agent_id")?,
            result: owned("result")?,
            details: or_null("details")?,
            session_id: or_null("session_id")?,
            org_id: or_null("org_id")?,
            chain_seq: row.int_or_null("chain_seq")?,
            previous_hash: or_null("previous_hash")?,
            entry_hash: or_null("entry_hash")?,
            hash_format: or_null("hash_format")?,
        })
    }

    /// The entry as the chain's verifier takes it. The columns about peers are empty on a Mastio.
    #[must_use]
    pub fn row(&self) -> LocalRow<'_> {
        LocalRow {
            id: self.id,
            timestamp: &self.timestamp,
            event_type: &self.event_type,
            agent_id: self.agent_id.as_deref(),
            session_id: self.session_id.as_deref(),
            org_id: self.org_id.as_deref(),
            result: &self.result,
            details: self.details.as_deref(),
            previous_hash: self.previous_hash.as_deref(),
            entry_hash: self.entry_hash.as_deref(),
            chain_seq: self.chain_seq,
            peer_org_id: None,
            hash_format: self.hash_format.as_deref(),
        }
    }
}
