//! Sessions of operators at the dashboard: table `dashboard_sessions`. The secret of a session is not stored, only its
//! SHA-256.

use mastio_core::Stamp;

use crate::{Query, ReadError, Row, RowError, Statement, Store};

const TABLE: &str = "dashboard_sessions";

/// A session that is live: neither ended nor run out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// SHA-256 of its secret, 64 hex digits.
    pub hash: String,
    /// From where it was opened.
    pub address: String,
    /// By which browser, in its own words.
    pub user_agent: String,
    /// When it was opened.
    pub created_at: Stamp,
    /// When it runs out.
    pub expires_at: Stamp,
}

impl SessionRow {
    fn read(row: &Row) -> Result<Self, RowError> {
        Ok(Self {
            hash: row.text("session_sha256")?.to_owned(),
            address: row.text("address")?.to_owned(),
            user_agent: row.text("user_agent")?.to_owned(),
            created_at: row.stamp("created_at")?,
            expires_at: row.stamp("expires_at")?,
        })
    }

    /// The row of a new session.
    #[must_use]
    pub fn insert(&self) -> Statement {
        Statement::one(
            "INSERT INTO dashboard_sessions (session_sha256, address, user_agent, created_at, expires_at) \
             VALUES (?1, ?2, ?3, ?4, ?5)",
            vec![
                self.hash.as_str().into(),
                self.address.as_str().into(),
                self.user_agent.as_str().into(),
                self.created_at.into(),
                self.expires_at.into(),
            ],
        )
    }
}

// Both times are written by `Stamp` alone, in one form: they compare as text.
const SELECT_LIVE: &str = "SELECT session_sha256, address, user_agent, created_at, expires_at \
    FROM dashboard_sessions WHERE ended_at IS NULL AND expires_at > ?1";

/// The live session with this hash.
///
/// # Errors
/// When the database cannot be read or the row is illegal.
pub async fn find(store: &Store, hash: &str, now: Stamp) -> Result<Option<SessionRow>, ReadError> {
    let sql = format!("{SELECT_LIVE} AND session_sha256 = ?2").into();
    let rows = store.rows(Query { table: TABLE, sql, values: vec![now.into(), hash.into()] }).await?;
    Ok(rows.first().map(SessionRow::read).transpose()?)
}

/// All live sessions, newest first.
///
/// # Errors
/// When the database cannot be read or a row is illegal.
pub async fn list(store: &Store, now: Stamp) -> Result<Vec<SessionRow>, ReadError> {
    let sql = format!("{SELECT_LIVE} ORDER BY created_at DESC, session_sha256").into();
    let rows = store.rows(Query { table: TABLE, sql, values: vec![now.into()] }).await?;
    Ok(rows.iter().map(SessionRow::read).collect::<Result<_, _>>()?)
}

/// Ends a live session; rejected when there is none with this hash.
#[must_use]
pub fn end(hash: &str, now: Stamp) -> Statement {
    Statement::one(
        "UPDATE dashboard_sessions SET ended_at = ?2 \
         WHERE session_sha256 = ?1 AND ended_at IS NULL AND expires_at > ?2",
        vec![hash.into(), now.into()],
    )
}

/// Ends every live session but the one with the hash `except`.
#[must_use]
pub fn end_all(except: Option<&str>, now: Stamp) -> Statement {
    Statement::any(
        "UPDATE dashboard_sessions SET ended_at = ?2 \
         WHERE ended_at IS NULL AND expires_at > ?2 AND session_sha256 IS NOT ?1",
        vec![except.into(), now.into()],
    )
}

/// Forgets the sessions that ran out before `before`.
#[must_use]
pub fn forget(before: Stamp) -> Statement {
    Statement::any("DELETE FROM dashboard_sessions WHERE expires_at < ?1", vec![before.into()])
}
