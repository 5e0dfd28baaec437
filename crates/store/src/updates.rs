//! Framework updates: tables `pending_updates` and `migration_state_backups`, and the leaves that an update reissues.

use mastio_core::{Stamp, Thumbprint};

use crate::{Query, ReadError, Row, RowError, Statement, Value, sqlite::Database};

const TABLE: &str = "pending_updates";

/// Where a migration is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It should be applied.
    Pending,
    /// It was, or it is not needed any more.
    Applied,
    /// It was tried, and nothing changed.
    Failed,
    /// It was taken back, or an operator set it aside.
    RolledBack,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Applied, Self::Failed, Self::RolledBack];

    /// The word in the column `status`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Applied => "applied",
            Self::Failed => "failed",
            Self::RolledBack => "rolled_back",
        }
    }

    /// The status behind a word, if it is one.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }
}

/// A row of `pending_updates`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateRow {
    /// Of which migration.
    pub migration: String,
    /// Where it is.
    pub status: Status,
    /// When it was found to be needed.
    pub detected_at: Stamp,
    /// When it was applied.
    pub applied_at: Option<Stamp>,
    /// Why it failed the last time.
    pub error: Option<String>,
}

impl UpdateRow {
    fn read(row: &Row) -> Result<Self, RowError> {
        Ok(Self {
            migration: row.text("migration_id")?.to_owned(),
            // Operators write this column by hand: whatever is no word of ours sets the migration aside.
            status: Status::from_word(row.text("status")?).unwrap_or(Status::RolledBack),
            detected_at: row.stamp("detected_at")?,
            applied_at: row.stamp_or_null("applied_at")?,
            error: row.text_or_null("error")?.map(str::to_owned),
        })
    }
}

/// Every row, in the order of migrations.
///
/// # Errors
/// When the database cannot be read or a row is illegal.
pub fn all(database: &Database) -> Result<Vec<UpdateRow>, ReadError> {
    let sql = "SELECT migration_id, detected_at, status, applied_at, error FROM pending_updates ORDER BY migration_id";
    let rows = database.rows_now(&Query::new(TABLE, sql, vec![]))?;
    rows.iter().map(UpdateRow::read).collect::<Result<_, _>>().map_err(Into::into)
}

/// Proposes a migration; rejected by a constraint when it has a row already.
#[must_use]
pub fn propose(migration: &str, at: Stamp) -> Statement {
    let sql = "INSERT INTO pending_updates (migration_id, detected_at, status) VALUES (?1, ?2, 'pending')";
    Statement::one(sql, vec![migration.into(), at.into()])
}

/// A migration that waits, or failed, is applied from now on.
#[must_use]
pub fn mark_applied(migration: &str, at: Stamp) -> Statement {
    Statement::one(
        "UPDATE pending_updates SET status = 'applied', applied_at = ?2, error = NULL \
         WHERE migration_id = ?1 AND status IN ('pending', 'failed')",
        vec![migration.into(), at.into()],
    )
}

/// A migration that waits, or failed before, has failed.
#[must_use]
pub fn mark_failed(migration: &str, error: &str) -> Statement {
    Statement::one(
        "UPDATE pending_updates SET status = 'failed', error = ?2 \
         WHERE migration_id = ?1 AND status IN ('pending', 'failed')",
        vec![migration.into(), error.into()],
    )
}

/// A migration that was applied, or failed, is taken back.
#[must_use]
pub fn mark_rolled_back(migration: &str) -> Statement {
    Statement::one(
        "UPDATE pending_updates SET status = 'rolled_back' \
         WHERE migration_id = ?1 AND status IN ('applied', 'failed')",
        vec![migration.into()],
    )
}

/// What was before a migration was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRow {
    /// Of which migration.
    pub migration: String,
    /// When it was taken.
    pub created_at: Stamp,
    /// What it holds, in JSON.
    pub json: String,
}

/// All snapshots.
///
/// # Errors
/// When the database cannot be read or a row is illegal.
pub fn snapshots(database: &Database) -> Result<Vec<SnapshotRow>, ReadError> {
    let sql =
        "SELECT migration_id, created_at, snapshot_json FROM migration_state_backups ORDER BY migration_id";
    let rows = database.rows_now(&Query::new("migration_state_backups", sql, vec![]))?;
    let read = |row: &Row| {
        Ok(SnapshotRow {
            migration: row.text("migration_id")?.to_owned(),
            created_at: row.stamp("created_at")?,
            json: row.text("snapshot_json")?.to_owned(),
        })
    };
    rows.iter().map(read).collect::<Result<_, RowError>>().map_err(Into::into)
}

/// Keeps a snapshot of a migration that waits, in the place of one that an earlier life of its row left. A retry of one
/// that failed keeps the snapshot of the first time.
#[must_use]
pub fn keep_snapshot(migration: &str, json: &str, at: Stamp) -> Statement {
    Statement::any(
        "INSERT INTO migration_state_backups (migration_id, created_at, snapshot_json) VALUES (?1, ?2, ?3) \
         ON CONFLICT (migration_id) DO UPDATE SET created_at = excluded.created_at, \
             snapshot_json = excluded.snapshot_json \
         WHERE EXISTS (SELECT 1 FROM pending_updates WHERE migration_id = ?1 AND status = 'pending')",
        vec![migration.into(), at.into(), json.into()],
    )
}

