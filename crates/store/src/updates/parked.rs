//! Table `legacy_pki_archive` of adopted databases.

use secrecy::{ExposeSecret, SecretString};

use crate::{Query, ReadError, Row, RowError, Statement, sqlite::Database};

/// A private key that the existing system parked when it sealed the others, readable.
#[derive(Debug, Clone)]
pub struct ParkedKey {
    /// `legacy-org-ca-…` or `legacy-intermediate-…`.
    pub id: String,
    /// As in `pki_key_store`.
    pub kind: String,
    /// The key.
    pub pem: SecretString,
    /// Since when it lies there.
    pub archived_at: String,
}

/// Whether there is a table `legacy_pki_archive`: only adopted databases have one.
///
/// # Errors
/// When the database cannot be read.
pub fn has_archive(database: &Database) -> Result<bool, ReadError> {
    let sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'legacy_pki_archive'";
    Ok(!database.rows_now(&Query::new("sqlite_master", sql, vec![]))?.is_empty())
}

/// The keys in `legacy_pki_archive`; none without that table.
///
/// # Errors
/// When the database cannot be read or a row is illegal.
pub fn parked_keys(database: &Database) -> Result<Vec<ParkedKey>, ReadError> {
    if !has_archive(database)? {
        return Ok(vec![]);
    }
    let sql = "SELECT key_id, key_type, legacy_pem, archived_at FROM legacy_pki_archive ORDER BY key_id";
    let rows = database.rows_now(&Query::new("legacy_pki_archive", sql, vec![]))?;
    let read = |row: &Row| {
        Ok(ParkedKey {
            id: row.text("key_id")?.to_owned(),
            kind: row.text("key_type")?.to_owned(),
            pem: row.text("legacy_pem")?.into(),
            archived_at: row.text("archived_at")?.to_owned(),
        })
    };
    rows.iter().map(read).collect::<Result<_, RowError>>().map_err(Into::into)
}

/// A guard: rejects its unit while a key lies there.
#[must_use]
pub fn none_is_parked() -> Statement {
    Statement::none("UPDATE legacy_pki_archive SET key_id = key_id", vec![])
}

impl ParkedKey {
    /// Deletes it; rejected when it is gone, or its row has another key by now.
    #[must_use]
    pub fn purge(&self) -> Statement {
        Statement::one(
            "DELETE FROM legacy_pki_archive WHERE key_id = ?1 AND legacy_pem = ?2",
            vec![self.id.as_str().into(), self.pem.expose_secret().into()],
        )
    }

    /// Puts it back; rejected by a constraint when it is there.
    #[must_use]
    pub fn restore(&self) -> Statement {
        Statement::one(
            "INSERT INTO legacy_pki_archive (key_id, key_type, legacy_pem, archived_at) VALUES (?1, ?2, ?3, ?4)",
            vec![
                self.id.as_str().into(),
                self.kind.as_str().into(),
                self.pem.expose_secret().into(),
                self.archived_at.as_str().into(),
            ],
        )
    }
}
