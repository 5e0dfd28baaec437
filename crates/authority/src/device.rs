//! Enrolment by device code, as the Connector performs it (contract `enrollment.md` §3).
//!
//! A device sends its public key and proves, then or with its first question for the outcome, to hold the private
//! one; a person shows the session to an operator, who
//! approves or rejects it; the device asks for the outcome until there is one, and gets its certificate when it proves
//! its key again. Starting is open to everybody, so it is bounded, and told to the log and not to the audit chain.

mod approve;
mod error;
mod waiting;

use std::time::Duration;

use mastio_core::{AgentId, EnrollmentId, Jkt, PrincipalKind, Stamp};
use mastio_jose::Jwk;
use mastio_store::{
    ReadError, Rejection, Unit, WriteError,
    pending::{self, NewPending, PendingRow, Requester, State},
    revocations,
};
use serde_json::Value;

pub use approve::Approval;
pub use error::DeviceError;
pub(crate) use waiting::Devices;

use crate::{Authority, Outage, lifecycle::KeyTrouble, possession::HeldKey};

/// How long an operator has to decide.
pub const SESSION_LIFETIME: Duration = Duration::from_secs(30 * 60);
/// How often a device may ask for the outcome.
pub const POLL_EVERY: Duration = Duration::from_secs(5);
/// How often it may when it asked too often before.
pub const POLL_SLOWLY: Duration = Duration::from_secs(30);
/// The longest that a request waits for a decision.
pub const MAX_WAIT: Duration = Duration::from_secs(25);

/// Most enrolments that may wait for a decision.
const MAX_PENDING: u32 = 10_000;
/// From how many on only those may begin that prove at once to hold their key: the others are cheap to invent.
const MAX_BEFORE_PROOF: u32 = 1000;
/// How long enrolments are kept.
const MEMORY: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a device sends to begin with. The lengths are checked where it comes in.
#[derive(Debug, Clone)]
pub struct Start {
    /// The key to be certified: `PUBLIC KEY` in PEM.
    pub public_key_pem: String,
    /// The proof that the device holds it, see [`HeldKey::proves_possession`]. The Connector's web page sends none and
    /// shows possession when it asks for the outcome: before that nobody can approve.
    pub pop_signature: Option<String>,
    /// Who asks.
    pub requester: Requester,
    /// The public JWK of its DPoP key; the Connector's web page sends none.
    pub dpop_jwk: Option<Value>,
    /// Agent or workload.
    pub kind: PrincipalKind,
}

/// An enrolment that waits for an operator.
#[derive(Debug, Clone)]
pub struct Started {
    /// Its session.
    pub id: EnrollmentId,
    /// When it is too late to decide.
    pub expires_at: Stamp,
}

/// What a device is told. Without a proof of its key there is nothing but the status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// `pending`, `approved`, `rejected` or `expired`.
    pub status: &'static str,
    /// Who it is now.
    pub agent: Option<AgentId>,
    /// Its certificates in PEM, leaf first.
    pub certificates: Option<String>,
    /// Its capabilities.
    pub capabilities: Option<Vec<String>>,
    /// Why not.
    pub rejection_reason: Option<String>,
}

impl Outcome {
    /// What those are told who ask too often: nothing new.
    pub const PENDING: Self = Self {
        status: "pending",
        agent: None,
        certificates: None,
        capabilities: None,
        rejection_reason: None,
    };

    fn of(state: State, proven: bool) -> Self {
        let outcome = Self { status: state.as_str(), ..Self::PENDING };
        match state {
            State::Approved { agent, certificates, capabilities } if proven => Self {
                agent: Some(agent),
                certificates: Some(certificates),
                capabilities: Some(capabilities),
                ..outcome
            },
            State::Rejected { reason } if proven => Self { rejection_reason: reason, ..outcome },
            _ => outcome,
        }
    }
}

