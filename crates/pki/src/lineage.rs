//! Root lineage: the statement by which the key of a superseded root vouches for the root that replaces it.
//!
//! Whoever trusted the old root can follow it to the new one without us, years later, from certificates and statements
//! alone. A link certificate ([`crate::profile::link`]) does that for TLS clients; the statement exists for every
//! rotation, also where names or path lengths allow no link. Its text is ASCII, every line ends with a line feed:
//!
//! ```text
//! mastio root lineage v1
//! superseded-certificate: sha256:<64 lower-case hex digits>
//! superseded-key: sha256:<64 lower-case hex digits>
//! successor-certificate: sha256:<64 lower-case hex digits>
//! successor-key: sha256:<64 lower-case hex digits>
//! signed-at: 2026-11-22T15:00:00.000000+00:00
//! signature: <base64 with padding>
//! ```
//!
//! A certificate is named by the hash of its DER, a key by that of its SubjectPublicKeyInfo. Signed are the bytes of
//! all lines before the last, line feeds included: by ECDSA in DER with the hash of the curve (SHA-256, SHA-384,
//! SHA-512 for P-256, P-384, P-521), or by RSA PKCS#1 v1.5 with SHA-256, so that `openssl dgst -verify` checks it too.
//! The first line keeps it from being anything else that a CA's key signs: certificates and revocation lists begin
//! with the octet 0x30. There is one text per pair and time, but for the signature.
//!
//! A [`Line`] is a row of roots with what leads from each to the next, as it is exported for auditors.

mod line;

use base64::{Engine, engine::general_purpose::STANDARD};
use mastio_core::{Stamp, Thumbprint};
use rcgen::SigningKey;

use crate::{Certificate, Issuer, PublicKeyError};

pub use self::line::{Break, Line, LineError, Onward, Step, StepError};

/// The first line: what the statement is for.
pub const PURPOSE: &str = "mastio root lineage v1";

const SIGNED_AT: &str = "signed-at: ";
const SIGNATURE: &str = "signature: ";

/// Why there is no statement, or why it is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineageError {
    /// Old and new are one certificate.
    #[error("a root cannot vouch for itself: give the superseded root and another one")]
    Itself,
    /// The key that should sign failed.
    #[error("the superseded root's key did not sign: {0}")]
    Signing(#[from] rcgen::Error),
    /// The superseded root's key is of a kind that we do not verify.
    #[error("the superseded root's key: {0}")]
    Key(#[from] PublicKeyError),
    /// Not the text that [`vouch`] writes.
    #[error("not a lineage statement: expected the seven lines that begin with `{PURPOSE}`, unchanged")]
    Malformed,
    /// A statement about other roots than the two at hand.
    #[error("the lineage statement is about other roots: its line `{0}` is of another certificate")]
    OtherRoot(&'static str),
    /// A statement about these two that the old key did not sign.
    #[error("the signature of the lineage statement does not hold: it was changed, or another key made it")]
    Forged,
}

/// The statement that `superseded`'s key makes for `new_root` at the time `at`.
///
/// # Errors
/// [`LineageError::Itself`], [`LineageError::Signing`].
pub fn vouch<K: SigningKey>(
    superseded: &Issuer<K>,
    new_root: &Certificate,
    at: Stamp,
) -> Result<String, LineageError> {
    if superseded.certificate() == new_root {
        return Err(LineageError::Itself);
    }
    let signed = signed_text(superseded.certificate(), new_root, at);
    let signature = STANDARD.encode(superseded.key().sign(signed.as_bytes())?);
    Ok(format!("{signed}{SIGNATURE}{signature}\n"))
}

/// When the key of `old_root` vouched for `new_root`: the statement names these two certificates and that key signed
/// it. Says nothing about the dates of either; a root may be rotated after its end.
///
/// # Errors
/// [`LineageError`].
pub fn verify(text: &str, old_root: &Certificate, new_root: &Certificate) -> Result<Stamp, LineageError> {
    if old_root == new_root {
        return Err(LineageError::Itself);
    }
    let (signed, at, signature) = parts(text).ok_or(LineageError::Malformed)?;
    let expected = signed_text(old_root, new_root, at);
    if let Some((_, line)) = expected.lines().zip(signed.lines()).find(|(expected, line)| expected != line) {
        return Err(other_root(line));
    }
    // Equal line by line, and yet not equal: other line ends, or more lines.
    if signed != expected {
        return Err(LineageError::Malformed);
    }
    let key = old_root.public_key()?;
    if key.verifies(signed.as_bytes(), &signature) { Ok(at) } else { Err(LineageError::Forged) }
}

/// Which root a statement is for, by what it says itself: good to find the certificate that [`verify`] needs, and for
/// nothing else.
#[must_use]
pub fn successor(text: &str) -> Option<Thumbprint> {
    let hash = text.lines().find_map(|line| line.strip_prefix("successor-certificate: sha256:"))?;
    Thumbprint::parse(hash).ok()
}

/// What is signed, with its line feeds.
fn signed_text(old_root: &Certificate, new_root: &Certificate, at: Stamp) -> String {
    let [old, new] = [old_root, new_root].map(|root| (root.thumbprint(), hex::encode(root.spki_sha256())));
    format!(
        "{PURPOSE}\n\
         superseded-certificate: sha256:{}\nsuperseded-key: sha256:{}\n\
         successor-certificate: sha256:{}\nsuccessor-key: sha256:{}\n\
         {SIGNED_AT}{at}\n",
        old.0, old.1, new.0, new.1
    )
}

/// The signed text, its time and the signature.
fn parts(text: &str) -> Option<(&str, Stamp, Vec<u8>)> {
    let (signed, last) = text.split_at_checked(text.find(SIGNATURE)?)?;
    let signature = last.strip_prefix(SIGNATURE)?.strip_suffix('\n')?;
    let time = signed.lines().last()?.strip_prefix(SIGNED_AT)?;
    Some((signed, Stamp::parse(time).ok()?, STANDARD.decode(signature).ok()?))
}

/// Which root a line that differs is about; one that names no root is not of a statement.
fn other_root(line: &str) -> LineageError {
    let names = ["superseded-certificate", "superseded-key", "successor-certificate", "successor-key"];
    let named = names.into_iter().find(|name| {
        let value = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(": sha256:"));
        value.is_some_and(|hash| {
            hash.len() == 64 && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        })
    });
    named.map_or(LineageError::Malformed, LineageError::OtherRoot)
}

#[cfg(test)]
mod tests;
