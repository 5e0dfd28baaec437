//! The Merkle tree over our chain: tables `audit_tree` and `audit_tiles`, and the hashes of entries that it grows from.

use std::collections::BTreeMap;

use mastio_audit::tree::{Growth, Hash, TileId, Tiles};
use mastio_core::{OrgId, Stamp, hash_from_hex};
use rusqlite::{Connection, OptionalExtension, params};

use super::archive;
use crate::{Query, ReadError, Row, RowError, Statement, Value, sqlite::Database};

const ENTRIES: &str = "local_audit";

/// How far the stored tree has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredTree {
    /// The `chain_seq` of its first leaf.
    pub base_seq: u64,
    /// How many leaves it has.
    pub size: u64,
}

/// The stored tree; `None` before it was begun.
///
/// # Errors
/// When the database cannot be read.
pub fn stored(database: &Database) -> Result<Option<StoredTree>, ReadError> {
    let sql = "SELECT id, base_seq, size FROM audit_tree WHERE id = 1";
    let rows = database.rows_now(&Query::new("audit_tree", sql, vec![]))?;
    let read = |row: &Row| {
        Ok::<_, RowError>(StoredTree { base_seq: number(row, "base_seq")?, size: number(row, "size")? })
    };
    Ok(rows.first().map(read).transpose()?)
}

/// Begins a tree whose first leaf is the entry `base_seq`. There is one tree.
#[must_use]
pub fn begin(base_seq: u64) -> Statement {
    Statement::one("INSERT INTO audit_tree (id, base_seq, size) VALUES (1, ?1, 0)", vec![int(base_seq)])
}

/// Grows the tree from one size to another; touches no row when somebody else grew it first.
#[must_use]
pub fn grow(from: u64, to: u64, growth: Vec<Growth>) -> Vec<Statement> {
    let size = "UPDATE audit_tree SET size = ?2 WHERE id = 1 AND size = ?1";
    let size = Statement::one(size, vec![int(from), int(to)]);
    std::iter::once(size).chain(growth.into_iter().map(store)).collect()
}

fn store(growth: Growth) -> Statement {
    let Growth { tile, stored, hashes } = growth;
    let mut values = vec![i64::from(tile.level).into(), int(tile.index), hashes.into()];
    if stored == 0 {
        return Statement::one("INSERT INTO audit_tiles (level, tile, hashes) VALUES (?1, ?2, ?3)", values);
    }
    values.push(int(stored as u64));
    // `||` makes text of blobs, with the same bytes.
    let sql = "UPDATE audit_tiles SET hashes = CAST(hashes || ?3 AS BLOB) \
        WHERE level = ?1 AND tile = ?2 AND length(hashes) = ?4";
    Statement::one(sql, values)
}

/// The stored tiles, read on the calling thread.
#[derive(Debug, Clone, Copy)]
pub struct StoredTiles<'a>(pub &'a Database);

impl Tiles for StoredTiles<'_> {
    type Error = ReadError;

    fn tile(&self, tile: TileId, width: usize) -> Result<Vec<u8>, ReadError> {
        Ok(self.0.read(|connection| TilesOf(connection).tile(tile, width))?)
    }
}

/// The same within a transaction.
pub(super) struct TilesOf<'a>(pub(super) &'a Connection);

impl Tiles for TilesOf<'_> {
    type Error = rusqlite::Error;

    fn tile(&self, tile: TileId, _width: usize) -> rusqlite::Result<Vec<u8>> {
        let sql = "SELECT hashes FROM audit_tiles WHERE level = ?1 AND tile = ?2";
        let mut statement = self.0.prepare_cached(sql)?;
        let found = statement.query_row(params![tile.level, tile.index.cast_signed()], |row| row.get(0));
        Ok(found.optional()?.unwrap_or_default())
    }
}

/// An entry as the tree sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf {
    /// Its place in the chain.
    pub seq: u64,
    /// The hash of the entry before it; `None` at the beginning.
    pub previous_hash: Option<Hash>,
    /// Its hash.
    pub entry_hash: Hash,
}

