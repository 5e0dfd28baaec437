//! Private keys in memory.

use std::fmt;

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING,
        EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use rcgen::{
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_RSA_SHA256, PublicKeyData,
    SignatureAlgorithm, SigningKey,
};
use rustls_pki_types::PrivateKeyDer;
use secrecy::SecretString;
use zeroize::{Zeroize, Zeroizing};

use crate::{Certificate, PemError, PublicKey, PublicKeyError, pem};

/// Why there is no usable private key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No private key section.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// Not a private key, or one of a kind that we do not work with.
    #[error(
        "not an accepted private key: use an unencrypted EC P-256, P-384 or P-521 key, or RSA with at least 2048 bits"
    )]
    NotAccepted,
    /// The cryptographic library failed to make or write one.
    #[error("the cryptographic library could not make a key")]
    Library,
}

/// A private key: EC P-256, P-384 or P-521, or RSA of at least 2048 bits. Its PKCS#8 form is wiped when it is dropped,
/// and its Debug shows the public half only.
pub struct KeyPair {
    signer: Signer,
    pkcs8: Zeroizing<Vec<u8>>,
    public: PublicKey,
}

enum Signer {
    Ec(EcdsaKeyPair, &'static SignatureAlgorithm),
    Rsa(RsaKeyPair),
}

/// The curves that we work with, and how a key on each signs.
static CURVES: [(&EcdsaSigningAlgorithm, &SignatureAlgorithm); 3] = [
    (&ECDSA_P256_SHA256_ASN1_SIGNING, &PKCS_ECDSA_P256_SHA256),
    (&ECDSA_P384_SHA384_ASN1_SIGNING, &PKCS_ECDSA_P384_SHA384),
    (&ECDSA_P521_SHA512_ASN1_SIGNING, &PKCS_ECDSA_P521_SHA512),
];

impl KeyPair {
    /// A fresh P-256 key from the library's own generator, which it does not let us replace.
    ///
    /// # Errors
    /// [`KeyError::Library`].
    pub fn generate_p256() -> Result<Self, KeyError> {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(|_| KeyError::Library)?;
        Self::new(Signer::Ec(key, &PKCS_ECDSA_P256_SHA256))
    }

    /// A fresh RSA key of 4096 bits. Takes seconds: keep it off a runtime's threads.
    ///
    /// # Errors
    /// [`KeyError::Library`].
    pub fn generate_rsa_4096() -> Result<Self, KeyError> {
        let key = RsaKeyPair::generate(KeySize::Rsa4096).map_err(|_| KeyError::Library)?;
        Self::new(Signer::Rsa(key))
    }

    /// Reads an unencrypted PKCS#8 key in DER (RFC 5208).
    ///
    /// # Errors
    /// [`KeyError::NotAccepted`].
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, KeyError> {
        Self::read(der, RsaKeyPair::from_pkcs8)
    }

    /// Reads the first private key of a PEM text: PKCS#8, SEC1 or PKCS#1.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let mut der = pem::private_key(text)?;
        let read = match &der {
            PrivateKeyDer::Pkcs1(key) => Self::read(key.secret_pkcs1_der(), RsaKeyPair::from_der),
            other => Self::read(other.secret_der(), RsaKeyPair::from_pkcs8),
        };
        der.zeroize();
        read
    }

    fn read<E>(der: &[u8], rsa: impl Fn(&[u8]) -> Result<RsaKeyPair, E>) -> Result<Self, KeyError> {
        for (curve, algorithm) in CURVES {
            if let Ok(key) = EcdsaKeyPair::from_private_key_der(curve, der) {
                return Self::new(Signer::Ec(key, algorithm));
            }
        }
        rsa(der).map_err(|_| KeyError::NotAccepted).and_then(|key| Self::new(Signer::Rsa(key)))
    }

    fn new(signer: Signer) -> Result<Self, KeyError> {
        let pkcs8 = signer.to_pkcs8().ok_or(KeyError::Library)?;
        let public =
            PublicKey::from_spki_der(&signer.subject_public_key_info()).map_err(|error| match error {
                PublicKeyError::NotAccepted => KeyError::NotAccepted,
                _ => KeyError::Library,
            })?;
        Ok(Self { signer, pkcs8, public })
    }

    /// The private key in PKCS#8 DER, whatever form it was read from.
    #[must_use]
    pub fn to_pkcs8_der(&self) -> Zeroizing<Vec<u8>> {
        self.pkcs8.clone()
    }

    /// The private key as a `PRIVATE KEY` PEM section.
    #[must_use]
    pub fn to_pkcs8_pem(&self) -> SecretString {
        SecretString::from(pem::encode("PRIVATE KEY", &self.pkcs8))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        self.public.spki_der()
    }

    /// The SubjectPublicKeyInfo as PEM: the text that a kid is the hash of.
    #[must_use]
    pub fn spki_pem(&self) -> String {
        self.public.spki_pem()
    }

    /// Whether the certificate is for this key.
    #[must_use]
    pub fn matches(&self, certificate: &Certificate) -> bool {
        certificate.spki_der() == self.spki_der()
    }
}

