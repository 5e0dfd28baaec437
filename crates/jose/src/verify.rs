//! Public keys that verify signatures.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_FIXED,
        ECDSA_P521_SHA256_ASN1, ECDSA_P521_SHA512_FIXED, EcdsaVerificationAlgorithm, ParsedPublicKey,
        RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaParameters, RsaPssSaltLength,
        RsaPublicKeyComponents, UnparsedPublicKey,
    },
};

use crate::{Jwk, JwkError, base64url};

/// A curve of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Curve {
    /// NIST P-256: everything that we mint, and all DPoP keys.
    P256,
    /// NIST P-384: certificates that agents bring.
    P384,
    /// NIST P-521: certificates that agents bring.
    P521,
}

impl Curve {
    /// The `crv` member (RFC 7518 §6.2.1.1).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }

    /// The length of one coordinate in bytes.
    #[must_use]
    pub fn coordinate_len(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    /// JOSE signatures: r‖s, the hash that belongs to the curve (RFC 7518 §3.4).
    fn jose(self) -> &'static EcdsaVerificationAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_FIXED,
            Self::P384 => &ECDSA_P384_SHA384_FIXED,
            Self::P521 => &ECDSA_P521_SHA512_FIXED,
        }
    }

    /// Message signatures: ASN.1 DER, SHA-256 on every curve (contract `calls.md` §9).
    fn detached(self) -> &'static EcdsaVerificationAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_ASN1,
            Self::P384 => &ECDSA_P384_SHA256_ASN1,
            Self::P521 => &ECDSA_P521_SHA256_ASN1,
        }
    }
}

/// What kind of key it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// An elliptic curve point.
    Ec(Curve),
    /// RSA, 2048 to 8192 bits.
    Rsa,
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ec(curve) => write!(f, "EC {}", curve.name()),
            Self::Rsa => f.write_str("RSA"),
        }
    }
}

/// A JOSE signature algorithm (RFC 7518 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// ECDSA with P-384 and SHA-384.
    Es384,
    /// ECDSA with P-521 and SHA-512.
    Es512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PSS with SHA-256 and a salt of 32 bytes.
    Ps256,
}

impl Algorithm {
    /// Every one that we verify.
    pub const ALL: [Self; 5] = [Self::Es256, Self::Es384, Self::Es512, Self::Rs256, Self::Ps256];

    /// The `alg` member.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
        }
    }

    /// Reads the `alg` member.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|alg| alg.name() == name)
    }

    /// The only kind of key that it may be used with.
    #[must_use]
    pub fn key_kind(self) -> KeyKind {
        match self {
            Self::Es256 => KeyKind::Ec(Curve::P256),
            Self::Es384 => KeyKind::Ec(Curve::P384),
            Self::Es512 => KeyKind::Ec(Curve::P521),
            Self::Rs256 | Self::Ps256 => KeyKind::Rsa,
        }
    }
}

/// Why a signature was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The header asks for an algorithm of another kind of key.
    #[error("algorithm {} does not fit the {key} key", alg.name())]
    Algorithm {
        /// The algorithm asked for.
        alg: Algorithm,
        /// The key at hand.
        key: KeyKind,
    },
    /// Not base64url, or with stray bits at its end.
    #[error("signature is not base64url")]
    Encoding,
    /// It is not the key's signature over these bytes.
    #[error("signature does not verify")]
    Mismatch,
}

/// A public key, parsed once and cheap to clone.
#[derive(Debug, Clone)]
pub struct VerifyingKey(Arc<Parsed>);

#[derive(Debug)]
struct Parsed {
    kind: KeyKind,
    /// Parsed for the JOSE algorithm that is on the hot path: ECDSA with r‖s, or RS256. Its `as_ref` gives the key's
    /// encoding, from which the others are parsed when they are needed.
    jose: ParsedPublicKey,
}

/// Salt lengths that signers write in practice: the maximum (the Python clients), the hash's length (JOSE, OpenSSL's
/// `digest`), 20 (the default of RFC 8017 §A.2.3) and none.
static PSS_SALTS: [RsaParameters; 4] = [
    RSA_PSS_2048_8192_SHA256.with_pss_salt_length(RsaPssSaltLength::Max),
    RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA256.with_pss_salt_length(RsaPssSaltLength::Custom(20)),
    RSA_PSS_2048_8192_SHA256.with_pss_salt_length(RsaPssSaltLength::Custom(0)),
];

