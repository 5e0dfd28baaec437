//! Reading the audit tables: row by row in constant memory, for verification and for whoever hands them out
//! ([`View`]), and in pages ([`search`]).

pub mod anchors;
pub mod archive;
mod breaks;
pub mod checkpoints;
mod covered;
pub mod draft;
mod entries;
mod entry;
pub mod evidence;
mod filter;
mod head;
pub mod index;
pub mod origins;
pub mod restored;
mod seal;
mod search;
mod session;
pub mod tree;
mod view;
mod walk;
pub mod witness;

use std::path::Path;

use mastio_audit::{
    AdminRow, AdminVerifier, Break, ChainReport, LocalRow, LocalVerifier, Unchained, UnchainedReport,
};
use mastio_core::hash_from_hex;
use rusqlite::{Connection, Row, types::ValueRef};

pub use breaks::{ToldBreak, told_breaks};
pub use entries::{endings, entries};
pub use entry::Entry;
pub use filter::{EventName, Filter, Words};
pub use head::{Newest, head, newest_time};
pub use seal::sealed_head;
pub use search::{Order, Page, about, search};
pub use session::{SessionEntry, Source, within};
pub use view::{Range, View};
pub use walk::{Chain, Walk, chains, checkpointed, last_seq, start};

use self::{
    covered::Covered,
    seal::{Seal, seal, sealed_chains},
    walk::{accept, ended, reached, same, told},
};
use crate::{sqlite, writer::Unavailable};

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

/// The name under which the rows of `local_audit` are reported that no organisation has.
pub const NO_CHAIN: &str = "local_audit";

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
    findings.extend(without_organisation(&transaction)?);
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
    let mut organisations: Vec<String> =
        statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    // A chain that was sealed was there.
    let elsewhere = [ADMIN_CHAIN, NO_CHAIN];
    for chain in sealed_chains(connection)? {
        if !organisations.contains(&chain) && !elsewhere.contains(&chain.as_str()) {
            organisations.push(chain);
        }
    }
    Ok(organisations)
}

/// What [`local_row`] reads, of `local_audit a`.
const LOCAL_COLUMNS: &str = "SELECT a.id, a.timestamp, a.event_type, a.agent_id, a.session_id, a.org_id, a.result, \
    a.details, a.previous_hash, a.entry_hash, a.chain_seq, a.peer_org_id, a.hash_format";

fn verify_local(
    connection: &Connection,
    org: &str,
    step: &mut dyn FnMut(),
) -> rusqlite::Result<ChainFinding> {
    let (start, seal) = (newest_mark(connection, org)?, seal(connection, org)?);
    let known = seal.map(|seal| seal.head).filter(|sealed| sealed.seq > start.seq);
    let mut covered = Covered::load(connection, org, start)?;
    let mut verifier = LocalVerifier::from(start);
    let sql =
        format!("{LOCAL_COLUMNS} FROM local_audit a WHERE org_id = ?1 AND chain_seq > ?2 ORDER BY chain_seq");
    let broken = walk(connection, &sql, &[&org, &behind(start)], |row| {
        step();
        Ok(accept(&mut verifier, &local_row(row)?, known, covered.as_mut()))
    })?;
    let broken = broken.or_else(|| ended(verifier.head(), known, covered.as_ref()).err());
    let broken = broken.or(told(connection, org, start)?.err());
    let (unchained, sealed) =
        unchained(connection, "org_id = ?1 AND chain_seq IS NULL", &[&org], seal.as_ref())?;
    let result = broken.map_or_else(|| sealed.map(|()| verifier.finish()), Err);
    Ok(ChainFinding { chain: org.to_owned(), result, unchained })
}

