//! The update that is being applied, table `update_under_way`: one at a time, and never beside a rotation.

use mastio_core::Stamp;

use crate::{Query, ReadError, Row, RowError, Statement, sqlite::Database};

/// The update that is being applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnderWay {
    /// Of which migration.
    pub migration: String,
    /// Who applies it.
    pub begun_by: String,
    /// Since when.
    pub begun_at: Stamp,
}

impl UnderWay {
    fn read(row: &Row) -> Result<Self, RowError> {
        Ok(Self {
            migration: row.text("migration_id")?.to_owned(),
            begun_by: row.text("begun_by")?.to_owned(),
            begun_at: row.stamp("begun_at")?,
        })
    }

    /// Begins it, rejected by a constraint while another one is under way.
    #[must_use]
    pub fn begin(&self) -> Statement {
        Statement::one(
            "INSERT INTO update_under_way (id, migration_id, begun_by, begun_at) VALUES (1, ?1, ?2, ?3)",
            vec![self.migration.as_str().into(), self.begun_by.as_str().into(), self.begun_at.into()],
        )
    }

    /// It is over, whatever became of it; touches no row when it is already.
    #[must_use]
    pub fn end(&self) -> Statement {
        Statement::one(
            "DELETE FROM update_under_way WHERE migration_id = ?1 AND begun_at = ?2",
            vec![self.migration.as_str().into(), self.begun_at.into()],
        )
    }
}

/// The update that is being applied, or was when its process ended.
///
/// # Errors
/// When the database cannot be read or the row is illegal.
pub fn under_way(database: &Database) -> Result<Option<UnderWay>, ReadError> {
    const TABLE: &str = "update_under_way";
    let sql = "SELECT migration_id, begun_by, begun_at FROM update_under_way";
    let rows = database.rows_now(&Query::new(TABLE, sql, vec![]))?;
    Ok(rows.first().map(UnderWay::read).transpose()?)
}

/// A guard: rejects its unit while an update is being applied.
#[must_use]
pub fn none_is_under_way() -> Statement {
    Statement::none("UPDATE update_under_way SET begun_at = begun_at", vec![])
}
