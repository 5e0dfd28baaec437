//! The agent registry: table `internal_agents`, and `agent_epochs` beside it.

mod change;
pub mod fleet;
mod kept;
mod pin;
mod tombstone;

use std::time::Duration;

use mastio_core::{AgentId, Jkt, PrincipalKind, SpiffeId, Stamp};

pub use change::{
    cascade, deactivate, empty_grace, forget_old_revocations, mark_revoked, raise_epoch,
    raise_epochs_but_spiffe, re_describe, reactivate, restore_bindings, set_dpop_key, set_federated,
};
pub use kept::{drop_escrow, escrow_key, keep_jwk, keep_lifetime, key_name};
pub use pin::{
    DpopChange, NewAgent, NewPin, PinnedLeaf, note_missing_certificate, pin_again, re_pin, renew_svid,
};
pub use tombstone::{AllEnded, Receipt, Tombstone, all_ended, bury, tombstone, tombstones_like};

use crate::{Query, ReadError, Row, RowError, Store, Value, sqlite::Database};

const TABLE: &str = "internal_agents";

/// What a row is read from: `SELECT {COLUMNS} {FROM}`.
const COLUMNS: &str = "a.agent_id, a.display_name, a.capabilities, a.cert_pem, a.created_at, a.is_active, \
    CAST(a.federated AS INTEGER) AS federated, CAST(a.federated_at AS TEXT) AS federated_at, \
    a.federation_revision, a.dpop_jkt, a.enrollment_method, a.spiffe_id, a.enrolled_at, a.reach, \
    CAST(a.revoked_at AS TEXT) AS revoked_at, a.revoked_reason, a.previous_cert_pem, a.previous_dpop_jkt, \
    a.previous_grace_period_expires_at, a.principal_type, coalesce(e.epoch, 0) AS epoch, \
    coalesce(l.seconds, 0) AS lifetime, \
    (SELECT r.leaf_pem || g.issuer_pem FROM agent_certs p \
        JOIN reissued_leaves r ON r.agent_id = p.agent_id AND r.replaces = p.thumbprint \
        JOIN leaf_generations g ON g.migration_id = r.migration_id \
        WHERE p.agent_id = a.agent_id ORDER BY g.flipped_at DESC LIMIT 1) AS reissued";
const FROM: &str = "FROM internal_agents a LEFT JOIN agent_epochs e ON e.agent_id = a.agent_id \
    LEFT JOIN agent_lifetimes l ON l.agent_id = a.agent_id";

/// How an agent came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Made by an operator.
    Admin,
    /// Device code, by the Connector.
    Connector,
    /// With a certificate of the organisation's own PKI.
    Byoca,
    /// With an SVID.
    Spiffe,
}

impl Method {
    /// Every way in.
    pub const ALL: [Self; 4] = [Self::Admin, Self::Connector, Self::Byoca, Self::Spiffe];

    /// The word in the column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Connector => "connector",
            Self::Byoca => "byoca",
            Self::Spiffe => "spiffe",
        }
    }
}

/// Whom an agent may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// Its own organisation.
    Intra,
    /// Other organisations only.
    Cross,
    /// Anybody.
    Both,
}

impl Reach {
    /// Reads the word in the column; an unknown one means both (contract `calls.md` §3).
    #[must_use]
    pub fn from_word(word: &str) -> Self {
        match word {
            "intra" => Self::Intra,
            "cross" => Self::Cross,
            _ => Self::Both,
        }
    }

    /// The word in the column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Intra => "intra",
            Self::Cross => "cross",
            Self::Both => "both",
        }
    }
}

/// Whether an agent may act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Active,
    /// Switched off.
    Inactive,
    /// Switched off because its credentials are not trusted any more.
    Revoked {
        /// Since when.
        at: Stamp,
        /// A stable code such as `admin_revocation`.
        reason: Option<String>,
    },
}