/// The last entry that went into an archive: the chain of `org` is verified from there on.
fn newest_mark(connection: &Connection, org: &str) -> rusqlite::Result<mastio_audit::Head> {
    if !sqlite::has_table(connection, "audit_marks")? {
        return Ok(mastio_audit::Head::GENESIS);
    }
    // A hash that cannot be read links to nothing: the first entry behind it shows that.
    let mark = archive::newest_mark(connection, org)?;
    Ok(mark.map_or(mastio_audit::Head::GENESIS, |mark| mastio_audit::Head {
        seq: mark.span.last.cast_unsigned(),
        hash: Some(hash_from_hex(&mark.head_hash).unwrap_or_default()),
    }))
}

/// What the positions of the entries behind `head` are greater than. At the beginning that is any number, so that
/// numbers that no entry may have are found.
fn behind(head: mastio_audit::Head) -> i64 {
    if head.seq == 0 { i64::MIN } else { head.seq.cast_signed() }
}

/// Rows of the existing system that name no organisation belong to no chain.
fn without_organisation(connection: &Connection) -> rusqlite::Result<Option<ChainFinding>> {
    let seal = seal(connection, NO_CHAIN)?;
    let (unchained, sealed) = unchained(connection, "org_id IS NULL", &[], seal.as_ref())?;
    let result = sealed.map(|()| LocalVerifier::new().finish());
    let there_are_some = unchained.rows > 0 || seal.is_some();
    Ok(there_are_some.then(|| ChainFinding { chain: NO_CHAIN.to_owned(), result, unchained }))
}

/// The rows outside a chain, and whether those are among them that `seal` covers.
fn unchained(
    connection: &Connection,
    condition: &str,
    parameters: &[&dyn rusqlite::ToSql],
    seal: Option<&Seal>,
) -> rusqlite::Result<(UnchainedReport, Result<(), Break>)> {
    let sql = format!("{LOCAL_COLUMNS} FROM local_audit a WHERE {condition} ORDER BY id");
    outside(connection, &sql, parameters, seal, |unchained, row| {
        unchained.push_local(&local_row(row)?);
        Ok(())
    })
}

fn outside(
    connection: &Connection,
    sql: &str,
    parameters: &[&dyn rusqlite::ToSql],
    seal: Option<&Seal>,
    push: impl Fn(&mut Unchained, &Row<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<(UnchainedReport, Result<(), Break>)> {
    let (mut unchained, mut rows) = (Unchained::new(), 0);
    let mut sealed = Unchained::new().finish();
    walk(connection, sql, parameters, |row| {
        push(&mut unchained, row)?;
        rows += 1;
        if seal.is_some_and(|seal| seal.unchained.rows == rows) {
            sealed = unchained.clone().finish();
        }
        Ok(Ok(()))
    })?;
    Ok((unchained.finish(), seal.map_or(Ok(()), |seal| seal.check(sealed))))
}

const ADMIN_COLUMNS: &str = "SELECT id, timestamp, agent_id, action, tool_name, status, detail, request_id, \
    dpop_jkt, on_behalf_of_user_id, chain_seq, prev_hash, row_hash, hash_format FROM audit_log";

fn verify_admin(connection: &Connection, step: &mut dyn FnMut()) -> rusqlite::Result<ChainFinding> {
    let seal = seal(connection, ADMIN_CHAIN)?;
    let known = seal.map(|seal| seal.head);
    let mut verifier = AdminVerifier::new();
    let sql = format!("{ADMIN_COLUMNS} WHERE chain_seq IS NOT NULL ORDER BY chain_seq");
    let broken = walk(connection, &sql, &[], |row| {
        step();
        let row = admin_row(row)?;
        Ok(verifier.push(&row).and_then(|()| same(verifier.head(), known, row.id)))
    })?;
    let broken = broken.or_else(|| reached(verifier.head(), known).err());
    let sql = format!("{ADMIN_COLUMNS} WHERE chain_seq IS NULL ORDER BY id");
    let (unchained, sealed) = outside(connection, &sql, &[], seal.as_ref(), |unchained, row| {
        unchained.push_admin(&admin_row(row)?);
        Ok(())
    })?;
    let result = broken.map_or_else(|| sealed.map(|()| verifier.finish()), Err);
    Ok(ChainFinding { chain: ADMIN_CHAIN.to_owned(), result, unchained })
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
