//! Checkpoints: what a log says of itself, signed by it and by those who watch it (C2SP tlog-checkpoint,
//! tlog-cosignature).

use std::fmt;

use mastio_core::Stamp;
use signed_note::{Note, Signature, VerifierList};
use tlog_tiles::{checkpoint::Checkpoint as Text, tlog};

use crate::{
    note::{KeyKind, Name, NoteError, NoteKey, NoteSigner},
    tree::{MAX_SIZE, TreeHead},
};

/// The longest checkpoint with nothing but the signature of its log, in bytes: what is signed is kept.
const LONGEST: usize = 4 << 10;

/// What a log says of itself: so many entries, with this root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: Name,
    /// Its tree.
    pub head: TreeHead,
}

impl Checkpoint {
    /// Signs it with the key of its log, whose name is the origin.
    ///
    /// # Errors
    /// When the key is another log's or a witness's.
    pub fn sign(&self, signer: &NoteSigner) -> Result<SignedCheckpoint, NoteError> {
        if signer.key().kind() != KeyKind::Log {
            return Err(NoteError::Kind(signer.key().to_string()));
        }
        if *signer.key().name() != self.origin {
            return Err(other_origin(&self.origin, signer.key().name()));
        }
        let text = self.text()?;
        let line = signer.line(&text, Stamp::from_unix(0))?;
        signed(self.clone(), &text, line)
    }

    fn text(&self) -> Result<Vec<u8>, NoteError> {
        let root = tlog::Hash(self.head.root);
        let text =
            Text::new(self.origin.as_str(), self.head.size, root, "").map_err(|_| NoteError::Malformed)?;
        Ok(text.to_bytes())
    }
}

fn signed(checkpoint: Checkpoint, text: &[u8], line: Signature) -> Result<SignedCheckpoint, NoteError> {
    let note = Note::new(text, &[line]).map_err(|_| NoteError::Malformed)?;
    let text = String::from_utf8_lossy(&note.to_bytes()).into_owned();
    Ok(SignedCheckpoint { checkpoint, text })
}

fn other_origin(found: &Name, expected: &Name) -> NoteError {
    NoteError::OtherOrigin { found: found.to_string(), expected: expected.to_string() }
}

/// A checkpoint with signatures, which may be anybody's until they are verified. Displayed it is the note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    text: String,
}

impl SignedCheckpoint {
    /// Reads a note. Nothing is believed yet.
    ///
    /// # Errors
    /// When it is not a checkpoint.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let note = Note::from_bytes(text.as_bytes()).map_err(|_| NoteError::Malformed)?;
        Ok(Self { checkpoint: read_text(note.text())?, text: text.to_owned() })
    }

    /// What it says, whoever says it.
    #[must_use]
    pub fn unverified(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The note.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What the log with `key` says.
    ///
    /// # Errors
    /// When it is of another log, or not signed by the key.
    pub fn verify(&self, key: &NoteKey) -> Result<&Checkpoint, NoteError> {
        if key.kind() != KeyKind::Log {
            return Err(NoteError::Kind(key.to_string()));
        }
        if self.checkpoint.origin != *key.name() {
            return Err(other_origin(&self.checkpoint.origin, key.name()));
        }
        self.signature_by(key)?;
        Ok(&self.checkpoint)
    }

    /// When the witness with `key` saw it.
    ///
    /// # Errors
    /// When it did not sign it.
    pub fn cosigned_at(&self, key: &NoteKey) -> Result<Stamp, NoteError> {
        if key.kind() != KeyKind::Witness {
            return Err(NoteError::Kind(key.to_string()));
        }
        let signature = self.signature_by(key)?;
        let seconds = signature.signature().first_chunk().copied().map(u64::from_be_bytes);
        let seconds = seconds.and_then(|seconds| i64::try_from(seconds).ok()).ok_or(NoteError::Malformed)?;
        Ok(Stamp::from_unix(seconds))
    }

    /// The signature line of a witness that saw it `at` this time, without a newline.
    ///
    /// # Errors
    /// When the key is not a witness's.
    pub fn cosign(&self, witness: &NoteSigner, at: Stamp) -> Result<String, NoteError> {
        if witness.key().kind() != KeyKind::Witness {
            return Err(NoteError::Kind(witness.key().to_string()));
        }
        let line = witness.line(self.note()?.text(), at)?.to_bytes();
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// The same with the signature of the log with `key` alone, whatever else was on it.
    ///
    /// # Errors
    /// As [`verify`](Self::verify), and when it is longer than 4 KB then.
    pub fn signed_by(&self, key: &NoteKey) -> Result<Self, NoteError> {
        let checkpoint = self.verify(key)?.clone();
        let alone = signed(checkpoint, self.note()?.text(), self.signature_by(key)?)?;
        if alone.text.len() > LONGEST { Err(NoteError::TooLong) } else { Ok(alone) }
    }

    /// The same with one more signature line.
    ///
    /// # Errors
    /// When it is not a signature line.
    pub fn with_line(&self, line: &str) -> Result<Self, NoteError> {
        Self::parse(&format!("{self}{}\n", line.trim_end_matches('\n')))
    }

    fn signature_by(&self, key: &NoteKey) -> Result<Signature, NoteError> {
        let known = VerifierList::new(vec![Box::new(key.clone())]);
        match self.note()?.verify(&known) {
            Ok((verified, _)) => {
                verified.into_iter().next().ok_or_else(|| NoteError::Unsigned(key.to_string()))
            }
            Err(signed_note::NoteError::UnverifiedNote) => Err(NoteError::Unsigned(key.to_string())),
            Err(_) => Err(NoteError::Forged(key.to_string())),
        }
    }

    fn note(&self) -> Result<Note, NoteError> {
        Note::from_bytes(self.text.as_bytes()).map_err(|_| NoteError::Malformed)
    }
}

impl fmt::Display for SignedCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn read_text(text: &[u8]) -> Result<Checkpoint, NoteError> {
    let read = Text::from_bytes(text).map_err(|_| NoteError::Malformed)?;
    if read.size() > MAX_SIZE {
        return Err(NoteError::Malformed);
    }
    let head = TreeHead { size: read.size(), root: read.hash().0 };
    Ok(Checkpoint { origin: Name::parse(read.origin())?, head })
}
