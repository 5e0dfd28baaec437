//! Who follows a rotation: which trust file an agent fetched last (table `agent_trust_bundles`), and who has presented a
//! certificate of the new root, or came in with one that was brought (table `rotation_moves`).
//!
//! Agents whose certificates are made elsewhere (by the organisation's own CA, by SPIRE) cannot follow by themselves, and
//! neither can those that are shut out, because their certificate was cut off, revoked or has ended: they are the
//! operator's work, counted apart, and hold nothing up. What an agent is pinned to now counts, not how it came in.

mod progress;

use mastio_core::{AgentId, OrgId, Stamp, Thumbprint};

pub use self::progress::{Progress, by_issuer, progress, progress_now};
use super::Rotation;
use crate::{
    Query, ReadError, Row, RowError, Statement, Store, Value, agents::Method, clause::Clause,
    sqlite::Database,
};

/// Who is looked at, as the index `internal_agents_active` has it.
const ACTIVE: &str = "a.is_active <> 0";
/// Its certificate is not one of ours: with [`SPIFFE`] an SVID, else of the organisation's own CA.
pub(crate) const BROUGHT: &str =
    "EXISTS (SELECT 1 FROM agent_certs c WHERE c.agent_id = a.agent_id AND c.issuer IS NULL)";
/// The certificate `c` is one of ours and logs in: who has it gets the next one by itself. What counts is the key that
/// signed it: an update, and its way back, certify that of the intermediate again.
const HOLDS: &str = "c.issuer IS NOT NULL AND c.not_after > ? \
    AND c.issuer NOT IN (SELECT gone.thumbprint FROM pki_cas gone WHERE NOT EXISTS (SELECT 1 FROM pki_cas ca \
        WHERE ca.spki_sha256 = gone.spki_sha256 AND ca.cut = 0 AND ca.compromised = 0 AND ca.state <> 'retired')) \
    AND NOT EXISTS (SELECT 1 FROM revoked_agent_certs r WHERE r.thumbprint = c.thumbprint)";
const SPIFFE: &str = "coalesce(a.enrollment_method, '') = 'spiffe'";
const FETCHED: &str = "EXISTS (SELECT 1 FROM agent_trust_bundles b \
    WHERE b.agent_id = a.agent_id AND b.bundle_sha256 = ?)";
const MOVED: &str =
    "EXISTS (SELECT 1 FROM rotation_moves m WHERE m.agent_id = a.agent_id AND m.rotation_id = ?)";
const OF_ORG: &str = "substr(a.agent_id, 1, length(?)) = ?";

/// Whose agents are looked at, and when.
#[derive(Debug, Clone, Copy)]
pub struct Fleet<'a> {
    /// Whose: an adopted database may hold rows of others, who never call here.
    pub org: &'a OrgId,
    /// When: certificates end.
    pub now: Stamp,
}

/// The agents that have not followed yet.
#[derive(Debug, Clone, Copy)]
pub enum Left<'a> {
    /// Those of ours that lack this trust file.
    Unfetched(Thumbprint),
    /// Those of ours that never presented a certificate of what this rotation brings.
    Unmoved(&'a Rotation),
    /// Those that the operator must see to: with certificates of the organisation's own CA and none of the new root, shut
    /// out, and SPIFFE agents without this trust file.
    Operators(&'a Rotation, Thumbprint),
}

impl Left<'_> {
    /// The WHERE clause, over `internal_agents a`.
    fn clause(self, fleet: Fleet<'_>, mut clause: Clause) -> Clause {
        clause.and(OF_ORG, format!("{}::", fleet.org));
        clause.and_always(ACTIVE);
        let holds = HOLDS.replace('?', &clause.bind(fleet.now));
        let follows =
            format!("EXISTS (SELECT 1 FROM agent_certs c WHERE c.agent_id = a.agent_id AND {holds})");
        // Whoever has followed is sorted out first: in the end that is everybody.
        let followed = match self {
            Self::Unfetched(bundle) => FETCHED.replace('?', &clause.bind(bundle)),
            Self::Unmoved(rotation) => MOVED.replace('?', &clause.bind(rotation.id.as_str())),
            Self::Operators(rotation, bundle) => {
                let (moved, fetched) = (clause.bind(rotation.id.as_str()), clause.bind(bundle));
                let (moved, fetched) = (MOVED.replace('?', &moved), FETCHED.replace('?', &fetched));
                clause.and_always(&format!(
                    "CASE WHEN {SPIFFE} THEN NOT {fetched} ELSE NOT {moved} AND NOT {follows} END"
                ));
                return clause;
            }
        };
        clause.and_always(&format!("NOT {SPIFFE} AND NOT {followed} AND {follows}"));
        clause
    }
}

/// How many agents have certificates that are pinned.
///
/// # Errors
/// When the database cannot be read.
pub fn pinned(database: &Database) -> Result<u32, ReadError> {
    let sql = "SELECT count(*) AS agents FROM agent_certs";
    let rows = database.rows_now(&Query::new("agent_certs", sql, vec![]))?;
    let counted = rows.first().map_or(Ok(0), |row| row.int("agents"))?;
    Ok(u32::try_from(counted).unwrap_or(u32::MAX))
}