impl Authority {
    /// Begins an enrolment. An earlier one with the same key that still waits gives way if possession is proved.
    ///
    /// # Errors
    /// When a key does not serve or its possession is not proved, or too many wait.
    pub async fn start_enrollment(&self, start: &Start) -> Result<Started, DeviceError> {
        let key = HeldKey::from_pem(&start.public_key_pem)?;
        let proof = start.pop_signature.as_deref().map(|signature| key.proves_possession(signature));
        proof.transpose().map_err(|_| DeviceError::Possession)?;
        let dpop = start.dpop_jwk.as_ref().map(Jwk::from_value).transpose().map_err(DeviceError::DpopKey)?;
        let dpop: Option<(Jkt, Value)> = dpop.map(|jwk| (jwk.thumbprint(), jwk.to_value()));
        let fingerprint = key.fingerprint();
        let (id, at) = (EnrollmentId::fresh(self.rng.as_ref()), self.clock.now());
        let expires_at = at.plus(SESSION_LIFETIME);
        let row = NewPending {
            id: &id,
            public_key_pem: &start.public_key_pem,
            fingerprint: &fingerprint,
            requester: &start.requester,
            kind: start.kind,
            dpop: dpop.as_ref().map(|(jkt, jwk)| (*jkt, jwk)),
            at,
            expires_at,
            supersedes: proof.is_some(),
        };
        let most = if proof.is_some() { MAX_PENDING } else { MAX_BEFORE_PROOF };
        match self.commit(Unit::default().write_all(row.insert(most))).await {
            Ok(_) => {}
            Err(WriteError::Rejected(Rejection::Rows { statement: NewPending::ADMISSION, .. })) => {
                let revoked = revocations::key_is_revoked(self.store.database(), &fingerprint)?;
                return Err(if revoked { KeyTrouble::Revoked.into() } else { DeviceError::Full });
            }
            Err(error) => return Err(Outage::from(error).into()),
        }
        self.metrics.enrollments.with_label_values(&["started"]).inc();
        tracing::info!(session_id = %id, pubkey_sha256 = fingerprint, "an enrolment waits for an operator");
        self.devices.know(&id, proof.is_some());
        Ok(Started { id, expires_at })
    }

    /// Whether there is such a session, as far as is known without asking the database.
    #[must_use]
    pub fn knows_enrollment(&self, id: &EnrollmentId) -> bool {
        self.devices.knows(id)
    }

    /// How an enrolment stands. With a valid `proof` ([`HeldKey::proves_session`]) and a `wait`, of at most
    /// [`MAX_WAIT`], the answer comes when there is a decision. A proof that does not hold is no error.
    ///
    /// # Errors
    /// When there is no such session.
    pub async fn enrollment_status(
        &self,
        id: &EnrollmentId,
        proof: Option<&str>,
        wait: Duration,
    ) -> Result<Outcome, DeviceError> {
        let mut row = self.enrollment(id).await?;
        let proven = proof.is_some_and(|proof| {
            HeldKey::from_pem(&row.public_key_pem).is_ok_and(|key| key.proves_session(id, proof).is_ok())
        });
        self.devices.know(id, proven);
        if proven
            && !wait.is_zero()
            && row.state == State::Pending
            && let Some(waiter) = self.devices.enter(id)
        {
            // A decision since the first look is not announced to this waiter.
            row = self.enrollment(id).await?;
            if row.state == State::Pending {
                let left = row.expires_at.since(self.clock.now());
                waiter.wait(wait.min(MAX_WAIT).min(left)).await;
                row = self.enrollment(id).await?;
            }
        }
        Ok(Outcome::of(row.state, proven))
    }

    /// The enrolment `id`, for an operator to look at.
    ///
    /// # Errors
    /// When there is none.
    pub async fn enrollment(&self, id: &EnrollmentId) -> Result<PendingRow, DeviceError> {
        pending::find(&self.store, id, self.clock.now()).await?.ok_or(DeviceError::NotFound)
    }

    /// The enrolments that wait for a decision, newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn waiting_enrollments(&self) -> Result<Vec<PendingRow>, Outage> {
        Ok(pending::waiting(&self.store, self.clock.now(), MAX_PENDING).await?)
    }

    /// Sessions of before this start are known ones too: their devices go on asking.
    pub(crate) async fn remember_enrollments(&self) -> Result<(), ReadError> {
        let waiting = pending::waiting(&self.store, self.clock.now(), MAX_PENDING).await?;
        waiting.iter().for_each(|row| self.devices.know(&row.id, false));
        Ok(())
    }

    /// From now on no request waits for a decision: the server is leaving.
    pub fn end_waiting(&self) {
        self.devices.leave();
    }

    /// Marks enrolments that ran out, and forgets those that are a week old.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn tidy_enrollments(&self) -> Result<(), Outage> {
        let now = self.clock.now();
        let forget_before = now.minus(MEMORY);
        if pending::is_untidy(&self.store, now, forget_before).await? {
            self.commit(Unit::default().write_all(pending::tidy(now, forget_before))).await?;
        }
        Ok(())
    }
}
