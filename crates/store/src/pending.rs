//! Enrolments by device code: table `pending_enrollments` (contract `enrollment.md` §3), and `enrollment_jwks` beside
//! it. A row is decided once: every statement that decides names the state that it must find.

use mastio_core::{AgentId, EnrollmentId, Jkt, PrincipalKind, Stamp};

use crate::{Query, ReadError, Row, RowError, Statement, Store, Value};

const TABLE: &str = "pending_enrollments";

const SELECT: &str = "SELECT session_id, pubkey_pem, pubkey_fingerprint, requester_name, requester_email, reason, \
    device_info, status, created_at, expires_at, agent_id_assigned, capabilities_assigned, cert_pem, \
    rejection_reason, dpop_jkt, principal_type FROM pending_enrollments";

/// Who asks to be enrolled, in words of their own that nobody checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requester {
    /// A name.
    pub name: String,
    /// An e-mail address.
    pub email: String,
    /// Why.
    pub reason: Option<String>,
    /// What the device says of itself; usually JSON.
    pub device_info: Option<String>,
}

/// An enrolment that begins.
#[derive(Debug)]
pub struct NewPending<'a> {
    /// Its session.
    pub id: &'a EnrollmentId,
    /// The key to be certified.
    pub public_key_pem: &'a str,
    /// SHA-256 of that key in DER, in hex.
    pub fingerprint: &'a str,
    /// Who asks.
    pub requester: &'a Requester,
    /// Agent or workload.
    pub kind: PrincipalKind,
    /// The DPoP key with its public JWK, if one was sent.
    pub dpop: Option<(Jkt, &'a serde_json::Value)>,
    /// Now.
    pub at: Stamp,
    /// When it is too late to decide.
    pub expires_at: Stamp,
    /// Whether an earlier enrolment with the same key that still waits gives way.
    pub supersedes: bool,
}

impl NewPending<'_> {
    /// Which of the statements of [`Self::insert`] touches no row when the key is revoked, or `most` wait already.
    pub const ADMISSION: usize = 1;

    /// The rows.
    #[must_use]
    pub fn insert(&self, most: u32) -> Vec<Statement> {
        let supersede = Statement::any(
            "UPDATE pending_enrollments SET status = 'rejected', decided_at = ?2, decided_by = 'requester', \
             rejection_reason = 'another enrollment with the same key was started' \
             WHERE pubkey_fingerprint = ?1 AND status = 'pending' AND ?3",
            vec![self.fingerprint.into(), self.at.into(), self.supersedes.into()],
        );
        let row = Statement::one(
            "INSERT INTO pending_enrollments (session_id, pubkey_pem, pubkey_fingerprint, requester_name, \
             requester_email, reason, device_info, status, created_at, expires_at, dpop_jkt, principal_type) \
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, 'pending', ?8, ?9, ?10, ?11 \
             WHERE NOT EXISTS (SELECT 1 FROM revoked_agent_certs WHERE spki_sha256 = ?3 AND key_barred = 1) \
             AND (SELECT count(*) FROM pending_enrollments WHERE status = 'pending') < ?12",
            vec![
                self.id.into(),
                self.public_key_pem.into(),
                self.fingerprint.into(),
                self.requester.name.as_str().into(),
                self.requester.email.as_str().into(),
                self.requester.reason.as_deref().into(),
                self.requester.device_info.as_deref().into(),
                self.at.into(),
                self.expires_at.into(),
                self.dpop.map(|(jkt, _)| jkt).into(),
                self.kind.as_str().into(),
                i64::from(most).into(),
            ],
        );
        let jwk = self.dpop.map(|(_, jwk)| {
            Statement::one(
                "INSERT INTO enrollment_jwks (session_id, jwk) VALUES (?1, ?2)",
                vec![self.id.into(), jwk.to_string().into()],
            )
        });
        [supersede, row].into_iter().chain(jwk).collect()
    }
}

/// What became of an enrolment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Nobody has decided yet.
    Pending,
    /// It is an agent.
    Approved {
        /// Which one.
        agent: AgentId,
        /// Its certificates in PEM, leaf first.
        certificates: String,
        /// Its capabilities.
        capabilities: Vec<String>,
    },
    /// It will not be one.
    Rejected {
        /// Why, in the operator's words.
        reason: Option<String>,
    },
    /// Nobody decided in time.
    Expired,
}

