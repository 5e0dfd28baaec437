//! Agents that were deleted: table `agent_tombstones`. Their ids are not given to others.

use mastio_core::{AgentId, Stamp};

use super::{AgentRow, drop_escrow};
use crate::{Query, ReadError, Row, RowError, Statement, Store};

const TABLE: &str = "agent_tombstones";

/// What is left of a deleted agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// Its id.
    pub agent: AgentId,
    /// When it was deleted.
    pub deleted_at: Stamp,
    /// Why.
    pub reason: String,
    /// The statement about its end; `None` until it is signed.
    pub receipt: Option<Receipt>,
}

/// A signed statement about an agent's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// A JWS by the Mastio's signing key.
    pub jws: String,
    /// The place of the first entry that tells the end.
    pub first_seq: i64,
    /// The place of the last one.
    pub last_seq: i64,
}

impl Tombstone {
    fn read(row: &Row) -> Result<Self, RowError> {
        let jws = row.text("receipt")?;
        let receipt =
            Receipt { jws: jws.to_owned(), first_seq: row.int("first_seq")?, last_seq: row.int("last_seq")? };
        Ok(Self {
            agent: row.parse("agent_id", AgentId::parse)?,
            deleted_at: row.stamp("deleted_at")?,
            reason: row.text("reason")?.to_owned(),
            receipt: (!jws.is_empty()).then_some(receipt),
        })
    }

    /// Keeps the receipt; touches no row when there is another one by now, or the tombstone is gone.
    #[must_use]
    pub fn keep(&self, receipt: &Receipt) -> Statement {
        Statement::one(
            "UPDATE agent_tombstones SET receipt = ?3, first_seq = ?4, last_seq = ?5 \
             WHERE agent_id = ?1 AND deleted_at = ?2 AND receipt = ?6",
            vec![
                (&self.agent).into(),
                self.deleted_at.into(),
                receipt.jws.as_str().into(),
                receipt.first_seq.into(),
                receipt.last_seq.into(),
                self.receipt.as_ref().map_or("", |before| before.jws.as_str()).into(),
            ],
        )
    }

    /// Takes the tombstone away, because its id is given to another agent; touches no row when it is gone.
    #[must_use]
    pub fn lift(&self) -> Statement {
        Statement::one(
            "DELETE FROM agent_tombstones WHERE agent_id = ?1 AND deleted_at = ?2",
            vec![(&self.agent).into(), self.deleted_at.into()],
        )
    }
}

/// The tombstone of `id`.
///
/// # Errors
/// When the database cannot be read or the row is illegal.
pub async fn tombstone(store: &Store, id: &AgentId) -> Result<Option<Tombstone>, ReadError> {
    let sql = "SELECT agent_id, deleted_at, reason, first_seq, last_seq, receipt FROM agent_tombstones \
        WHERE agent_id = ?1";
    let rows = store.rows(Query::new(TABLE, sql, vec![id.into()])).await?;
    Ok(rows.first().map(Tombstone::read).transpose()?)
}

/// The tombstones of all ids that differ from `id` in nothing but upper and lower case, its own among them.
///
/// # Errors
/// When the database cannot be read or a row is illegal.
pub async fn tombstones_like(store: &Store, id: &AgentId) -> Result<Vec<Tombstone>, ReadError> {
    let sql = "SELECT agent_id, deleted_at, reason, first_seq, last_seq, receipt FROM agent_tombstones \
        WHERE lower(agent_id) = lower(?1) ORDER BY deleted_at";
    let rows = store.rows(Query::new(TABLE, sql, vec![id.into()])).await?;
    rows.iter().map(Tombstone::read).collect::<Result<_, _>>().map_err(Into::into)
}

