//! What a signing key says of the one that takes its place (contract `pki.md` §1, §6). Whoever knew the old key believes
//! the new one by it.

use mastio_core::{Kid, Stamp, canonical};
use serde::Serialize;

use crate::{Algorithm, SignatureError, SigningError, SigningKey, VerifyingKey, base64url};

/// What the old key signs: as JSON with sorted members, without blanks, in ASCII.
#[derive(Serialize)]
struct Statement<'a> {
    issued_at: &'a str,
    new_kid: &'a Kid,
    new_pubkey_pem: &'a str,
    old_kid: &'a Kid,
}

impl Statement<'_> {
    fn bytes(&self) -> Result<Vec<u8>, SigningError> {
        Ok(canonical::to_string(self).map_err(|_| SigningError::Library)?.into_bytes())
    }
}

/// The proof, as a Court or an auditor takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContinuityProof {
    /// The key that signed it.
    pub old_kid: Kid,
    /// The key that it is about.
    pub new_kid: Kid,
    /// Its public half in PEM.
    pub new_pubkey_pem: String,
    /// When, in whole seconds of UTC: `2026-04-21T21:00:00+00:00`.
    pub issued_at: String,
    /// ES256, r‖s, base64url without padding.
    pub signature_b64u: String,
}

impl ContinuityProof {
    /// `old` vouches for the key behind `new_pubkey_pem`.
    ///
    /// # Errors
    /// [`SigningError`].
    pub fn sign(
        old: &SigningKey,
        new_kid: &Kid,
        new_pubkey_pem: &str,
        at: Stamp,
    ) -> Result<Self, SigningError> {
        let (old_kid, issued_at) = (old.kid(), whole_seconds(at));
        let statement = Statement { issued_at: &issued_at, new_kid, new_pubkey_pem, old_kid: &old_kid };
        let signature = old.sign_jose(&statement.bytes()?)?;
        Ok(Self {
            new_kid: new_kid.clone(),
            new_pubkey_pem: new_pubkey_pem.to_owned(),
            signature_b64u: base64url::encode(&signature),
            old_kid,
            issued_at,
        })
    }

    /// Checks the signature with the public half of the old key. That `old_kid` is this key, and that the new kid
    /// belongs to the new key, is checked too; how old the proof may be is for the caller to say.
    ///
    /// # Errors
    /// When something of it does not hold.
    pub fn verify(&self, old_pubkey_pem: &str, old: &VerifyingKey) -> Result<(), SignatureError> {
        let Self { old_kid, new_kid, new_pubkey_pem, issued_at, .. } = self;
        let named = Kid::of_pem(old_pubkey_pem) == *old_kid && Kid::of_pem(new_pubkey_pem) == *new_kid;
        let statement = Statement { issued_at, new_kid, new_pubkey_pem, old_kid };
        let bytes = statement.bytes().map_err(|_| SignatureError::Mismatch)?;
        let signature = base64url::decode(&self.signature_b64u).ok_or(SignatureError::Encoding)?;
        if named { old.verify(Algorithm::Es256, &bytes, &signature) } else { Err(SignatureError::Mismatch) }
    }
}

/// As Python writes a moment without microseconds.
fn whole_seconds(at: Stamp) -> String {
    Stamp::from_unix(at.unix()).to_string().replace(".000000", "")
}

#[cfg(test)]
mod tests {
    use mastio_core::sha256;

    use super::*;
    use crate::{Jwk, test_keys};

    fn vector() -> ContinuityProof {
        ContinuityProof {
            old_kid: Kid::of_pem(test_keys::K1_PEM),
            new_kid: Kid::of_pem(test_keys::K2_PEM),
            new_pubkey_pem: test_keys::K2_PEM.to_owned(),
            issued_at: "2026-04-21T21:00:00+00:00".to_owned(),
            signature_b64u:
                "nlK3fgOkEpo93Xkw8qYt19MbmW8_IT2l3LyUqxWds1SjT90A-XenbvyLKr0LCONk2vYmxFz8TZcUMHzncGqMuA"
                    .to_owned(),
        }
    }

    fn verify(proof: &ContinuityProof) -> bool {
        let key = Jwk::from_spki_der(&test_keys::spki_der(test_keys::K1_PEM)).unwrap().verifying_key();
        proof.verify(test_keys::K1_PEM, &key).is_ok()
    }

    #[test]
    fn the_vector_of_the_contract_holds() {
        let proof = vector();
        let statement = Statement {
            issued_at: &proof.issued_at,
            new_kid: &proof.new_kid,
            new_pubkey_pem: &proof.new_pubkey_pem,
            old_kid: &proof.old_kid,
        };
        let bytes = statement.bytes().unwrap();
        let digest = "79810302a1cbec0986e9682775b157fedfc5bc79e293fc6b92360aa63475c554";
        assert_eq!((bytes.len(), hex::encode(sha256(&bytes)).as_str()), (315, digest));
        assert!(verify(&proof));
    }

    #[test]
    fn what_we_sign_verifies_and_nothing_in_it_can_be_changed() {
        let at = Stamp::parse("2026-04-21T21:00:00.987654+00:00").unwrap();
        let kid = Kid::of_pem(test_keys::K2_PEM);
        let proof = ContinuityProof::sign(&test_keys::k1(), &kid, test_keys::K2_PEM, at).unwrap();
        assert_eq!(proof.issued_at, "2026-04-21T21:00:00+00:00");
        assert!(verify(&proof));
        let later = "2026-04-21T21:00:01+00:00".to_owned();
        assert!(!verify(&ContinuityProof { issued_at: later, ..proof.clone() }));
        assert!(!verify(&ContinuityProof { old_kid: kid, ..proof.clone() }));
        let (other, pem) = (Kid::of_pem(test_keys::K1_PEM), test_keys::K1_PEM.to_owned());
        assert!(!verify(&ContinuityProof { new_kid: other, new_pubkey_pem: pem, ..proof }));
    }
}
