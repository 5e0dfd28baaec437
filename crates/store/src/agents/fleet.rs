//! Lists of agents: filtered, in pages or as a whole, in bounded memory.
//!
//! A page is in the order of ids, which is indexed in every database; the whole fleet is newest first, as clients know
//! it: first its ids, then the rows in portions.

use mastio_core::{AgentId, OrgId, Stamp, Thumbprint};

use super::{AgentRow, COLUMNS, FROM, Method, Standing, TABLE};
use crate::{Query, ReadError, Row, Store, Value, clause::Clause, sqlite::Database};

const CERTS: &str = "LEFT JOIN agent_certs c ON c.agent_id = a.agent_id";

/// The thumbprint of the leaf that an update has put in the place of the pinned one.
const REISSUED: &str = "(SELECT r.thumbprint FROM reissued_leaves r \
    JOIN leaf_generations g ON g.migration_id = r.migration_id \
    WHERE r.agent_id = a.agent_id AND r.replaces = c.thumbprint ORDER BY g.flipped_at DESC LIMIT 1)";

/// The states that a list can be filtered by: [`super::Standing`] without its facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It may act.
    Active,
    /// Switched off.
    Inactive,
    /// Revoked.
    Revoked,
}

/// The status of a row, as [`Status::as_str`] says it.
const STATUS: &str = "CASE WHEN a.is_active <> 0 THEN 'active' \
    WHEN coalesce(CAST(a.revoked_at AS TEXT), '') <> '' THEN 'revoked' ELSE 'inactive' END";

impl Status {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Active, Self::Inactive, Self::Revoked];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Revoked => "revoked",
        }
    }

    /// Reads the word of a query.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }
}

impl From<&Standing> for Status {
    fn from(standing: &Standing) -> Self {
        match standing {
            Standing::Active => Self::Active,
            Standing::Inactive => Self::Inactive,
            Standing::Revoked { .. } => Self::Revoked,
        }
    }
}

/// Which agents are listed: those to which everything applies that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Their state.
    pub status: Option<Status>,
    /// How they came in.
    pub method: Option<Method>,
    /// How they did not come in.
    pub other_than: Option<Method>,
    /// Their certificate ends before this.
    pub expiring_before: Option<Stamp>,
    /// Text within id or display name; case does not matter.
    pub needle: Option<String>,
    /// Capabilities that they all have.
    pub capabilities: Vec<String>,
    /// Their organisation: an adopted database may hold rows of others.
    pub org: Option<OrgId>,
}

impl Filter {
    /// The WHERE clause for this filter, with agents after `after` in the order of ids only.
    fn clause(&self, after: Option<&AgentId>) -> (String, Vec<Value>) {
        let mut clause = Clause::default();
        if let Some(status) = self.status {
            clause.and(&format!("{STATUS} = ?"), status.as_str());
        }
        if let Some(method) = self.method {
            clause.and("a.enrollment_method = ?", method.as_str());
        }
        if let Some(method) = self.other_than {
            clause.and("coalesce(a.enrollment_method, '') <> ?", method.as_str());
        }
        if let Some(before) = self.expiring_before {
            clause.and("c.not_after < ?", before);
        }
        if let Some(needle) = &self.needle {
            let within = "(instr(lower(a.agent_id), ?) > 0 OR instr(lower(a.display_name), ?) > 0)";
            clause.and(within, needle.to_lowercase());
        }
        if let Some(org) = &self.org {
            clause.and("substr(a.agent_id, 1, length(?)) = ?", format!("{org}::"));
        }
        for capability in &self.capabilities {
            let has = "CASE WHEN json_valid(a.capabilities) \
                THEN EXISTS (SELECT 1 FROM json_each(a.capabilities) WHERE value = ?) ELSE 0 END";
            clause.and(has, capability.as_str());
        }
        if let Some(after) = after {
            clause.and("a.agent_id > ?", after);
        }
        (clause.sql, clause.values)
    }
}

/// An agent with what is known of its pinned certificate without parsing it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The agent.
    pub agent: AgentRow,
    /// The pin.
    pub thumbprint: Option<Thumbprint>,
    /// When that certificate ends.
    pub not_after: Option<Stamp>,
}

impl Listed {
    fn read(row: &Row) -> Result<Self, crate::RowError> {
        Ok(Self {
            agent: AgentRow::read(row)?,
            thumbprint: row.parse_or_null("cert_thumbprint", Thumbprint::parse)?,
            not_after: row.stamp_or_null("cert_not_after")?,
        })
    }
}

/// Some of the agents, in the order of their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The agents.
    pub agents: Vec<Listed>,
    /// The id after which the next page begins, if there is one.
    pub next: Option<AgentId>,
}

/// At most `limit` agents after `after`. A row that cannot be read is left out and logged: one bad row must not hide
/// the fleet.
///
/// # Errors
/// When the database cannot be read.
pub async fn page(
    store: &Store,
    filter: &Filter,
    after: Option<&AgentId>,
    limit: u32,
) -> Result<Page, ReadError> {
    let (clause, mut values) = filter.clause(after);
    // One more than asked for tells whether there is a next page.
    values.push((i64::from(limit) + 1).into());
    let tail = format!("{clause} ORDER BY a.agent_id LIMIT ?{}", values.len());
    let mut rows = store.rows(select(&tail, values)).await?;
    let limit = limit as usize;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let ids = rows.iter().rev().find_map(|row| row.parse("agent_id", AgentId::parse).ok());
    Ok(Page { next: ids.filter(|_| more), agents: readable(&rows) })
}