/// Deletes `agent`, which the same unit or an earlier one revoked. The first statement touches no row when it is not
/// revoked, or changed since it was read. Its epoch, its revoked certificates and the floor of its SPIFFE id stay: they
/// keep shut what it had.
#[must_use]
pub fn bury(agent: &AgentRow, reason: &str, at: Stamp) -> Vec<Statement> {
    let id = &agent.id;
    let gone = |sql| Statement::any(sql, vec![id.into()]);
    vec![
        Statement::one(
            "DELETE FROM internal_agents \
             WHERE agent_id = ?1 AND is_active = 0 AND revoked_at IS NOT NULL AND cert_pem IS ?2",
            vec![id.into(), agent.stored().into()],
        ),
        Statement::one(
            "INSERT INTO agent_tombstones (agent_id, deleted_at, reason, first_seq, last_seq, receipt) \
             VALUES (?1, ?2, ?3, 0, 0, '') ON CONFLICT (agent_id) DO UPDATE SET deleted_at = excluded.deleted_at, \
             reason = excluded.reason, first_seq = 0, last_seq = 0, receipt = ''",
            vec![id.into(), at.into(), reason.into()],
        ),
        Statement::any(
            "UPDATE local_messages SET delivery_status = 2, expired_at = ?3 \
             WHERE recipient_agent_id IN (?1, ?2) AND delivery_status = 0",
            vec![id.into(), id.name().into(), at.into()],
        ),
        gone("DELETE FROM agent_certs WHERE agent_id = ?1"),
        gone("DELETE FROM rotation_moves WHERE agent_id = ?1"),
        gone("DELETE FROM reissued_leaves WHERE agent_id = ?1"),
        gone("DELETE FROM agent_lifetimes WHERE agent_id = ?1"),
        gone("DELETE FROM spiffe_bindings WHERE agent_id = ?1"),
        drop_escrow(id),
    ]
}

/// What of a deleted agent is ended, however it came to that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct AllEnded {
    /// Its tokens of every lower epoch are refused.
    pub token_epoch: i64,
    /// Sessions of users that were bound to its certificates.
    pub sessions: i64,
    /// Its bindings to resources.
    pub bindings: i64,
    /// Enrolments with its keys that waited for a decision.
    pub pending_enrollments: i64,
    /// Messages that waited for it when it was deleted.
    pub messages: i64,
}

/// What of the agent behind `tombstone` is ended.
///
/// # Errors
/// When the database cannot be read.
pub async fn all_ended(store: &Store, tombstone: &Tombstone) -> Result<AllEnded, ReadError> {
    let sql = "SELECT ?1 AS agent_id, \
        coalesce((SELECT epoch FROM agent_epochs WHERE agent_id = ?1), 0) AS token_epoch, \
        (SELECT count(*) FROM user_sessions WHERE revoked_at IS NOT NULL AND agent_cert_thumbprint IN \
            (SELECT thumbprint FROM revoked_agent_certs WHERE agent_id = ?1)) AS sessions, \
        (SELECT count(*) FROM local_agent_resource_bindings WHERE agent_id = ?1 AND principal_type = 'agent') \
            AS bindings, \
        (SELECT count(*) FROM pending_enrollments WHERE decided_by = 'revocation' AND pubkey_fingerprint IN \
            (SELECT spki_sha256 FROM revoked_agent_certs WHERE agent_id = ?1)) AS pending_enrollments, \
        (SELECT count(*) FROM local_messages WHERE recipient_agent_id IN (?1, ?2) AND delivery_status = 2 \
            AND expired_at = ?3) AS messages";
    let id = &tombstone.agent;
    let values = vec![id.into(), id.name().into(), tombstone.deleted_at.into()];
    let rows = store.rows(Query::new(TABLE, sql, values)).await?;
    let count = |column| rows.first().map_or(Ok(0), |row| row.int(column));
    Ok(AllEnded {
        token_epoch: count("token_epoch")?,
        sessions: count("sessions")?,
        bindings: count("bindings")?,
        pending_enrollments: count("pending_enrollments")?,
        messages: count("messages")?,
    })
}
