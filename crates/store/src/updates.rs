//! Framework updates: tables `pending_updates` and `migration_state_backups`.

mod leaves;
mod parked;
mod snapshots;
mod under_way;

use mastio_core::Stamp;

pub use self::{
    leaves::{
        ManagedLeaf, ReissuedLeaf, flip_leaves, forget_leaves, has_idle_leaves, managed_leaves, unflip_leaves,
    },
    parked::{ParkedKey, has_archive, none_is_parked, parked_keys},
    snapshots::{SnapshotRow, keep_snapshot, snapshots},
    under_way::{UnderWay, none_is_under_way, under_way},
};
use crate::{Query, ReadError, Row, RowError, Statement, rotations::following::BROUGHT, sqlite::Database};

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
    /// Where it is. A word that is none of ours counts as pending, so that a slip of the pen does not lift a halt.
    pub status: Status,
    /// When it was found to be needed, if that can be read.
    pub detected_at: Option<Stamp>,
    /// When it was applied, if it was and that can be read.
    pub applied_at: Option<Stamp>,
    /// Why it failed the last time, or what is wrong with the row.
    pub error: Option<String>,
}

impl UpdateRow {
    fn read(row: &Row) -> Result<Self, RowError> {
        let word = row.text("status").unwrap_or_default();
        let (status, slip) = match Status::from_word(word) {
            Some(status) => (status, None),
            None => (Status::Pending, Some(slip(word))),
        };
        Ok(Self {
            migration: row.text("migration_id")?.to_owned(),
            status,
            // These are shown and decide nothing: one that an operator wrote in another way must not stop the rest.
            detected_at: row.stamp("detected_at").ok(),
            applied_at: row.stamp("applied_at").ok(),
            error: slip.or_else(|| row.text_or_null("error").ok().flatten().map(str::to_owned)),
        })
    }
}

fn slip(word: &str) -> String {
    let known = Status::ALL.map(Status::as_str).join(", ");
    format!("the status {word:?} in pending_updates is none of {known}, so it counts as pending")
}

/// Every row, in the order of migrations, but for those that [name none](nameless).
///
/// # Errors
/// When the database cannot be read.
pub fn all(database: &Database) -> Result<Vec<UpdateRow>, ReadError> {
    let sql = "SELECT migration_id, detected_at, status, applied_at, error FROM pending_updates \
        WHERE typeof(migration_id) = 'text' ORDER BY migration_id";
    let rows = database.rows_now(&Query::new(TABLE, sql, vec![]))?;
    rows.iter().map(UpdateRow::read).collect::<Result<_, _>>().map_err(Into::into)
}

/// The ids of rows that are no text and so name no migration, as SQL literals: nothing looks at those rows.
///
/// # Errors
/// When the database cannot be read.
pub fn nameless(database: &Database) -> Result<Vec<String>, ReadError> {
    let sql = "SELECT quote(migration_id) AS literal FROM pending_updates WHERE typeof(migration_id) <> 'text' ORDER BY 1";
    let rows = database.rows_now(&Query::new(TABLE, sql, vec![]))?;
    let literal = |row: &Row| row.text("literal").map(str::to_owned);
    rows.iter().map(literal).collect::<Result<_, _>>().map_err(Into::into)
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
         WHERE migration_id = ?1 AND status NOT IN ('applied', 'rolled_back')",
        vec![migration.into(), at.into()],
    )
}

/// A migration that waits, or failed before, has failed. One that was set aside meanwhile stays so.
#[must_use]
pub fn mark_failed(migration: &str, error: &str) -> Statement {
    Statement::any(
        "UPDATE pending_updates SET status = 'failed', error = ?2 \
         WHERE migration_id = ?1 AND status NOT IN ('applied', 'rolled_back')",
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

/// SPIRE makes the certificates of the agent `a`.
const IS_SPIRE: &str = "coalesce(a.enrollment_method, '') = 'spiffe'";

/// How many agents there are whose certificates the Mastio makes, whose organisation does, and whose SPIRE does: by the
/// certificate that is pinned now, as in a rotation with overlap, not by how they came in. All agents count, revoked ones
/// apart.
///
/// # Errors
/// When the database cannot be read.
pub fn census(database: &Database) -> Result<Census, ReadError> {
    let sql = format!(
        "SELECT count(*) FILTER (WHERE NOT {IS_SPIRE} AND NOT {BROUGHT}) AS managed, \
         count(*) FILTER (WHERE NOT {IS_SPIRE} AND {BROUGHT}) AS byoca, \
         count(*) FILTER (WHERE {IS_SPIRE}) AS spire FROM internal_agents a \
         WHERE a.is_active <> 0 OR coalesce(CAST(a.revoked_at AS TEXT), '') = ''"
    );
    let rows = database.rows_now(&Query { table: "internal_agents", sql: sql.into(), values: vec![] })?;
    let count = |column| rows.first().map_or(Ok(0), |row| row.int(column)).map(i64::unsigned_abs);
    Ok(Census { managed: count("managed")?, byoca: count("byoca")?, spire: count("spire")? })
}

/// How many agents have which certificates.
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
        // Old rows do not say how their agent came in (contract `pki.md` §8).
        Enrollment::Connector => "coalesce(a.enrollment_method, '') NOT IN ('byoca', 'spiffe')",
        Enrollment::Byoca => "a.enrollment_method = 'byoca'",
        Enrollment::Spire => IS_SPIRE,
    };
    let sql =
        format!("SELECT 1 AS one FROM internal_agents a WHERE a.is_active <> 0 AND {condition} LIMIT 1");
    let rows = database.rows_now(&Query { table: "internal_agents", sql: sql.into(), values: vec![] })?;
    Ok(!rows.is_empty())
}