/// Credentials of before the last renewal, accepted for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grace {
    /// The certificates, leaf first.
    pub certificates: Option<String>,
    /// The DPoP key.
    pub dpop_jkt: Option<Jkt>,
    /// Until when.
    pub until: Stamp,
}

/// One agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRow {
    /// Its id.
    pub id: AgentId,
    /// What people call it.
    pub display_name: String,
    /// Free words, compared exactly.
    pub capabilities: Vec<String>,
    /// PEM, leaf first. The pin is the thumbprint of the first one.
    pub certificates: Option<String>,
    /// What the row itself holds, if an update has reissued its leaf: the agent has this one still, and it counts as well.
    pub held: Option<String>,
    /// When it was made.
    pub created_at: Stamp,
    /// Whether it may act.
    pub standing: Standing,
    /// Its registered DPoP key.
    pub dpop_jkt: Option<Jkt>,
    /// What still works from before its last renewal.
    pub grace: Option<Grace>,
    /// How it came in; old rows do not say.
    pub method: Option<Method>,
    /// Its SPIFFE id.
    pub spiffe_id: Option<SpiffeId>,
    /// When it was enrolled last.
    pub enrolled_at: Option<Stamp>,
    /// Whom it may reach.
    pub reach: Reach,
    /// Agent or workload.
    pub kind: PrincipalKind,
    /// Whether it is published to a Court.
    pub federated: bool,
    /// Since when.
    pub federated_at: Option<Stamp>,
    /// Counts changes that a Court must hear of.
    pub federation_revision: i64,
    /// Tokens of older epochs are refused.
    pub epoch: i64,
    /// How long its certificates live, if they were asked to live shorter than usual.
    pub lifetime: Option<Duration>,
}

impl AgentRow {
    /// Whether it may act.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.standing == Standing::Active
    }

    /// The certificates as the row itself holds them: what a change is decided on.
    pub(crate) fn stored(&self) -> Option<&str> {
        self.held.as_deref().or(self.certificates.as_deref())
    }

    fn read(row: &Row) -> Result<Self, RowError> {
        let standing = match (row.int("is_active")?, row.stamp_or_null("revoked_at")?) {
            (0, Some(at)) => {
                Standing::Revoked { at, reason: row.text_or_null("revoked_reason")?.map(str::to_owned) }
            }
            (0, None) => Standing::Inactive,
            _ => Standing::Active,
        };
        let grace = row.stamp_or_null("previous_grace_period_expires_at").unwrap_or_default();
        let grace = match grace {
            Some(until) => Some(Grace {
                certificates: row.text_or_null("previous_cert_pem")?.map(str::to_owned),
                dpop_jkt: row.parse_or_null("previous_dpop_jkt", Jkt::parse)?,
                until,
            }),
            None => None,
        };
        let method = row.text_or_null("enrollment_method")?;
        let stored = row.text_or_null("cert_pem")?.filter(|pem| !pem.is_empty()).map(str::to_owned);
        let (certificates, held) = match row.text_or_null("reissued")? {
            Some(reissued) => (Some(reissued.to_owned()), stored),
            None => (stored, None),
        };
        Ok(Self {
            id: row.parse("agent_id", AgentId::parse)?,
            display_name: row.text("display_name")?.to_owned(),
            capabilities: row.parse("capabilities", |text| serde_json::from_str::<Vec<String>>(text))?,
            certificates,
            held,
            created_at: row.stamp("created_at")?,
            standing,
            dpop_jkt: row.parse_or_null("dpop_jkt", Jkt::parse)?,
            grace,
            method: Method::ALL.into_iter().find(|known| Some(known.as_str()) == method),
            spiffe_id: row.parse_or_null("spiffe_id", SpiffeId::parse)?,
            enrolled_at: row.stamp_or_null("enrolled_at")?,
            reach: Reach::from_word(row.text("reach")?),
            kind: PrincipalKind::from_word(row.text("principal_type")?).unwrap_or(PrincipalKind::Agent),
            federated: row.int("federated")? != 0,
            federated_at: row.stamp_or_null("federated_at")?,
            federation_revision: row.int("federation_revision")?,
            epoch: row.int("epoch")?,
            lifetime: u64::try_from(row.int("lifetime")?).ok().filter(|s| *s > 0).map(Duration::from_secs),
        })
    }
}

