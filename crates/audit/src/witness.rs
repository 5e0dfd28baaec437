//! What a log asks of a witness, and what the witness makes of it (C2SP tlog-witness).

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    checkpoint::SignedCheckpoint,
    note::NoteError,
    proof::{ConsistencyProof, decimal, decode_hash},
    tree::{Hash, TreeHead},
};

/// The longest proof that a request may carry.
const MAX_LINES: usize = 63;

/// Why a request cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The first line.
    #[error("the first line must be `old` and the size that was cosigned last, in decimal")]
    Old,
    /// The lines up to the empty one.
    #[error("the lines after the first must be at most 63 hashes in base64, and then an empty line")]
    Proof,
    /// What follows.
    #[error(transparent)]
    Checkpoint(#[from] NoteError),
}

/// The body of `add-checkpoint`: please cosign, this is what follows what you know. Displayed it is the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size that the log believes the witness cosigned last; 0 if it does not know.
    pub old: u64,
    /// The consistency proof from there.
    pub path: Vec<Hash>,
    /// What to cosign.
    pub checkpoint: SignedCheckpoint,
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        for hash in &self.path {
            writeln!(f, "{}", STANDARD.encode(hash))?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for AddCheckpoint {
    type Err = RequestError;

    fn from_str(text: &str) -> Result<Self, RequestError> {
        let (first, mut rest) = text.split_once('\n').ok_or(RequestError::Old)?;
        let old = first.strip_prefix("old ").and_then(decimal).ok_or(RequestError::Old)?;
        let mut path = Vec::new();
        loop {
            let (line, after) = rest.split_once('\n').ok_or(RequestError::Proof)?;
            rest = after;
            if line.is_empty() {
                break;
            }
            if path.len() == MAX_LINES {
                return Err(RequestError::Proof);
            }
            path.push(decode_hash(line).ok_or(RequestError::Proof)?);
        }
        Ok(Self { old, path, checkpoint: SignedCheckpoint::parse(rest)? })
    }
}

/// How a checkpoint relates to the one that its witness cosigned last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// What was cosigned is its beginning.
    Extends,
    /// The request is of no use: it asks for a proof from a larger tree to a smaller one.
    Backwards,
    /// The request starts from another size than the one that was cosigned last. Nothing is known about the checkpoint.
    Stale,
    /// As many entries, other content: both signed by the log, so it told two stories.
    Contradicts,
    /// The proof does not hold. The log told two stories, or somebody sent its checkpoint with a proof that is none.
    Unproved,
}

impl AddCheckpoint {
    /// Compares it with what was cosigned last; [`TreeHead::empty`] when nothing was. Signatures are not looked at.
    #[must_use]
    pub fn relation_to(&self, known: &TreeHead) -> Relation {
        let new = self.checkpoint.unverified().head;
        let proof = ConsistencyProof { from: self.old, to: new.size, path: self.path.clone() };
        if self.old > new.size {
            Relation::Backwards
        } else if new.size == known.size && new.root != known.root {
            Relation::Contradicts
        } else if self.old != known.size {
            Relation::Stale
        } else if proof.verify(known, &new).is_ok() {
            Relation::Extends
        } else {
            Relation::Unproved
        }
    }
}
