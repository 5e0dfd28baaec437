//! The connection that the writer drives.

use std::fmt::Write;

use mastio_audit::{Head, Sealed};
use mastio_core::{OrgId, hash_from_hex};
use rusqlite::{Connection, ErrorCode, OptionalExtension, ToSql, params, params_from_iter};

use super::{fault::fault, lock::WatchedFile};
use crate::{
    Rejection, Statement,
    writer::{Connect, Session, Unavailable},
};

/// How many entries one INSERT carries.
const ROWS_PER_INSERT: usize = 16;
/// How many pages of 4 KiB the log may have before a commit copies them into the database. The same few pages change
/// again and again: the longer the log, the less often each is copied.
const CHECKPOINT_PAGES: i64 = 4096;
/// What the writer keeps of the database in memory, in KiB: the pages that random keys fall into.
const CACHE_KIB: i64 = 8 << 10;

/// Opens writing connections to one file.
pub(super) struct SqliteConnect {
    file: WatchedFile,
    writer: i64,
}

impl SqliteConnect {
    /// `writer` is the row of `cullis_writer` that this process marks: 1 for the server, 2 for a tool beside it.
    pub(super) fn new(file: WatchedFile, writer: i64) -> Self {
        Self { file, writer }
    }
}

impl Connect for SqliteConnect {
    fn connect(&mut self) -> Result<Box<dyn Session>, Unavailable> {
        self.file.check()?;
        let connection = open_for_writing(self.file.path()).map_err(|error| fault(&error))?;
        let data_version = data_version(&connection).map_err(|error| fault(&error))?;
        Ok(Box::new(SqliteSession { file: self.file.clone(), writer: self.writer, connection, data_version }))
    }
}

/// A connection with the settings that durable writing needs: WAL, an fsync per commit, REPLACE that fires triggers.
pub(super) fn open_for_writing(path: &std::path::Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "recursive_triggers", true)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    // A key that was replaced must not stay readable in its page.
    connection.pragma_update(None, "secure_delete", "FAST")?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(connection)
}

/// Copies the whole log into the database and cuts it to nothing.
pub(super) fn empty_log(file: &WatchedFile) -> Result<(), Unavailable> {
    file.check()?;
    let empty =
        || open_for_writing(file.path())?.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
    match empty().map_err(|error| fault(&error))? {
        0_i64 => Ok(()),
        _ => Err(Unavailable::Locked("somebody reads the write-ahead log".into())),
    }
}

/// A number that changes when another connection commits.
fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
}

struct SqliteSession {
    file: WatchedFile,
    writer: i64,
    connection: Connection,
    data_version: i64,
}

impl SqliteSession {
    fn execute(&self, sql: &str) -> Result<(), Unavailable> {
        let run = || self.connection.prepare_cached(sql)?.execute([]);
        run().map(drop).map_err(|error| fault(&error))
    }
}

impl Session for SqliteSession {
    fn begin(&mut self) -> Result<(), Unavailable> {
        self.file.check()?;
        self.execute("BEGIN IMMEDIATE")
    }

