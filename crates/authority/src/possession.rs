//! Proof that somebody holds a private key, without sending it (contract `enrollment.md` §1, §3.1, §3.2).

use mastio_core::{EnrollmentId, sha256};
use mastio_jose::{SignatureError, VerifyingKey};
use mastio_pki::{PublicKey, PublicKeyError};

/// A public key of an accepted kind, ready to judge proofs by its private half. A proof is base64url of an ECDSA
/// signature in DER, or of RSA-PSS, both with SHA-256.
#[derive(Debug, Clone)]
pub struct HeldKey {
    public: PublicKey,
    verifying: VerifyingKey,
}

impl HeldKey {
    /// Reads the first `PUBLIC KEY` section of a PEM text.
    ///
    /// # Errors
    /// When there is none, or the key is weak or of an unsupported kind.
    pub fn from_pem(text: &str) -> Result<Self, PublicKeyError> {
        Self::new(PublicKey::from_pem(text)?)
    }

    /// Reads a SubjectPublicKeyInfo in DER.
    ///
    /// # Errors
    /// When it is none, or the key is weak or of an unsupported kind.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, PublicKeyError> {
        Self::new(PublicKey::from_spki_der(der)?)
    }

    fn new(public: PublicKey) -> Result<Self, PublicKeyError> {
        let verifying =
            VerifyingKey::from_spki_der(public.spki_der()).map_err(|_| PublicKeyError::Malformed)?;
        Ok(Self { public, verifying })
    }

    /// The SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        self.public.spki_der()
    }

    /// SHA-256 of the SubjectPublicKeyInfo in lower-case hex: how enrolments and revocations name a key.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hex::encode(sha256(self.spki_der()))
    }

    /// Checks the signature with which a key is brought in: over `enrollment-pop:v1|<fingerprint>`.
    ///
    /// # Errors
    /// When it is not this key's.
    pub fn proves_possession(&self, signature: &str) -> Result<(), SignatureError> {
        self.verifying.verify_detached(possession_message(&self.fingerprint()).as_bytes(), signature)
    }

    /// Checks the signature with which the outcome of an enrolment is asked for: over
    /// `enrollment-status:v1|<session id>`.
    ///
    /// # Errors
    /// When it is not this key's.
    pub fn proves_session(&self, session: &EnrollmentId, signature: &str) -> Result<(), SignatureError> {
        self.verifying.verify_detached(session_message(session).as_bytes(), signature)
    }
}

/// What [`HeldKey::proves_possession`] expects to be signed.
#[must_use]
pub fn possession_message(fingerprint: &str) -> String {
    format!("enrollment-pop:v1|{fingerprint}")
}

/// What [`HeldKey::proves_session`] expects to be signed.
#[must_use]
pub fn session_message(session: &EnrollmentId) -> String {
    format!("enrollment-status:v1|{session}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE7ZGSB6SZLFwda7b8i/5Zk+vijfTt\naVD/30wHtZdho4CMjoUKFm6niYBeNs66gvIqh6JOF9sb2GMCAzm6hStG6A==\n-----END PUBLIC KEY-----\n";
    const POSSESSION: &str =
        "MEQCIHMZvh8ssuFPp0Ot_s21jGNyuFRuISvSFCI6nMrOC0aHAiBcNDIydXfk-nIFaAyMUNUVH49p5vYrjyV0ydSNo99M_g";
    const STATUS: &str =
        "MEYCIQCQS8Purg4CgKUGJqcsPJ_16OnNnvTGNm4LKZmFbN0rQQIhANOWDgHsswJY0aAcM-ymud2znmyRmtyAqEQi8S05zU6T";

    /// The vectors of contract `enrollment.md` §1.
    #[test]
    fn the_proofs_of_the_contract_hold_each_for_its_own_message() {
        let key = HeldKey::from_pem(KEY).unwrap();
        let fingerprint = "a16b796d3f154aba7f3c68d190b256c7ea3ee9e60527b734299ae4bc73cdf94b";
        assert_eq!(key.fingerprint(), fingerprint);
        assert_eq!(possession_message(fingerprint).len(), 82);
        assert_eq!(key.proves_possession(POSSESSION), Ok(()));
        assert_eq!(key.proves_possession(&format!("{POSSESSION}==")), Ok(()), "padding is optional");
        assert_eq!(key.proves_possession("not base64url!"), Err(SignatureError::Encoding));
        assert_eq!(key.proves_possession(STATUS), Err(SignatureError::Mismatch));
        let session = EnrollmentId::parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYX").unwrap();
        assert_eq!(key.proves_session(&session, STATUS), Ok(()));
        assert_eq!(key.proves_session(&session, POSSESSION), Err(SignatureError::Mismatch));
        let other = EnrollmentId::parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYY").unwrap();
        assert_eq!(key.proves_session(&other, STATUS), Err(SignatureError::Mismatch));
    }

    #[test]
    fn weak_keys_are_no_keys() {
        let secp256k1 = format!("3056301006072a8648ce3d020106052b8104000a03420004{}", "11".repeat(64));
        let der = hex::decode(secp256k1).unwrap();
        assert_eq!(HeldKey::from_spki_der(&der).unwrap_err(), PublicKeyError::NotAccepted);
    }
}
