//! The search index: what is written into it, from rows that are committed.
//!
//! It is written in whole chunks only, so an idle Mastio writes nothing and many entries are paid for at once.

use rusqlite::Connection;

use crate::{Query, ReadError, Statement, Unit, sqlite::Database};

/// How many entries one unit brings into the index: so few that requests do not wait long for the writer.
pub const CHUNK: u32 = 256;

/// Entries that the index does not have yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    after: i64,
    last: i64,
}

/// The last id that the index has; 0 if it has none.
pub(super) fn through(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("SELECT coalesce(max(last_id), 0) FROM audit_chunks")?
        .query_row([], |row| row.get(0))
}

/// The newest entry, and the newest one that the index has, by their ids; 0 where there is none.
///
/// # Errors
/// When the database cannot be read.
pub fn reach(database: &Database) -> Result<(i64, i64), ReadError> {
    let sql = "SELECT coalesce((SELECT max(id) FROM local_audit), 0) AS newest, \
        coalesce((SELECT max(last_id) FROM audit_chunks), 0) AS indexed";
    let rows = database.rows_now(&Query::new("local_audit", sql, vec![]))?;
    let reach = rows.first().map(|row| Ok((row.int("newest")?, row.int("indexed")?))).transpose();
    Ok(reach.map_err(ReadError::Row)?.unwrap_or_default())
}

/// The next entries to be indexed; `None` while there are fewer than [`CHUNK`].
///
/// # Errors
/// When the database cannot be read.
pub fn next_chunk(database: &Database) -> Result<Option<Chunk>, ReadError> {
    let sql = "WITH done(id) AS (SELECT coalesce(max(last_id), 0) FROM audit_chunks) \
        SELECT a.id AS last, done.id AS after FROM done CROSS JOIN local_audit a WHERE a.id > done.id \
        ORDER BY a.id LIMIT 1 OFFSET ?1";
    let rows = database.rows_now(&Query::new("local_audit", sql, vec![i64::from(CHUNK - 1).into()]))?;
    let chunk =
        rows.first().map(|row| Ok(Chunk { after: row.int("after")?, last: row.int("last")? })).transpose();
    chunk.map_err(ReadError::Row)
}

impl Chunk {
    /// What brings it into the index, unless somebody else did.
    #[must_use]
    pub fn unit(&self) -> Unit {
        let values = || vec![self.after.into(), self.last.into()];
        Unit::default()
            .write(Statement::one(
                "INSERT INTO audit_chunks (last_id, first_id, earliest, latest) \
                 SELECT ?2, min(id), min(timestamp), max(timestamp) FROM local_audit WHERE id > ?1 AND id <= ?2 \
                 HAVING count(*) > 0 AND (SELECT coalesce(max(last_id), 0) FROM audit_chunks) = ?1",
                values(),
            ))
            .write(Statement::any(
                "INSERT INTO audit_search (id, agent_id, event_type, session_id, result) \
                 SELECT id, agent_id, event_type, session_id, result FROM local_audit WHERE id > ?1 AND id <= ?2",
                values(),
            ))
            .write(Statement::any(
                "INSERT INTO audit_text (rowid, details) \
                 SELECT id, details FROM local_audit WHERE id > ?1 AND id <= ?2 AND details IS NOT NULL",
                values(),
            ))
    }
}