/// An agent that has not followed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Who.
    pub agent: AgentId,
    /// What people call it.
    pub display_name: String,
    /// How it came in; old rows do not say.
    pub method: Option<Method>,
    /// When its certificate ends.
    pub not_after: Option<Stamp>,
    /// When it fetched a trust file last, this one or another.
    pub fetched_at: Option<Stamp>,
    /// Whether it has no certificate that logs in, although this Mastio certified it.
    pub shut_out: bool,
}

impl Waiting {
    fn read(row: &Row) -> Result<Self, RowError> {
        let method = row.text_or_null("enrollment_method")?;
        Ok(Self {
            agent: row.parse("agent_id", AgentId::parse)?,
            display_name: row.text("display_name")?.to_owned(),
            method: Method::ALL.into_iter().find(|known| Some(known.as_str()) == method),
            not_after: row.stamp_or_null("not_after")?,
            fetched_at: row.stamp_or_null("fetched_at")?,
            shut_out: row.int("shut_out")? != 0,
        })
    }
}

/// At most `limit` of them behind `after`, in the order of ids.
///
/// # Errors
/// When the database cannot be read or a row is illegal.
pub async fn left(
    store: &Store,
    fleet: Fleet<'_>,
    left: Left<'_>,
    after: Option<&AgentId>,
    limit: u32,
) -> Result<Vec<Waiting>, ReadError> {
    let mut clause = left.clause(fleet, Clause::default());
    let holds = HOLDS.replace('?', &clause.bind(fleet.now));
    if let Some(after) = after {
        clause.and("a.agent_id > ?", after);
    }
    let limit = clause.bind(i64::from(limit));
    let sql = format!(
        "SELECT a.agent_id, a.display_name, a.enrollment_method, c.not_after, f.fetched_at, \
         NOT {SPIFFE} AND NOT {BROUGHT} AND NOT coalesce({holds}, 0) AS shut_out \
         FROM internal_agents a LEFT JOIN agent_certs c ON c.agent_id = a.agent_id \
         LEFT JOIN agent_trust_bundles f ON f.agent_id = a.agent_id{} ORDER BY a.agent_id LIMIT {limit}",
        clause.sql
    );
    let query = Query { table: "internal_agents", sql: sql.into(), values: clause.values };
    store.rows(query).await?.iter().map(Waiting::read).collect::<Result<_, _>>().map_err(Into::into)
}

/// Whether anybody is left.
///
/// # Errors
/// When the database cannot be read.
pub async fn anybody_left(store: &Store, fleet: Fleet<'_>, left: Left<'_>) -> Result<bool, ReadError> {
    let Clause { sql, values } = left.clause(fleet, Clause::default());
    let sql = format!("SELECT a.agent_id FROM internal_agents a{sql} LIMIT 1");
    Ok(!store.rows(Query { table: "internal_agents", sql: sql.into(), values }).await?.is_empty())
}

/// The tokens of agents that have not moved end: their certificates do too. Everybody's epochs must be read again then.
#[must_use]
pub fn end_tokens_of_unmoved(rotation: &Rotation, org: &OrgId) -> Statement {
    let sql = format!(
        "INSERT INTO agent_epochs (agent_id, epoch) SELECT a.agent_id, 1 FROM internal_agents a \
         WHERE {} AND coalesce(a.enrollment_method, '') <> 'spiffe' AND NOT {} \
         ON CONFLICT (agent_id) DO UPDATE SET epoch = agent_epochs.epoch + 1",
        OF_ORG.replace('?', "?2"),
        MOVED.replace('?', "?1")
    );
    let values = vec![rotation.id.as_str().into(), format!("{org}::").into()];
    Statement { sql: sql.into(), values, rows: None }
}

/// Of pinned certificates whose issuer was never noted is known from now on that they are below `root`, which is being cut
/// off: those that come from what takes its place have theirs noted.
#[must_use]
pub fn note_former_issuer(root: Thumbprint) -> Statement {
    Statement::any("UPDATE agent_certs SET issuer = ?1 WHERE issuer = ''", vec![root.into()])
}

/// Which trust file `agent` fetched last.
///
/// # Errors
/// When the database cannot be read or the row is illegal.
pub async fn fetched_by(store: &Store, agent: &AgentId) -> Result<Option<Thumbprint>, ReadError> {
    let sql = "SELECT agent_id, bundle_sha256 FROM agent_trust_bundles WHERE agent_id = ?1";
    let rows = store.rows(Query::new("agent_trust_bundles", sql, vec![agent.into()])).await?;
    Ok(rows.first().map(|row| row.parse("bundle_sha256", Thumbprint::parse)).transpose()?)
}

