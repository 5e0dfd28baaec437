//! Deleting an agent for good: what hung on it ends, its id is not given to another one, and a signed receipt tells so.
//!
//! The unit that deletes leaves a tombstone without a receipt: only after the commit it is known where in the log the end
//! is told. The receipt is made then, or when it is asked for, if a crash came between.

use mastio_core::{AgentId, Event, Kid, Stamp, event::catalogue};
use mastio_jose::{Algorithm, Compact, VerifyingKey, jws, token::peek_kid};
use mastio_pki::Certificate;
use mastio_store::{
    Touch, Unit, WriteError,
    agents::{self, AgentRow, Receipt, Standing, Tombstone},
    audit::{self, Entry},
    keys, revocations,
};
use serde_json::{Value, json};

use crate::{
    Authority, Outage, Refusal,
    admin::Operator,
    lifecycle::{ATTEMPTS, LifecycleError, current_leaf, known_leaves, pinned_leaf},
    trust::Signer,
};

/// `typ` of a receipt.
pub const RECEIPT_TYPE: &str = "mastio-receipt+jwt";
/// `revoked_reason` of an agent that was not revoked before, unless the operator gives another.
const DECOMMISSIONED: &str = "decommissioned";
/// How many certificates a receipt names, those that ended last: a JWS has bounds.
const NAMED: usize = 64;

/// The receipt of a deleted agent with what is needed to check it.
#[derive(Debug)]
pub struct Decommissioned {
    /// What is left of the agent.
    pub tombstone: Tombstone,
    /// The receipt itself.
    pub receipt: Receipt,
    /// The certificate of the key that signed it, in PEM, if it is stored.
    pub signing_certificate: Option<String>,
    /// The entries that the receipt names, oldest first, unless they went into an archive.
    pub entries: Vec<Entry>,
}

/// Why an agent was not deleted, or there is no receipt.
#[derive(Debug, thiserror::Error)]
pub enum DecommissionError {
    /// It cannot be revoked.
    #[error(transparent)]
    Agent(#[from] LifecycleError),
    /// Nobody of this id was deleted.
    #[error("no agent with this id was deleted")]
    NotDeleted,
    /// Nothing could sign the receipt.
    #[error("there is no active signing key for the receipt; restore or rotate it, then ask again")]
    NoSigner,
}

impl From<Outage> for DecommissionError {
    fn from(outage: Outage) -> Self {
        Self::Agent(outage.into())
    }
}

impl Refusal for DecommissionError {
    fn status(&self) -> u16 {
        match self {
            Self::Agent(error) => error.status(),
            Self::NotDeleted => 404,
            Self::NoSigner => 503,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Agent(error) => error.reason(),
            Self::NotDeleted => "not_found",
            Self::NoSigner => "no_signing_key",
        }
    }
}

/// An id that was a deleted agent's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "agent_decommissioned: {agent} was deleted at {deleted_at}, and its id is not given to another agent; take another \
     name, or send \"reuse\": true if it must be this one"
)]
pub struct Buried {
    /// The id.
    pub agent: AgentId,
    /// When it was deleted.
    pub deleted_at: Stamp,
}

impl Authority {
    /// Deletes an agent, whatever its state: it is revoked if it was not, its row goes, and its id stays taken. Deleting
    /// twice gives the receipt of the first time.
    ///
    /// # Errors
    /// When there is no such agent, or nothing to sign the receipt with.
    pub async fn decommission(
        &self,
        id: &AgentId,
        reason: Option<&str>,
        operator: &Operator,
    ) -> Result<Decommissioned, DecommissionError> {
        if self.trust().signer.is_none() {
            return Err(DecommissionError::NoSigner);
        }
        for _ in 0..ATTEMPTS {
            let agent = match self.row(id, "agent not found").await {
                Ok(agent) => agent,
                Err(missing @ LifecycleError::NotFound(_)) => {
                    return self.receipt(id).await.map_err(|error| match error {
                        DecommissionError::NotDeleted => missing.into(),
                        error => error,
                    });
                }
                Err(error) => return Err(error.into()),
            };
            let reason = reason.unwrap_or(DECOMMISSIONED);
            if self.applied(self.burial(&agent, reason, operator)).await? {
                return self.receipt(id).await;
            }
        }
        Err(Outage::Contended.into())
    }

