//! Entries that leave the log for an archive: which ones, the archive under way, its mark, and their end.

use mastio_core::{OrgId, Stamp};
use rusqlite::Connection;

use crate::{Query, ReadError, Row, RowError, Statement, Value, sqlite::Database};

const JOB: &str = "audit_archive_job";
/// The marks of an organisation up to the newest one that an entry of the chain tells of. The entries that tell of those
/// before it may be in archives themselves.
const TOLD: &str =
    "archived_through <= (SELECT max(archived_through) FROM audit_told_marks WHERE org_id = ?1)";

/// A part of a chain: the places of its first and its last entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The place of its first entry.
    pub first: i64,
    /// The place of its last entry, not before the first.
    pub last: i64,
}

impl Span {
    /// How many entries it has.
    #[must_use]
    pub fn entries(self) -> u64 {
        (self.last - self.first + 1).unsigned_abs()
    }
}

/// How far an archive got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Its file is written and verified. Nothing has left the log.
    Writing,
    /// The mark is set; entries up to it are being deleted.
    Deleting,
}

impl Phase {
    /// The word in the column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Writing => "writing",
            Self::Deleting => "deleting",
        }
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "writing" => Ok(Self::Writing),
            "deleting" => Ok(Self::Deleting),
            _ => Err("is no phase of an archive"),
        }
    }
}

/// An archive that was begun and is not done: the row of `audit_archive_job`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// How far it got.
    pub phase: Phase,
    /// What it takes out of the log.
    pub span: Span,
    /// Where that goes, as an absolute path.
    pub file: String,
    /// Who asked for it.
    pub by: String,
    /// When it was begun.
    pub started_at: Stamp,
}

impl Job {
    /// Begins it; rejected while another one is under way.
    #[must_use]
    pub fn begin(&self) -> Statement {
        Statement::one(
            "INSERT INTO audit_archive_job (id, phase, first_seq, last_seq, file, operator, started_at) \
             VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6)",
            vec![
                self.phase.as_str().into(),
                self.span.first.into(),
                self.span.last.into(),
                self.file.as_str().into(),
                self.by.as_str().into(),
                self.started_at.into(),
            ],
        )
    }

    /// Marks that `file` holds the entries up to `last`, whose hash is `head_hash`. From then on they may be deleted.
    #[must_use]
    pub fn mark(&self, org: &OrgId, head_hash: &str, bundle_sha256: &str, now: Stamp) -> [Statement; 2] {
        let mark = Statement::one(
            "INSERT INTO audit_marks (org_id, archived_through, first_seq, head_hash, file, bundle_sha256, marked_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            vec![
                org.as_str().into(),
                self.span.last.into(),
                self.span.first.into(),
                head_hash.into(),
                self.file.as_str().into(),
                bundle_sha256.into(),
                now.into(),
            ],
        );
        let deleting = Statement::one(
            "UPDATE audit_archive_job SET phase = 'deleting' WHERE phase = 'writing' AND last_seq = ?1",
            vec![self.span.last.into()],
        );
        [mark, deleting]
    }

    /// Ends it, in the phase that it is in.
    #[must_use]
    pub fn end(&self) -> Statement {
        Statement::one(
            "DELETE FROM audit_archive_job WHERE phase = ?1 AND last_seq = ?2",
            vec![self.phase.as_str().into(), self.span.last.into()],
        )
    }

    fn read(row: &Row) -> Result<Self, RowError> {
        Ok(Self {
            phase: row.parse("phase", Phase::parse)?,
            span: Span { first: row.int("first_seq")?, last: row.int("last_seq")? },
            file: row.text("file")?.to_owned(),
            by: row.text("operator")?.to_owned(),
            started_at: row.stamp("started_at")?,
        })
    }
}

/// The archive that is under way.
///
/// # Errors
/// When the database cannot be read.
pub fn job(database: &Database) -> Result<Option<Job>, ReadError> {
    let sql = "SELECT phase, first_seq, last_seq, file, operator, started_at FROM audit_archive_job";
    one(database, Query::new(JOB, sql, vec![]), Job::read)
}

/// An archive that was verified: a row of `audit_marks`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// What it holds.
    pub span: Span,
    /// The hash of its last entry, in hex. The chain goes on from it.
    pub head_hash: String,
    /// Where it was put.
    pub file: String,
    /// SHA-256 of that file, in hex.
    pub bundle_sha256: String,
    /// Since when, as it is written in RFC 3339.
    pub marked_at: String,
}

impl Mark {
    fn read(connection: &Connection, org: &str, condition: &str) -> rusqlite::Result<Vec<Self>> {
        let sql = format!(
            "SELECT first_seq, archived_through, head_hash, file, bundle_sha256, marked_at FROM audit_marks \
             WHERE org_id = ?1 AND {condition} ORDER BY archived_through"
        );
        let mark = |row: &rusqlite::Row<'_>| {
            Ok(Self {
                span: Span { first: row.get(0)?, last: row.get(1)? },
                head_hash: row.get(2)?,
                file: row.get(3)?,
                bundle_sha256: row.get(4)?,
                marked_at: row.get(5)?,
            })
        };
        connection.prepare_cached(&sql)?.query_map([org], mark)?.collect()
    }
}

/// The archives of the chain of `org`, oldest first: the marks that the chain tells of.
///
/// # Errors
/// When the database cannot be read.
pub fn marks(database: &Database, org: &OrgId) -> Result<Vec<Mark>, ReadError> {
    Ok(database.read(|connection| told_marks(connection, org.as_str()))?)
}

