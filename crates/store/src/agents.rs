//! The agent registry: table `internal_agents`, and `agent_epochs` beside it.

use mastio_core::{AgentId, Jkt, PrincipalKind, SpiffeId, Stamp};
use secrecy::ExposeSecret;

use crate::{Query, ReadError, Row, RowError, Statement, Store, Touch, Unit, Value, sqlite::Database};

const TABLE: &str = "internal_agents";

const SELECT: &str = "SELECT a.agent_id, a.display_name, a.capabilities, a.cert_pem, a.created_at, a.is_active, \
    CAST(a.federated AS INTEGER) AS federated, CAST(a.federated_at AS TEXT) AS federated_at, \
    a.federation_revision, a.dpop_jkt, a.enrollment_method, a.spiffe_id, a.enrolled_at, a.reach, \
    CAST(a.revoked_at AS TEXT) AS revoked_at, a.revoked_reason, a.previous_cert_pem, a.previous_dpop_jkt, \
    a.previous_grace_period_expires_at, a.principal_type, coalesce(e.epoch, 0) AS epoch \
    FROM internal_agents a LEFT JOIN agent_epochs e ON e.agent_id = a.agent_id";

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
    const ALL: [Self; 4] = [Self::Admin, Self::Connector, Self::Byoca, Self::Spiffe];

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
}

impl AgentRow {
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
        Ok(Self {
            id: row.parse("agent_id", AgentId::parse)?,
            display_name: row.text("display_name")?.to_owned(),
            capabilities: row.parse("capabilities", |text| serde_json::from_str::<Vec<String>>(text))?,
            certificates: row.text_or_null("cert_pem")?.filter(|pem| !pem.is_empty()).map(str::to_owned),
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

/// All agents, newest first. A row that cannot be read is left out and logged: one bad row must not hide the fleet.
///
/// # Errors
/// When the database cannot be read.
pub async fn list(store: &Store) -> Result<Vec<AgentRow>, ReadError> {
    let query = select(" ORDER BY a.created_at DESC, a.agent_id", vec![]);
    Ok(readable(&store.rows(query).await?))
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

/// A new agent.
#[derive(Debug)]
pub struct NewAgent<'a> {
    /// Its id.
    pub id: &'a AgentId,
    /// What people call it.
    pub display_name: &'a str,
    /// Its capabilities.
    pub capabilities: &'a [String],
    /// PEM, leaf first.
    pub certificates: &'a str,
    /// How it comes in.
    pub method: Method,
    /// Its DPoP key, if it brings one.
    pub dpop_jkt: Option<Jkt>,
    /// Its SPIFFE id.
    pub spiffe_id: Option<&'a SpiffeId>,
    /// Whether it is published to a Court.
    pub federated: bool,
    /// Now.
    pub at: Stamp,
}

impl NewAgent<'_> {
    /// The row; rejected by a constraint when the id is taken.
    #[must_use]
    pub fn insert(&self) -> Statement {
        Statement::one(
            "INSERT INTO internal_agents (agent_id, display_name, capabilities, cert_pem, created_at, is_active, \
             federated, federated_at, federation_revision, dpop_jkt, enrollment_method, spiffe_id, enrolled_at, reach) \
             VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6, ?7, 1, ?8, ?9, ?10, ?5, 'both')",
            vec![
                self.id.into(),
                self.display_name.into(),
                serde_json::json!(self.capabilities).to_string().into(),
                self.certificates.into(),
                self.at.into(),
                self.federated.into(),
                self.federated.then_some(self.at).into(),
                self.dpop_jkt.into(),
                self.method.as_str().into(),
                self.spiffe_id.into(),
            ],
        )
    }
}

/// Switches an active agent off: its record and all its tokens end. The first statement is rejected when it is not
/// active, the second when another change of its epoch came between.
#[must_use]
pub fn deactivate(unit: Unit, agent: &AgentRow) -> Unit {
    unit.write(Statement::one(
        "UPDATE internal_agents SET is_active = 0, federation_revision = federation_revision + 1, \
         previous_cert_pem = NULL, previous_dpop_jkt = NULL, previous_grace_period_expires_at = NULL \
         WHERE agent_id = ?1 AND is_active = 1",
        vec![(&agent.id).into()],
    ))
    .write(Statement::any("DELETE FROM proxy_config WHERE \"key\" = ?1", vec![key_name(&agent.id).into()]))
    .write(raise_epoch(&agent.id, agent.epoch))
    .touch(Touch::Agent(agent.id.clone()))
    .touch(Touch::Epoch(agent.id.clone(), agent.epoch + 1))
}

fn raise_epoch(id: &AgentId, from: i64) -> Statement {
    Statement::one(
        "INSERT INTO agent_epochs (agent_id, epoch) VALUES (?1, ?2 + 1) \
         ON CONFLICT (agent_id) DO UPDATE SET epoch = excluded.epoch WHERE agent_epochs.epoch = ?2",
        vec![id.into(), from.into()],
    )
}

/// Replaces the DPoP key of an active agent whose key is still `agent.dpop_jkt`. With `grace` the old one is accepted
/// until then; a certificate in the grace slot goes, because the slot has one deadline for both.
#[must_use]
pub fn set_dpop_key(agent: &AgentRow, jkt: Jkt, grace: Option<Stamp>) -> Statement {
    Statement::one(
        "UPDATE internal_agents SET dpop_jkt = ?2, \
         previous_dpop_jkt = CASE WHEN ?4 IS NULL THEN previous_dpop_jkt ELSE dpop_jkt END, \
         previous_cert_pem = CASE WHEN ?4 IS NULL THEN previous_cert_pem ELSE NULL END, \
         previous_grace_period_expires_at = coalesce(?4, previous_grace_period_expires_at) \
         WHERE agent_id = ?1 AND is_active = 1 AND dpop_jkt IS ?3",
        vec![(&agent.id).into(), jkt.into(), agent.dpop_jkt.into(), grace.into()],
    )
}

/// The `proxy_config` key under which an escrowed agent key is kept (contract `pki.md` §3).
#[must_use]
pub fn key_name(id: &AgentId) -> String {
    format!("agent_key:{id}")
}

/// Keeps an agent's private key, sealed or not, as custody hands it over.
#[must_use]
pub fn escrow_key(id: &AgentId, sealed: &secrecy::SecretString) -> Statement {
    crate::config::put(&key_name(id), sealed.expose_secret())
}

fn readable(rows: &[Row]) -> Vec<AgentRow> {
    rows.iter()
        .filter_map(|row| {
            AgentRow::read(row).inspect_err(|error| tracing::warn!(%error, "an agent is left out")).ok()
        })
        .collect()
}

fn select(tail: &str, values: Vec<Value>) -> Query {
    Query { table: TABLE, sql: format!("{SELECT}{tail}").into(), values }
}
