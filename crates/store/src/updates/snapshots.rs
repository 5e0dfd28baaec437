//! What was before an update, table `migration_state_backups`.

use mastio_core::Stamp;

use crate::{Query, ReadError, Row, RowError, Statement, sqlite::Database};

/// What was before a migration was applied.
#[derive(Clone, PartialEq, Eq)]
pub struct SnapshotRow {
    /// Of which migration.
    pub migration: String,
    /// When it was taken, if that can be read: it is shown and decides nothing.
    pub created_at: Option<Stamp>,
    /// What it holds, in JSON: readable keys, too, where there is no passphrase.
    pub json: String,
}

impl std::fmt::Debug for SnapshotRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotRow").field("migration", &self.migration).finish_non_exhaustive()
    }
}

/// All snapshots.
///
/// # Errors
/// When the database cannot be read or a row is illegal.
pub fn snapshots(database: &Database) -> Result<Vec<SnapshotRow>, ReadError> {
    let sql =
        "SELECT migration_id, created_at, snapshot_json FROM migration_state_backups ORDER BY migration_id";
    let rows = database.rows_now(&Query::new("migration_state_backups", sql, vec![]))?;
    let read = |row: &Row| {
        Ok(SnapshotRow {
            migration: row.text("migration_id")?.to_owned(),
            created_at: row.stamp("created_at").ok(),
            json: row.text("snapshot_json")?.to_owned(),
        })
    };
    rows.iter().map(read).collect::<Result<_, RowError>>().map_err(Into::into)
}

/// Sets every character of a snapshot to another one, where it lies. A text longer than a page is on pages of its own, and
/// what SQLite takes out of use it does not overwrite: a key would stay readable in the file.
macro_rules! blank {
    ($condition:expr) => {
        concat!(
            "UPDATE migration_state_backups SET snapshot_json = \
             substr(hex(zeroblob(octet_length(snapshot_json))), 1, octet_length(snapshot_json)) \
             WHERE migration_id = ?1 AND ",
            $condition
        )
    };
}

/// Keeps a snapshot of a migration that waits or failed, in the place of one that was left: by an earlier life of its row,
/// by the existing system, or by an attempt that failed, which has changed nothing.
#[must_use]
pub fn keep_snapshot(migration: &str, json: &str, at: Stamp) -> [Statement; 2] {
    let keep = "INSERT INTO migration_state_backups (migration_id, created_at, snapshot_json) VALUES (?1, ?2, ?3) \
         ON CONFLICT (migration_id) DO UPDATE SET created_at = excluded.created_at, \
             snapshot_json = excluded.snapshot_json";
    [
        Statement::any(blank!("true"), vec![migration.into()]),
        Statement::one(keep, vec![migration.into(), at.into(), json.into()]),
    ]
}

/// Deletes the snapshot of `migration`, if there is one, whatever it holds by now.
#[must_use]
pub fn wipe_snapshot(migration: &str) -> [Statement; 2] {
    let delete = "DELETE FROM migration_state_backups WHERE migration_id = ?1";
    [Statement::any(blank!("1"), vec![migration.into()]), Statement::any(delete, vec![migration.into()])]
}

impl SnapshotRow {
    /// Deletes it; rejected when it is another one by now.
    #[must_use]
    pub fn wipe(&self) -> [Statement; 2] {
        let delete = "DELETE FROM migration_state_backups WHERE migration_id = ?1";
        [self.blank(), Statement::one(delete, vec![self.migration.as_str().into()])]
    }

    /// Puts `json` in the place of what it holds; rejected when it is another one by now.
    #[must_use]
    pub fn replace(&self, json: &str) -> [Statement; 2] {
        let put = "UPDATE migration_state_backups SET snapshot_json = ?2 WHERE migration_id = ?1";
        [self.blank(), Statement::one(put, vec![self.migration.as_str().into(), json.into()])]
    }

    fn blank(&self) -> Statement {
        let values = vec![self.migration.as_str().into(), self.json.as_str().into()];
        Statement::one(blank!("snapshot_json = ?2"), values)
    }
}
