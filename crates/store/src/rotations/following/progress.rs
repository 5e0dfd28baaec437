//! How many agents have followed a rotation, and how many it concerns.

use mastio_core::Thumbprint;

use super::{ACTIVE, BROUGHT, FETCHED, Fleet, HOLDS, MOVED, OF_ORG, SPIFFE};
use crate::{
    Query, ReadError, Row, RowError, Store,
    rotations::{Phase, Rotation},
    sqlite::Database,
};

/// How far the agents are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Progress {
    /// Active agents that this Mastio certifies, but for those that are shut out.
    pub agents: u64,
    /// How many of them have the trust file of now.
    pub fetched: u64,
    /// How many of them presented a certificate of the new root.
    pub moved: u64,
    /// Active agents with certificates of the organisation's own CA, and how many of these are of the new root.
    pub byoca: u64,
    /// How many of them presented a certificate of the new root.
    pub byoca_moved: u64,
    /// Active agents with SVIDs.
    pub spiffe: u64,
    /// How many of them have the trust file of now.
    pub spiffe_fetched: u64,
    /// Active agents that this Mastio certified and that have not moved, with a certificate that does not log in any more,
    /// or none: whatever the rotation does, they need another.
    pub shut_out: u64,
}

impl Progress {
    /// How many of our agents hold up the step out of `phase`.
    #[must_use]
    pub fn left(&self, phase: Phase) -> u64 {
        let followed = match phase {
            // Nobody can have the trust file that there is not yet.
            Phase::Staged => 0,
            Phase::Distribute => self.fetched,
            _ => self.moved,
        };
        self.agents.saturating_sub(followed)
    }

    /// How many agents with certificates of the organisation's own CA have none of the new root.
    #[must_use]
    pub fn byoca_left(&self) -> u64 {
        self.byoca.saturating_sub(self.byoca_moved)
    }

    /// How many agents the operator must see to.
    #[must_use]
    pub fn operators_left(&self) -> u64 {
        self.byoca_left() + self.spiffe.saturating_sub(self.spiffe_fetched) + self.shut_out
    }

    fn query(fleet: Fleet<'_>, rotation: &Rotation, bundle: Thumbprint) -> Query {
        let (moved, fetched) = (MOVED.replace('?', "?1"), FETCHED.replace('?', "?2"));
        // Materialized: each is asked once about every agent.
        let sql = format!(
            "WITH looked_at AS MATERIALIZED (SELECT CASE WHEN {SPIFFE} THEN 'spiffe' \
                 WHEN c.agent_id IS NOT NULL AND c.issuer IS NULL THEN 'byoca' WHEN {} OR {moved} THEN '' \
                 ELSE 'shut out' END AS kind, {fetched} AS fetched, {moved} AS moved \
                 FROM internal_agents a LEFT JOIN agent_certs c ON c.agent_id = a.agent_id WHERE {ACTIVE} AND {}) \
             SELECT kind, count(*) AS agents, sum(fetched) AS fetched, sum(moved) AS moved FROM looked_at GROUP BY kind",
            HOLDS.replace('?', "?4"),
            OF_ORG.replace('?', "?3")
        );
        let values = vec![
            rotation.id.as_str().into(),
            bundle.into(),
            format!("{}::", fleet.org).into(),
            fleet.now.into(),
        ];
        Query { table: "internal_agents", sql: sql.into(), values }
    }

    fn read(rows: &[Row]) -> Result<Self, RowError> {
        let mut progress = Self::default();
        for row in rows {
            let number = |column| row.int(column).map(i64::unsigned_abs);
            let (agents, fetched, moved) = (number("agents")?, number("fetched")?, number("moved")?);
            match row.text("kind")? {
                "byoca" => (progress.byoca, progress.byoca_moved) = (agents, moved),
                "spiffe" => (progress.spiffe, progress.spiffe_fetched) = (agents, fetched),
                "shut out" => progress.shut_out = agents,
                _ => (progress.agents, progress.fetched, progress.moved) = (agents, fetched, moved),
            }
        }
        Ok(progress)
    }
}

/// Counts them.
///
/// # Errors
/// When the database cannot be read.
pub async fn progress(
    store: &Store,
    fleet: Fleet<'_>,
    rotation: &Rotation,
    bundle: Thumbprint,
) -> Result<Progress, ReadError> {
    Ok(Progress::read(&store.rows(Progress::query(fleet, rotation, bundle)).await?)?)
}

/// The same on the thread of the caller.
///
/// # Errors
/// When the database cannot be read.
pub fn progress_now(
    database: &Database,
    fleet: Fleet<'_>,
    rotation: &Rotation,
    bundle: Thumbprint,
) -> Result<Progress, ReadError> {
    Ok(Progress::read(&database.rows_now(&Progress::query(fleet, rotation, bundle))?)?)
}

/// Counts active agents: those with certificates of ours, of the organisation's own CA, and of SPIRE.
///
/// # Errors
/// When the database cannot be read.
pub async fn by_issuer(store: &Store) -> Result<[u64; 3], ReadError> {
    let sql = format!(
        "SELECT CASE WHEN {SPIFFE} THEN 'spiffe' WHEN {BROUGHT} THEN 'byoca' ELSE '' END AS kind, count(*) AS agents \
         FROM internal_agents a WHERE {ACTIVE} GROUP BY 1"
    );
    let rows = store.rows(Query { table: "internal_agents", sql: sql.into(), values: vec![] }).await?;
    let mut counted = [0; 3];
    for row in &rows {
        let kind = match row.text("kind")? {
            "byoca" => 1,
            "spiffe" => 2,
            _ => 0,
        };
        counted[kind] = row.int("agents")?.unsigned_abs();
    }
    Ok(counted)
}
