//! The at-rest envelope of the existing system: `enc:pki:v1:` and a Fernet token (AES-128-CBC with HMAC-SHA256) over
//! `{"key_pem": …, "cert_pem": …}`; its key is PBKDF2 over the passphrase (contract `operations.md` §11).

use std::num::NonZeroU32;

use aws_lc_rs::{
    cipher::{
        AES_128, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey,
        UnboundCipherKey,
    },
    constant_time, hmac,
    iv::FixedLength,
    pbkdf2,
};
use base64::{
    Engine, alphabet,
    engine::{GeneralPurpose, general_purpose::PAD},
};
use mastio_core::{Rng, Stamp};
use secrecy::{ExposeSecret, SecretString};
use zeroize::{Zeroize, Zeroizing};

/// What every envelope begins with.
pub const PREFIX: &str = "enc:pki:v1:";

const SALT: &[u8] = b"cullis-mastio-pki-v1";
const ROUNDS: NonZeroU32 = NonZeroU32::new(600_000).unwrap();
const VERSION: u8 = 0x80;
/// Version, timestamp, IV.
const HEADER: usize = 1 + 8 + 16;
const MAC: usize = 32;
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, PAD);

/// Why an envelope does not open. The two cases look alike on purpose: a wrong key and a damaged token are told apart
/// by nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the envelope does not open")]
pub struct Sealed;

/// The two PEM texts of a key.
#[derive(serde::Serialize, serde::Deserialize)]
struct Pair {
    key_pem: String,
    cert_pem: String,
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.key_pem.zeroize();
    }
}

/// Seals and opens envelopes.
pub struct EnvelopeKey {
    signing: [u8; 16],
    encryption: [u8; 16],
}

impl Drop for EnvelopeKey {
    fn drop(&mut self) {
        self.signing.zeroize();
        self.encryption.zeroize();
    }
}

impl std::fmt::Debug for EnvelopeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EnvelopeKey(…)")
    }
}

impl EnvelopeKey {
    /// Derives the key from a passphrase. Takes a few hundred milliseconds: do it once.
    #[must_use]
    pub fn derive(passphrase: &SecretString) -> Self {
        let mut raw = Zeroizing::new([0; 32]);
        let passphrase = passphrase.expose_secret().trim().as_bytes();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, SALT, passphrase, raw.as_mut_slice());
        let mut key = Self { signing: [0; 16], encryption: [0; 16] };
        key.signing.copy_from_slice(&raw[..16]);
        key.encryption.copy_from_slice(&raw[16..]);
        key
    }

    /// Seals a key and its certificate (which may be empty).
    ///
    /// # Errors
    /// When the cipher fails, which it does not.
    pub fn seal(
        &self,
        key_pem: &SecretString,
        cert_pem: &str,
        now: Stamp,
        rng: &dyn Rng,
    ) -> Result<SecretString, Sealed> {
        let mut iv = [0; 16];
        rng.fill(&mut iv);
        let pair = Pair { key_pem: key_pem.expose_secret().to_owned(), cert_pem: cert_pem.to_owned() };
        let mut plain = Zeroizing::new(serde_json::to_vec(&pair).map_err(|_| Sealed)?);
        let mut token = vec![VERSION];
        token.extend_from_slice(&now.unix().to_be_bytes());
        token.extend_from_slice(&iv);
        token.extend_from_slice(&self.encrypt(&mut plain, iv)?);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.signing), &token);
        token.extend_from_slice(tag.as_ref());
        Ok(format!("{PREFIX}{}", URL_SAFE.encode(token)).into())
    }

    /// Opens an envelope to key PEM and certificate PEM.
    ///
    /// # Errors
    /// When it is no envelope, was sealed with another key, or was changed.
    pub fn open(&self, envelope: &SecretString) -> Result<(SecretString, String), Sealed> {
        let text = envelope.expose_secret().strip_prefix(PREFIX).ok_or(Sealed)?;
        let token = URL_SAFE.decode(text.trim()).map_err(|_| Sealed)?;
        let authentic = token.len().checked_sub(MAC).filter(|length| *length > HEADER).ok_or(Sealed)?;
        let (signed, tag) = token.split_at(authentic);
        let expected = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.signing), signed);
        constant_time::verify_slices_are_equal(expected.as_ref(), tag).map_err(|_| Sealed)?;
        if signed[0] != VERSION {
            return Err(Sealed);
        }
        let iv: [u8; 16] = signed[HEADER - 16..HEADER].try_into().map_err(|_| Sealed)?;
        let plain = self.decrypt(&signed[HEADER..], iv)?;
        let mut pair: Pair = serde_json::from_slice(&plain).map_err(|_| Sealed)?;
        Ok((std::mem::take(&mut pair.key_pem).into(), std::mem::take(&mut pair.cert_pem)))
    }

    fn encrypt(&self, plain: &mut Vec<u8>, iv: [u8; 16]) -> Result<Vec<u8>, Sealed> {
        let key = UnboundCipherKey::new(&AES_128, &self.encryption).map_err(|_| Sealed)?;
        let key = PaddedBlockEncryptingKey::cbc_pkcs7(key).map_err(|_| Sealed)?;
        key.less_safe_encrypt(plain, EncryptionContext::Iv128(FixedLength::from(iv))).map_err(|_| Sealed)?;
        Ok(std::mem::take(plain))
    }

    fn decrypt(&self, sealed: &[u8], iv: [u8; 16]) -> Result<Zeroizing<Vec<u8>>, Sealed> {
        let key = UnboundCipherKey::new(&AES_128, &self.encryption).map_err(|_| Sealed)?;
        let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).map_err(|_| Sealed)?;
        let mut buffer = Zeroizing::new(sealed.to_vec());
        let plain = key
            .decrypt(&mut buffer, DecryptionContext::Iv128(FixedLength::from(iv)))
            .map_err(|_| Sealed)?
            .to_vec();
        Ok(Zeroizing::new(plain))
    }
}

#[cfg(test)]
mod tests {
    use mastio_core::SeededRng;

    use super::*;

    const PASSPHRASE: &str = "correct-horse-battery-staple-0123456789";
    const VECTOR: &str = "enc:pki:v1:gAAAAABlU_EAAAECAwQFBgcICQoLDA0OD18LSledJW7bsSJ3zUwxegJhn72SkkTvq0xzqI7vNT-H8LjKKI6tVgHtrpE4JyxT_dRPNeXcA1iyzBsTVNUsZ19fgFg9jwNBqOiLgXiYeBYY";

    #[test]
    fn opens_what_the_existing_system_sealed() {
        let key = EnvelopeKey::derive(&PASSPHRASE.into());
        let (key_pem, cert_pem) = key.open(&VECTOR.into()).unwrap();
        assert_eq!((key_pem.expose_secret(), cert_pem.as_str()), ("KEY", "CERT"));
    }

    #[test]
    fn every_changed_character_closes_it() {
        let key = EnvelopeKey::derive(&PASSPHRASE.into());
        let sealed =
            key.seal(&"secret".into(), "", Stamp::from_unix(1_700_000_000), &SeededRng::new(1)).unwrap();
        assert_eq!(key.open(&sealed).unwrap().0.expose_secret(), "secret");
        let text = sealed.expose_secret();
        for index in PREFIX.len()..text.len() - 1 {
            let mut changed = text.to_owned().into_bytes();
            changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
            assert!(key.open(&String::from_utf8(changed).unwrap().into()).is_err(), "{index}");
        }
        let other = EnvelopeKey::derive(&"another passphrase 0123456789".into());
        assert_eq!(other.open(&sealed).err(), Some(Sealed));
    }
}
