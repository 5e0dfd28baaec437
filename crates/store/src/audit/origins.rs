//! Under which name and key checkpoints are signed: table `audit_origins`. Each accepted restore begins a generation.

use mastio_audit::note::{Name, NoteKey};
use mastio_core::Stamp;
use secrecy::{ExposeSecret, SecretString};

use super::tree::{int, number};
use crate::{Query, ReadError, Row, RowError, Statement, sqlite::Database};

const TABLE: &str = "audit_origins";

/// A row of `audit_origins`.
#[derive(Debug)]
pub struct OriginRow {
    /// From 1.
    pub generation: u64,
    /// The name and the public key. The name of the key is the origin of its checkpoints.
    pub vkey: NoteKey,
    /// The private key: PEM, or an envelope that custody opens.
    pub log_key: SecretString,
    /// JWS by the Mastio's signing key over origin, key and base.
    pub announcement: String,
    /// Since when it signs.
    pub started_at: Stamp,
}

impl OriginRow {
    fn read(row: &Row) -> Result<Self, RowError> {
        let vkey: NoteKey = row.parse("vkey", str::parse)?;
        let origin = row.parse("origin", Name::parse)?;
        if origin != *vkey.name() {
            return Err(row.bad("origin", "is not the name of the key"));
        }
        Ok(Self {
            generation: number(row, "generation")?,
            vkey,
            log_key: row.text("log_key")?.into(),
            announcement: row.text("announcement")?.to_owned(),
            started_at: row.stamp("started_at")?,
        })
    }

    /// Begins this generation; refused by a constraint when there is one of that number or name.
    #[must_use]
    pub fn insert(&self) -> Statement {
        Statement::one(
            "INSERT INTO audit_origins (generation, origin, vkey, log_key, announcement, started_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            vec![
                int(self.generation),
                self.vkey.name().as_str().into(),
                self.vkey.to_string().into(),
                self.log_key.expose_secret().into(),
                self.announcement.as_str().into(),
                self.started_at.into(),
            ],
        )
    }

    /// Another announcement takes the place of this one; touches no row when somebody else was faster.
    #[must_use]
    pub fn announce(&self, again: &str) -> Statement {
        Statement::one(
            "UPDATE audit_origins SET announcement = ?3 WHERE generation = ?1 AND announcement = ?2",
            vec![int(self.generation), self.announcement.as_str().into(), again.into()],
        )
    }
}

/// Every generation, the newest first.
///
/// # Errors
/// When the database cannot be read or a row is illegal.
pub fn all(database: &Database) -> Result<Vec<OriginRow>, ReadError> {
    let sql = "SELECT generation, origin, vkey, log_key, announcement, started_at FROM audit_origins \
        ORDER BY generation DESC";
    let rows = database.rows_now(&Query::new(TABLE, sql, vec![]))?;
    Ok(rows.iter().map(OriginRow::read).collect::<Result<_, _>>()?)
}

/// The number of the newest generation; 0 when there is none.
///
/// # Errors
/// When the database cannot be read.
pub fn newest_generation(database: &Database) -> Result<u64, ReadError> {
    let sql = "SELECT coalesce(max(generation), 0) AS generation FROM audit_origins";
    let rows = database.rows_now(&Query::new(TABLE, sql, vec![]))?;
    Ok(rows.first().map_or(Ok(0), |row| number(row, "generation"))?)
}
