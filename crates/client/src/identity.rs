//! An agent's certificates and the key that they are for.

use std::{
    io,
    path::{Path, PathBuf},
};

use mastio_core::AgentId;
use mastio_jose::{SigningError, SigningKey};
use mastio_pki::{Certificate, IssueError, KeyError, KeyPair, PemError, issued_chain, pem};

use crate::folder::Folder;

/// Why there is no identity to log in with.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file is not there or not readable.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file cannot be replaced.
    #[error("cannot write {}: {source}; what was there before is still there", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Not certificates.
    #[error("identity: {0}")]
    Certificate(#[from] PemError),
    /// Not a private key.
    #[error("identity: {0}")]
    Key(#[from] KeyError),
    /// A certificate request could not be signed.
    #[error("identity: {0}")]
    Request(#[from] IssueError),
    /// A key that this client does not sign with.
    #[error("identity: use an EC P-256 key: {0}")]
    Curve(#[from] SigningError),
    /// The key belongs to another certificate.
    #[error("identity: the private key does not match the first certificate")]
    Mismatch,
    /// The certificate names no agent.
    #[error("identity: the first certificate names no agent, neither in a SPIFFE id nor in its common name")]
    NoAgent,
}

/// Who an agent is: its certificate, the CAs above it up to but without the root, and its EC P-256 key.
#[derive(Debug)]
pub struct Identity {
    chain: Vec<Certificate>,
    key: KeyPair,
    signer: SigningKey,
    agent_id: AgentId,
}

impl Identity {
    /// Joins certificates (leaf first) and key.
    ///
    /// # Errors
    /// [`IdentityError`]; the leaf must be for the key and name an agent.
    pub fn new(certificates_pem: &str, key: KeyPair) -> Result<Self, IdentityError> {
        let chain = pem::certificates(certificates_pem)?;
        let leaf = chain.first().filter(|leaf| key.matches(leaf)).ok_or(IdentityError::Mismatch)?;
        let principal = leaf.principal().ok_or(IdentityError::NoAgent)?;
        let agent_id = principal.agent_id().ok_or(IdentityError::NoAgent)?;
        let signer = SigningKey::from_pkcs8_der(&key.to_pkcs8_der())?;
        Ok(Self { chain, key, signer, agent_id })
    }

    /// Reads `cert.pem` and its key from a directory: `key.pem` or `agent-key.pem`, or that of a renewal that was cut off.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn from_dir(dir: &Path) -> Result<Self, IdentityError> {
        Folder::new(dir).identity()
    }

    /// The agent that the leaf names.
    #[must_use]
    pub fn agent_id(&self) -> &AgentId {
        &self.agent_id
    }

    /// The certificates, leaf first.
    #[must_use]
    pub fn chain(&self) -> &[Certificate] {
        &self.chain
    }

    /// The certificates in PEM, leaf first.
    #[must_use]
    pub fn certificates_pem(&self) -> String {
        issued_chain(&self.chain[0], &self.chain[1..])
    }

    /// The private key.
    #[must_use]
    pub fn key(&self) -> &KeyPair {
        &self.key
    }

    /// The private key, ready to sign assertions and messages.
    #[must_use]
    pub fn signer(&self) -> &SigningKey {
        &self.signer
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use secrecy::ExposeSecret;

    use super::*;
    use crate::testing::Pki;

    #[test]
    fn directories_hold_either_name_of_the_key() {
        let alice = Pki::new().identity("alice");
        for name in ["key.pem", "agent-key.pem"] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("cert.pem"), alice.certificates_pem()).unwrap();
            fs::write(dir.path().join(name), alice.key().to_pkcs8_pem().expose_secret()).unwrap();
            let read = Identity::from_dir(dir.path()).unwrap();
            assert_eq!(read.agent_id().as_str(), "acme::alice");
            assert_eq!(read.chain(), alice.chain());
        }
        let empty = tempfile::tempdir().unwrap();
        let error = Identity::from_dir(empty.path()).unwrap_err();
        assert!(error.to_string().contains("agent-key.pem"), "{error}");
    }

    #[test]
    fn certificate_and_key_must_belong_together_and_name_an_agent() {
        let pki = Pki::new();
        let alice = pki.identity("alice").certificates_pem();
        let other = KeyPair::generate_p256().unwrap();
        assert!(matches!(Identity::new(&alice, other), Err(IdentityError::Mismatch)));
        let (root, key) = pki.root_and_key();
        assert!(matches!(Identity::new(&root.pem(), key), Err(IdentityError::NoAgent)));
    }
}