impl VerifyingKey {
    /// Reads a SubjectPublicKeyInfo in DER, as it stands in a certificate.
    ///
    /// # Errors
    /// As [`Jwk::from_spki_der`].
    pub fn from_spki_der(der: &[u8]) -> Result<Self, JwkError> {
        Ok(Jwk::from_spki_der(der)?.verifying_key())
    }

    /// The point `x`, `y`, if it lies on the curve.
    pub(crate) fn from_point(curve: Curve, x: &[u8], y: &[u8]) -> Option<Self> {
        let jose = ParsedPublicKey::new(curve.jose(), [&[4], x, y].concat()).ok()?;
        Some(Self(Arc::new(Parsed { kind: KeyKind::Ec(curve), jose })))
    }

    /// The RSA key with modulus `n` and exponent `e`, big-endian without leading zeros.
    pub(crate) fn from_rsa(n: &[u8], e: &[u8]) -> Option<Self> {
        let components = RsaPublicKeyComponents { n, e };
        let jose = components.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).ok()?;
        Some(Self(Arc::new(Parsed { kind: KeyKind::Rsa, jose })))
    }

    /// The SubjectPublicKeyInfo in DER.
    pub(crate) fn spki_der(&self) -> Option<PublicKeyX509Der<'static>> {
        self.0.jose.as_der().ok()
    }

    /// What kind of key it is.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.0.kind
    }

    /// Checks a JOSE signature over `message`: for ECDSA r‖s, never DER.
    ///
    /// # Errors
    /// When `alg` is for another kind of key, or the signature is not this key's.
    pub fn verify(&self, alg: Algorithm, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        let Parsed { kind, jose } = &*self.0;
        if alg.key_kind() != *kind {
            return Err(SignatureError::Algorithm { alg, key: *kind });
        }
        let verdict = match alg {
            Algorithm::Ps256 => {
                UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, jose).verify(message, signature)
            }
            _ => jose.verify_sig(message, signature),
        };
        verdict.map_err(|_| SignatureError::Mismatch)
    }

    /// Checks the signature of a message, of an enrolment proof or of a counter-signature (contract `calls.md` §9):
    /// base64url, padded or not, of an ECDSA signature in DER, or of RSA-PSS with SHA-256 and any salt length in use.
    ///
    /// # Errors
    /// When the text is not base64url, or the signature is not this key's.
    pub fn verify_detached(&self, message: &[u8], signature: &str) -> Result<(), SignatureError> {
        let signature = base64url::decode_lenient(signature).ok_or(SignatureError::Encoding)?;
        let Parsed { kind, jose } = &*self.0;
        let verified = match kind {
            KeyKind::Ec(curve) => {
                UnparsedPublicKey::new(curve.detached(), jose).verify(message, &signature).is_ok()
            }
            KeyKind::Rsa => PSS_SALTS
                .iter()
                .any(|pss| UnparsedPublicKey::new(pss, jose).verify(message, &signature).is_ok()),
        };
        verified.then_some(()).ok_or(SignatureError::Mismatch)
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        encoding::AsDer,
        rand::SystemRandom,
        rsa::KeySize,
        signature::{
            ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair,
            EcdsaSigningAlgorithm, KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
            RsaSignatureEncoding,
        },
    };

    use super::*;

    fn rsa_sign(key: &RsaKeyPair, encoding: &'static RsaSignatureEncoding) -> Vec<u8> {
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(encoding, &SystemRandom::new(), b"message", &mut signature).unwrap();
        signature
    }

    #[test]
    fn message_signatures_have_any_salt_and_jose_ones_32_bytes() {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let key = VerifyingKey::from_spki_der(pair.public_key().as_der().unwrap().as_ref()).unwrap();
        let maximum = rsa_sign(&pair, &const { RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Max) });
        let none =
            rsa_sign(&pair, &const { RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Custom(0)) });
        let jose = rsa_sign(&pair, &RSA_PSS_SHA256);
        for signature in [&maximum, &none, &jose] {
            assert_eq!(key.verify_detached(b"message", &base64url::encode(signature)), Ok(()));
            assert_eq!(
                key.verify_detached(b"other", &base64url::encode(signature)),
                Err(SignatureError::Mismatch)
            );
        }
        assert_eq!(key.verify(Algorithm::Ps256, b"message", &jose), Ok(()));
        assert_eq!(key.verify(Algorithm::Ps256, b"message", &maximum), Err(SignatureError::Mismatch));

        let pkcs1 = rsa_sign(&pair, &RSA_PKCS1_SHA256);
        assert_eq!(key.verify(Algorithm::Rs256, b"message", &pkcs1), Ok(()));
        assert_eq!(key.verify(Algorithm::Ps256, b"message", &pkcs1), Err(SignatureError::Mismatch));
        assert_eq!(
            key.verify_detached(b"message", &base64url::encode(&pkcs1)),
            Err(SignatureError::Mismatch)
        );
        assert_eq!(
            key.verify(Algorithm::Es256, b"message", &jose),
            Err(SignatureError::Algorithm { alg: Algorithm::Es256, key: KeyKind::Rsa })
        );
    }

    #[test]
    fn the_larger_curves_verify_their_own_algorithm_only() {
        let check = |signing: &'static EcdsaSigningAlgorithm, alg: Algorithm| {
            let pair = EcdsaKeyPair::generate(signing).unwrap();
            let key = VerifyingKey::from_spki_der(pair.public_key().as_der().unwrap().as_ref()).unwrap();
            let signature = pair.sign(&SystemRandom::new(), b"message").unwrap();
            for other in Algorithm::ALL {
                let verdict = key.verify(other, b"message", signature.as_ref());
                assert_eq!(verdict.is_ok(), other == alg, "{other:?}");
            }
        };
        check(&ECDSA_P384_SHA384_FIXED_SIGNING, Algorithm::Es384);
        check(&ECDSA_P521_SHA512_FIXED_SIGNING, Algorithm::Es512);
    }

    /// Keys and signatures over `message` made with `openssl dgst -sha256 -sign`.
    #[test]
    fn message_signatures_use_sha256_on_every_curve() {
        for (spki, signature) in [
            (
                "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEvVCEw9Kxn9AwqXG1i7QFLW6xGWwzMibLj9v4ORYTHpaTbEeJt1uotwhjDUbFOuOIBodU0VO60if38PO4hhUVfcZ5N97WMnJHFKibSsUNuakDk_ZK7PYxaU2eskZkLoY4",
                "MGQCMGLe6tri4FwCQ8bu_x-XEiJ53cLpNOeWQtYRQGqz9V4Y5swOoOPFdJSbaJuoqyVDlAIwURmTFvb-k2NmzXZpqwvlN4h22VcQMT6mA7Q1zwk0-g4R7CcKs9f7sASBqUGFPp3y",
            ),
            (
                "MIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQBhVpycVqC6xKeHHTOPeXMbYG6yNeFVfUgHcvBQLJDi8lPgVX1SDucdBis2gmBVsDWenukwN304SXZYr8NnkpCeqcAQMrAuNYTNjxMyuTAXxgxRap9SmuE13hiihIfP0SRadvIlIYByAS2NGid6Vgxbn4C2XXLFGvoFvMkfsVxJa7UqIU=",
                "MIGHAkFfQmmQJt3USHGHIXxgzB7OV4A8Osh3LOIGawBBFQ-w3yhfbKNYo-WPkBuhuVm46hYNQwDuTtEda3TaPnGnG00FQAJCAcyiRoRfq0qbI-eZ4w5J4s7tzQNhPkNgG9SkSyu669mpMeRrKOAkqK4nr03vYsbiz2GS5FWo72NOhInqzS1pyTO_",
            ),
        ] {
            let key = VerifyingKey::from_spki_der(&base64url::decode_lenient(spki).unwrap()).unwrap();
            assert_eq!(key.verify_detached(b"message", signature), Ok(()), "{}", key.kind());
            assert_eq!(key.verify_detached(b"massage", signature), Err(SignatureError::Mismatch));
        }
    }

    #[test]
    fn algorithms_print_as_they_are_read() {
        for alg in Algorithm::ALL {
            assert_eq!(Algorithm::from_name(alg.name()), Some(alg));
        }
        for name in ["none", "HS256", "es256", "RS384", ""] {
            assert_eq!(Algorithm::from_name(name), None, "{name}");
        }
    }
}
