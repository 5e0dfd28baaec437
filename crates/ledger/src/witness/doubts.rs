//! Checkpoints of a log for which only wrong proofs came.
//!
//! Whoever sees a checkpoint can send it with a wrong proof before its log does, so one says nothing about the log. It is
//! remembered, since it is half of the evidence when the log signs another root at its size, and it counts towards a
//! suspicion: a log that rewrote its history can prove none of its checkpoints any more.

use std::collections::BTreeSet;

use mastio_audit::checkpoint::SignedCheckpoint;

/// So many checkpoints of different sizes in a row, with none proved in between, make a suspicion. A log sends each of
/// its checkpoints within seconds, and proves it.
const SUSPICIOUS: usize = 3;
/// What is remembered of one log.
const REMEMBERED: usize = 16;

/// What is doubted of one log.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    notes: Vec<SignedCheckpoint>,
    in_a_row: BTreeSet<u64>,
}

impl Doubts {
    /// A doubted note with the size of `note` and another root: the log signed both.
    pub(super) fn contradicting(&self, note: &SignedCheckpoint) -> Option<SignedCheckpoint> {
        let head = note.unverified().head;
        let other = |doubted: &&SignedCheckpoint| {
            let doubted = doubted.unverified().head;
            doubted.size == head.size && doubted.root != head.root
        };
        self.notes.iter().find(other).cloned()
    }

    /// Remembers `note`, and says whether the log is suspicious now.
    pub(super) fn add(&mut self, note: &SignedCheckpoint) -> bool {
        let size = note.unverified().head.size;
        if self.notes.len() < REMEMBERED
            && !self.notes.iter().any(|known| known.unverified().head.size == size)
        {
            self.notes.push(note.clone());
        }
        if self.in_a_row.len() < SUSPICIOUS {
            self.in_a_row.insert(size);
        }
        self.in_a_row.len() == SUSPICIOUS
    }

    /// The log proved `size` entries. Doubts of larger trees may become evidence still.
    pub(super) fn proved(&mut self, size: u64) {
        self.in_a_row.clear();
        self.notes.retain(|note| note.unverified().head.size > size);
    }
}
