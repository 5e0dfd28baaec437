//! How far the chain has got.

use mastio_core::{OrgId, Stamp};

use crate::{Query, ReadError, Row, RowError, Store};

const TABLE: &str = "local_audit";

/// The newest entry of a chain.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Newest {
    /// Its place.
    pub chain_seq: i64,
    /// Its hash, in hex.
    pub entry_hash: String,
    /// When.
    pub timestamp: String,
}

impl Newest {
    /// Reads it from a row with its three columns.
    pub(super) fn read(row: &Row) -> Result<Self, RowError> {
        Ok(Self {
            chain_seq: row.int("chain_seq")?,
            entry_hash: row.text("entry_hash")?.to_owned(),
            timestamp: row.text("timestamp")?.to_owned(),
        })
    }
}

/// The head of the chain of `org`; `None` while it is empty.
///
/// # Errors
/// When the database cannot be read.
pub async fn head(store: &Store, org: &OrgId) -> Result<Option<Newest>, ReadError> {
    let sql = "SELECT chain_seq, entry_hash, timestamp FROM local_audit \
        WHERE org_id = ?1 AND chain_seq IS NOT NULL ORDER BY chain_seq DESC LIMIT 1";
    let rows = store.rows(Query::new(TABLE, sql, vec![org.as_str().into()])).await?;
    Ok(rows.first().map(Newest::read).transpose()?)
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
