//! Certificates of agents that are not accepted any more: table `revoked_agent_certs` (design decisions 8, 9).

use mastio_core::{AgentId, Stamp, Thumbprint};

use crate::{Query, ReadError, Row, RowError, Statement, Store, sqlite::Database};

const TABLE: &str = "revoked_agent_certs";

const SELECT: &str = "SELECT thumbprint, serial, spki_sha256, key_barred, issuer_ski, agent_id, revoked_at, reason, not_after \
    FROM revoked_agent_certs";

/// One certificate that is not accepted any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// The certificate.
    pub thumbprint: Thumbprint,
    /// Its serial number in hex, without separators.
    pub serial: String,
    /// SHA-256 of its public key in DER, in hex.
    pub spki_sha256: String,
    /// Whether the key is not to be certified or pinned again either.
    pub key_barred: bool,
    /// The subject key identifier, in hex, of the issuer of ours that signed it.
    pub issuer_ski: Option<String>,
    /// Whose it was.
    pub agent: AgentId,
    /// Since when.
    pub at: Stamp,
    /// A stable word such as `admin_revocation` or `superseded`.
    pub reason: String,
    /// When it would have ended by itself.
    pub not_after: Stamp,
}

impl Revocation {
    fn read(row: &Row) -> Result<Self, RowError> {
        Ok(Self {
            thumbprint: row.parse("thumbprint", Thumbprint::parse)?,
            serial: row.text("serial")?.to_owned(),
            spki_sha256: row.text("spki_sha256")?.to_owned(),
            key_barred: row.int("key_barred")? != 0,
            issuer_ski: row.text_or_null("issuer_ski")?.map(str::to_owned),
            agent: row.parse("agent_id", AgentId::parse)?,
            at: row.stamp("revoked_at")?,
            reason: row.text("reason")?.to_owned(),
            not_after: row.stamp("not_after")?,
        })
    }

    /// The row. A certificate stays revoked as it was first, but its key may be barred later.
    #[must_use]
    pub fn insert(&self) -> Statement {
        Statement::one(
            "INSERT INTO revoked_agent_certs \
             (thumbprint, serial, spki_sha256, key_barred, issuer_ski, agent_id, revoked_at, reason, not_after) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
             ON CONFLICT (thumbprint) DO UPDATE SET key_barred = max(key_barred, excluded.key_barred)",
            vec![
                self.thumbprint.into(),
                self.serial.as_str().into(),
                self.spki_sha256.as_str().into(),
                self.key_barred.into(),
                self.issuer_ski.as_deref().into(),
                (&self.agent).into(),
                self.at.into(),
                self.reason.as_str().into(),
                self.not_after.into(),
            ],
        )
    }
}

/// Every revoked certificate that has not ended by itself at `now`, oldest revocation first.
///
/// # Errors
/// When the database cannot be read or a row is illegal.
pub fn unexpired(database: &Database, now: Stamp) -> Result<Vec<Revocation>, ReadError> {
    let query = Query {
        table: TABLE,
        sql: format!("{SELECT} WHERE not_after > ?1 ORDER BY revoked_at, thumbprint").into(),
        values: vec![now.into()],
    };
    let rows = database.rows_now(&query)?;
    rows.iter().map(Revocation::read).collect::<Result<_, RowError>>().map_err(Into::into)
}

/// Every revoked certificate of `agent`, newest revocation first.
///
/// # Errors
/// When the database cannot be read or a row is illegal.
pub async fn of(store: &Store, agent: &AgentId) -> Result<Vec<Revocation>, ReadError> {
    let sql = format!("{SELECT} WHERE agent_id = ?1 ORDER BY revoked_at DESC, thumbprint");
    let rows = store.rows(Query { table: TABLE, sql: sql.into(), values: vec![agent.into()] }).await?;
    rows.iter().map(Revocation::read).collect::<Result<_, RowError>>().map_err(Into::into)
}

/// Bars every key that an agent ever had a certificate for that ended.
#[must_use]
pub fn bar_keys(agent: &AgentId) -> Statement {
    Statement::any("UPDATE revoked_agent_certs SET key_barred = 1 WHERE agent_id = ?1", vec![agent.into()])
}

/// Whether a key is barred. `spki_sha256` is in hex.
///
/// # Errors
/// When the database cannot be read.
pub fn key_is_revoked(database: &Database, spki_sha256: &str) -> Result<bool, ReadError> {
    let sql = "SELECT thumbprint FROM revoked_agent_certs WHERE spki_sha256 = ?1 AND key_barred = 1 LIMIT 1";
    Ok(!database.rows_now(&Query::new(TABLE, sql, vec![spki_sha256.into()]))?.is_empty())
}
