//! Read-only connections.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::{Connection, OpenFlags, params_from_iter, types::ValueRef};

use super::fault::fault;
use crate::{Query, Row, Value, writer::Unavailable};

/// Idle connections kept for the next reader.
const KEEP: usize = 8;
/// What each of them keeps of the database in memory, in KiB. Requests are answered from memory, and whoever reads the
/// whole log passes each page once.
const CACHE_KIB: i64 = 512;

/// Connections that cannot write, opened as needed.
pub(super) struct Readers {
    path: std::path::PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl std::fmt::Debug for Readers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readers").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Readers {
    pub(super) fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), idle: Mutex::default() }
    }

    pub(super) fn with<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Unavailable> {
        self.lend(|connection| read(connection).map_err(|error| fault(&error)))
    }

    pub(super) fn lend<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, Unavailable>,
    ) -> Result<T, Unavailable> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = idle.map_or_else(|| open(&self.path), Ok).map_err(|error| fault(&error))?;
        // A connection that failed is not used again.
        let answer = read(&connection)?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEEP {
            idle.push(connection);
        }
        Ok(answer)
    }
}

/// A connection that cannot write.
pub(super) fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Runs a query and copies its rows.
pub(super) fn run(connection: &Connection, query: &Query) -> rusqlite::Result<Vec<Row>> {
    let mut statement = connection.prepare_cached(&query.sql)?;
    let columns: Arc<[String]> = statement.column_names().into_iter().map(str::to_owned).collect();
    let width = columns.len();
    let mut rows = statement.query(params_from_iter(query.values.iter()))?;
    let mut answer = Vec::new();
    while let Some(row) = rows.next()? {
        answer.push(Row::new(query.table, Arc::clone(&columns), read_values(row, width)?));
    }
    Ok(answer)
}

/// The values of one row.
fn read_values(row: &rusqlite::Row<'_>, width: usize) -> rusqlite::Result<Vec<Value>> {
    (0..width)
        .map(|index| {
            Ok(match row.get_ref(index)? {
                ValueRef::Null => Value::Null,
                ValueRef::Integer(number) => Value::Int(number),
                ValueRef::Real(number) => Value::Real(number),
                ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
                ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
            })
        })
        .collect()
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        use rusqlite::types::ToSqlOutput::Borrowed;
        Ok(match self {
            Self::Null => Borrowed(ValueRef::Null),
            Self::Int(number) => Borrowed(ValueRef::Integer(*number)),
            Self::Real(number) => Borrowed(ValueRef::Real(*number)),
            Self::Text(text) => Borrowed(ValueRef::Text(text.as_bytes())),
            Self::Blob(bytes) => Borrowed(ValueRef::Blob(bytes)),
        })
    }
}
