//! Being a witness: cosign what continues, refuse what does not, keep what contradicts.
//!
//! What is detected: two checkpoints of one size with different roots, and a log that proves none of its checkpoints
//! any more. The first is proof of two histories whoever sent it, since the log signed both. The second is a suspicion
//! (see [`super::doubts`]), which ends when the log proves a checkpoint of at least that size. What is not detected: a checkpoint smaller than the one that was
//! cosigned last. It may be old or rewritten, and without its entries nobody can tell; the log is told the size that
//! we know, and has to explain itself.

use std::sync::PoisonError;

use mastio_audit::{
    checkpoint::SignedCheckpoint,
    note::{Name, NoteError, NoteKey},
    tree::TreeHead,
    witness::{AddCheckpoint, Relation, RequestError},
};
use mastio_authority::{Outage, Refusal};
use mastio_core::{Event, counted, event::catalogue};
use mastio_store::{
    Unit,
    audit::witness::{self, SplitView, Witnessed},
};

use super::doubts::Doubts;
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
    /// Longer than what is kept.
    #[error("{}", NoteError::TooLong)]
    TooLong,
    /// The log did not sign it.
    #[error("no signature on the checkpoint is by a key that is known for this log")]
    Unsigned,
    /// Another size was cosigned last, or the same one with another root.
    #[error("the checkpoint that was cosigned last has {}", counted(*size, "entry", "entries"))]
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
            Self::Malformed(_) | Self::Backwards | Self::TooLong => 400,
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
            Self::TooLong => "checkpoint_too_long",
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
                Err(NoteError::TooLong) => return Err(AddError::TooLong),
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
                if let Some(known) = known {
                    self.keep_evidence(&known.note, note, None).await?;
                }
                Err(AddError::Conflict { size: head.size })
            }
            Relation::Unproved => {
                // Before anything was cosigned there is nothing to contradict.
                if let Some(known) = known {
                    self.doubt(&known, note).await?;
                }
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
        let mut unit = Unit::default().write(witness::advance(known, &next)).write(witness::clear(
            &next.origin,
            next.head.size,
            now,
        ));
        if first {
            unit = unit.tell(Event::new(&catalogue::LogWitnessed { origin, size: next.head.size }));
        }
        self.authority.commit(unit).await.map_err(Outage::from)?;
        if self.sees_split_view() {
            self.count_split_views()?;
        }
        let contradicting = self.doubted(&next.origin, |doubts| {
            let contradicting = doubts.contradicting(note);
            doubts.proved(next.head.size);
            contradicting
        });
        if let Some(other) = contradicting {
            self.keep_evidence(note, &other, None).await?;
        }
        Ok(format!("{line}\n"))
    }

    /// Remembers a note that came with a wrong proof. Only several in a row, or another root at one size, are a split view.
    async fn doubt(&self, known: &Witnessed, note: &SignedCheckpoint) -> Result<(), Outage> {
        self.authority.metrics.witness.unproved.with_label_values(&[known.origin.as_str()]).inc();
        let (contradicting, suspicious) =
            self.doubted(&known.origin, |doubts| (doubts.contradicting(note), doubts.add(note)));
        if let Some(first) = contradicting {
            return self.keep_evidence(&first, note, None).await;
        }
        match suspicious {
            true => self.keep_evidence(&known.note, note, Some(note.unverified().head.size)).await,
            false => Ok(()),
        }
    }

    fn doubted<T>(&self, origin: &Name, look: impl FnOnce(&mut Doubts) -> T) -> T {
        let mut doubts = self.log.witness.doubts.lock().unwrap_or_else(PoisonError::into_inner);
        look(doubts.entry(origin.clone()).or_default())
    }

    /// Keeps two notes of one log of which at most one can be true, or seems to be.
    async fn keep_evidence(
        &self,
        known: &SignedCheckpoint,
        other: &SignedCheckpoint,
        suspected_size: Option<u64>,
    ) -> Result<(), Outage> {
        let split = SplitView {
            origin: known.unverified().origin.to_string(),
            known: known.to_string(),
            other: other.to_string(),
            seen_at: self.authority.clock().now(),
            suspected_size,
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
