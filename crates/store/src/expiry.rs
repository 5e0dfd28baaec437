//! Certificates that end soon: which agents' do, of which it was told, and how many there are.

use mastio_core::{AgentId, Stamp, Thumbprint};

use crate::{Query, ReadError, Row, RowError, Statement, Store, Value};

/// An active agent's certificate that ends within a span and of which that was not told yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Whose.
    pub agent: AgentId,
    /// Which.
    pub thumbprint: Thumbprint,
    /// When it ends.
    pub not_after: Stamp,
    /// Its PEM, and what followed it.
    pub certificates: String,
}

/// At most `limit` certificates that end after `span.0` and not after `span.1`, and of which nothing was told for
/// `threshold_days`, by their end and beginning behind `behind`. SPIRE's are left out: it renews them itself.
///
/// # Errors
/// When the database cannot be read.
pub async fn ending(
    store: &Store,
    span: (Stamp, Stamp),
    threshold_days: u32,
    behind: Option<&Ending>,
    limit: u32,
) -> Result<Vec<Ending>, ReadError> {
    let sql = "SELECT c.agent_id, c.thumbprint, c.not_after, a.cert_pem \
        FROM agent_certs c JOIN internal_agents a ON a.agent_id = c.agent_id \
        WHERE c.not_after <= ?1 AND (c.not_after, c.agent_id) > (?2, ?3) AND a.is_active = 1 \
        AND coalesce(a.cert_pem, '') <> '' AND coalesce(a.enrollment_method, '') <> 'spiffe' \
        AND NOT EXISTS (SELECT 1 FROM expiry_notices n \
            WHERE n.thumbprint = c.thumbprint AND n.threshold_days = ?4) \
        ORDER BY c.not_after, c.agent_id LIMIT ?5";
    let (from, after): (Value, Value) = match behind {
        Some(last) => (last.not_after.into(), (&last.agent).into()),
        // Greater than any id.
        None => (span.0.into(), "\u{10ffff}".into()),
    };
    let values = vec![span.1.into(), from, after, i64::from(threshold_days).into(), i64::from(limit).into()];
    let read = |row: &Row| {
        Ok(Ending {
            agent: row.parse("agent_id", AgentId::parse)?,
            thumbprint: row.parse("thumbprint", Thumbprint::parse)?,
            not_after: row.stamp("not_after")?,
            certificates: row.text("cert_pem")?.to_owned(),
        })
    };
    let rows = store.rows(Query::new("agent_certs", sql, values)).await?;
    rows.iter().map(read).collect::<Result<_, RowError>>().map_err(Into::into)
}

/// Remembers that the end of a certificate was told; a constraint rejects it when it was.
#[must_use]
pub fn note(thumbprint: Thumbprint, threshold_days: u32, now: Stamp) -> Statement {
    Statement::one(
        "INSERT INTO expiry_notices (thumbprint, threshold_days, told_at) VALUES (?1, ?2, ?3)",
        vec![thumbprint.into(), i64::from(threshold_days).into(), now.into()],
    )
}

/// Forgets what was told before `before` of certificates that are pinned no more, but for the `watched` ones, which
/// are not agents'.
#[must_use]
pub fn forget(watched: &[Thumbprint], before: Stamp) -> Statement {
    let places: String = (2..watched.len() + 2).map(|place| format!("AND thumbprint <> ?{place} ")).collect();
    let sql = format!(
        "DELETE FROM expiry_notices WHERE told_at < ?1 {places}\
         AND NOT EXISTS (SELECT 1 FROM agent_certs c WHERE c.thumbprint = expiry_notices.thumbprint)"
    );
    let values = std::iter::once(before.into()).chain(watched.iter().map(Value::from)).collect();
    Statement { sql: sql.into(), values, rows: None }
}

/// Whether the end of a certificate was told.
///
/// # Errors
/// When the database cannot be read.
pub async fn is_noted(store: &Store, thumbprint: Thumbprint, threshold_days: u32) -> Result<bool, ReadError> {
    let sql = "SELECT thumbprint FROM expiry_notices WHERE thumbprint = ?1 AND threshold_days = ?2";
    let values = vec![thumbprint.into(), i64::from(threshold_days).into()];
    Ok(!store.rows(Query::new("expiry_notices", sql, values)).await?.is_empty())
}

/// How many active agents' certificates end after `from` and not after `until`.
///
/// # Errors
/// When the database cannot be read.
pub async fn count(store: &Store, from: Stamp, until: Stamp) -> Result<i64, ReadError> {
    let sql = "SELECT 'agents' AS what, count(*) AS number \
        FROM agent_certs c JOIN internal_agents a ON a.agent_id = c.agent_id \
        WHERE c.not_after > ?1 AND c.not_after <= ?2 AND a.is_active = 1";
    let rows = store.rows(Query::new("agent_certs", sql, vec![from.into(), until.into()])).await?;
    Ok(rows.first().map_or(Ok(0), |row| row.int("number"))?)
}

/// How many enrolments there are in each state.
///
/// # Errors
/// When the database cannot be read.
pub async fn enrollments(store: &Store) -> Result<Vec<(String, i64)>, ReadError> {
    let sql = "SELECT status, count(*) AS number FROM pending_enrollments GROUP BY status";
    let rows = store.rows(Query::new("pending_enrollments", sql, vec![])).await?;
    let read = |row: &Row| Ok((row.text("status")?.to_owned(), row.int("number")?));
    rows.iter().map(read).collect::<Result<_, RowError>>().map_err(Into::into)
}
