//! What was before an update, table `migration_state_backups`.

use mastio_core::Stamp;

use crate::{Query, ReadError, Row, RowError, Statement, sqlite::Database};

/// What was before a migration was applied.
#[derive(Clone, PartialEq, Eq)]
pub struct SnapshotRow {
    row: i64,
    /// Of which migration; an SQL literal, if that is no text.
    pub migration: String,
    /// When it was taken, if that can be read: it is shown and decides nothing.
    pub created_at: Option<Stamp>,
    held: Vec<u8>,
    is_text: bool,
}

impl std::fmt::Debug for SnapshotRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotRow").field("migration", &self.migration).finish_non_exhaustive()
    }
}

/// What a snapshot holds, byte for byte, whatever type somebody gave it.
macro_rules! held {
    () => {
        "coalesce(CAST(snapshot_json AS BLOB), x'')"
    };
}

/// All snapshots, also those that cannot be read: none may escape a wipe.
///
/// # Errors
/// When the database cannot be read.
pub fn snapshots(database: &Database) -> Result<Vec<SnapshotRow>, ReadError> {
    let sql = concat!(
        "SELECT CASE typeof(migration_id) WHEN 'text' THEN migration_id ELSE quote(migration_id) END AS migration, \
         rowid AS place, created_at, ",
        held!(),
        " AS held, typeof(snapshot_json) = 'text' AS is_text FROM migration_state_backups ORDER BY migration_id"
    );
    let rows = database.rows_now(&Query::new("migration_state_backups", sql, vec![]))?;
    let read = |row: &Row| {
        Ok(SnapshotRow {
            row: row.int("place")?,
            migration: row.text("migration")?.to_owned(),
            created_at: row.stamp("created_at").ok(),
            held: row.blob("held")?.to_owned(),
            is_text: row.int("is_text")? != 0,
        })
    };
    rows.iter().map(read).collect::<Result<_, RowError>>().map_err(Into::into)
}

/// Sets every character of a snapshot to another one, where it lies. A text longer than a page is on pages of its own, and
/// what SQLite takes out of use it does not overwrite: a key would stay readable in the file.
macro_rules! blank {
    ($($condition:expr),+) => {
        concat!(
            "UPDATE migration_state_backups SET snapshot_json = \
             substr(hex(zeroblob(octet_length(snapshot_json))), 1, octet_length(snapshot_json)) WHERE ",
            $($condition),+
        )
    };
}

const DELETE: &str = "DELETE FROM migration_state_backups WHERE rowid = ?1";

/// Keeps a snapshot of a migration that waits or failed, in the place of one that was left: by an earlier life of its row,
/// by the existing system, or by an attempt that failed and to whose beginning nothing leads back.
#[must_use]
pub fn keep_snapshot(migration: &str, json: &str, at: Stamp) -> [Statement; 2] {
    let keep = "INSERT INTO migration_state_backups (migration_id, created_at, snapshot_json) VALUES (?1, ?2, ?3) \
         ON CONFLICT (migration_id) DO UPDATE SET created_at = excluded.created_at, \
             snapshot_json = excluded.snapshot_json";
    [
        Statement::any(blank!("migration_id = ?1"), vec![migration.into()]),
        Statement::one(keep, vec![migration.into(), at.into(), json.into()]),
    ]
}

impl SnapshotRow {
    /// What it holds, in JSON: readable keys, too, where there is no passphrase. `None` if it is no text.
    #[must_use]
    pub fn json(&self) -> Option<&str> {
        std::str::from_utf8(&self.held).ok().filter(|_| self.is_text)
    }

    /// What it holds.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.held
    }

    /// Deletes it; rejected when it is another one by now.
    #[must_use]
    pub fn wipe(&self) -> [Statement; 2] {
        [self.blank(), Statement::one(DELETE, vec![self.row.into()])]
    }

    /// Deletes it, if it is there still, whatever it holds by now.
    #[must_use]
    pub fn wipe_anyway(&self) -> [Statement; 2] {
        let row = || vec![self.row.into()];
        [Statement::any(blank!("rowid = ?1"), row()), Statement::any(DELETE, row())]
    }

    /// Puts `json` in the place of what it holds; rejected when it is another one by now.
    #[must_use]
    pub fn replace(&self, json: &str) -> [Statement; 2] {
        let put = "UPDATE migration_state_backups SET snapshot_json = ?2 WHERE rowid = ?1";
        [self.blank(), Statement::one(put, vec![self.row.into(), json.into()])]
    }

    fn blank(&self) -> Statement {
        let values = vec![self.row.into(), self.held.clone().into()];
        Statement::one(blank!("rowid = ?1 AND ", held!(), " = ?2"), values)
    }
}