/// The agent `id`.
///
/// # Errors
/// When the database cannot be read or the row is illegal.
pub async fn find(store: &Store, id: &AgentId) -> Result<Option<AgentRow>, ReadError> {
    let rows = store.rows(select(" WHERE a.agent_id = ?1", vec![id.into()])).await?;
    Ok(rows.first().map(AgentRow::read).transpose()?)
}

/// An agent whose id is `id` but for upper and lower case. Agents that never had a certificate are not looked at.
///
/// # Errors
/// When the database cannot be read or the id in the row is none.
pub async fn lookalike(store: &Store, id: &AgentId) -> Result<Option<AgentId>, ReadError> {
    let sql = "SELECT agent_id FROM agent_certs WHERE lower(agent_id) = lower(?1) AND agent_id <> ?1 LIMIT 1";
    let rows = store.rows(Query::new("agent_certs", sql, vec![id.into()])).await?;
    Ok(rows.first().map(|row| row.parse("agent_id", AgentId::parse)).transpose()?)
}

/// Agents whose grace slot still holds something although its time is over at `now`, at most `limit`.
///
/// # Errors
/// When the database cannot be read.
pub async fn grace_is_over(store: &Store, now: Stamp, limit: u32) -> Result<Vec<AgentRow>, ReadError> {
    let query = select(
        " WHERE a.previous_grace_period_expires_at <= ?1 ORDER BY a.previous_grace_period_expires_at LIMIT ?2",
        vec![now.into(), i64::from(limit).into()],
    );
    let over = |agent: &AgentRow| agent.grace.as_ref().is_some_and(|grace| grace.until <= now);
    Ok(readable(&store.rows(query).await?).into_iter().filter(over).collect())
}

/// Active agents other than `caller` whose id or display name contains `needle`, by display name.
///
/// # Errors
/// When the database cannot be read.
pub async fn peers(
    store: &Store,
    caller: &AgentId,
    needle: Option<&str>,
    limit: u32,
) -> Result<Vec<AgentRow>, ReadError> {
    let values = vec![caller.into(), needle.map(str::to_lowercase).into(), i64::from(limit).into()];
    let query = select(
        " WHERE a.is_active = 1 AND a.principal_type = 'agent' AND a.agent_id <> ?1 \
         AND (?2 IS NULL OR instr(lower(a.agent_id), ?2) > 0 OR instr(lower(a.display_name), ?2) > 0) \
         ORDER BY a.display_name, a.agent_id LIMIT ?3",
        values,
    );
    Ok(readable(&store.rows(query).await?))
}

/// Every epoch that is not 0.
///
/// # Errors
/// When the database cannot be read.
pub fn epochs(database: &Database) -> Result<Vec<(AgentId, i64)>, ReadError> {
    let query = Query::new("agent_epochs", "SELECT agent_id, epoch FROM agent_epochs", vec![]);
    let rows = database.rows_now(&query)?;
    rows.iter()
        .map(|row| Ok((row.parse("agent_id", AgentId::parse)?, row.int("epoch")?)))
        .collect::<Result<_, RowError>>()
        .map_err(Into::into)
}

/// The agents whose row tells of a revocation, also of one that they came back from, in the order of ids, after
/// `after`. A row that cannot be read is left out and logged.
///
/// # Errors
/// When the database cannot be read.
pub fn ever_revoked(database: &Database, after: &str, limit: u32) -> Result<Vec<AgentRow>, ReadError> {
    let query = select(
        " WHERE a.agent_id > ?1 AND coalesce(a.revoked_at, '') <> '' ORDER BY a.agent_id LIMIT ?2",
        vec![after.into(), i64::from(limit).into()],
    );
    Ok(readable(&database.rows_now(&query)?))
}

