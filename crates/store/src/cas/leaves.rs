//! What CAs certified and has not ended: as long as there is something of it, its CA has work to do.

use mastio_core::{AgentId, Stamp};

use crate::{Query, ReadError, Row, RowError, Value, sqlite::Database};

/// Certificates of an agent that have not ended, or may not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Living {
    /// Whose.
    pub agent: AgentId,
    /// When the pinned one ends.
    pub not_after: Stamp,
    /// The pinned one in PEM, and what followed it.
    pub pinned: String,
    /// The one of the grace slot, if there is one.
    pub graced: Option<String>,
}

/// At most `limit` agents, active or not, whose pinned certificate has not ended at `now` or whose grace slot is filled,
/// by the end of the pinned one and beginning behind `behind`: what was certified long ago comes first.
///
/// # Errors
/// When the database cannot be read or a row is illegal.
pub fn living(
    database: &Database,
    now: Stamp,
    behind: Option<&Living>,
    limit: u32,
) -> Result<Vec<Living>, ReadError> {
    let sql = "SELECT c.agent_id, c.not_after, a.cert_pem, a.previous_cert_pem \
        FROM agent_certs c JOIN internal_agents a ON a.agent_id = c.agent_id \
        WHERE (c.not_after, c.agent_id) > (?2, ?3) AND coalesce(a.cert_pem, '') <> '' \
        AND (c.not_after > ?1 OR coalesce(a.previous_cert_pem, '') <> '') \
        ORDER BY c.not_after, c.agent_id LIMIT ?4";
    let (from, after): (Value, Value) = match behind {
        Some(last) => (last.not_after.into(), (&last.agent).into()),
        None => (Stamp::from_unix(0).into(), "".into()),
    };
    let values = vec![now.into(), from, after, i64::from(limit).into()];
    let read = |row: &Row| {
        let graced = row.text_or_null("previous_cert_pem")?.filter(|pem| !pem.is_empty());
        Ok(Living {
            agent: row.parse("agent_id", AgentId::parse)?,
            not_after: row.stamp("not_after")?,
            pinned: row.text("cert_pem")?.to_owned(),
            graced: graced.map(str::to_owned),
        })
    };
    let rows = database.rows_now(&Query::new("agent_certs", sql, values))?;
    rows.iter().map(read).collect::<Result<_, RowError>>().map_err(Into::into)
}

/// Whether a revocation list still has to name a certificate of the issuer with this subject key identifier, in hex.
///
/// # Errors
/// When the database cannot be read.
pub fn has_revoked(database: &Database, issuer_ski: &str, now: Stamp) -> Result<bool, ReadError> {
    let sql = "SELECT thumbprint FROM revoked_agent_certs WHERE issuer_ski = ?1 AND not_after > ?2 LIMIT 1";
    let query = Query::new("revoked_agent_certs", sql, vec![issuer_ski.into(), now.into()]);
    Ok(!database.rows_now(&query)?.is_empty())
}
