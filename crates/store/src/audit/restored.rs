//! Archived entries that were brought back for a search: table `restored_audit`. They are not the log.

use mastio_audit::LocalRow;
use mastio_core::OrgId;

use crate::{Query, ReadError, Statement, sqlite::Database};

/// Adds one, unless it is there already.
#[must_use]
pub fn add(row: &LocalRow<'_>) -> Statement {
    Statement::any(
        "INSERT INTO restored_audit (id, timestamp, agent_id, event_type, details, previous_hash, entry_hash, \
         session_id, org_id, result, chain_seq, peer_org_id, hash_format) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) ON CONFLICT DO NOTHING",
        vec![
            row.id.into(),
            row.timestamp.into(),
            row.agent_id.into(),
            row.event_type.into(),
            row.details.into(),
            row.previous_hash.into(),
            row.entry_hash.into(),
            row.session_id.into(),
            row.org_id.into(),
            row.result.into(),
            row.chain_seq.into(),
            row.peer_org_id.into(),
            row.hash_format.into(),
        ],
    )
}

/// Drops all of them.
#[must_use]
pub fn drop_all() -> Statement {
    Statement::any("DELETE FROM restored_audit", vec![])
}

/// How many there are of the chain of `org`.
///
/// # Errors
/// When the database cannot be read.
pub fn count(database: &Database, org: &OrgId) -> Result<u64, ReadError> {
    let sql = "SELECT count(*) AS entries FROM restored_audit WHERE org_id = ?1";
    let rows = database.rows_now(&Query::new("restored_audit", sql, vec![org.as_str().into()]))?;
    Ok(rows.first().map(|row| row.int("entries")).transpose()?.unwrap_or_default().unsigned_abs())
}
