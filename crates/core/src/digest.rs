//! SHA-256 values, each with the meaning it carries.

use std::fmt;

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// SHA-256 of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// Reads 64 hex digits of either case.
///
/// # Errors
/// When the text is anything else.
pub fn hash_from_hex(text: &str) -> Result<[u8; 32], DigestError> {
    let mut raw = [0; 32];
    let read = hex::decode_to_slice(text, &mut raw);
    read.map(|()| raw).map_err(|_| DigestError { kind: "SHA-256", expected: "64 hex digits" })
}

/// Why a text is not a digest of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a {kind}: expected {expected}")]
pub struct DigestError {
    kind: &'static str,
    expected: &'static str,
}

/// The pin of a certificate: SHA-256 over its DER, written as 64 lower-case hex digits (contract `pki.md` §1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Thumbprint([u8; 32]);

impl Thumbprint {
    /// The thumbprint of a certificate, or of a SubjectPublicKeyInfo, in DER.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        Self(sha256(der))
    }

    /// The raw 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 64 hex digits of either case.
    ///
    /// # Errors
    /// When the text is anything else.
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        hash_from_hex(text).map(Self).map_err(|error| DigestError { kind: "thumbprint", ..error })
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Thumbprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The RFC 7638 thumbprint of a public JWK, as it appears in `cnf.jkt` (RFC 9449 §6): base64url without padding.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Jkt([u8; 32]);

impl Jkt {
    /// Wraps the SHA-256 of a canonical JWK.
    #[must_use]
    pub fn new(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// The raw 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 43 characters of unpadded base64url.
    ///
    /// # Errors
    /// When the text is anything else.
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        let wrong = || DigestError { kind: "JWK thumbprint", expected: "43 base64url characters" };
        let raw = URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong())?;
        Ok(Self(raw.try_into().map_err(|_| wrong())?))
    }
}

impl fmt::Display for Jkt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Jkt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Jkt {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The name of a Mastio signing key: `mastio-` and the first 16 hex digits of SHA-256 over its public key's PEM text
/// (64 columns, LF, trailing LF; contract `pki.md` §1).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(transparent)]
pub struct Kid(String);

impl Kid {
    /// The kid of the key whose SubjectPublicKeyInfo reads `spki_pem`.
    #[must_use]
    pub fn of_pem(spki_pem: &str) -> Self {
        Self(format!("mastio-{}", &hex::encode(sha256(spki_pem.as_bytes()))[..16]))
    }

    /// Takes a kid as it is stored or presented; it names a key, it proves nothing.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kid_matches_the_contract_vector() {
        let k1 = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt\n6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==\n-----END PUBLIC KEY-----\n";
        assert_eq!(Kid::of_pem(k1).as_str(), "mastio-0bcc8908c3cc5f2c");
    }

    #[test]
    fn thumbprints_survive_their_text() {
        let pin = Thumbprint::of(b"certificate");
        assert_eq!(Thumbprint::parse(&pin.to_string()), Ok(pin));
        assert!(Thumbprint::parse("abc").is_err());
        let jkt = Jkt::new(sha256(b"key"));
        assert_eq!(Jkt::parse(&jkt.to_string()), Ok(jkt));
        assert!(Jkt::parse("abc=").is_err());
    }
}