/// The entries of the chain of `org` from `first` on, in order, at most `limit`.
///
/// # Errors
/// When the database cannot be read, or a hash is not one.
pub fn leaves(database: &Database, org: &OrgId, first: u64, limit: u64) -> Result<Vec<Leaf>, ReadError> {
    let sql = "SELECT chain_seq, previous_hash, entry_hash FROM local_audit \
        WHERE org_id = ?1 AND chain_seq >= ?2 ORDER BY chain_seq LIMIT ?3";
    let values = vec![org.as_str().into(), int(first), int(limit)];
    let rows = database.rows_now(&Query::new(ENTRIES, sql, values))?;
    let read = |row: &Row| {
        let entry_hash = row.parse("entry_hash", hash_from_hex)?;
        let previous_hash = row.parse_or_null("previous_hash", hash_from_hex)?;
        Ok::<_, RowError>(Leaf { seq: number(row, "chain_seq")?, previous_hash, entry_hash })
    };
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// The hashes of those entries `first..=last` of the chain of `org` that are in the log or were brought back from an
/// archive.
///
/// # Errors
/// When the database cannot be read, or a hash is not one.
pub fn entry_hashes(
    database: &Database,
    org: &OrgId,
    first: u64,
    last: u64,
) -> Result<BTreeMap<u64, Hash>, ReadError> {
    // The log comes last: what it has counts.
    let sql = "SELECT chain_seq, entry_hash, 0 AS live FROM restored_audit \
        WHERE org_id = ?1 AND chain_seq BETWEEN ?2 AND ?3 UNION ALL \
        SELECT chain_seq, entry_hash, 1 FROM local_audit WHERE org_id = ?1 AND chain_seq BETWEEN ?2 AND ?3 \
        ORDER BY live";
    let rows =
        database.rows_now(&Query::new(ENTRIES, sql, vec![org.as_str().into(), int(first), int(last)]))?;
    let read =
        |row: &Row| Ok::<_, RowError>((number(row, "chain_seq")?, row.parse("entry_hash", hash_from_hex)?));
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// The hash of the entry `seq`, from its row or, if it is the last one that was archived, from the mark.
///
/// # Errors
/// When the database cannot be read, or the hash is not one.
pub fn entry_hash(database: &Database, org: &OrgId, seq: u64) -> Result<Option<Hash>, ReadError> {
    let sql = "SELECT chain_seq, entry_hash FROM local_audit WHERE org_id = ?1 AND chain_seq = ?2";
    let rows = database.rows_now(&Query::new(ENTRIES, sql, vec![org.as_str().into(), int(seq)]))?;
    if let Some(row) = rows.first() {
        return Ok(Some(row.parse("entry_hash", hash_from_hex)?));
    }
    // A hash that cannot be read links to nothing.
    let mark = archive::ending_before(database, org, seq.cast_signed() + 1)?;
    Ok(mark.map(|mark| hash_from_hex(&mark.head_hash).unwrap_or_default()))
}

/// The newest entry of the chain of `org` that was written at this time or before.
///
/// # Errors
/// When the database cannot be read.
pub fn last_until(database: &Database, org: &OrgId, at: Stamp) -> Result<Option<u64>, ReadError> {
    let sql = "SELECT chain_seq FROM local_audit WHERE org_id = ?1 AND chain_seq IS NOT NULL AND timestamp <= ?2 \
        ORDER BY chain_seq DESC LIMIT 1";
    let rows = database.rows_now(&Query::new(ENTRIES, sql, vec![org.as_str().into(), at.into()]))?;
    Ok(rows.first().map(|row| number(row, "chain_seq")).transpose()?)
}

/// The first and the last entry of the chain of `org` that is stored; `None` while there is none.
///
/// # Errors
/// When the database cannot be read.
pub fn bounds(database: &Database, org: &OrgId) -> Result<Option<(u64, u64)>, ReadError> {
    let sql = "SELECT \
        (SELECT min(chain_seq) FROM local_audit WHERE org_id = ?1) AS first, \
        (SELECT max(chain_seq) FROM local_audit WHERE org_id = ?1) AS last";
    let rows = database.rows_now(&Query::new(ENTRIES, sql, vec![org.as_str().into()]))?;
    let Some(row) = rows.first() else { return Ok(None) };
    if row.int_or_null("first")?.is_none() {
        return Ok(None);
    }
    Ok(Some((number(row, "first")?, number(row, "last")?)))
}

pub(super) fn number(row: &Row, column: &'static str) -> Result<u64, RowError> {
    u64::try_from(row.int(column)?).map_err(|error| row.bad(column, error))
}

/// Positions and sizes are far below the largest integer of the database (`mastio_audit::tree::MAX_SIZE`).
pub(super) fn int(number: u64) -> Value {
    number.cast_signed().into()
}