impl State {
    /// The word in the column and on the wire.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved { .. } => "approved",
            Self::Rejected { .. } => "rejected",
            Self::Expired => "expired",
        }
    }
}

/// One enrolment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingRow {
    /// Its session.
    pub id: EnrollmentId,
    /// The key to be certified, as it was sent.
    pub public_key_pem: String,
    /// SHA-256 of that key in DER, in hex.
    pub fingerprint: String,
    /// Who asks.
    pub requester: Requester,
    /// Agent or workload.
    pub kind: PrincipalKind,
    /// The DPoP key, if one was sent.
    pub dpop_jkt: Option<Jkt>,
    /// Since when.
    pub created_at: Stamp,
    /// When it is too late to decide.
    pub expires_at: Stamp,
    /// What became of it.
    pub state: State,
}

impl PendingRow {
    fn read(row: &Row, now: Stamp) -> Result<Self, RowError> {
        let owned = |column| row.text_or_null(column).map(|text| text.map(str::to_owned));
        let expires_at = row.stamp("expires_at")?;
        let state = match row.text("status")? {
            "pending" if expires_at > now => State::Pending,
            "pending" | "expired" => State::Expired,
            "approved" => State::Approved {
                agent: row.parse("agent_id_assigned", AgentId::parse)?,
                certificates: row.text("cert_pem")?.to_owned(),
                capabilities: row
                    .parse_or_null("capabilities_assigned", |text| serde_json::from_str::<Vec<String>>(text))?
                    .unwrap_or_default(),
            },
            "rejected" => State::Rejected { reason: owned("rejection_reason")? },
            other => return Err(row.bad("status", format!("'{other}' is no state"))),
        };
        Ok(Self {
            id: row.parse("session_id", EnrollmentId::parse)?,
            public_key_pem: row.text("pubkey_pem")?.to_owned(),
            fingerprint: row.text("pubkey_fingerprint")?.to_owned(),
            requester: Requester {
                name: row.text("requester_name")?.to_owned(),
                email: row.text("requester_email")?.to_owned(),
                reason: owned("reason")?,
                device_info: owned("device_info")?,
            },
            kind: PrincipalKind::from_word(row.text("principal_type")?).unwrap_or(PrincipalKind::Agent),
            dpop_jkt: row.parse_or_null("dpop_jkt", Jkt::parse)?,
            created_at: row.stamp("created_at")?,
            expires_at,
            state,
        })
    }

    /// Approves it; rejected when somebody decided before, or at `at` it is too late.
    #[must_use]
    pub fn approve(&self, approved: &Approved<'_>) -> Statement {
        Statement::one(
            "UPDATE pending_enrollments SET status = 'approved', decided_at = ?2, decided_by = ?3, \
             agent_id_assigned = ?4, capabilities_assigned = ?5, groups_assigned = ?6, cert_pem = ?7 \
             WHERE session_id = ?1 AND status = 'pending' AND expires_at > ?2",
            vec![
                (&self.id).into(),
                approved.at.into(),
                approved.by.into(),
                approved.agent.into(),
                json(approved.capabilities),
                json(approved.groups),
                approved.certificates.into(),
            ],
        )
    }

    /// Rejects it; rejected itself when somebody decided before, or at `at` it is too late.
    #[must_use]
    pub fn reject(&self, reason: &str, by: &str, at: Stamp) -> Statement {
        Statement::one(
            "UPDATE pending_enrollments SET status = 'rejected', decided_at = ?2, decided_by = ?3, \
             rejection_reason = ?4 WHERE session_id = ?1 AND status = 'pending' AND expires_at > ?2",
            vec![(&self.id).into(), at.into(), by.into(), reason.into()],
        )
    }

