//! Signed checkpoints and what witnesses said to them: tables `audit_checkpoints` and `audit_cosignatures`.

use mastio_audit::{checkpoint::SignedCheckpoint, note::Name};
use mastio_core::Stamp;

use super::tree::{int, number};
use crate::{Query, ReadError, Row, RowError, Statement, Value, sqlite::Database};

const TABLE: &str = "audit_checkpoints";

/// How many checkpoints one unit thins out: so few that requests do not wait long for the writer.
pub const THINNED_AT_ONCE: i64 = 1000;

/// A row of `audit_checkpoints`. Nothing of it is verified but that note and columns agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointRow {
    /// The note, with the log's signature alone.
    pub note: SignedCheckpoint,
    /// When it was signed.
    pub signed_at: Stamp,
}

impl CheckpointRow {
    fn read(row: &Row) -> Result<Self, RowError> {
        let note = row.parse("note", SignedCheckpoint::parse)?;
        let said = note.unverified();
        if row.text("origin")? != said.origin.as_str() {
            return Err(row.bad("origin", "is not the note's"));
        }
        if row.int("tree_size")? != said.head.size.cast_signed() {
            return Err(row.bad("tree_size", "is not the note's"));
        }
        if row.text("root_hash")? != hex::encode(said.head.root) {
            return Err(row.bad("root_hash", "is not the note's"));
        }
        Ok(Self { note, signed_at: row.stamp("signed_at")? })
    }

    /// Keeps it; refused by a constraint when there is one of that origin and size.
    #[must_use]
    pub fn insert(&self) -> Statement {
        let said = self.note.unverified();
        Statement::one(
            "INSERT INTO audit_checkpoints (origin, tree_size, root_hash, note, signed_at) \
             VALUES (?1, ?2, ?3, ?4, ?5)",
            vec![
                said.origin.as_str().into(),
                int(said.head.size),
                hex::encode(said.head.root).into(),
                self.note.as_str().into(),
                self.signed_at.into(),
            ],
        )
    }
}

/// The newest checkpoint of `origin`.
///
/// # Errors
/// When the database cannot be read or the row is illegal.
pub fn newest(database: &Database, origin: &Name) -> Result<Option<CheckpointRow>, ReadError> {
    first(database, "WHERE origin = ?1 ORDER BY tree_size DESC LIMIT 1", vec![origin.as_str().into()])
}

/// The smallest checkpoint of `origin` whose tree has leaf `index`.
///
/// # Errors
/// When the database cannot be read or the row is illegal.
pub fn covering(database: &Database, origin: &Name, index: u64) -> Result<Option<CheckpointRow>, ReadError> {
    let values = vec![origin.as_str().into(), int(index)];
    first(database, "WHERE origin = ?1 AND tree_size > ?2 ORDER BY tree_size LIMIT 1", values)
}

/// The smallest checkpoint of `origin` whose tree has leaf `index` and that a witness cosigned.
///
/// # Errors
/// When the database cannot be read or the row is illegal.
pub fn cosigned_covering(
    database: &Database,
    origin: &Name,
    index: u64,
) -> Result<Option<CheckpointRow>, ReadError> {
    let condition = "WHERE origin = ?1 AND tree_size = \
        (SELECT min(tree_size) FROM audit_cosignatures WHERE origin = ?1 AND tree_size > ?2)";
    first(database, condition, vec![origin.as_str().into(), int(index)])
}

/// The checkpoint of `origin` for a tree of `size` leaves.
///
/// # Errors
/// When the database cannot be read or the row is illegal.
pub fn of_size(database: &Database, origin: &Name, size: u64) -> Result<Option<CheckpointRow>, ReadError> {
    first(database, "WHERE origin = ?1 AND tree_size = ?2", vec![origin.as_str().into(), int(size)])
}

fn first(
    database: &Database,
    condition: &str,
    values: Vec<Value>,
) -> Result<Option<CheckpointRow>, ReadError> {
    let sql = format!(
        "SELECT id, origin, tree_size, root_hash, note, signed_at FROM audit_checkpoints {condition}"
    );
    let rows = database.rows_now(&Query { table: TABLE, sql: sql.into(), values })?;
    Ok(rows.first().map(CheckpointRow::read).transpose()?)
}

