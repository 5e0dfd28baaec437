//! The fleet in pages, and counted.

use super::{AgentRow, Store, readable, select};
use crate::{Query, ReadError, RowError, Value};

/// The states that [`super::Standing`] tells apart, as a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// May act.
    Active,
    /// Switched off.
    Inactive,
    /// Revoked.
    Revoked,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Active, Self::Inactive, Self::Revoked];

    /// A word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Revoked => "revoked",
        }
    }
}

/// The state of a row as [`State::as_str`] says it.
const STATE: &str = "CASE WHEN a.is_active <> 0 THEN 'active' \
    WHEN coalesce(CAST(a.revoked_at AS TEXT), '') <> '' THEN 'revoked' ELSE 'inactive' END";

/// Which agents are looked for.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Part of the id or display name, in any case.
    pub needle: Option<String>,
    /// In this state.
    pub state: Option<State>,
}

impl Filter {
    fn values(&self) -> Vec<Value> {
        vec![self.needle.as_deref().map(str::to_lowercase).into(), self.state.map(State::as_str).into()]
    }
}

fn matching() -> String {
    format!(
        "(?1 IS NULL OR instr(lower(a.agent_id), ?1) > 0 OR instr(lower(a.display_name), ?1) > 0) \
         AND (?2 IS NULL OR {STATE} = ?2)"
    )
}

/// Agents by id, from the place `offset`, at most `limit`. A row that cannot be read is left out and logged.
///
/// # Errors
/// When the database cannot be read.
pub async fn list(
    store: &Store,
    filter: &Filter,
    offset: u64,
    limit: u32,
) -> Result<Vec<AgentRow>, ReadError> {
    let mut values = filter.values();
    values.extend([i64::try_from(offset).unwrap_or(i64::MAX).into(), i64::from(limit).into()]);
    let tail = format!(" WHERE {} ORDER BY a.agent_id LIMIT ?4 OFFSET ?3", matching());
    Ok(readable(&store.rows(select(&tail, values)).await?))
}

/// How many agents match.
///
/// # Errors
/// When the database cannot be read.
pub async fn count(store: &Store, filter: &Filter) -> Result<u64, ReadError> {
    let sql = format!("SELECT count(*) AS agents FROM internal_agents a WHERE {}", matching()).into();
    let rows = store.rows(Query { table: super::TABLE, sql, values: filter.values() }).await?;
    let count = rows.first().map(|row| row.int("agents")).transpose()?;
    Ok(count.unwrap_or(0).unsigned_abs())
}

/// How many agents are in each state.
///
/// # Errors
/// When the database cannot be read.
pub async fn census(store: &Store) -> Result<[(State, u64); 3], ReadError> {
    let sql = format!("SELECT {STATE} AS state, count(*) AS agents FROM internal_agents a GROUP BY 1").into();
    let rows = store.rows(Query { table: super::TABLE, sql, values: vec![] }).await?;
    let mut counts = State::ALL.map(|state| (state, 0));
    for row in &rows {
        let word = row.text("state")?;
        for (state, count) in &mut counts {
            if state.as_str() == word {
                *count = row.int("agents")?.unsigned_abs();
            }
        }
    }
    Ok::<_, RowError>(counts).map_err(Into::into)
}
