//! Public keys: which kinds are accepted, and whether a signature is good under one.

use aws_lc_rs::signature::{self as algorithms, ParsedPublicKey, VerificationAlgorithm};
use mastio_core::sha256;
use rcgen::PublicKeyData;
use rustls_pki_types::SubjectPublicKeyInfoDer;
use webpki::RawPublicKeyEntity;
use x509_parser::{
    prelude::FromDer,
    public_key,
    x509::{AlgorithmIdentifier, SubjectPublicKeyInfo},
};

use crate::{PemError, pem};

/// What kind of public key it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// ECDSA on NIST P-256.
    P256,
    /// ECDSA on NIST P-384.
    P384,
    /// ECDSA on NIST P-521.
    P521,
    /// RSA.
    Rsa {
        /// Length of the modulus.
        bits: usize,
    },
    /// Anything else: other curves, Ed25519, DSA.
    Other,
}

impl KeyKind {
    /// Whether we work with such a key: P-256, P-384, P-521, and RSA of 2048 to 8192 bits (contract `pki.md` §2; the
    /// upper bound is that of the verifier).
    #[must_use]
    pub fn accepted(self) -> bool {
        match self {
            Self::P256 | Self::P384 | Self::P521 => true,
            Self::Rsa { bits } => (2048..=8192).contains(&bits),
            Self::Other => false,
        }
    }

    pub(crate) fn of(spki: &SubjectPublicKeyInfo<'_>) -> Self {
        match spki.algorithm.algorithm.to_id_string().as_str() {
            "1.2.840.10045.2.1" => Self::of_curve(spki),
            "1.2.840.113549.1.1.1" => match spki.parsed() {
                Ok(public_key::PublicKey::RSA(key)) => Self::Rsa { bits: bit_length(key.modulus) },
                _ => Self::Other,
            },
            _ => Self::Other,
        }
    }

    fn of_curve(spki: &SubjectPublicKeyInfo<'_>) -> Self {
        let curve = spki.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
        match curve.map(|oid| oid.to_id_string()).as_deref() {
            Some("1.2.840.10045.3.1.7") => Self::P256,
            Some("1.3.132.0.34") => Self::P384,
            Some("1.3.132.0.35") => Self::P521,
            _ => Self::Other,
        }
    }

    fn verification(self) -> Option<&'static dyn VerificationAlgorithm> {
        match self {
            Self::P256 => Some(&algorithms::ECDSA_P256_SHA256_ASN1),
            Self::P384 => Some(&algorithms::ECDSA_P384_SHA384_ASN1),
            Self::P521 => Some(&algorithms::ECDSA_P521_SHA512_ASN1),
            Self::Rsa { .. } => Some(&algorithms::RSA_PKCS1_2048_8192_SHA256),
            Self::Other => None,
        }
    }
}

/// Whether writing the key again gives the same bytes. Revocation names keys by a hash over them, so a key must not
/// come in two encodings.
fn is_canonical(spki_der: &[u8]) -> bool {
    rcgen::SubjectPublicKeyInfo::from_der(spki_der).is_ok_and(|key| key.subject_public_key_info() == spki_der)
}

fn bit_length(big_endian: &[u8]) -> usize {
    let digits = match big_endian.iter().position(|byte| *byte != 0) {
        Some(first) => &big_endian[first..],
        None => return 0,
    };
    digits.len() * 8 - digits[0].leading_zeros() as usize
}

/// Why a public key is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// No `PUBLIC KEY` section.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// Not a SubjectPublicKeyInfo in DER, or one whose key is no key: a point off its curve, for example.
    #[error("not a public key: expected a SubjectPublicKeyInfo with an uncompressed point or an RSA modulus")]
    Malformed,
    /// Too weak, or of a kind that the verifiers of our clients do not know.
    #[error("public key not accepted: use EC P-256, P-384 or P-521, or RSA with 2048 to 8192 bits")]
    NotAccepted,
}

/// A public key of an accepted kind that lies on its curve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    spki: Vec<u8>,
    kind: KeyKind,
}

impl PublicKey {
    /// Reads the DER of a SubjectPublicKeyInfo (RFC 5280 §4.1.2.7).
    ///
    /// # Errors
    /// [`PublicKeyError`].
    pub fn from_spki_der(der: &[u8]) -> Result<Self, PublicKeyError> {
        let (rest, spki) = SubjectPublicKeyInfo::from_der(der).map_err(|_| PublicKeyError::Malformed)?;
        if !rest.is_empty() {
            return Err(PublicKeyError::Malformed);
        }
        let kind = KeyKind::of(&spki);
        let algorithm = kind.verification().filter(|_| kind.accepted()).ok_or(PublicKeyError::NotAccepted)?;
        let key = spki.subject_public_key.data.as_ref();
        let uncompressed = matches!(kind, KeyKind::Rsa { .. }) || key.first() == Some(&4);
        if !uncompressed || ParsedPublicKey::new(algorithm, key).is_err() || !is_canonical(der) {
            return Err(PublicKeyError::Malformed);
        }
        Ok(Self { spki: der.to_vec(), kind })
    }

