//! An inclusion proof with the checkpoint that it leads to, as a file that stands alone (C2SP tlog-proof).

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    checkpoint::SignedCheckpoint,
    note::NoteError,
    proof::{InclusionProof, MAX_PATH, decimal, decode_hash},
};

/// The proof and its checkpoint, without extra data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    /// The proof. Its size is the checkpoint's.
    pub inclusion: InclusionProof,
    /// What it leads to.
    pub checkpoint: SignedCheckpoint,
}

const TLOG_PROOF: &str = "c2sp.org/tlog-proof@v1";

impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{TLOG_PROOF}\nindex {}", self.inclusion.index)?;
        for hash in &self.inclusion.path {
            writeln!(f, "{}", STANDARD.encode(hash))?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for TlogProof {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let (lines, note) = text.split_once("\n\n").ok_or(NoteError::Malformed)?;
        let mut lines = lines.split('\n');
        if lines.next() != Some(TLOG_PROOF) {
            return Err(NoteError::Malformed);
        }
        let mut line = lines.next().ok_or(NoteError::Malformed)?;
        if line.starts_with("extra ") {
            line = lines.next().ok_or(NoteError::Malformed)?;
        }
        let index = line.strip_prefix("index ").and_then(decimal).ok_or(NoteError::Malformed)?;
        let path = lines.map(|line| decode_hash(line).ok_or(NoteError::Malformed));
        let path = path.take(MAX_PATH + 1).collect::<Result<_, _>>()?;
        let checkpoint = SignedCheckpoint::parse(note)?;
        let size = checkpoint.unverified().head.size;
        Ok(Self { inclusion: InclusionProof { index, size, path }, checkpoint })
    }
}
