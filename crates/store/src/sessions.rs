//! Sessions of users behind an agent's certificate: table `user_sessions`.

use mastio_core::{Stamp, Thumbprint};

use crate::{Query, ReadError, Statement, Store};

/// How many sessions are bound to the certificate `thumbprint` and were not ended.
///
/// # Errors
/// When the database cannot be read.
pub async fn live(store: &Store, thumbprint: Thumbprint) -> Result<u32, ReadError> {
    let sql = "SELECT ?1 AS agent_cert_thumbprint, count(*) AS live FROM user_sessions \
        WHERE agent_cert_thumbprint = ?1 AND revoked_at IS NULL";
    let rows = store.rows(Query::new("user_sessions", sql, vec![thumbprint.into()])).await?;
    let live = rows.first().map_or(Ok(0), |row| row.int("live"))?;
    Ok(u32::try_from(live).unwrap_or(u32::MAX))
}

/// Ends the sessions that are bound to `thumbprint`; rejected unless there are `live` of them.
#[must_use]
pub fn end(thumbprint: Thumbprint, live: u32, at: Stamp) -> Statement {
    Statement {
        rows: Some(live as usize),
        ..Statement::any(
            "UPDATE user_sessions SET revoked_at = ?2 WHERE agent_cert_thumbprint = ?1 AND revoked_at IS NULL",
            vec![thumbprint.into(), at.into()],
        )
    }
}
