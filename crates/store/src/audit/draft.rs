//! Tiles that take the place of damaged ones. They are put beside the tree first, in a table that only the writer's
//! connection sees and that goes with it, so that they are exchanged in one unit however many they are.

use mastio_audit::tree::Growth;

use super::tree::{int, number};
use crate::{Query, ReadError, Statement, sqlite::Database};

/// Tiles that a tree of `?1` leaves does not have.
const SURPLUS: &str = "level < 0 OR tile < 0 OR tile * 256 >= (?1 >> (8 * level))";

/// Begins an empty draft.
#[must_use]
pub fn begin() -> [Statement; 2] {
    let table = "CREATE TEMP TABLE IF NOT EXISTS audit_tiles_draft (level INTEGER NOT NULL, tile INTEGER NOT NULL, \
        hashes BLOB NOT NULL, PRIMARY KEY (level, tile)) STRICT";
    [table, "DELETE FROM temp.audit_tiles_draft"].map(|sql| Statement::any(sql, vec![]))
}

/// Puts a whole tile into the draft.
#[must_use]
pub fn put(tile: Growth) -> Statement {
    Statement::one(
        "INSERT INTO temp.audit_tiles_draft (level, tile, hashes) VALUES (?1, ?2, ?3)",
        vec![i64::from(tile.tile.level).into(), int(tile.tile.index), tile.hashes.into()],
    )
}

/// How many stored tiles a tree of `size` leaves does not have.
///
/// # Errors
/// When the database cannot be read.
pub fn surplus(database: &Database, size: u64) -> Result<u64, ReadError> {
    let sql = format!("SELECT count(*) AS tiles FROM audit_tiles WHERE {SURPLUS}");
    let rows =
        database.rows_now(&Query { table: "audit_tiles", sql: sql.into(), values: vec![int(size)] })?;
    rows.first().map_or(Ok(0), |row| number(row, "tiles").map_err(Into::into))
}

/// Puts the `tiles` tiles of the draft in the place of what is stored, and makes it the tree of `size` leaves from the
/// entry `base_seq` on.
#[must_use]
pub fn exchange(base_seq: u64, size: u64, tiles: usize) -> [Statement; 3] {
    let replace = "INSERT INTO audit_tiles (level, tile, hashes) \
        SELECT level, tile, hashes FROM temp.audit_tiles_draft WHERE true \
        ON CONFLICT (level, tile) DO UPDATE SET hashes = excluded.hashes";
    let tree = "INSERT INTO audit_tree (id, base_seq, size) VALUES (1, ?1, ?2) \
        ON CONFLICT (id) DO UPDATE SET base_seq = excluded.base_seq, size = excluded.size";
    let surplus = format!("DELETE FROM audit_tiles WHERE {SURPLUS}");
    [
        Statement { sql: replace.into(), values: vec![], rows: Some(tiles) },
        Statement { sql: surplus.into(), values: vec![int(size)], rows: None },
        Statement::one(tree, vec![int(base_seq), int(size)]),
    ]
}