    fn head(&mut self, org: &OrgId) -> Result<Head, Unavailable> {
        let newest = || {
            self.connection
                .prepare_cached(
                    "SELECT chain_seq, entry_hash FROM local_audit \
                     WHERE org_id = ?1 AND chain_seq IS NOT NULL ORDER BY chain_seq DESC LIMIT 1",
                )?
                .query_row([org.as_str()], |row| {
                    Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, String>(1)?))
                })
                .optional()
        };
        match newest().map_err(|error| fault(&error))? {
            None => Ok(Head::GENESIS),
            Some((seq, hash)) => {
                let hash = hash_from_hex(&hash).map_err(|_| {
                    Unavailable::Broken(format!("entry {seq} of the audit chain has no readable hash"))
                })?;
                Ok(Head { seq, hash: Some(hash) })
            }
        }
    }

    fn apply(&mut self, statements: &[Statement]) -> Result<Result<(), Rejection>, Unavailable> {
        self.execute("SAVEPOINT unit")?;
        for (index, statement) in statements.iter().enumerate() {
            let run = || {
                self.connection
                    .prepare_cached(&statement.sql)?
                    .execute(params_from_iter(statement.values.iter()))
            };
            let rejection = match run() {
                Ok(touched) if statement.rows.is_none_or(|rows| rows == touched) => continue,
                Ok(touched) => Rejection::Rows { statement: index, touched },
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                    Rejection::Constraint { statement: index, message: error.to_string() }
                }
                Err(error) => return Err(fault(&error)),
            };
            self.execute("ROLLBACK TO unit")?;
            self.execute("RELEASE unit")?;
            return Ok(Err(rejection));
        }
        self.execute("RELEASE unit")?;
        Ok(Ok(()))
    }

    fn append(&mut self, entries: &[Sealed]) -> Result<(), Unavailable> {
        let insert = |chunk: &[Sealed]| {
            let mut statement = self.connection.prepare_cached(&insert_sql(chunk.len()))?;
            for (index, entry) in chunk.iter().enumerate() {
                bind(&mut statement, 1 + index * COLUMNS, entry)?;
            }
            statement.raw_execute()
        };
        let (full, rest) = entries.split_at(entries.len() - entries.len() % ROWS_PER_INSERT);
        for chunk in full.chunks(ROWS_PER_INSERT).chain(rest.chunks(1)) {
            insert(chunk).map_err(|error| fault(&error))?;
        }
        Ok(())
    }

    fn commit(&mut self, ticket: u64) -> Result<(), Unavailable> {
        let mark = || {
            self.connection
                .prepare_cached("UPDATE cullis_writer SET ticket = ?1 WHERE id = ?2")?
                .execute(params![ticket.cast_signed(), self.writer])
        };
        mark().map_err(|error| fault(&error))?;
        self.execute("COMMIT")
    }

    fn rollback(&mut self) {
        if !self.connection.is_autocommit() {
            // The connection is dropped next; closing it rolls back as well.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }

    fn has_committed(&mut self, ticket: u64) -> Result<bool, Unavailable> {
        let stored = || {
            self.connection
                .query_row("SELECT ticket FROM cullis_writer WHERE id = 1", [], |row| row.get::<_, i64>(0))
        };
        Ok(stored().map_err(|error| fault(&error))? == ticket.cast_signed())
    }

    fn foreign_commits(&mut self) -> Result<bool, Unavailable> {
        self.file.check()?;
        let now = data_version(&self.connection).map_err(|error| fault(&error))?;
        Ok(std::mem::replace(&mut self.data_version, now) != now)
    }
}

const COLUMNS: usize = 11;

fn insert_sql(rows: usize) -> String {
    let mut sql = String::from(
        "INSERT INTO local_audit (timestamp, agent_id, event_type, details, previous_hash, entry_hash, \
         session_id, org_id, result, chain_seq, hash_format) VALUES ",
    );
    for row in 0..rows {
        let first = row * COLUMNS;
        sql.push_str(if row == 0 { "(" } else { ",(" });
        for column in 1..=COLUMNS {
            let comma = if column == 1 { "" } else { "," };
            // Writing to a String cannot fail.
            let _ = write!(sql, "{comma}?{}", first + column);
        }
        sql.push(')');
    }
    sql
}

/// The values of an entry, in the order of [`insert_sql`].
fn bind(statement: &mut rusqlite::CachedStatement<'_>, first: usize, entry: &Sealed) -> rusqlite::Result<()> {
    let previous_hash = entry.previous_hash.map(hex::encode);
    let columns: [&dyn ToSql; COLUMNS] = [
        &entry.timestamp,
        &entry.agent_id,
        &entry.event_type,
        &entry.details,
        &previous_hash,
        &hex::encode(entry.entry_hash),
        &entry.session_id,
        &entry.org_id.as_str(),
        &entry.result,
        &entry.chain_seq.cast_signed(),
        &Sealed::HASH_FORMAT,
    ];
    for (offset, value) in columns.into_iter().enumerate() {
        statement.raw_bind_parameter(first + offset, value)?;
    }
    Ok(())
}