/// What a witness said to a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosignature {
    /// The name of its key.
    pub witness: String,
    /// The signature line, without its newline.
    pub line: String,
    /// When it arrived here.
    pub received_at: Stamp,
}

/// The cosignatures of the checkpoint of `origin` for a tree of `size` leaves, by the names of witnesses.
///
/// # Errors
/// When the database cannot be read or a row is illegal.
pub fn cosignatures(database: &Database, origin: &Name, size: u64) -> Result<Vec<Cosignature>, ReadError> {
    let sql = "SELECT witness, line, received_at FROM audit_cosignatures \
        WHERE origin = ?1 AND tree_size = ?2 ORDER BY witness";
    let values = vec![origin.as_str().into(), int(size)];
    let rows = database.rows_now(&Query::new("audit_cosignatures", sql, values))?;
    let read = |row: &Row| {
        Ok::<_, RowError>(Cosignature {
            witness: row.text("witness")?.to_owned(),
            line: row.text("line")?.to_owned(),
            received_at: row.stamp("received_at")?,
        })
    };
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// How many entries the largest checkpoint of `origin` has that `witness` cosigned; 0 when it cosigned none.
///
/// # Errors
/// When the database cannot be read.
pub fn cosigned_through(database: &Database, origin: &Name, witness: &str) -> Result<u64, ReadError> {
    let sql = "SELECT witness, tree_size FROM audit_cosignatures WHERE origin = ?1 AND witness = ?2 \
        ORDER BY tree_size DESC LIMIT 1";
    let values = vec![origin.as_str().into(), witness.into()];
    let rows = database.rows_now(&Query::new("audit_cosignatures", sql, values))?;
    rows.first().map_or(Ok(0), |row| number(row, "tree_size").map_err(Into::into))
}

/// Keeps a cosignature of the checkpoint of `origin` for a tree of `size` leaves; a newer one of the same witness
/// takes the place of the one before.
#[must_use]
pub fn put_cosignature(origin: &Name, size: u64, cosignature: &Cosignature) -> Statement {
    Statement::one(
        "INSERT INTO audit_cosignatures (origin, tree_size, witness, line, received_at) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (origin, tree_size, witness) \
         DO UPDATE SET line = excluded.line, received_at = excluded.received_at",
        vec![
            origin.as_str().into(),
            int(size),
            cosignature.witness.as_str().into(),
            cosignature.line.as_str().into(),
            cosignature.received_at.into(),
        ],
    )
}

/// Thins out what was signed before `before`, at most [`THINNED_AT_ONCE`] of them, with their cosignatures. Of each day
/// the newest checkpoint of an origin stays, and the newest that each witness cosigned: so the newest of all stays, what a
/// witness knows last, and one of either kind for every entry.
#[must_use]
pub fn thin_out(before: Stamp) -> Statement {
    // The next one decides: if it is of the same day, this one is not the newest of it.
    let sql = "DELETE FROM audit_checkpoints WHERE id IN (SELECT id FROM audit_checkpoints c \
        WHERE signed_at < ?1 AND substr(signed_at, 1, 10) = \
            (SELECT substr(n.signed_at, 1, 10) FROM audit_checkpoints n \
            WHERE n.origin = c.origin AND n.tree_size > c.tree_size ORDER BY n.tree_size LIMIT 1) \
        AND NOT EXISTS (SELECT 1 FROM audit_cosignatures s WHERE s.origin = c.origin AND s.tree_size = c.tree_size \
            AND substr(c.signed_at, 1, 10) IS NOT \
                (SELECT substr(n.signed_at, 1, 10) FROM audit_cosignatures t \
                CROSS JOIN audit_checkpoints n ON n.origin = t.origin AND n.tree_size = t.tree_size \
                WHERE t.origin = s.origin AND t.witness = s.witness AND t.tree_size > s.tree_size \
                ORDER BY t.tree_size LIMIT 1)) \
        ORDER BY signed_at LIMIT ?2)";
    Statement::any(sql, vec![before.into(), THINNED_AT_ONCE.into()])
}
