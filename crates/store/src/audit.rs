//! Reading the audit tables: row by row in constant memory, for verification and for whoever hands them out
//! ([`View`]), and in pages ([`search`]).

pub mod anchors;
pub mod checkpoints;
mod entry;
mod filter;
mod head;
pub mod index;
pub mod origins;
mod search;
pub mod tree;
mod view;

use std::path::Path;

use mastio_audit::{
    AdminRow, AdminVerifier, Break, ChainReport, LocalRow, LocalVerifier, Unchained, UnchainedReport,
};
use mastio_core::event::{Details, catalogue};
use rusqlite::{Connection, Row, types::ValueRef};

pub use entry::Entry;
pub use filter::{EventName, Filter, Words};
pub use head::{Head, head, newest_time};
pub use search::{Order, Page, about, search};
pub use view::{Archived, Range, View};

use crate::{
    ReadError,
    sqlite::{self, Database},
    writer::Unavailable,
};

/// What verifying one stored chain found.
#[derive(Debug)]
pub struct ChainFinding {
    /// The organisation, or `audit_log` for the chain of that table.
    pub chain: String,
    /// The report, or where the chain stops holding.
    pub result: Result<ChainReport, Break>,
    /// Rows of the same scope that no chain covers.
    pub unchained: UnchainedReport,
}

/// The name under which the chain of the table `audit_log` is reported.
pub const ADMIN_CHAIN: &str = "audit_log";

/// Verifies every chain in the database file at `path`, with `progress` told of every thousand rows.
///
/// # Errors
/// When the file cannot be read. A broken chain is a finding, not an error.
pub fn verify_file(path: &Path, progress: &mut dyn FnMut(u64)) -> Result<Vec<ChainFinding>, Unavailable> {
    let connection = sqlite::open_read_only(path)?;
    verify(&connection, progress).map_err(|error| sqlite::fault(&error))
}

fn verify(connection: &Connection, progress: &mut dyn FnMut(u64)) -> rusqlite::Result<Vec<ChainFinding>> {
    // One read transaction: rows that are appended meanwhile belong to the next run.
    let transaction = connection.unchecked_transaction()?;
    let mut done = 0;
    let mut step = || {
        done += 1;
        if done % 1000 == 0 {
            progress(done);
        }
    };
    let mut findings = Vec::new();
    for org in organisations(&transaction)? {
        findings.push(verify_local(&transaction, &org, &mut step)?);
    }
    if sqlite::has_table(&transaction, ADMIN_CHAIN)? {
        findings.push(verify_admin(&transaction, &mut step)?);
    }
    Ok(findings)
}

fn organisations(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    // Steps from one organisation to the next along the unique index instead of reading every row.
    let mut statement = connection.prepare(
        "WITH RECURSIVE chain(org) AS (SELECT min(org_id) FROM local_audit UNION ALL \
         SELECT (SELECT min(org_id) FROM local_audit WHERE org_id > chain.org) FROM chain \
         WHERE chain.org IS NOT NULL) SELECT org FROM chain WHERE org IS NOT NULL",
    )?;
    statement.query_map([], |row| row.get(0))?.collect()
}

/// What [`local_row`] reads, of `local_audit a`.
const LOCAL_COLUMNS: &str = "SELECT a.id, a.timestamp, a.event_type, a.agent_id, a.session_id, a.org_id, a.result, \
    a.details, a.previous_hash, a.entry_hash, a.chain_seq, a.peer_org_id, a.hash_format";

fn verify_local(
    connection: &Connection,
    org: &str,
    step: &mut dyn FnMut(),
) -> rusqlite::Result<ChainFinding> {
    let mut verifier = LocalVerifier::new();
    let sql = format!(
        "{LOCAL_COLUMNS} FROM local_audit a WHERE org_id = ?1 AND chain_seq IS NOT NULL ORDER BY chain_seq"
    );
    let broken = walk(connection, &sql, &[&org], |row| {
        step();
        Ok(verifier.push(&local_row(row)?))
    })?;
    let mut unchained = Unchained::new();
    let sql =
        format!("{LOCAL_COLUMNS} FROM local_audit a WHERE org_id = ?1 AND chain_seq IS NULL ORDER BY id");
    walk(connection, &sql, &[&org], |row| {
        unchained.push_local(&local_row(row)?);
        Ok(Ok(()))
    })?;
    let result = broken.map_or_else(|| Ok(verifier.finish()), Err);
    Ok(ChainFinding { chain: org.to_owned(), result, unchained: unchained.finish() })
}