    /// Keeps the public JWK that was sent with it, for the agent that it became.
    #[must_use]
    pub fn keep_jwk(&self) -> Option<Statement> {
        let jkt = self.dpop_jkt?;
        Some(Statement::any(
            "INSERT INTO dpop_jwks (jkt, jwk) SELECT ?2, jwk FROM enrollment_jwks WHERE session_id = ?1 \
             ON CONFLICT (jkt) DO NOTHING",
            vec![(&self.id).into(), jkt.into()],
        ))
    }
}

/// What approving decides.
#[derive(Debug)]
pub struct Approved<'a> {
    /// The agent.
    pub agent: &'a AgentId,
    /// Its capabilities.
    pub capabilities: &'a [String],
    /// Groups, which are kept and not used.
    pub groups: &'a [String],
    /// Its certificates in PEM, leaf first.
    pub certificates: &'a str,
    /// Who decides.
    pub by: &'a str,
    /// Now.
    pub at: Stamp,
}

fn json(words: &[String]) -> Value {
    serde_json::json!(words).to_string().into()
}

/// The enrolment `id` as it stands at `now`.
///
/// # Errors
/// When the database cannot be read or the row is illegal.
pub async fn find(store: &Store, id: &EnrollmentId, now: Stamp) -> Result<Option<PendingRow>, ReadError> {
    let rows = store.rows(select(" WHERE session_id = ?1", vec![id.into()])).await?;
    Ok(rows.first().map(|row| PendingRow::read(row, now)).transpose()?)
}

/// What waits for a decision at `now`, newest first, at most `limit`. A row that cannot be read is left out and logged.
///
/// # Errors
/// When the database cannot be read.
pub async fn waiting(store: &Store, now: Stamp, limit: u32) -> Result<Vec<PendingRow>, ReadError> {
    let query = select(
        " WHERE status = 'pending' AND expires_at > ?1 ORDER BY created_at DESC, session_id LIMIT ?2",
        vec![now.into(), i64::from(limit).into()],
    );
    let rows = store.rows(query).await?;
    let readable = |row| {
        PendingRow::read(row, now)
            .inspect_err(|error| tracing::warn!(%error, "an enrolment is left out"))
            .ok()
            .filter(|row| row.state == State::Pending)
    };
    Ok(rows.iter().filter_map(readable).collect())
}

/// How many wait for a decision at `now`.
///
/// # Errors
/// When the database cannot be read.
pub async fn count_waiting(store: &Store, now: Stamp) -> Result<u64, ReadError> {
    let sql =
        "SELECT count(*) AS waiting FROM pending_enrollments WHERE status = 'pending' AND expires_at > ?1";
    let rows = store.rows(Query::new(TABLE, sql, vec![now.into()])).await?;
    Ok(rows.first().map_or(Ok(0), |row| row.int("waiting"))?.unsigned_abs())
}

/// Whether [`tidy`] would find something.
///
/// # Errors
/// When the database cannot be read.
pub async fn is_untidy(store: &Store, now: Stamp, forget_before: Stamp) -> Result<bool, ReadError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pending_enrollments WHERE status = 'pending' AND expires_at <= ?1) \
               OR EXISTS (SELECT 1 FROM pending_enrollments WHERE created_at < ?2) AS untidy";
    let rows = store.rows(Query::new(TABLE, sql, vec![now.into(), forget_before.into()])).await?;
    Ok(rows.first().map_or(Ok(0), |row| row.int("untidy"))? != 0)
}

/// Marks what ran out, and forgets what began before `forget_before`.
#[must_use]
pub fn tidy(now: Stamp, forget_before: Stamp) -> [Statement; 3] {
    [
        Statement::any(
            "UPDATE pending_enrollments SET status = 'expired' WHERE status = 'pending' AND expires_at <= ?1",
            vec![now.into()],
        ),
        Statement::any(
            "DELETE FROM enrollment_jwks WHERE session_id IN \
             (SELECT session_id FROM pending_enrollments WHERE created_at < ?1)",
            vec![forget_before.into()],
        ),
        Statement::any("DELETE FROM pending_enrollments WHERE created_at < ?1", vec![forget_before.into()]),
    ]
}

fn select(tail: &str, values: Vec<Value>) -> Query {
    Query { table: TABLE, sql: format!("{SELECT}{tail}").into(), values }
}
