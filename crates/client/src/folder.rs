//! The directory where an agent keeps its certificate and its keys.
//!
//! `cert.pem` and `agent-key.pem` (or `key.pem`) are what enrolment left there, `dpop.jwk` the persistent DPoP key. While
//! the certificate is renewed, `next-key.pem` is the key of the next one. It is on disk before the Mastio hears of it,
//! and the renewal counts from the moment in which `cert.pem` is replaced: whichever key the certificate is for is the
//! agent's key. So every crash leaves a pair that belongs together. `trust-bundle.pem` is whom the Mastio said to trust
//! when its Org CA was rotated last, beside whom the agent's operator trusts.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use mastio_jose::SigningKey;
use mastio_pki::KeyPair;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{Identity, IdentityError};

const CERTIFICATES: &str = "cert.pem";
/// Where a key may be, the usual name last.
const KEYS: [&str; 2] = ["key.pem", "agent-key.pem"];
const NEXT_KEY: &str = "next-key.pem";
const DPOP_KEY: &str = "dpop.jwk";
const TRUST_BUNDLE: &str = "trust-bundle.pem";

/// The directory of one agent. One process at a time may renew there.
#[derive(Debug, Clone)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(dir: &Path) -> Self {
        Self(dir.to_owned())
    }

    /// The certificates with the key that they are for.
    pub(crate) fn identity(&self) -> Result<Identity, IdentityError> {
        let (key, certificates) = (self.key()?, self.read(CERTIFICATES)?);
        match Identity::new(certificates.expose_secret(), key) {
            Err(IdentityError::Mismatch) => {
                let next = self.optional(NEXT_KEY)?.ok_or(IdentityError::Mismatch)?;
                Identity::new(certificates.expose_secret(), KeyPair::from_pem(next.expose_secret())?)
            }
            other => other,
        }
    }

    /// Ends a renewal that was cut off after its certificate was kept.
    pub(crate) fn settle(&self, identity: &Identity) -> Result<(), IdentityError> {
        let current = self.key().is_ok_and(|key| key.spki_der() == identity.key().spki_der());
        if current { Ok(()) } else { self.promote() }
    }

    fn key(&self) -> Result<KeyPair, IdentityError> {
        let pem = self.read(self.key_name()?)?;
        Ok(KeyPair::from_pem(pem.expose_secret())?)
    }

    fn key_name(&self) -> Result<&'static str, IdentityError> {
        let [other, usual] = KEYS;
        Ok(if self.optional(other)?.is_some() { other } else { usual })
    }

    /// The key for the next certificate: the one of a renewal that brought no answer, or a new one.
    pub(crate) fn next_key(&self) -> Result<KeyPair, IdentityError> {
        if let Some(pem) = self.optional(NEXT_KEY)? {
            return Ok(KeyPair::from_pem(pem.expose_secret())?);
        }
        let key = KeyPair::generate_p256()?;
        self.replace(NEXT_KEY, key.to_pkcs8_pem().expose_secret())?;
        Ok(key)
    }

    /// Forgets the key for the next certificate: the Mastio will not have it.
    pub(crate) fn forget_next_key(&self) -> Result<(), IdentityError> {
        let path = self.0.join(NEXT_KEY);
        fs::remove_file(&path).map_err(|source| IdentityError::Write { path, source })
    }

    /// Keeps a renewed identity, whose key is the next key.
    pub(crate) fn keep(&self, renewed: &Identity) -> Result<(), IdentityError> {
        self.replace(CERTIFICATES, &renewed.certificates_pem())?;
        self.promote()
    }

    /// The next key takes the place of the current one.
    fn promote(&self) -> Result<(), IdentityError> {
        let path = self.0.join(self.key_name()?);
        let moved = fs::rename(self.0.join(NEXT_KEY), &path).and_then(|()| self.sync());
        moved.map_err(|source| IdentityError::Write { path, source })
    }

    /// The persistent DPoP key, `{"private_jwk": {…}}` or bare (contract `auth.md` §3).
    pub(crate) fn dpop_key(&self) -> Result<Option<SigningKey>, IdentityError> {
        let Some(text) = self.optional(DPOP_KEY)? else { return Ok(None) };
        let file: Value =
            serde_json::from_str(text.expose_secret()).map_err(|_| mastio_jose::SigningError::Jwk)?;
        let jwk = Zeroizing::new(file.get("private_jwk").unwrap_or(&file).to_string());
        Ok(Some(SigningKey::from_private_jwk(&jwk)?))
    }

    /// Keeps the DPoP key, unless one is kept already.
    pub(crate) fn keep_dpop_key(&self, key: &SigningKey) -> Result<(), IdentityError> {
        if self.optional(DPOP_KEY)?.is_some() {
            return Ok(());
        }
        let jwk: Value =
            serde_json::from_str(&key.private_jwk()?).map_err(|_| mastio_jose::SigningError::Jwk)?;
        self.replace(DPOP_KEY, &Zeroizing::new(json!({ "private_jwk": jwk }).to_string()))
    }

    /// Whom to trust beside whom the operator trusts, if the Mastio said so.
    pub(crate) fn trust_bundle(&self) -> Result<Option<String>, IdentityError> {
        Ok(self.optional(TRUST_BUNDLE)?.map(|text| text.expose_secret().to_owned()))
    }

    /// Keeps whom to trust.
    pub(crate) fn keep_trust_bundle(&self, pem: &str) -> Result<(), IdentityError> {
        self.replace(TRUST_BUNDLE, pem)
    }

    fn read(&self, name: &str) -> Result<SecretString, IdentityError> {
        let path = self.0.join(name);
        let text = fs::read_to_string(&path).map_err(|source| IdentityError::Read { path, source })?;
        Ok(text.into())
    }

    fn optional(&self, name: &str) -> Result<Option<SecretString>, IdentityError> {
        match self.read(name) {
            Err(IdentityError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    /// Replaces a file whole: a reader, or a crash, sees the old content or the new one.
    fn replace(&self, name: &str, content: &str) -> Result<(), IdentityError> {
        let path = self.0.join(name);
        self.write_and_rename(&path, content).map_err(|source| IdentityError::Write { path, source })
    }

    fn write_and_rename(&self, path: &Path, content: &str) -> io::Result<()> {
        let draft = path.with_added_extension("new");
        // A draft of a crash before may be there, with other permissions.
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        self.sync()
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::testing::Pki;

    fn folder(identity: &Identity, key: &str) -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cert.pem"), identity.certificates_pem()).unwrap();
        fs::write(dir.path().join(key), identity.key().to_pkcs8_pem().expose_secret()).unwrap();
        let folder = Folder::new(dir.path());
        (dir, folder)
    }

    fn files(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn a_renewal_that_is_cut_off_anywhere_leaves_a_pair_that_belongs_together() {
        let pki = Pki::new();
        for name in KEYS {
            let old = pki.identity("alice");
            let (dir, folder) = folder(&old, name);
            let holds = |identity: &Identity| {
                let found = Identity::from_dir(dir.path()).unwrap();
                assert_eq!(found.chain(), identity.chain(), "{name}");
            };
            // Before the answer: the old pair, and the same next key as often as it is asked for.
            let next = folder.next_key().unwrap();
            assert_eq!(folder.next_key().unwrap().spki_der(), next.spki_der());
            holds(&old);
            // Between the two renames.
            let new = pki.identity_of("alice", next);
            folder.replace(CERTIFICATES, &new.certificates_pem()).unwrap();
            holds(&new);
            // A start ends it; another start finds nothing to do.
            for _ in 0..2 {
                folder.settle(&folder.identity().unwrap()).unwrap();
                let mut expected = [name, "cert.pem"];
                expected.sort_unstable();
                assert_eq!(files(dir.path()), expected);
            }
            holds(&new);
        }
    }

    #[test]
    fn files_are_replaced_whole_and_for_their_owner() {
        let pki = Pki::new();
        let (dir, folder) = folder(&pki.identity("alice"), "agent-key.pem");
        fs::write(dir.path().join("next-key.pem.new"), "a draft of a crash").unwrap();
        let new = pki.identity_of("alice", folder.next_key().unwrap());
        folder.keep(&new).unwrap();
        let key = SigningKey::generate().unwrap();
        folder.keep_dpop_key(&key).unwrap();
        folder.keep_dpop_key(&SigningKey::generate().unwrap()).unwrap();
        assert_eq!(folder.dpop_key().unwrap().unwrap().spki_der(), key.spki_der(), "the first one stays");
        assert_eq!(files(dir.path()), ["agent-key.pem", "cert.pem", "dpop.jwk"]);
        for name in files(dir.path()) {
            let mode = fs::metadata(dir.path().join(&name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        fs::write(dir.path().join(DPOP_KEY), key.private_jwk().unwrap().as_str()).unwrap();
        assert!(folder.dpop_key().unwrap().is_some(), "a bare JWK");
        fs::write(dir.path().join(DPOP_KEY), "{}").unwrap();
        assert!(folder.dpop_key().is_err());
    }
}