/// Remembers that `agent` fetched a trust file.
#[must_use]
pub fn note_fetched(agent: &AgentId, bundle: Thumbprint, at: Stamp) -> Statement {
    Statement::one(
        "INSERT INTO agent_trust_bundles (agent_id, bundle_sha256, fetched_at) VALUES (?1, ?2, ?3) \
         ON CONFLICT (agent_id) DO UPDATE SET bundle_sha256 = excluded.bundle_sha256, fetched_at = excluded.fetched_at",
        vec![agent.into(), bundle.into(), at.into()],
    )
}

/// Remembers that agents have moved, each of which presented a certificate; those of which it is known stay as they are,
/// and those that have another certificate by now did not move. At most a few hundred at a time: each is two values of the
/// statement.
#[must_use]
pub fn note_moved(rotation: &str, agents: &[(AgentId, Thumbprint)], at: Stamp) -> Statement {
    let rows: Vec<String> =
        (0..agents.len()).map(|row| format!("(?{}, ?{})", 2 * row + 3, 2 * row + 4)).collect();
    let sql = format!(
        "INSERT OR IGNORE INTO rotation_moves (rotation_id, agent_id, moved_at) SELECT ?1, agent_id, ?2 \
         FROM agent_certs WHERE (agent_id, thumbprint) IN (VALUES {})",
        rows.join(", ")
    );
    let presented = agents.iter().flat_map(|(agent, leaf)| [Value::from(agent), (*leaf).into()]);
    let values = [rotation.into(), at.into()].into_iter().chain(presented).collect();
    Statement { sql: sql.into(), values, rows: None }
}

/// Remembers that `agent` has a certificate below `root` that was brought, if that is the root of a rotation that is under
/// way or was given up.
#[must_use]
pub fn note_brought(agent: &AgentId, root: Thumbprint, at: Stamp) -> Statement {
    Statement::any(
        "INSERT OR IGNORE INTO rotation_moves (rotation_id, agent_id, moved_at) SELECT id, ?1, ?3 FROM pki_rotations \
         WHERE new_root = ?2 AND transition = 'overlap' AND phase <> 'done'",
        vec![agent.into(), root.into(), at.into()],
    )
}

/// `agent` has a certificate below `root` now: to others it has not moved.
#[must_use]
pub fn forget_moves(agent: &AgentId, root: Option<Thumbprint>) -> Statement {
    Statement::any(
        "DELETE FROM rotation_moves WHERE agent_id = ?1 \
         AND rotation_id NOT IN (SELECT id FROM pki_rotations WHERE new_root = ?2)",
        vec![agent.into(), root.into()],
    )
}

/// [`cas::retire_staged`](crate::cas::retire_staged) as it applies only when nobody has a certificate of the new root.
#[must_use]
pub fn unless_moved(mut retire: Statement, rotation: &Rotation) -> Statement {
    retire.values.push(rotation.id.as_str().into());
    let place = retire.values.len();
    let moved = format!(" AND NOT EXISTS (SELECT 1 FROM rotation_moves WHERE rotation_id = ?{place})");
    retire.sql.to_mut().push_str(&moved);
    retire
}

/// [`Rotation::enter`] as it applies only while the rotation is not paused.
#[must_use]
pub fn unless_paused(mut enter: Statement) -> Statement {
    enter.sql.to_mut().push_str(" AND paused = 0");
    enter
}

/// [`Rotation::enter`] as it applies only when nobody is `left`.
#[must_use]
pub fn unless_left(enter: Statement, fleet: Fleet<'_>, left: Left<'_>) -> Statement {
    let clause = left.clause(fleet, Clause { sql: String::new(), values: enter.values });
    let sql = format!("{} AND NOT EXISTS (SELECT 1 FROM internal_agents a{})", enter.sql, clause.sql);
    Statement { sql: sql.into(), values: clause.values, rows: enter.rows }
}

impl Rotation {
    /// Stops it from going on by itself, or lets it; touches no row when it is so already, or over.
    #[must_use]
    pub fn set_paused(&self, paused: bool) -> Statement {
        Statement::one(
            "UPDATE pki_rotations SET paused = ?2 WHERE id = ?1 AND paused <> ?2 AND ended_at IS NULL",
            vec![self.id.as_str().into(), paused.into()],
        )
    }
}

/// How long the old root is believed after the new one became the active one, in days.
///
/// # Errors
/// When the database cannot be read or the row is illegal.
pub fn grace_days(database: &Database, rotation: &Rotation) -> Result<Option<u32>, ReadError> {
    let sql = "SELECT rotation_id, days FROM rotation_grace WHERE rotation_id = ?1";
    let rows = database.rows_now(&Query::new("rotation_grace", sql, vec![rotation.id.as_str().into()]))?;
    let days = |row: &Row| u32::try_from(row.int("days")?).map_err(|error| row.bad("days", error));
    Ok(rows.first().map(days).transpose()?)
}

/// Keeps them.
#[must_use]
pub fn keep_grace_days(rotation: &str, days: u32) -> Statement {
    Statement::one(
        "INSERT INTO rotation_grace (rotation_id, days) VALUES (?1, ?2)",
        vec![rotation.into(), i64::from(days).into()],
    )
}
