//! Being a witness: cosign what continues, refuse what does not, keep what contradicts.
//!
//! What is detected: two checkpoints of one size with different roots, and a checkpoint for which no proof from the
//! one that was cosigned last holds. The first is proof of two histories whoever sent it, since the log signed both.
//! The second may also be a true checkpoint that somebody sent with a wrong proof; when the log proves that very
//! checkpoint later, the suspicion is cleared. What is not detected: a checkpoint smaller than the one that was
//! cosigned last. It may be old or rewritten, and without its entries nobody can tell; the log is told the size that
//! we know, and has to explain itself.

use mastio_audit::{
    note::{NoteKey, SignedCheckpoint},
    tree::TreeHead,
    witness::{AddCheckpoint, Relation, RequestError},
};
use mastio_authority::{Outage, Refusal};
use mastio_core::{Event, event::catalogue};
use mastio_store::{
    Unit,
    audit::witness::{self, SplitView, Witnessed},
};

use crate::Ledger;

/// Why a checkpoint is not cosigned.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// We are nobody's witness.
    #[error("this Mastio is no witness: name the logs in MCP_PROXY_AUDIT_WITNESS_FOR")]
    NoWitness,
    /// Not ours to watch.
    #[error("this Mastio is not a witness of this log: add its key to MCP_PROXY_AUDIT_WITNESS_FOR")]
    UnknownLog,
    /// The request cannot be read.
    #[error(transparent)]
    Malformed(#[from] RequestError),
    /// Larger before than after.
    #[error("the old size is larger than the checkpoint's: send the size that was cosigned last")]
    Backwards,
    /// The log did not sign it.
    #[error("no signature on the checkpoint is by a key that is known for this log")]
    Unsigned,
    /// Another size was cosigned last, or the same one with another root.
    #[error("the checkpoint that was cosigned last has {size} entries")]
    Conflict {
        /// How many entries it has.
        size: u64,
    },
    /// The proof does not hold.
    #[error("the checkpoint that was cosigned last is not its beginning, or the consistency proof is wrong")]
    Unproved,
    /// The database.
    #[error("{0}")]
    Outage(#[from] Outage),
}

impl Refusal for AddError {
    fn status(&self) -> u16 {
        match self {
            Self::NoWitness | Self::UnknownLog => 404,
            Self::Malformed(_) | Self::Backwards => 400,
            Self::Unsigned => 403,
            Self::Conflict { .. } => 409,
            Self::Unproved => 422,
            Self::Outage(outage) => outage.status(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NoWitness => "no_witness",
            Self::UnknownLog => "unknown_log",
            Self::Malformed(_) => "malformed_checkpoint",
            Self::Backwards => "old_size_too_large",
            Self::Unsigned => "unsigned_checkpoint",
            Self::Conflict { .. } => "other_size_cosigned",
            Self::Unproved => "inconsistent_checkpoint",
            Self::Outage(outage) => outage.reason(),
        }
    }
}

/// What we are a witness of.
#[derive(Debug)]
pub struct Witnessing {
    /// Our own key.
    pub key: NoteKey,
    /// The keys of the logs.
    pub logs: Vec<NoteKey>,
    /// What was cosigned last.
    pub cosigned: Vec<Witnessed>,
    /// What waits for an acknowledgement.
    pub split_views: Vec<SplitView>,
}

impl Ledger {
    /// Cosigns the checkpoint in the body of an `add-checkpoint`; the signature line, with its newline. It is durable
    /// that it was cosigned before this returns.
    ///
    /// # Errors
    /// When the checkpoint does not continue what was cosigned last.
    pub async fn add_checkpoint(&self, body: &[u8]) -> Result<String, AddError> {
        let (request, note) = self.submitted(body)?;
        match self.consider(&request, &note).await {
            // Another request was faster: now there is another checkpoint to compare with.
            Err(AddError::Outage(Outage::Contended)) => self.consider(&request, &note).await,
            considered => considered,
        }
    }

    /// What was cosigned last, for a log that shows one of its checkpoints: an extension of ours, by which a log that
    /// was put back learns what it signed before. The body is that of `add-checkpoint`.
    ///
    /// # Errors
    /// When it is not a log of ours, or nothing was cosigned yet ([`AddError::UnknownLog`]).
    pub async fn last_cosigned(&self, body: &[u8]) -> Result<SignedCheckpoint, AddError> {
        let (_, note) = self.submitted(body)?;
        let origin = &note.unverified().origin;
        let last = witness::last(self.authority.store(), origin).await.map_err(Outage::from)?;
        last.map(|last| last.note).ok_or(AddError::UnknownLog)
    }

    /// The request, and its checkpoint with nothing but the signature of its log.
    fn submitted(&self, body: &[u8]) -> Result<(AddCheckpoint, SignedCheckpoint), AddError> {
        if self.authority.settings.audit.witnessing.logs.is_empty() {
            return Err(AddError::NoWitness);
        }
        // What is no text has no first line that we know.
        let request: AddCheckpoint = std::str::from_utf8(body).unwrap_or_default().parse()?;
        let note = self.signed_by_its_log(&request.checkpoint)?;
        Ok((request, note))
    }

    /// The checkpoint with nothing but a signature of the log that it names.
    fn signed_by_its_log(&self, checkpoint: &SignedCheckpoint) -> Result<SignedCheckpoint, AddError> {
        let origin = &checkpoint.unverified().origin;
        let mut refused = AddError::UnknownLog;
        for key in self.authority.settings.audit.witnessing.logs.iter().filter(|key| key.name() == origin) {
            match checkpoint.signed_by(key) {
                Ok(note) => return Ok(note),
                Err(_) => refused = AddError::Unsigned,
            }
        }
        Err(refused)
    }

    async fn consider(&self, request: &AddCheckpoint, note: &SignedCheckpoint) -> Result<String, AddError> {
        let store = self.authority.store();
        let known = witness::last(store, &note.unverified().origin).await.map_err(Outage::from)?;
        let head = known.as_ref().map_or_else(TreeHead::empty, |known| known.head);
        match request.relation_to(&head) {
            Relation::Extends => self.cosign(known.is_none(), &head, note).await,
            Relation::Backwards => Err(AddError::Backwards),
            Relation::Stale => Err(AddError::Conflict { size: head.size }),
            Relation::Contradicts => {
                self.keep_evidence(known, note).await?;
                Err(AddError::Conflict { size: head.size })
            }
            Relation::Unproved => {
                self.keep_evidence(known, note).await?;
                Err(AddError::Unproved)
            }
        }
    }

    async fn cosign(
        &self,
        first: bool,
        known: &TreeHead,
        note: &SignedCheckpoint,
    ) -> Result<String, AddError> {
        let (signer, now) = (self.witness_key().await?, self.authority.clock().now());
        let line = note.cosign(&signer, now).map_err(Outage::internal)?;
        let checkpoint = note.unverified().clone();
        let origin = checkpoint.origin.to_string();
        let next =
            Witnessed { origin: checkpoint.origin, head: checkpoint.head, note: note.clone(), seen_at: now };
        let mut unit = Unit::default().write(witness::advance(known, &next)).write(witness::clear(note, now));
        if first {
            unit = unit.tell(Event::new(&catalogue::LogWitnessed { origin, size: next.head.size }));
        }
        self.authority.commit(unit).await.map_err(Outage::from)?;
        if self.sees_split_view() {
            self.count_split_views()?;
        }
        Ok(format!("{line}\n"))
    }

    /// Keeps what contradicts what was cosigned; before anything was there is nothing to contradict.
    async fn keep_evidence(&self, known: Option<Witnessed>, note: &SignedCheckpoint) -> Result<(), Outage> {
        let Some(known) = known else { return Ok(()) };
        let split = SplitView {
            origin: known.origin.to_string(),
            known: known.note.to_string(),
            other: note.to_string(),
            seen_at: self.authority.clock().now(),
        };
        self.keep_split_view(split).await
    }

    /// What we are a witness of, and what we saw.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn witnessing(&self) -> Result<Witnessing, Outage> {
        let store = self.authority.store();
        Ok(Witnessing {
            key: self.witness_key().await?.key().clone(),
            logs: self.authority.settings.audit.witnessing.logs.clone(),
            cosigned: witness::all(store).await?,
            split_views: witness::open(store).await?,
        })
    }
}
