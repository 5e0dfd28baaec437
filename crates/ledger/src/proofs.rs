//! Proofs for those who have only a checkpoint. Each is verified here before it is given out: stored hashes that were
//! changed are found by us, not by an auditor.

use mastio_audit::{
    proof::{ConsistencyProof, InclusionProof, ProofError},
    tlog_proof::TlogProof,
    tree::{Hash, Tree, TreeError, leaf_hash},
};
use mastio_authority::{Outage, Refusal};
use mastio_core::counted;
use mastio_store::{
    ReadError,
    audit::tree::{self, StoredTiles},
};

use crate::{
    Ledger,
    checkpoints::{CheckpointError, Published},
    log_key::LogKeyError,
};

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// There is no checkpoint to prove to.
    #[error("{0}")]
    Checkpoint(#[from] CheckpointError),
    /// No such entry is in the log.
    #[error("the audit log has no entry {0}")]
    NoEntry(u64),
    /// No checkpoint has that size.
    #[error("no checkpoint over {0} entries is kept; leave size or to out, or name the size of a checkpoint")]
    NoCheckpoint(u64),
    /// It is in no checkpoint yet, or it was archived.
    #[error("not published: beyond the newest checkpoint, or archived")]
    NotPublished,
    /// The older tree is larger than the newer one.
    #[error("the tree of {} cannot continue one of {from}; from must not be above to", counted(*to, "entry", "entries"))]
    Backwards {
        /// The size that was asked for as the older.
        from: u64,
        /// The size of the newer.
        to: u64,
    },
    /// The stored tiles do not give a proof.
    #[error("{0}")]
    Tree(#[from] TreeError<ReadError>),
    /// The proof that they give does not hold.
    #[error(
        "the stored audit tree contradicts its entries or its checkpoint ({0}); run mastio audit verify, and if the entries hold, stop the server and run mastio audit rebuild-tree"
    )]
    Contradiction(#[from] ProofError),
    /// Something of ours.
    #[error("{0}")]
    Outage(#[from] Outage),
}

impl From<ReadError> for ProveError {
    fn from(error: ReadError) -> Self {
        Self::Outage(error.into())
    }
}

impl From<LogKeyError> for ProveError {
    fn from(error: LogKeyError) -> Self {
        Self::Checkpoint(error.into())
    }
}

impl Refusal for ProveError {
    fn status(&self) -> u16 {
        match self {
            Self::Checkpoint(error) => error.status(),
            Self::NoEntry(_) | Self::NoCheckpoint(_) | Self::NotPublished => 404,
            Self::Backwards { .. } => 400,
            Self::Tree(TreeError::Source(error)) => Outage::from(error.clone()).status(),
            Self::Tree(_) | Self::Contradiction(_) => 500,
            Self::Outage(outage) => outage.status(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Checkpoint(error) => error.reason(),
            Self::NoEntry(_) => "no_such_entry",
            Self::NoCheckpoint(_) => "no_such_checkpoint",
            Self::NotPublished => "not_published",
            Self::Backwards { .. } => "sizes_reversed",
            Self::Tree(_) => "audit_tree_unreadable",
            Self::Contradiction(_) => "audit_tree_contradicts",
            Self::Outage(outage) => outage.reason(),
        }
    }
}

/// That an entry is in the log.
#[derive(Debug, Clone)]
pub struct EntryProof {
    /// Its `chain_seq`.
    pub seq: u64,
    /// Its hash; `None` when the entry was archived and only its leaf is left.
    pub entry_hash: Option<Hash>,
    /// Its leaf.
    pub leaf_hash: Hash,
    /// The path to the checkpoint's root.
    pub inclusion: InclusionProof,
    /// What the path leads to.
    pub checkpoint: Published,
}

/// That a checkpoint continues an older tree.
#[derive(Debug, Clone)]
pub struct Continuation {
    /// The proof.
    pub proof: ConsistencyProof,
    /// The root of the older tree, as we have it.
    pub from_root: Hash,
    /// The newer tree.
    pub checkpoint: Published,
}

impl EntryProof {
    /// The same as a file that stands alone (C2SP tlog-proof).
    #[must_use]
    pub fn into_tlog_proof(self) -> TlogProof {
        TlogProof { inclusion: self.inclusion, checkpoint: self.checkpoint.note }
    }
}

impl Ledger {
    /// Proves that the entry `seq` is in the tree of the checkpoint over `size` entries, or of the newest one; if that
    /// one does not have the entry yet, of a new one.
    ///
    /// # Errors
    /// [`ProveError`].
    pub async fn prove(&self, seq: u64, size: Option<u64>) -> Result<EntryProof, ProveError> {
        let base_seq = self.log_key().await?.base_seq;
        let index = seq.checked_sub(base_seq).ok_or(ProveError::NoEntry(seq))?;
        let checkpoint = match size {
            Some(size) => self.checkpoint_of_size(size).await?.ok_or(ProveError::NoCheckpoint(size))?,
            None => self.newest_with(seq, index).await?,
        };
        if checkpoint.head().size <= index {
            return Err(ProveError::NoEntry(seq));
        }
        let org = self.authority.trust().org.clone();
        let prove = self.reading(move |database| {
            let (head, tiles) = (checkpoint.head(), StoredTiles(database));
            let tree = Tree::new(head.size, &tiles);
            let inclusion = tree.inclusion(index)?;
            let entry_hash = tree::entry_hash(database, &org, seq)?;
            let leaf_hash = match &entry_hash {
                Some(entry_hash) => leaf_hash(entry_hash),
                None => tree.leaf(index)?,
            };
            inclusion.verify_leaf(&leaf_hash, &head)?;
            Ok::<_, ProveError>(EntryProof { seq, entry_hash, leaf_hash, inclusion, checkpoint })
        });
        prove.await
    }

    async fn newest_with(&self, seq: u64, index: u64) -> Result<Published, ProveError> {
        match self.newest_checkpoint().await? {
            Some(newest) if newest.head().size > index => Ok(newest),
            _ if seq > self.last_seq().await? => Err(ProveError::NoEntry(seq)),
            _ => Ok(self.checkpoint_now().await?),
        }
    }

    /// Proves that the checkpoint over `to` entries, or the newest one, continues the tree of the first `from`.
    ///
    /// # Errors
    /// [`ProveError`].
    pub async fn consistency(&self, from: u64, to: Option<u64>) -> Result<Continuation, ProveError> {
        let checkpoint = match to {
            Some(size) => self.checkpoint_of_size(size).await?.ok_or(ProveError::NoCheckpoint(size))?,
            None => match self.newest_checkpoint().await? {
                Some(newest) if newest.head().size >= from => newest,
                _ => self.checkpoint_now().await?,
            },
        };
        let head = checkpoint.head();
        if from > head.size {
            return Err(ProveError::Backwards { from, to: head.size });
        }
        let prove = self.reading(move |database| {
            let tiles = StoredTiles(database);
            let proof = Tree::new(head.size, &tiles).consistency(from)?;
            let old = Tree::new(from, &tiles).head()?;
            proof.verify(&old, &head)?;
            Ok::<_, ProveError>(Continuation { proof, from_root: old.root, checkpoint })
        });
        prove.await
    }
}