    fn burial(&self, agent: &AgentRow, reason: &str, operator: &Operator) -> Unit {
        let at = self.clock.now();
        let already = matches!(agent.standing, Standing::Revoked { .. });
        let unit = if already {
            // The existing system left bindings and tokens of a revoked agent alone.
            let facts: Vec<_> = known_leaves(agent).iter().map(|leaf| pinned_leaf(leaf, None)).collect();
            let unit = Unit::default().write_all(agents::cascade(agent, &facts, at));
            agents::raise_epoch(unit, agent).touch(Touch::Agent(agent.id.clone()))
        } else {
            self.revocation(agent, reason, at, operator)
        };
        let event = catalogue::AgentDeleted {
            reason: reason.to_owned(),
            cert_thumbprint: current_leaf(agent).map(|leaf| leaf.thumbprint()),
            token_epoch: agent.epoch + 1,
            already_revoked: already,
            by: operator.fingerprint.clone(),
        };
        let unit =
            unit.tell(Event::new(&event).about(agent.id.as_str())).write_all(agents::bury(agent, reason, at));
        agent.spiffe_id.iter().fold(unit, |unit, id| unit.touch(Touch::Spiffe(id.clone())))
    }

    /// The receipt of a deleted agent. What signs tokens signs it when it is asked for the first time, and again when
    /// another key or CA took its place since: it leads to the root of the day on which it is handed out.
    ///
    /// # Errors
    /// When no such agent was deleted, or nothing can sign the receipt.
    pub async fn receipt(&self, id: &AgentId) -> Result<Decommissioned, DecommissionError> {
        for _ in 0..ATTEMPTS {
            let found = agents::tombstone(&self.store, id).await.map_err(Outage::from)?;
            let tombstone = found.ok_or(DecommissionError::NotDeleted)?;
            let receipt = match &tombstone.receipt {
                None => self.first_receipt(&tombstone).await?,
                Some(kept) => match self.signed_again(kept)? {
                    Some(again) => again,
                    None => {
                        let kept = kept.clone();
                        return self.with_proof(tombstone, kept).await;
                    }
                },
            };
            match self.commit(Unit::default().write(tombstone.keep(&receipt))).await {
                // Whoever was faster: there is one now.
                Ok(_) | Err(WriteError::Rejected(_)) => {}
                Err(error) => return Err(Outage::from(error).into()),
            }
        }
        Err(Outage::Contended.into())
    }

    async fn first_receipt(&self, tombstone: &Tombstone) -> Result<Receipt, DecommissionError> {
        let trust = self.trust();
        let signer = trust.signer.as_ref().ok_or(DecommissionError::NoSigner)?;
        let id = &tombstone.agent;
        let entries = audit::endings(&self.store, &trust.org, id).await.map_err(Outage::from)?;
        let place = |entry: Option<&Entry>| entry.and_then(|entry| entry.chain_seq);
        let (Some(first_seq), Some(last_seq)) = (place(entries.first()), place(entries.last())) else {
            return Err(Outage::internal("the log does not tell of a deletion that left a tombstone").into());
        };
        let certificates = revocations::of(&self.store, id).await.map_err(Outage::from)?;
        let mut ended = json!(agents::all_ended(&self.store, tombstone).await.map_err(Outage::from)?);
        ended["certificates"] =
            certificates.iter().take(NAMED).map(|ended| json!(ended.thumbprint)).collect();
        ended["certificates_in_all"] = certificates.len().into();
        let named = |entry: &Entry| json!({ "seq": entry.chain_seq, "hash": entry.entry_hash });
        let claims = json!({
            "iss": trust.org.as_str(),
            "sub": id,
            "iat": self.clock.now().unix(),
            "deleted_at": tombstone.deleted_at,
            "reason": tombstone.reason,
            "ended": ended,
            "audit": {
                "first_seq": first_seq,
                "last_seq": last_seq,
                "entries": entries.iter().map(named).collect::<Value>(),
            },
        });
        Ok(Receipt { jws: signed(&claims, signer)?, first_seq, last_seq })
    }