const ADMIN_COLUMNS: &str = "SELECT id, timestamp, agent_id, action, tool_name, status, detail, request_id, \
    dpop_jkt, on_behalf_of_user_id, chain_seq, prev_hash, row_hash, hash_format FROM audit_log";

fn verify_admin(connection: &Connection, step: &mut dyn FnMut()) -> rusqlite::Result<ChainFinding> {
    let mut verifier = AdminVerifier::new();
    let sql = format!("{ADMIN_COLUMNS} WHERE chain_seq IS NOT NULL ORDER BY chain_seq");
    let broken = walk(connection, &sql, &[], |row| {
        step();
        Ok(verifier.push(&admin_row(row)?))
    })?;
    let mut unchained = Unchained::new();
    let sql = format!("{ADMIN_COLUMNS} WHERE chain_seq IS NULL ORDER BY id");
    walk(connection, &sql, &[], |row| {
        unchained.push_admin(&admin_row(row)?);
        Ok(Ok(()))
    })?;
    let result = broken.map_or_else(|| Ok(verifier.finish()), Err);
    Ok(ChainFinding { chain: ADMIN_CHAIN.to_owned(), result, unchained: unchained.finish() })
}

/// Whether the log tells of a chain that did not verify.
///
/// # Errors
/// When the database cannot be read.
pub fn is_told_broken(database: &Database) -> Result<bool, ReadError> {
    Ok(search::is_told(database, catalogue::ChainBreakDetected::KIND.name)?)
}

/// Feeds rows to `push` until it finds a break.
fn walk(
    connection: &Connection,
    sql: &str,
    parameters: &[&dyn rusqlite::ToSql],
    mut push: impl FnMut(&Row<'_>) -> rusqlite::Result<Result<(), Break>>,
) -> rusqlite::Result<Option<Break>> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query(parameters)?;
    while let Some(row) = rows.next()? {
        if let Err(broken) = push(row)? {
            return Ok(Some(broken));
        }
    }
    Ok(None)
}

fn local_row<'a>(row: &'a Row<'_>) -> rusqlite::Result<LocalRow<'a>> {
    Ok(LocalRow {
        id: row.get(0)?,
        timestamp: text(row, 1)?.unwrap_or_default(),
        event_type: text(row, 2)?.unwrap_or_default(),
        agent_id: text(row, 3)?,
        session_id: text(row, 4)?,
        org_id: text(row, 5)?,
        result: text(row, 6)?.unwrap_or_default(),
        details: text(row, 7)?,
        previous_hash: text(row, 8)?,
        entry_hash: text(row, 9)?,
        chain_seq: row.get(10)?,
        peer_org_id: text(row, 11)?,
        hash_format: text(row, 12)?,
    })
}

fn admin_row<'a>(row: &'a Row<'_>) -> rusqlite::Result<AdminRow<'a>> {
    Ok(AdminRow {
        id: row.get(0)?,
        timestamp: text(row, 1)?.unwrap_or_default(),
        agent_id: text(row, 2)?.unwrap_or_default(),
        action: text(row, 3)?.unwrap_or_default(),
        tool_name: text(row, 4)?,
        status: text(row, 5)?.unwrap_or_default(),
        detail: text(row, 6)?,
        request_id: text(row, 7)?,
        dpop_jkt: text(row, 8)?,
        on_behalf_of_user_id: text(row, 9)?,
        chain_seq: row.get(10)?,
        prev_hash: text(row, 11)?,
        row_hash: text(row, 12)?,
        hash_format: text(row, 13)?,
    })
}

/// Text in place, without a copy. Bytes that are not UTF-8 read as empty, so that the hash does not match.
fn text<'a>(row: &'a Row<'_>, index: usize) -> rusqlite::Result<Option<&'a str>> {
    Ok(match row.get_ref(index)? {
        ValueRef::Null => None,
        ValueRef::Text(bytes) => Some(std::str::from_utf8(bytes).unwrap_or_default()),
        _ => Some(""),
    })
}
