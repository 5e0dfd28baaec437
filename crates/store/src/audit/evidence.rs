//! What a bundle of entries has to name beside them.

use mastio_core::{
    OrgId,
    event::{Details, catalogue},
};

use serde::Deserialize;

use super::{covered, tree::number};
use crate::{Query, ReadError, Row, RowError, sqlite::Database};

/// The place of the entry that announced the newest log key; `None` when there is none, or it was archived.
///
/// # Errors
/// When the database cannot be read.
pub fn log_key_announced(database: &Database, org: &OrgId) -> Result<Option<i64>, ReadError> {
    // The index has all but the newest entries.
    let sql = "SELECT max(chain_seq) AS seq FROM ( \
        SELECT a.chain_seq FROM audit_search s CROSS JOIN local_audit a ON a.id = s.id \
        WHERE s.event_type = ?1 AND a.org_id = ?2 UNION ALL SELECT chain_seq FROM local_audit \
        WHERE id > coalesce((SELECT max(last_id) FROM audit_chunks), 0) AND event_type = ?1 AND org_id = ?2)";
    let name = catalogue::LogKeyAnnounced::KIND.name;
    let rows = database.rows_now(&Query::new("local_audit", sql, vec![name.into(), org.as_str().into()]))?;
    Ok(rows.first().map(|row| row.int_or_null("seq")).transpose()?.flatten())
}

/// Whose chain the tree is over, by the newest announcement of a log key; `None` when there is none.
///
/// # Errors
/// When the database cannot be read.
pub fn announcing_org(database: &Database) -> Result<Option<String>, ReadError> {
    let sql = "SELECT generation, announcement FROM audit_origins ORDER BY generation DESC LIMIT 1";
    let rows = database.rows_now(&Query::new("audit_origins", sql, vec![]))?;
    let announcement = rows.first().map(|row| row.text("announcement")).transpose()?;
    Ok(announcement.and_then(covered::issuer))
}

/// What an entry `audit.restored` tells.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Restore {
    /// Its place.
    #[serde(default)]
    pub seq: u64,
    /// The name that the log had.
    pub origin: String,
    /// The one that it has since.
    pub new_origin: String,
    /// The place of the first entry that was lost.
    pub lost_first: u64,
    /// The place of the last one that is known to be lost.
    pub lost_last: u64,
    /// The last checkpoint that is known of before: a note.
    pub last_checkpoint: String,
}

/// The restores of the chain of `org` that were accepted, oldest first, but those whose entries were archived.
///
/// # Errors
/// When the database cannot be read, or an entry is not what we write.
pub fn restores(database: &Database, org: &str) -> Result<Vec<Restore>, ReadError> {
    let sql = "SELECT chain_seq, details FROM ( \
        SELECT a.chain_seq, a.details FROM audit_search s CROSS JOIN local_audit a ON a.id = s.id \
        WHERE s.event_type = ?1 AND a.org_id = ?2 UNION ALL SELECT chain_seq, details FROM local_audit \
        WHERE id > coalesce((SELECT max(last_id) FROM audit_chunks), 0) AND event_type = ?1 AND org_id = ?2) \
        WHERE chain_seq IS NOT NULL ORDER BY chain_seq";
    let name = catalogue::LogRestored::KIND.name;
    let rows = database.rows_now(&Query::new("local_audit", sql, vec![name.into(), org.into()]))?;
    let read = |row: &Row| {
        let told: Restore = row.parse("details", |text| serde_json::from_str(text))?;
        Ok::<_, RowError>(Restore { seq: number(row, "chain_seq")?, ..told })
    };
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}