    /// The same statement by what signs tokens now; `None` when it leads to the root of today as it is, when nothing is
    /// signed now, or when the key that signed it cannot be asked.
    fn signed_again(&self, receipt: &Receipt) -> Result<Option<Receipt>, Outage> {
        let (trust, now) = (self.trust(), self.clock.now());
        let Some(signer) = &trust.signer else { return Ok(None) };
        let Some((kid, mut claims)) = self.stated(receipt)? else { return Ok(None) };
        let signed_at = Stamp::from_unix(claims["iat"].as_i64().unwrap_or_default());
        if trust.vouches_for(Some(&kid), signed_at, now) {
            return Ok(None);
        }
        claims["iat"] = now.unix().into();
        Ok(Some(Receipt { jws: signed(&claims, signer)?, ..*receipt }))
    }

    /// Who signed a receipt, and what it says; `None` when the signature is not of a key of ours.
    fn stated(&self, receipt: &Receipt) -> Result<Option<(Kid, Value)>, Outage> {
        let Some(certificate) = self.certificate_of_signer(receipt)? else { return Ok(None) };
        let verified = || {
            let certificate = Certificate::from_pem(&certificate).ok()?;
            let key = VerifyingKey::from_spki_der(certificate.spki_der()).ok()?;
            let compact = Compact::split(&receipt.jws).ok()?;
            compact.verify(&key, Algorithm::Es256).ok()?;
            Some((peek_kid(&receipt.jws)?, compact.claims().ok()?))
        };
        Ok(verified())
    }

    fn certificate_of_signer(&self, receipt: &Receipt) -> Result<Option<String>, Outage> {
        let kid = peek_kid(&receipt.jws);
        let keys = keys::signing_keys(self.store.database())?;
        Ok(keys.into_iter().find(|key| Some(&key.kid) == kid.as_ref()).and_then(|key| key.certificate))
    }

    async fn with_proof(
        &self,
        tombstone: Tombstone,
        receipt: Receipt,
    ) -> Result<Decommissioned, DecommissionError> {
        let trust = self.trust();
        let signing_certificate = self.certificate_of_signer(&receipt)?;
        let mut places = vec![receipt.first_seq, receipt.last_seq];
        places.dedup();
        let entries = audit::entries(&self.store, &trust.org, &places).await.map_err(Outage::from)?;
        Ok(Decommissioned { tombstone, receipt, signing_certificate, entries })
    }

    /// Lets a new agent have `id`: at once if nobody had it, else only when an operator insists, which is told.
    pub(crate) async fn giving_id(
        &self,
        unit: Unit,
        id: &AgentId,
        reuse: bool,
        operator: &Operator,
    ) -> Result<Result<Unit, Buried>, Outage> {
        let mut buried = agents::tombstones_like(&self.store, id).await?;
        if !reuse {
            let newest = buried.pop().map(|last| Buried { agent: last.agent, deleted_at: last.deleted_at });
            return Ok(newest.map_or(Ok(unit), Err));
        }
        let lifted = buried.into_iter().fold(unit, |unit, tombstone| {
            let event = catalogue::AgentIdReused {
                deleted_at: tombstone.deleted_at,
                last_seq: tombstone.receipt.as_ref().map_or(0, |receipt| receipt.last_seq),
                by: operator.fingerprint.clone(),
            };
            let event = Event::new(&event).about(tombstone.agent.as_str());
            unit.write(tombstone.lift()).tell(event)
        });
        Ok(Ok(lifted))
    }
}

fn signed(claims: &Value, signer: &Signer) -> Result<String, Outage> {
    let header = json!({ "alg": "ES256", "kid": signer.kid, "typ": RECEIPT_TYPE });
    jws::sign(&signer.key, &header, claims).map_err(Outage::internal)
}