/// The archive that ends right before the entry `seq`.
///
/// # Errors
/// When the database cannot be read.
pub fn ending_before(database: &Database, org: &OrgId, seq: i64) -> Result<Option<Mark>, ReadError> {
    Ok(marks(database, org)?.into_iter().find(|mark| mark.span.last == seq - 1))
}

pub(super) fn told_marks(connection: &Connection, org: &str) -> rusqlite::Result<Vec<Mark>> {
    Mark::read(connection, org, TOLD)
}

/// The newest mark, whether or not the chain tells of it.
pub(super) fn newest_mark(connection: &Connection, org: &str) -> rusqlite::Result<Option<Mark>> {
    let newest = "archived_through = (SELECT max(archived_through) FROM audit_marks WHERE org_id = ?1)";
    Ok(Mark::read(connection, org, newest)?.pop())
}

/// The entries of `org` behind the newest mark, from the first one that there must be: up to the last one before
/// `before` if that is `Some`, and never the newest of all. `None` when that leaves nothing.
///
/// # Errors
/// When the database cannot be read.
pub fn due(database: &Database, org: &OrgId, before: Stamp) -> Result<Option<Span>, ReadError> {
    // Every time in the chain is in UTC and begins with date and time in one form, so it compares as text.
    let sql = "WITH start(seq) AS (SELECT coalesce(max(archived_through), 0) + 1 FROM audit_told_marks WHERE org_id = ?1), \
        newest(seq) AS (SELECT max(chain_seq) FROM local_audit WHERE org_id = ?1), \
        stays(seq) AS (SELECT chain_seq FROM local_audit, start WHERE org_id = ?1 AND chain_seq >= start.seq \
            AND timestamp >= ?2 ORDER BY chain_seq LIMIT 1) \
        SELECT start.seq AS first, min(newest.seq, coalesce((SELECT seq FROM stays), newest.seq)) - 1 AS last \
        FROM start, newest WHERE newest.seq IS NOT NULL";
    let query = Query::new("local_audit", sql, vec![org.as_str().into(), before.into()]);
    let span = one(database, query, |row| Ok(Span { first: row.int("first")?, last: row.int("last")? }))?;
    Ok(span.filter(|span| span.first <= span.last))
}

/// The place of the oldest entry of `org` that is at `from` or later.
///
/// # Errors
/// When the database cannot be read.
pub fn oldest(database: &Database, org: &OrgId, from: i64) -> Result<Option<i64>, ReadError> {
    let sql =
        "SELECT chain_seq FROM local_audit WHERE org_id = ?1 AND chain_seq >= ?2 ORDER BY chain_seq LIMIT 1";
    let query = Query::new("local_audit", sql, vec![org.as_str().into(), from.into()]);
    one(database, query, |row| row.int("chain_seq"))
}

/// About how many bytes of the database the entries of `span` fill.
///
/// # Errors
/// When the database cannot be read.
pub fn stored_bytes(database: &Database, org: &OrgId, span: Span) -> Result<u64, ReadError> {
    // What a row has beside its texts: ids, hashes, its places in the indexes.
    let sql = "SELECT coalesce(sum(length(details)), 0) + 500 * count(*) AS bytes FROM local_audit \
        WHERE org_id = ?1 AND chain_seq BETWEEN ?2 AND ?3";
    let values = vec![org.as_str().into(), span.first.into(), span.last.into()];
    let bytes = one(database, Query::new("local_audit", sql, values), |row| row.int("bytes"))?;
    Ok(bytes.unwrap_or_default().unsigned_abs())
}

/// Deletes the entries of `span` from the log and its search index, as far as they are there. The database permits it
/// up to the newest mark.
#[must_use]
pub fn remove(org: &OrgId, span: Span) -> [Statement; 3] {
    [
        "DELETE FROM audit_text WHERE rowid IN \
            (SELECT id FROM local_audit WHERE org_id = ?1 AND chain_seq BETWEEN ?2 AND ?3)",
        "DELETE FROM audit_search WHERE id IN \
            (SELECT id FROM local_audit WHERE org_id = ?1 AND chain_seq BETWEEN ?2 AND ?3)",
        "DELETE FROM local_audit WHERE org_id = ?1 AND chain_seq BETWEEN ?2 AND ?3",
    ]
    .map(|sql| Statement::any(sql, vec![org.as_str().into(), span.first.into(), span.last.into()]))
}

/// One entry that tells of archives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Its place.
    pub seq: i64,
    /// When.
    pub timestamp: String,
    /// Its name.
    pub event: String,
    /// Its details: JSON.
    pub details: String,
}

/// The newest entry with one of these names that is behind `after`.
///
/// # Errors
/// When the database cannot be read.
pub fn newest_told(
    database: &Database,
    org: &OrgId,
    after: i64,
    events: [&str; 2],
) -> Result<Option<Told>, ReadError> {
    let sql = "SELECT chain_seq, timestamp, event_type, details FROM local_audit \
        WHERE org_id = ?1 AND chain_seq > ?2 AND event_type IN (?3, ?4) ORDER BY chain_seq DESC LIMIT 1";
    let [one_name, other]: [Value; 2] = events.map(Into::into);
    let query = Query::new("local_audit", sql, vec![org.as_str().into(), after.into(), one_name, other]);
    one(database, query, |row| {
        Ok(Told {
            seq: row.int("chain_seq")?,
            timestamp: row.text("timestamp")?.to_owned(),
            event: row.text("event_type")?.to_owned(),
            details: row.text_or_null("details")?.unwrap_or("{}").to_owned(),
        })
    })
}

fn one<T>(
    database: &Database,
    query: Query,
    read: impl FnOnce(&Row) -> Result<T, RowError>,
) -> Result<Option<T>, ReadError> {
    Ok(database.rows_now(&query)?.first().map(read).transpose()?)
}
