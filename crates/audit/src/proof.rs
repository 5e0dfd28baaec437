//! Proofs about a tree, for whoever has only its root (RFC 9162 §2.1.3, §2.1.4).

use base64::{Engine, engine::general_purpose::STANDARD};
use mastio_core::counted;
use tlog_tiles::tlog;

use crate::tree::{Hash, MAX_SIZE, TreeHead, leaf_hash};

/// No path in a tree of at most [`MAX_SIZE`] leaves is longer.
pub(crate) const MAX_PATH: usize = 64;

/// What a proof does not prove.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The path does not lead from the leaf to the root.
    #[error(
        "the inclusion proof does not lead from entry hash to tree root: the entry is not in this tree, or the proof was changed"
    )]
    NotIncluded,
    /// One tree is not the beginning of the other.
    #[error(
        "the tree of {} is not the beginning of the tree of {to}: history was rewritten, or the proof was changed",
        counted(*from, "leaf", "leaves")
    )]
    NotConsistent {
        /// The size of the older tree.
        from: u64,
        /// The size of the newer tree.
        to: u64,
    },
    /// The proof speaks of trees of other sizes.
    #[error("the proof is for a tree of {}, not for one of {expected}", counted(*proved, "leaf", "leaves"))]
    OtherSize {
        /// Of which tree the proof speaks.
        proved: u64,
        /// Of which it should.
        expected: u64,
    },
}

/// That a leaf is in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionProof {
    /// Which leaf, from 0.
    pub index: u64,
    /// How many leaves the tree has.
    pub size: u64,
    /// Sibling hashes from the leaf up.
    pub path: Vec<Hash>,
}

impl InclusionProof {
    /// Checks that the entry with `entry_hash` is the leaf, in the tree of `head`.
    ///
    /// # Errors
    /// When it is not.
    pub fn verify(&self, entry_hash: &Hash, head: &TreeHead) -> Result<(), ProofError> {
        self.verify_leaf(&leaf_hash(entry_hash), head)
    }

    /// The same for whoever has the leaf, but not the entry any more.
    ///
    /// # Errors
    /// When it is not in the tree of `head` at this place.
    pub fn verify_leaf(&self, leaf: &Hash, head: &TreeHead) -> Result<(), ProofError> {
        if self.size != head.size {
            return Err(ProofError::OtherSize { proved: self.size, expected: head.size });
        }
        if self.index >= self.size || self.size > MAX_SIZE || self.path.len() > MAX_PATH {
            return Err(ProofError::NotIncluded);
        }
        let (root, leaf) = (tlog::Hash(head.root), tlog::Hash(*leaf));
        tlog::check_record(&hashes(&self.path), self.size, root, self.index, leaf)
            .map_err(|_| ProofError::NotIncluded)
    }
}

/// That one tree is the beginning of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsistencyProof {
    /// How many leaves the older tree has.
    pub from: u64,
    /// How many leaves the newer one has.
    pub to: u64,
    /// The nodes, in the order of RFC 9162 §2.1.4.1; empty from 0 and for equal trees.
    pub path: Vec<Hash>,
}

impl ConsistencyProof {
    /// Checks that the tree of `old` is the beginning of the tree of `new`. Every tree begins with the empty one.
    ///
    /// # Errors
    /// When it is not.
    pub fn verify(&self, old: &TreeHead, new: &TreeHead) -> Result<(), ProofError> {
        for (proved, expected) in [(self.from, old.size), (self.to, new.size)] {
            if proved != expected {
                return Err(ProofError::OtherSize { proved, expected });
            }
        }
        let holds = match self.from {
            _ if self.to > MAX_SIZE || self.path.len() > MAX_PATH => false,
            0 => self.path.is_empty(),
            from if from == self.to => self.path.is_empty() && old.root == new.root,
            from if from > self.to => false,
            from => {
                let (new_root, old_root) = (tlog::Hash(new.root), tlog::Hash(old.root));
                tlog::check_tree(&hashes(&self.path), self.to, new_root, from, old_root).is_ok()
            }
        };
        if holds { Ok(()) } else { Err(ProofError::NotConsistent { from: self.from, to: self.to }) }
    }
}

fn hashes(path: &[Hash]) -> Vec<tlog::Hash> {
    path.iter().map(|hash| tlog::Hash(*hash)).collect()
}

/// A decimal number without leading zeros.
#[must_use]
pub fn decimal(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

/// A hash in base64 (RFC 4648 §4), as proofs and checkpoints write it.
#[must_use]
pub fn decode_hash(text: &str) -> Option<Hash> {
    STANDARD.decode(text).ok()?.try_into().ok()
}
