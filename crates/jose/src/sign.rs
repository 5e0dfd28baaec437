//! The private keys that Mastio signs with: ECDSA on P-256.

use std::fmt;

use aws_lc_rs::{
    encoding::{AsBigEndian, AsDer, EcPrivateKeyBin},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use mastio_core::Kid;
use zeroize::Zeroizing;

use crate::{Jwk, VerifyingKey, base64url, verify::Curve};

/// Why a key could not be used to sign.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The bytes are not a P-256 private key.
    #[error("not a P-256 private key in PKCS#8 DER")]
    Key,
    /// The text is not a P-256 private key as a JWK.
    #[error("not a P-256 private key as a JWK with crv, x, y and d")]
    Jwk,
    /// The cryptographic library refused.
    #[error("the cryptographic library failed to sign or to make a key")]
    Library,
    /// A header or claims did not serialise.
    #[error("claims do not serialise to JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl From<aws_lc_rs::error::Unspecified> for SigningError {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self::Library
    }
}

/// A P-256 private key.
pub struct SigningKey {
    /// The library binds a key to a signature format, so there are two of one key.
    jose: EcdsaKeyPair,
    asn1: EcdsaKeyPair,
    spki: Box<[u8]>,
    public: Jwk,
}

impl SigningKey {
    /// A fresh key, from the cryptographic library's own generator.
    ///
    /// # Errors
    /// [`SigningError::Library`].
    pub fn generate() -> Result<Self, SigningError> {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())?;
        Self::from_pkcs8_der(pkcs8.as_ref())
    }

    /// Reads an unencrypted PKCS#8 key (RFC 5958).
    ///
    /// # Errors
    /// [`SigningError::Key`].
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, SigningError> {
        let read = |format| EcdsaKeyPair::from_pkcs8(format, der).map_err(|_| SigningError::Key);
        let jose = read(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
        let asn1 = read(&ECDSA_P256_SHA256_ASN1_SIGNING)?;
        let spki = jose.public_key().as_der()?.as_ref().into();
        let public = match jose.public_key().as_ref() {
            [4, point @ ..] => {
                let (x, y) = point.split_at(point.len() / 2);
                Jwk::from_point(Curve::P256, x.to_vec(), y.to_vec()).map_err(|_| SigningError::Key)?
            }
            _ => return Err(SigningError::Key),
        };
        Ok(Self { jose, asn1, spki, public })
    }

    /// Reads the text of a private JWK (RFC 7518 §6.2.2), as [`Self::private_jwk`] writes it.
    ///
    /// # Errors
    /// [`SigningError::Jwk`].
    pub fn from_private_jwk(text: &str) -> Result<Self, SigningError> {
        #[derive(serde::Deserialize)]
        struct Private {
            crv: String,
            x: String,
            y: String,
            d: String,
        }
        let jwk: Private = serde_json::from_str(text).map_err(|_| SigningError::Jwk)?;
        if jwk.crv != Curve::P256.name() {
            return Err(SigningError::Jwk);
        }
        let d = Zeroizing::new(jwk.d);
        let number = |text: &str| base64url::decode(text).ok_or(SigningError::Jwk);
        let point = [vec![4], number(&jwk.x)?, number(&jwk.y)?].concat();
        let secret = Zeroizing::new(number(&d)?);
        let format = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::from_private_key_and_public_key(format, &secret, &point);
        let pkcs8 = pair.map_err(|_| SigningError::Jwk)?.to_pkcs8v1()?;
        Self::from_pkcs8_der(pkcs8.as_ref())
    }

    /// The private key in PKCS#8 DER.
    ///
    /// # Errors
    /// [`SigningError::Library`].
    pub fn to_pkcs8_der(&self) -> Result<Zeroizing<Vec<u8>>, SigningError> {
        Ok(Zeroizing::new(self.jose.to_pkcs8v1()?.as_ref().to_vec()))
    }

    /// Signs for a JWS: r‖s, 64 bytes (RFC 7518 §3.4).
    ///
    /// # Errors
    /// [`SigningError::Library`].
    pub fn sign_jose(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        Ok(self.jose.sign(&SystemRandom::new(), message)?.as_ref().to_vec())
    }

    /// Signs for everything else: ASN.1 DER (contract `calls.md` §9).
    ///
    /// # Errors
    /// [`SigningError::Library`].
    pub fn sign_der(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        Ok(self.asn1.sign(&SystemRandom::new(), message)?.as_ref().to_vec())
    }

    /// The value of `X-Cullis-Mastio-Signature`: vouches to a broker that this Mastio saw the login `assertion`. DER,
    /// base64url without padding (contract `auth.md` §5).
    ///
    /// # Errors
    /// [`SigningError::Library`].
    pub fn countersign(&self, assertion: &str) -> Result<String, SigningError> {
        Ok(base64url::encode(&self.sign_der(assertion.as_bytes())?))
    }

    /// The public key as a JWK.
    #[must_use]
    pub fn public_jwk(&self) -> Jwk {
        self.public.clone()
    }

    /// The private key as a JWK in JSON (RFC 7518 §6.2.2), for a client that uses it.
    ///
    /// # Errors
    /// [`SigningError::Library`].
    pub fn private_jwk(&self) -> Result<Zeroizing<String>, SigningError> {
        let secret: EcPrivateKeyBin<'_> = self.jose.private_key().as_be_bytes()?;
        let mut jwk = self.public.to_value();
        jwk["d"] = base64url::encode(secret.as_ref()).into();
        Ok(Zeroizing::new(jwk.to_string()))
    }

    /// The public key, ready to verify.
    #[must_use]
    pub fn verifying_key(&self) -> VerifyingKey {
        self.public.verifying_key()
    }

    /// The public key's SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// The public key in PEM: 64 columns, LF, trailing LF, as `kid`s are computed over it.
    #[must_use]
    pub fn spki_pem(&self) -> String {
        let mut pem = "-----BEGIN PUBLIC KEY-----\n".to_owned();
        for (column, letter) in STANDARD.encode(&self.spki).chars().enumerate() {
            if column > 0 && column % 64 == 0 {
                pem.push('\n');
            }
            pem.push(letter);
        }
        pem + "\n-----END PUBLIC KEY-----\n"
    }

    /// The name under which the public key is published.
    #[must_use]
    pub fn kid(&self) -> Kid {
        Kid::of_pem(&self.spki_pem())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Algorithm, test_keys};

    #[test]
    fn names_and_encodings_match_the_contract() {
        let key = test_keys::k1();
        assert_eq!(key.spki_pem(), test_keys::K1_PEM);
        assert_eq!(key.kid().as_str(), "mastio-0bcc8908c3cc5f2c");
        let jwk = key.public_jwk().to_value();
        assert_eq!(jwk["x"], "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY");
        assert_eq!(jwk["y"], "T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU");
    }

    #[test]
    fn both_formats_verify_and_are_not_interchangeable() {
        let key = SigningKey::generate().unwrap();
        let (jose, der) = (key.sign_jose(b"m").unwrap(), key.sign_der(b"m").unwrap());
        let public = key.verifying_key();
        assert_eq!(jose.len(), 64);
        assert!(public.verify(Algorithm::Es256, b"m", &jose).is_ok());
        assert!(public.verify(Algorithm::Es256, b"m", &der).is_err());
        assert!(public.verify_detached(b"m", &base64url::encode(&der)).is_ok());
        assert!(public.verify_detached(b"m", &base64url::encode(&jose)).is_err());
    }

    #[test]
    fn keys_survive_their_der_and_stay_hidden() {
        let key = SigningKey::generate().unwrap();
        let again = SigningKey::from_pkcs8_der(&key.to_pkcs8_der().unwrap()).unwrap();
        assert_eq!(again.spki_der(), key.spki_der());
        assert_eq!(format!("{key:?}"), "SigningKey { .. }");
        assert!(SigningKey::from_pkcs8_der(b"no key").is_err());
        let jwk = key.private_jwk().unwrap();
        assert_eq!(SigningKey::from_private_jwk(&jwk).unwrap().spki_der(), key.spki_der());
        let public = key.public_jwk().to_value().to_string();
        let mut foreign: serde_json::Value = serde_json::from_str(&jwk).unwrap();
        foreign["x"] = SigningKey::generate().unwrap().public_jwk().to_value()["x"].clone();
        for bad in [public, foreign.to_string(), jwk.replace("P-256", "P-384"), "{}".to_owned()] {
            assert!(matches!(SigningKey::from_private_jwk(&bad), Err(SigningError::Jwk)), "{bad}");
        }
    }

    #[test]
    fn countersignature_of_the_contract_verifies() {
        let signature =
            "MEUCIQDe6wCXprJz7agYI1Hjfhkqif6FKVtGKTx_Ls4L82iWTwIgf4AMaSZBnSRM4iLzEpgl1OsZDy3Np8UiGjTaPP4ioW4";
        let key = test_keys::k1();
        assert_eq!(key.verifying_key().verify_detached(b"abc", signature), Ok(()));
        let own = key.countersign("abc").unwrap();
        assert_eq!(key.verifying_key().verify_detached(b"abc", &own), Ok(()));
    }
}
