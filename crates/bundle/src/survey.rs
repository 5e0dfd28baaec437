//! The first pass over the entries of a bundle: what the manifest says of them.

use std::io::Write;

use mastio_audit::{LocalRow, lines};
use mastio_core::Stamp;

use crate::{
    digesting::Digesting,
    entries::{Walk, Walked},
    format::{Digest, FORMAT, Manifest, entry_id},
    write::Occasion,
};

/// Why no bundle can be made of the entries.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SurveyError {
    /// The range holds no entry.
    #[error("there are no entries in this range")]
    Empty,
    /// An entry does not follow from the one before: no proof could cover it.
    #[error("the entries do not hold together: {0}")]
    Broken(String),
}

/// Looks at every entry of the range, in the order of the chain.
#[derive(Default)]
pub struct Survey {
    walk: Option<Walk>,
    lines: Lines,
}

impl Survey {
    /// Looks at the next entry.
    ///
    /// # Errors
    /// [`SurveyError::Broken`].
    pub fn push(&mut self, row: &LocalRow<'_>) -> Result<(), SurveyError> {
        let walk = match &mut self.walk {
            Some(walk) => walk,
            None => self.walk.insert(Walk::before(row).map_err(SurveyError::Broken)?),
        };
        walk.push(row).map_err(SurveyError::Broken)?;
        self.lines.push(row);
        Ok(())
    }

    /// What was seen.
    ///
    /// # Errors
    /// [`SurveyError::Empty`].
    pub fn finish(self) -> Result<Surveyed, SurveyError> {
        let walked = self.walk.ok_or(SurveyError::Empty)?.finish();
        let (bytes, digest) = self.lines.finish();
        Ok(Surveyed { walked, bytes, digest })
    }
}

/// Writes lines to nowhere, to know their size and digest.
struct Lines {
    out: Digesting<std::io::Sink>,
    line: Vec<u8>,
}

impl Default for Lines {
    fn default() -> Self {
        Self { out: Digesting::new(std::io::sink()), line: Vec::new() }
    }
}

impl Lines {
    fn push(&mut self, row: &LocalRow<'_>) {
        self.line.clear();
        lines::ndjson(row, &mut self.line);
        // A sink takes everything.
        let _ = self.out.write_all(&self.line);
    }

    fn finish(self) -> (u64, Digest) {
        self.out.finish()
    }
}

/// What the first pass saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surveyed {
    walked: Walked,
    bytes: u64,
    digest: Digest,
}

impl Surveyed {
    /// Position of the first entry.
    #[must_use]
    pub fn first_seq(&self) -> u64 {
        self.walked.first.seq
    }

    /// Position of the last entry.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.walked.last.seq
    }

    /// The hash of the first entry.
    #[must_use]
    pub fn first_hash(&self) -> [u8; 32] {
        self.walked.first.hash.0
    }

    /// The hash of the last entry: what a time stamp is asked for.
    #[must_use]
    pub fn last_hash(&self) -> [u8; 32] {
        self.walked.last.hash.0
    }

    /// An entry that no verifier accepts under a log key that was announced at this time: it holds `|` or a control
    /// character outside its details, and is not older than the key.
    #[must_use]
    pub fn recut_since(&self, announced: Stamp) -> Option<u64> {
        self.walked.recut_since(announced)
    }

    /// The length of `events.ndjson` in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The manifest of these entries, without the digests of the other files.
    pub(crate) fn manifest(&self, occasion: Occasion<'_>) -> Manifest {
        let Walked { entries, first, last, previous, .. } = &self.walked;
        let window = occasion.window.map(|(start, end)| (start.to_string(), end.to_string()));
        let (start, end) = window.unwrap_or_else(|| (first.timestamp.clone(), last.timestamp.clone()));
        Manifest {
            format: FORMAT.to_owned(),
            org_id: occasion.org_id.to_owned(),
            start,
            end,
            first_id: entry_id(occasion.org_id, first.seq),
            last_id: entry_id(occasion.org_id, last.seq),
            first_seq: first.seq,
            last_seq: last.seq,
            entries: *entries,
            first_hash: first.hash,
            last_hash: last.hash,
            previous_hash: *previous,
            created: last.timestamp.clone(),
            sha256: self.digest,
            files: Default::default(),
            archived: occasion.archived,
        }
    }
}
