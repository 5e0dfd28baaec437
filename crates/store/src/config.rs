//! Settings and secrets by name: `proxy_config` as the existing system keeps it, `cullis_config` for what is ours.

use std::path::Path;

use rusqlite::OptionalExtension;

use crate::{
    Query, ReadError, RowError, Statement,
    sqlite::{Database, fault, has_table, open_read_only},
    writer::Unavailable,
};

/// The value of `key` in `proxy_config`. Empty means cleared, hence absent (contract `audit-and-database.md` §2.4).
///
/// # Errors
/// When the database cannot be read.
pub fn get(database: &Database, key: &str) -> Result<Option<String>, ReadError> {
    let sql = "SELECT \"key\", value FROM proxy_config WHERE \"key\" = ?1";
    one(database, Query::new("proxy_config", sql, vec![key.into()]))
}

/// The value of `key` in the `proxy_config` of a file that is not opened or adopted yet, if it has that table.
///
/// # Errors
/// When the file cannot be read.
pub fn peek(path: &Path, key: &str) -> Result<Option<String>, Unavailable> {
    let connection = open_read_only(path)?;
    let read = || {
        if !has_table(&connection, "proxy_config")? {
            return Ok(None);
        }
        let sql = "SELECT value FROM proxy_config WHERE \"key\" = ?1 AND value <> ''";
        connection.query_row(sql, [key], |row| row.get(0)).optional()
    };
    read().map_err(|error| fault(&error))
}

/// Sets `key` in `proxy_config`.
#[must_use]
pub fn put(key: &str, value: &str) -> Statement {
    Statement::one(
        "INSERT INTO proxy_config (\"key\", value) VALUES (?1, ?2) \
         ON CONFLICT (\"key\") DO UPDATE SET value = excluded.value",
        vec![key.into(), value.into()],
    )
}

/// Sets `key` in `proxy_config`, rejected by a constraint when it is set already.
#[must_use]
pub fn put_new(key: &str, value: &str) -> Statement {
    Statement::one(
        "INSERT INTO proxy_config (\"key\", value) VALUES (?1, ?2) \
         ON CONFLICT (\"key\") DO UPDATE SET value = excluded.value WHERE proxy_config.value = ''",
        vec![key.into(), value.into()],
    )
}

/// The value of one of our own names.
///
/// # Errors
/// When the database cannot be read.
pub fn own(database: &Database, name: &str) -> Result<Option<String>, ReadError> {
    let sql = "SELECT name AS \"key\", value FROM cullis_config WHERE name = ?1";
    one(database, Query::new("cullis_config", sql, vec![name.into()]))
}

/// Sets one of our own names.
#[must_use]
pub fn put_own(name: &str, value: &str) -> Statement {
    Statement::one(
        "INSERT INTO cullis_config (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        vec![name.into(), value.into()],
    )
}

/// Sets one of our own names, rejected by a constraint when it is set already.
#[must_use]
pub fn put_own_new(name: &str, value: &str) -> Statement {
    let sql = "INSERT INTO cullis_config (name, value) VALUES (?1, ?2)";
    Statement::one(sql, vec![name.into(), value.into()])
}

fn one(database: &Database, query: Query) -> Result<Option<String>, ReadError> {
    let rows = database.rows_now(&query)?;
    let value = rows.first().map(|row| row.text("value").map(str::to_owned)).transpose();
    Ok(value.map_err(|error: RowError| error)?.filter(|value| !value.is_empty()))
}
