//! Requests that may be sent again: table `idempotency_keys`. It holds hashes, never what was sent or answered.

use std::time::Duration;

use mastio_core::{AgentId, Stamp, Thumbprint};

use crate::{Query, ReadError, Row, RowError, Statement, Store};

/// How long a key is remembered.
pub const KEPT: Duration = Duration::from_secs(24 * 3600);

/// What a request with a key led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// SHA-256 of the request, in hex.
    pub request_sha256: String,
    /// The agent that came in by it.
    pub agent: AgentId,
    /// The certificate that it came in with.
    pub thumbprint: Thumbprint,
    /// When.
    pub at: Stamp,
}

/// What the request with the key of this hash (hex) led to, if that is less than [`KEPT`] ago.
///
/// # Errors
/// When the database cannot be read.
pub async fn find(store: &Store, key_sha256: &str, now: Stamp) -> Result<Option<Remembered>, ReadError> {
    let sql = "SELECT key_sha256, request_sha256, agent_id, thumbprint, created_at FROM idempotency_keys \
        WHERE key_sha256 = ?1 AND created_at > ?2";
    let query = Query::new("idempotency_keys", sql, vec![key_sha256.into(), now.minus(KEPT).into()]);
    let read = |row: &Row| {
        Ok::<_, RowError>(Remembered {
            request_sha256: row.text("request_sha256")?.to_owned(),
            agent: row.parse("agent_id", AgentId::parse)?,
            thumbprint: row.parse("thumbprint", Thumbprint::parse)?,
            at: row.stamp("created_at")?,
        })
    };
    Ok(store.rows(query).await?.first().map(read).transpose()?)
}

/// Remembers a key; touches no row when it is remembered already.
#[must_use]
pub fn remember(key_sha256: &str, remembered: &Remembered) -> Statement {
    Statement::one(
        "INSERT INTO idempotency_keys (key_sha256, request_sha256, agent_id, thumbprint, created_at) \
         VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (key_sha256) DO UPDATE SET \
         request_sha256 = excluded.request_sha256, agent_id = excluded.agent_id, \
         thumbprint = excluded.thumbprint, created_at = excluded.created_at WHERE created_at <= ?6",
        vec![
            key_sha256.into(),
            remembered.request_sha256.as_str().into(),
            (&remembered.agent).into(),
            remembered.thumbprint.into(),
            remembered.at.into(),
            remembered.at.minus(KEPT).into(),
        ],
    )
}

/// Forgets the keys whose time is over.
#[must_use]
pub fn purge(now: Stamp) -> Statement {
    Statement::any("DELETE FROM idempotency_keys WHERE created_at <= ?1", vec![now.minus(KEPT).into()])
}
