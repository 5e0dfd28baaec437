//! The Ed25519 keys of logs and witnesses, and the lines that they sign notes with (C2SP signed-note,
//! tlog-cosignature).

use std::{fmt, str::FromStr};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use mastio_core::{Rng, Stamp};
use signed_note::{Signature, Verifier};
use zeroize::Zeroizing;

/// Why a note is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not a note, or not a checkpoint.
    #[error("not a checkpoint: expected origin, size and root hash, an empty line, and signature lines")]
    Malformed,
    /// Not a name that notes can carry.
    #[error("not a name of a log or witness: expected 1 to 256 visible characters without `+`")]
    Name,
    /// Not a verifier key.
    #[error("not a verifier key: expected name+hash+key as in C2SP signed-note, for Ed25519")]
    Key,
    /// The key is not one that this use needs.
    #[error("the key {0} is of the other kind: logs sign with type 1, witnesses with type 4")]
    Kind(String),
    /// Nobody who is known signed it.
    #[error("no signature by {0}")]
    Unsigned(String),
    /// A signature by the key is there, and wrong.
    #[error("the signature by {0} does not hold: the checkpoint was changed")]
    Forged(String),
    /// Its log signed more than anybody keeps.
    #[error(
        "the checkpoint is longer than 4 KB with nothing but the signature of its log: leave lines out of it"
    )]
    TooLong,
    /// It is the checkpoint of another log.
    #[error("the checkpoint is of {found}, not of {expected}")]
    OtherOrigin {
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
}

/// The name of a log or a witness: it fits the first line of a checkpoint and a signature line.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// Reads a name.
    ///
    /// # Errors
    /// When notes cannot carry it.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let visible = text.chars().all(|unit| !unit.is_whitespace() && !unit.is_control() && unit != '+');
        if visible && (1..=256).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NoteError::Name)
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a key signs: the type byte of C2SP signed-note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum KeyKind {
    /// A log's own checkpoints.
    Log = 1,
    /// What a witness saw of other logs' checkpoints, with the time.
    Witness = 4,
}

/// The public side of a key, written as a vkey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteKey {
    kind: KeyKind,
    name: Name,
    public: [u8; 32],
}

impl NoteKey {
    /// Whose key it is.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// What it signs.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    fn material(&self) -> [u8; 33] {
        let mut material = [self.kind as u8; 33];
        material[1..].copy_from_slice(&self.public);
        material
    }

    fn holds(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.public).verify(message, signature).is_ok()
    }
}

impl fmt::Display for NoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{:08x}+{}", self.name, self.key_id(), STANDARD.encode(self.material()))
    }
}

impl FromStr for NoteKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(material)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key);
        };
        let material: [u8; 33] =
            STANDARD.decode(material).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(NoteError::Key)?;
        let kind = match material[0] {
            1 => KeyKind::Log,
            4 => KeyKind::Witness,
            _ => return Err(NoteError::Key),
        };
        let mut public = [0; 32];
        public.copy_from_slice(&material[1..]);
        let key = Self { kind, name: Name::parse(name)?, public };
        if format!("{:08x}", key.key_id()) == id { Ok(key) } else { Err(NoteError::Key) }
    }
}

impl Verifier for NoteKey {
    fn name(&self) -> &str {
        self.name.as_str()
    }

    fn key_id(&self) -> u32 {
        signed_note::key_id(self.name.as_str(), &self.material())
    }

    fn verify(&self, text: &[u8], signature: &[u8]) -> bool {
        match self.kind {
            KeyKind::Log => self.holds(text, signature),
            KeyKind::Witness => {
                let Some((seconds, signature)) = signature.split_first_chunk() else { return false };
                self.holds(&cosigned(u64::from_be_bytes(*seconds), text), signature)
            }
        }
    }
}

/// What a witness signs (C2SP tlog-cosignature, Ed25519).
fn cosigned(seconds: u64, text: &[u8]) -> Vec<u8> {
    let mut message = format!("cosignature/v1\ntime {seconds}\n").into_bytes();
    message.extend_from_slice(text);
    message
}

/// A key pair that signs notes.
pub struct NoteSigner {
    key: NoteKey,
    pair: Ed25519KeyPair,
}

impl fmt::Debug for NoteSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NoteSigner").field(&self.key.to_string()).finish()
    }
}

impl NoteSigner {
    /// A new key.
    ///
    /// # Errors
    /// When the cryptographic library refuses the seed.
    pub fn generate(kind: KeyKind, name: Name, rng: &dyn Rng) -> Result<Self, NoteError> {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill(&mut *seed);
        Self::of(kind, name, Ed25519KeyPair::from_seed_unchecked(&*seed).map_err(|_| NoteError::Key)?)
    }

    /// A key that was kept, in PKCS#8 DER.
    ///
    /// # Errors
    /// When it is not an Ed25519 key.
    pub fn from_pkcs8(kind: KeyKind, name: Name, der: &[u8]) -> Result<Self, NoteError> {
        Self::of(kind, name, Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|_| NoteError::Key)?)
    }

    fn of(kind: KeyKind, name: Name, pair: Ed25519KeyPair) -> Result<Self, NoteError> {
        let public = pair.public_key().as_ref().try_into().map_err(|_| NoteError::Key)?;
        Ok(Self { key: NoteKey { kind, name, public }, pair })
    }

    /// The private key in PKCS#8 DER, to be kept.
    ///
    /// # Errors
    /// When the cryptographic library cannot write it.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, NoteError> {
        let der = self.pair.to_pkcs8v1().map_err(|_| NoteError::Key)?;
        Ok(Zeroizing::new(der.as_ref().to_vec()))
    }

    /// The public side.
    #[must_use]
    pub fn key(&self) -> &NoteKey {
        &self.key
    }

    /// The bytes of a signature over `text`; witnesses add the time.
    fn sign(&self, text: &[u8], at: Stamp) -> Vec<u8> {
        match self.key.kind {
            KeyKind::Log => self.pair.sign(text).as_ref().to_vec(),
            KeyKind::Witness => {
                let seconds = u64::try_from(at.unix_micros() / 1_000_000).unwrap_or(0);
                let signature = self.pair.sign(&cosigned(seconds, text));
                [&seconds.to_be_bytes()[..], signature.as_ref()].concat()
            }
        }
    }

    pub(crate) fn line(&self, text: &[u8], at: Stamp) -> Result<Signature, NoteError> {
        Signature::new(self.key.name.to_string(), self.key.key_id(), self.sign(text, at))
            .map_err(|_| NoteError::Name)
    }
}
