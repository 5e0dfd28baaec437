//! The leaves that an update reissues, and those that they take the place of.

use mastio_core::{Stamp, Thumbprint};

use super::IS_SPIRE;
use crate::{
    Query, ReadError, Row, RowError, Statement, Value, rotations::following::BROUGHT, sqlite::Database,
};

/// The migration `?1`, if its leaves do not count.
macro_rules! idle {
    () => {
        "(SELECT ?1 WHERE NOT EXISTS (SELECT 1 FROM leaf_generations WHERE migration_id = ?1))"
    };
}

/// A pinned leaf of an agent whose certificates the Mastio makes.
#[derive(Debug, Clone)]
pub struct ManagedLeaf {
    /// Whose, as its row says.
    pub agent: String,
    /// PEM, leaf first.
    pub certificates: String,
    /// The pin.
    pub thumbprint: Thumbprint,
}

/// At most `limit` of them after the agent `after`, in the order of ids; those of revoked agents are left out.
///
/// # Errors
/// When the database cannot be read or a row is illegal.
pub fn managed_leaves(database: &Database, after: &str, limit: u32) -> Result<Vec<ManagedLeaf>, ReadError> {
    let sql = format!(
        "SELECT a.agent_id, a.cert_pem, c.thumbprint FROM internal_agents a \
         JOIN agent_certs c ON c.agent_id = a.agent_id WHERE a.agent_id > ?1 AND NOT {IS_SPIRE} AND NOT {BROUGHT} \
         AND coalesce(a.cert_pem, '') <> '' \
         AND (a.is_active <> 0 OR coalesce(CAST(a.revoked_at AS TEXT), '') = '') ORDER BY a.agent_id LIMIT ?2"
    );
    let values = vec![after.into(), i64::from(limit).into()];
    let rows = database.rows_now(&Query { table: "internal_agents", sql: sql.into(), values })?;
    let read = |row: &Row| {
        Ok(ManagedLeaf {
            agent: row.text("agent_id")?.to_owned(),
            certificates: row.text("cert_pem")?.to_owned(),
            thumbprint: row.parse("thumbprint", Thumbprint::parse)?,
        })
    };
    rows.iter().map(read).collect::<Result<_, RowError>>().map_err(Into::into)
}

/// A leaf made again for the key of the pinned one.
#[derive(Debug, Clone)]
pub struct ReissuedLeaf {
    /// Whose.
    pub agent: String,
    /// The pinned one.
    pub replaces: Thumbprint,
    /// This one.
    pub thumbprint: Thumbprint,
    /// This one in PEM.
    pub pem: String,
}

impl ReissuedLeaf {
    /// Keeps it until its migration [flips](flip_leaves).
    #[must_use]
    pub fn keep(&self, migration: &str) -> Statement {
        Statement::one(
            "INSERT INTO reissued_leaves (migration_id, agent_id, replaces, thumbprint, leaf_pem) \
             VALUES (?1, ?2, ?3, ?4, ?5)",
            vec![
                migration.into(),
                self.agent.as_str().into(),
                self.replaces.into(),
                self.thumbprint.into(),
                self.pem.as_str().into(),
            ],
        )
    }
}

/// From now on the leaves that `migration` has reissued are the agents' pinned ones; `issuer` is what stands above them,
/// in PEM. Rejected by a constraint when they are already.
#[must_use]
pub fn flip_leaves(migration: &str, issuer: &str, at: Stamp) -> Statement {
    let sql = "INSERT INTO leaf_generations (migration_id, issuer_pem, flipped_at) VALUES (?1, ?2, ?3)";
    Statement::one(sql, vec![migration.into(), issuer.into(), at.into()])
}

/// The agents' leaves of before are the pinned ones again.
#[must_use]
pub fn unflip_leaves(migration: &str) -> Statement {
    let migration: Value = migration.into();
    Statement::any("DELETE FROM leaf_generations WHERE migration_id = ?1", vec![migration])
}

/// Deletes at most `limit` leaves of a migration that has not flipped.
#[must_use]
pub fn forget_leaves(migration: &str, limit: u32) -> Statement {
    Statement::any(
        concat!(
            "DELETE FROM reissued_leaves WHERE migration_id = ",
            idle!(),
            " AND agent_id IN (SELECT agent_id FROM reissued_leaves WHERE migration_id = ?1 LIMIT ?2)"
        ),
        vec![migration.into(), i64::from(limit).into()],
    )
}

/// Whether there are leaves of a migration that has not flipped: it was interrupted, or taken back.
///
/// # Errors
/// When the database cannot be read.
pub fn has_idle_leaves(database: &Database, migration: &str) -> Result<bool, ReadError> {
    let sql = concat!("SELECT 1 AS one FROM reissued_leaves WHERE migration_id = ", idle!(), " LIMIT 1");
    let rows = database.rows_now(&Query::new("reissued_leaves", sql, vec![migration.into()]))?;
    Ok(!rows.is_empty())
}