impl Signer {
    fn to_pkcs8(&self) -> Option<Zeroizing<Vec<u8>>> {
        match self {
            Self::Ec(key, _) => {
                key.to_pkcs8v1().ok().map(|document| Zeroizing::new(document.as_ref().to_vec()))
            }
            Self::Rsa(key) => key.as_der().ok().map(|document| Zeroizing::new(document.as_ref().to_vec())),
        }
    }
}

impl PublicKeyData for Signer {
    fn der_bytes(&self) -> &[u8] {
        match self {
            Self::Ec(key, _) => key.public_key().as_ref(),
            Self::Rsa(key) => key.public_key().as_ref(),
        }
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self {
            Self::Ec(_, algorithm) => algorithm,
            Self::Rsa(_) => &PKCS_RSA_SHA256,
        }
    }
}

impl PublicKeyData for KeyPair {
    fn der_bytes(&self) -> &[u8] {
        self.signer.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.signer.algorithm()
    }
}

/// ECDSA in DER with the hash that belongs to the curve (SHA-256 for P-256), or RSA PKCS#1 v1.5 with SHA-256.
impl SigningKey for KeyPair {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let random = SystemRandom::new();
        match &self.signer {
            Signer::Ec(key, _) => key.sign(&random, message).map(|signature| signature.as_ref().to_vec()),
            Signer::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map(|()| signature)
            }
        }
        .map_err(|_| rcgen::Error::RingUnspecified)
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair").field("public", &self.public).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::{
        KeyKind,
        testing::{openssl, vectors},
    };

    #[test]
    fn keys_survive_their_pem_and_their_debug_hides_them() {
        let key = KeyPair::generate_p256().unwrap();
        let pem = key.to_pkcs8_pem();
        let again = KeyPair::from_pem(pem.expose_secret()).unwrap();
        assert_eq!((again.spki_der(), again.to_pkcs8_der()), (key.spki_der(), key.to_pkcs8_der()));
        let shown = format!("{key:?}");
        assert!(!shown.contains(&format!("{:?}", &key.pkcs8[36..40])), "{shown}");
        assert!(shown.ends_with(".. }"), "{shown}");
    }

    #[test]
    fn every_form_that_openssl_writes_is_read() {
        let genpkey = |arguments: &str| openssl(&format!("genpkey -algorithm {arguments}"), "");
        for (curve, kind) in [("P-256", KeyKind::P256), ("P-384", KeyKind::P384), ("P-521", KeyKind::P521)] {
            let pkcs8 = genpkey(&format!("EC -pkeyopt ec_paramgen_curve:{curve}"));
            let sec1 = openssl("ec", &pkcs8);
            assert!(sec1.contains("BEGIN EC PRIVATE KEY"), "{sec1}");
            let key = KeyPair::from_pem(&pkcs8).unwrap();
            assert_eq!(key.public().kind(), kind);
            assert_eq!(KeyPair::from_pem(&sec1).unwrap().spki_der(), key.spki_der());
            assert_eq!(openssl("pkey -pubout", &pkcs8), key.spki_pem());
        }
        let pkcs8 = genpkey("RSA -pkeyopt rsa_keygen_bits:2048");
        let pkcs1 = openssl("rsa -traditional", &pkcs8);
        assert!(pkcs1.contains("BEGIN RSA PRIVATE KEY"), "{pkcs1}");
        let key = KeyPair::from_pem(&pkcs1).unwrap();
        assert_eq!(key.public().kind(), KeyKind::Rsa { bits: 2048 });
        assert_eq!(openssl("pkey -pubout", key.to_pkcs8_pem().expose_secret()), key.spki_pem());
    }

    #[test]
    fn weak_and_foreign_keys_are_refused() {
        for arguments in
            ["RSA -pkeyopt rsa_keygen_bits:1024", "ED25519", "EC -pkeyopt ec_paramgen_curve:secp256k1"]
        {
            let pem = openssl(&format!("genpkey -algorithm {arguments}"), "");
            assert_eq!(KeyPair::from_pem(&pem).unwrap_err(), KeyError::NotAccepted, "{arguments}");
        }
        let encrypted = pem::encode("ENCRYPTED PRIVATE KEY", b"x");
        assert!(matches!(KeyPair::from_pem(&encrypted), Err(KeyError::Pem(PemError::Missing(_)))));
    }

    #[test]
    fn keys_of_the_reference_match_their_certificates() {
        let vectors = vectors();
        for (key, certificate) in [
            ("/reference/agent_key", "/reference/agent_leaf_only"),
            ("/reference/mastio_leaf_key", "/reference/mastio_leaf"),
            ("/reference/dashboard_rsa_root_key", "/reference/dashboard_rsa_root"),
            ("/reference/nginx/mastio-server.key", "/reference/nginx/mastio-server.crt"),
            ("/at_rest/org_ca_key_pem", "/at_rest/org_ca/cert_pem"),
        ] {
            let text = |pointer: &str| vectors.pointer(pointer).unwrap().as_str().unwrap().to_owned();
            let key = KeyPair::from_pem(&text(key)).unwrap();
            assert!(key.matches(&Certificate::from_pem(&text(certificate)).unwrap()), "{certificate}");
        }
        let other = KeyPair::generate_p256().unwrap();
        let root = vectors["reference"]["root"].as_str().unwrap();
        assert!(!other.matches(&Certificate::from_pem(root).unwrap()));
    }
}