/// The active agent other than `id` that has a key, whose hash is given in hex.
///
/// # Errors
/// When the database cannot be read.
pub fn holder_of_key(
    database: &Database,
    spki_sha256: &str,
    id: &AgentId,
) -> Result<Option<AgentId>, ReadError> {
    let sql = "SELECT held.agent_id FROM agent_certs held JOIN internal_agents holder USING (agent_id) \
        WHERE holder.is_active <> 0 AND held.spki_sha256 = ?1 AND held.agent_id <> ?2 LIMIT 1";
    let rows = database.rows_now(&Query::new("agent_certs", sql, vec![spki_sha256.into(), id.into()]))?;
    Ok(rows.first().map(|row| row.parse("agent_id", AgentId::parse)).transpose()?)
}

/// Whether any agent, active or not, has the key whose hash is given in hex.
///
/// # Errors
/// When the database cannot be read.
pub fn has_key(database: &Database, spki_sha256: &str) -> Result<bool, ReadError> {
    let sql = "SELECT 1 FROM agent_certs WHERE spki_sha256 = ?1 LIMIT 1";
    Ok(!database.rows_now(&Query::new("agent_certs", sql, vec![spki_sha256.into()]))?.is_empty())
}

/// The public JWK behind a DPoP thumbprint, as JSON; old registrations kept the thumbprint alone.
///
/// # Errors
/// When the database cannot be read.
pub async fn jwk(store: &Store, jkt: Jkt) -> Result<Option<String>, ReadError> {
    let sql = "SELECT jkt, jwk FROM dpop_jwks WHERE jkt = ?1";
    let rows = store.rows(Query::new("dpop_jwks", sql, vec![jkt.into()])).await?;
    Ok(rows.first().map(|row| row.text("jwk").map(str::to_owned)).transpose()?)
}

/// What ended together with an agent's credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Ended {
    /// Sessions of users that were bound to its certificates.
    pub sessions: i64,
    /// Its bindings to resources.
    pub bindings: i64,
    /// Enrolments with its key that waited for a decision.
    pub pending_enrollments: i64,
    /// Certificates that are refused from then on.
    pub certificates: i64,
}

/// What the revocation of `id` at `at` ended.
///
/// # Errors
/// When the database cannot be read.
pub async fn ended(store: &Store, id: &AgentId, at: Stamp) -> Result<Ended, ReadError> {
    let sql = "SELECT ?1 AS agent_id, \
        (SELECT count(*) FROM user_sessions WHERE revoked_at = ?2 AND agent_cert_thumbprint IN \
            (SELECT thumbprint FROM revoked_agent_certs WHERE agent_id = ?1)) AS sessions, \
        (SELECT count(*) FROM local_agent_resource_bindings WHERE agent_id = ?1 AND revoked_at = ?2) AS bindings, \
        (SELECT count(*) FROM pending_enrollments WHERE decided_at = ?2 AND pubkey_fingerprint IN \
            (SELECT spki_sha256 FROM revoked_agent_certs WHERE agent_id = ?1)) AS pending_enrollments, \
        (SELECT count(*) FROM revoked_agent_certs WHERE agent_id = ?1 AND revoked_at = ?2) AS certificates";
    let rows = store.rows(Query::new(TABLE, sql, vec![id.into(), at.into()])).await?;
    let count = |column| rows.first().map_or(Ok(0), |row| row.int(column));
    Ok(Ended {
        sessions: count("sessions")?,
        bindings: count("bindings")?,
        pending_enrollments: count("pending_enrollments")?,
        certificates: count("certificates")?,
    })
}

fn readable(rows: &[Row]) -> Vec<AgentRow> {
    rows.iter()
        .filter_map(|row| {
            AgentRow::read(row).inspect_err(|error| tracing::warn!(%error, "an agent is left out")).ok()
        })
        .collect()
}

fn select(tail: &str, values: Vec<Value>) -> Query {
    Query { table: TABLE, sql: format!("SELECT {COLUMNS} {FROM}{tail}").into(), values }
}