/// How many agents `filter` lets through.
///
/// # Errors
/// When the database cannot be read.
pub async fn count(store: &Store, filter: &Filter) -> Result<u64, ReadError> {
    let (clause, values) = filter.clause(None);
    let sql = format!("SELECT count(*) AS agents FROM internal_agents a {CERTS}{clause}");
    let rows = store.rows(Query { table: TABLE, sql: sql.into(), values }).await?;
    let count = rows.first().map(|row| row.int("agents")).transpose()?;
    Ok(count.unwrap_or(0).unsigned_abs())
}

/// How many agents there are of each status.
///
/// # Errors
/// When the database cannot be read.
pub async fn census(store: &Store) -> Result<[(Status, u64); 3], ReadError> {
    let sql = format!("SELECT {STATUS} AS status, count(*) AS agents FROM internal_agents a GROUP BY 1");
    let rows = store.rows(Query { table: TABLE, sql: sql.into(), values: vec![] }).await?;
    let mut counts = Status::ALL.map(|status| (status, 0));
    for row in &rows {
        let word = row.text("status")?;
        for (_, count) in counts.iter_mut().filter(|(status, _)| status.as_str() == word) {
            *count = row.int("agents")?.unsigned_abs();
        }
    }
    Ok(counts)
}

/// The ids of all agents that `filter` lets through, newest first.
///
/// # Errors
/// When the database cannot be read.
pub async fn newest_first(store: &Store, filter: &Filter) -> Result<Vec<AgentId>, ReadError> {
    let (clause, values) = filter.clause(None);
    let sql = format!(
        "SELECT a.agent_id FROM internal_agents a {CERTS}{clause} ORDER BY a.created_at DESC, a.agent_id"
    );
    let rows = store.rows(Query { table: TABLE, sql: sql.into(), values }).await?;
    let id = |row: &Row| {
        let id = row.parse("agent_id", AgentId::parse);
        id.inspect_err(|error| tracing::warn!(%error, "an agent is left out")).ok()
    };
    Ok(rows.iter().filter_map(id).collect())
}

/// The agents `ids`, in that order; those that are gone are left out.
///
/// # Errors
/// When the database cannot be read.
pub async fn by_ids(store: &Store, ids: &[AgentId]) -> Result<Vec<Listed>, ReadError> {
    let places: Vec<String> = (1..=ids.len()).map(|place| format!("?{place}")).collect();
    let tail = format!(" WHERE a.agent_id IN ({})", places.join(","));
    let rows = store.rows(select(&tail, ids.iter().map(Value::from).collect())).await?;
    let mut found: std::collections::HashMap<AgentId, Listed> =
        readable(&rows).into_iter().map(|listed| (listed.agent.id.clone(), listed)).collect();
    Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
}

/// The agent `id`.
///
/// # Errors
/// When the database cannot be read or the row is illegal.
pub async fn listed(store: &Store, id: &AgentId) -> Result<Option<Listed>, ReadError> {
    let rows = store.rows(select(" WHERE a.agent_id = ?1", vec![id.into()])).await?;
    Ok(rows.first().map(Listed::read).transpose()?)
}

/// At most `limit` agents after `after`, in the order of ids, whose certificate the existing system stored and nothing
/// of it was noted yet: their ids and PEM.
///
/// # Errors
/// When the database cannot be read.
pub fn without_noted_certificate(
    database: &Database,
    after: &str,
    limit: u32,
) -> Result<Vec<(String, String)>, ReadError> {
    let sql = "SELECT a.agent_id, a.cert_pem FROM internal_agents a \
        WHERE a.agent_id > ?1 AND coalesce(a.cert_pem, '') <> '' \
        AND NOT EXISTS (SELECT 1 FROM agent_certs c WHERE c.agent_id = a.agent_id) ORDER BY a.agent_id LIMIT ?2";
    let rows = database.rows_now(&Query::new(TABLE, sql, vec![after.into(), i64::from(limit).into()]))?;
    let read = |row: &Row| Ok((row.text("agent_id")?.to_owned(), row.text("cert_pem")?.to_owned()));
    rows.iter().map(read).collect::<Result<_, crate::RowError>>().map_err(Into::into)
}

fn readable(rows: &[Row]) -> Vec<Listed> {
    let read =
        |row| Listed::read(row).inspect_err(|error| tracing::warn!(%error, "an agent is left out")).ok();
    rows.iter().filter_map(read).collect()
}

fn select(tail: &str, values: Vec<Value>) -> Query {
    let sql = format!(
        "SELECT {COLUMNS}, coalesce({REISSUED}, c.thumbprint) AS cert_thumbprint, c.not_after AS cert_not_after \
         {FROM} {CERTS}{tail}"
    );
    Query { table: TABLE, sql: sql.into(), values }
}