    /// Reads the first `PUBLIC KEY` section of a PEM text.
    ///
    /// # Errors
    /// [`PublicKeyError`].
    pub fn from_pem(text: &str) -> Result<Self, PublicKeyError> {
        Self::from_spki_der(&pem::public_key(text)?)
    }

    /// The SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// The SubjectPublicKeyInfo as PEM.
    #[must_use]
    pub fn spki_pem(&self) -> String {
        pem::encode("PUBLIC KEY", &self.spki)
    }

    /// Which kind.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Whether `signature` over `message` is one that a [`crate::KeyPair`] with this public half makes.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok((_, spki)) = SubjectPublicKeyInfo::from_der(&self.spki) else {
            return false;
        };
        let key = spki.subject_public_key.data.as_ref();
        let parsed = self.kind.verification().and_then(|algorithm| ParsedPublicKey::new(algorithm, key).ok());
        parsed.is_some_and(|key| key.verify_sig(message, signature).is_ok())
    }
}

/// The first 16 hex digits of SHA-256 over a SubjectPublicKeyInfo in DER: the organisation id derived from a root key,
/// and the `key_id` of `pki_key_store` rows (contract `pki.md` §1).
#[must_use]
pub fn spki_short_id(spki_der: &[u8]) -> String {
    hex::encode(&sha256(spki_der)[..8])
}

/// The key identifier that our certificates carry for a key: 160 bits of SHA-256 over its SubjectPublicKeyInfo
/// (RFC 7093 §2).
pub(crate) fn key_identifier(spki_der: &[u8]) -> Vec<u8> {
    sha256(spki_der)[..20].to_vec()
}

/// Whether `signature` over `message` is good under the key, by an algorithm with the identifier `algorithm` that the
/// path verifier knows too.
pub(crate) fn verifies(
    spki_der: &[u8],
    algorithm: &AlgorithmIdentifier<'_>,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let spki = SubjectPublicKeyInfoDer::from(spki_der);
    let Ok(key) = RawPublicKeyEntity::try_from(&spki) else {
        return false;
    };
    let oid = algorithm.algorithm.as_bytes();
    // The identifiers are the contents of a SEQUENCE: tag and length of the OID, the OID, the parameters.
    let named = |identifier: &[u8]| identifier.get(2..2 + oid.len()) == Some(oid);
    webpki::ALL_VERIFICATION_ALGS
        .iter()
        .filter(|known| named(known.signature_alg_id().as_ref()))
        .any(|known| key.verify_signature(*known, message, signature).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyPair;

    /// The public key of the private scalar 1 (contract `pki.md` §1).
    const K1: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt\n6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==\n-----END PUBLIC KEY-----\n";

    #[test]
    fn the_contract_vector_is_read_and_written() {
        let key = PublicKey::from_pem(K1).unwrap();
        assert_eq!(key.kind(), KeyKind::P256);
        assert_eq!(key.spki_pem(), K1);
        assert_eq!(spki_short_id(key.spki_der()), "5cd252fb0ce89324");
    }

    #[test]
    fn points_off_the_curve_trailing_bytes_and_compressed_points_are_refused() {
        let good = KeyPair::generate_p256().unwrap().spki_der().to_vec();
        assert!(PublicKey::from_spki_der(&good).is_ok());
        let mut off_curve = good.clone();
        *off_curve.last_mut().unwrap() ^= 1;
        assert_eq!(PublicKey::from_spki_der(&off_curve), Err(PublicKeyError::Malformed));
        assert_eq!(PublicKey::from_spki_der(&[&good[..], &[0]].concat()), Err(PublicKeyError::Malformed));
        let mut other_class = good.clone();
        other_class[0] ^= 0xc0;
        assert_eq!(PublicKey::from_spki_der(&other_class), Err(PublicKeyError::Malformed));
        let long_form = [&[0x30, 0x81, 89], &good[2..]].concat();
        assert_eq!(PublicKey::from_spki_der(&long_form), Err(PublicKeyError::Malformed));
        let mut compressed = good[..good.len() - 32].to_vec();
        (compressed[1], compressed[24], compressed[26]) = (57, 34, 2);
        assert_eq!(PublicKey::from_spki_der(&compressed), Err(PublicKeyError::Malformed));
    }

    #[test]
    fn ed25519_secp256k1_and_short_rsa_are_refused() {
        let refused = |hex: &str| PublicKey::from_spki_der(&hex::decode(hex).unwrap());
        let ed25519 = format!("302a300506032b6570032100{}", "11".repeat(32));
        assert_eq!(refused(&ed25519), Err(PublicKeyError::NotAccepted));
        let secp256k1 = format!("3056301006072a8648ce3d020106052b8104000a03420004{}", "11".repeat(64));
        assert_eq!(refused(&secp256k1), Err(PublicKeyError::NotAccepted));
        let rsa_1024 = format!(
            "30819f300d06092a864886f70d010101050003818d0030818902818100{}0203010001",
            "ff".repeat(128)
        );
        assert_eq!(refused(&rsa_1024), Err(PublicKeyError::NotAccepted));
    }

    #[test]
    fn modulus_bits_ignore_leading_zeros() {
        assert_eq!(bit_length(&[0, 0x80, 0]), 16);
        assert_eq!(bit_length(&[0x01]), 1);
        assert_eq!(bit_length(&[0, 0]), 0);
    }
}