/// Deletes a snapshot; rejected when it is another one by now.
#[must_use]
pub fn drop_snapshot(snapshot: &SnapshotRow) -> Statement {
    Statement::one(
        "DELETE FROM migration_state_backups WHERE migration_id = ?1 AND snapshot_json = ?2",
        vec![snapshot.migration.as_str().into(), snapshot.json.as_str().into()],
    )
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

/// The condition that the Mastio makes the certificates of the agent `a`: what operators call `connector` (contract
/// `pki.md` §8). Old rows do not say how their agent came in.
const IS_MANAGED: &str = "coalesce(a.enrollment_method, '') NOT IN ('byoca', 'spiffe')";

/// At most `limit` of them after the agent `after`, in the order of ids; those of revoked agents are left out.
///
/// # Errors
/// When the database cannot be read or a row is illegal.
pub fn managed_leaves(database: &Database, after: &str, limit: u32) -> Result<Vec<ManagedLeaf>, ReadError> {
    let sql = format!(
        "SELECT a.agent_id, a.cert_pem, c.thumbprint FROM internal_agents a \
         JOIN agent_certs c ON c.agent_id = a.agent_id WHERE a.agent_id > ?1 AND {IS_MANAGED} \
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

/// How many agents there are whose certificates the Mastio makes, whose organisation does, and whose SPIRE does. All
/// agents count, revoked ones apart.
///
/// # Errors
/// When the database cannot be read.
pub fn census(database: &Database) -> Result<Census, ReadError> {
    let sql = format!(
        "SELECT count(*) FILTER (WHERE {IS_MANAGED}) AS managed, \
         count(*) FILTER (WHERE a.enrollment_method = 'byoca') AS byoca, \
         count(*) FILTER (WHERE a.enrollment_method = 'spiffe') AS spire FROM internal_agents a \
         WHERE a.is_active <> 0 OR coalesce(CAST(a.revoked_at AS TEXT), '') = ''"
    );
    let rows = database.rows_now(&Query { table: "internal_agents", sql: sql.into(), values: vec![] })?;
    let count = |column| rows.first().map_or(Ok(0), |row| row.int(column)).map(i64::unsigned_abs);
    Ok(Census { managed: count("managed")?, byoca: count("byoca")?, spire: count("spire")? })
}

/// How many agents came in which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Census {
    /// Their certificates are made here.
    pub managed: u64,
    /// They bring certificates of their organisation.
    pub byoca: u64,
    /// SPIRE issues theirs.
    pub spire: u64,
}

/// A way in which agents come in, in the words of the operators' documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Enrollment {
    /// The Mastio makes their certificates, however they were enrolled.
    Connector,
    /// Their organisation does.
    Byoca,
    /// SPIRE does.
    Spire,
}

/// Whether an active agent came in this way.
///
/// # Errors
/// When the database cannot be read.
pub fn has_active(database: &Database, way: Enrollment) -> Result<bool, ReadError> {
    let condition = match way {
        Enrollment::Connector => IS_MANAGED,
        Enrollment::Byoca => "a.enrollment_method = 'byoca'",
        Enrollment::Spire => "a.enrollment_method = 'spiffe'",
    };
    let sql =
        format!("SELECT 1 AS one FROM internal_agents a WHERE a.is_active <> 0 AND {condition} LIMIT 1");
    let rows = database.rows_now(&Query { table: "internal_agents", sql: sql.into(), values: vec![] })?;
    Ok(!rows.is_empty())
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
        "DELETE FROM reissued_leaves WHERE migration_id = ?1 \
         AND NOT EXISTS (SELECT 1 FROM leaf_generations WHERE migration_id = ?1) \
         AND agent_id IN (SELECT agent_id FROM reissued_leaves WHERE migration_id = ?1 LIMIT ?2)",
        vec![migration.into(), i64::from(limit).into()],
    )
}

/// Whether there are leaves of a migration that has not flipped: it was interrupted, or taken back.
///
/// # Errors
/// When the database cannot be read.
pub fn has_idle_leaves(database: &Database, migration: &str) -> Result<bool, ReadError> {
    let sql = "SELECT 1 AS one FROM reissued_leaves r WHERE r.migration_id = ?1 \
        AND NOT EXISTS (SELECT 1 FROM leaf_generations g WHERE g.migration_id = ?1) LIMIT 1";
    let rows = database.rows_now(&Query::new("reissued_leaves", sql, vec![migration.into()]))?;
    Ok(!rows.is_empty())
}

/// A private key that the existing system parked when it sealed the others, readable.
#[derive(Debug, Clone)]
pub struct ParkedKey {
    /// `legacy-org-ca-…` or `legacy-intermediate-…`.
    pub id: String,
    /// As in `pki_key_store`.
    pub kind: String,
    /// The key.
    pub pem: secrecy::SecretString,
    /// Since when it lies there.
    pub archived_at: String,
}

/// The keys in `legacy_pki_archive`, which only adopted databases have.
///
/// # Errors
/// When the database cannot be read or a row is illegal.
pub fn parked_keys(database: &Database) -> Result<Vec<ParkedKey>, ReadError> {
    let exists = "SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'legacy_pki_archive'";
    if database.rows_now(&Query::new("sqlite_master", exists, vec![]))?.is_empty() {
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

impl ParkedKey {
    /// Deletes it; rejected when it is gone.
    #[must_use]
    pub fn purge(&self) -> Statement {
        let id: Value = self.id.as_str().into();
        Statement::one("DELETE FROM legacy_pki_archive WHERE key_id = ?1", vec![id])
    }

    /// Puts it back; rejected by a constraint when it is there.
    #[must_use]
    pub fn restore(&self) -> Statement {
        use secrecy::ExposeSecret;
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
