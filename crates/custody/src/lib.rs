//! Where private keys live and sign.
//!
//! [`Custody`] is what the authority asks; [`Local`] keeps keys in the database, as PEM or, with
//! `MCP_PROXY_DB_ENCRYPTION_KEY`, in `enc:pki:v1:` [envelopes](envelope). A provider elsewhere (Vault, PKCS#11)
//! implements the same trait and passes the same suite.

pub mod envelope;
mod local;

use mastio_core::Stamp;
use mastio_pki::{Certificate, KeyPair};
use mastio_store::{ReadError, Statement, keys::CaKind};
use secrecy::SecretString;

pub use local::Local;

/// A CA with its key.
#[derive(Debug)]
pub struct CaKey {
    /// The certificate.
    pub certificate: Certificate,
    /// Its private key.
    pub key: KeyPair,
}

/// Why a key is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum CustodyError {
    /// The database.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Sealed, and no passphrase is configured.
    #[error(
        "{what} is sealed, but MCP_PROXY_DB_ENCRYPTION_KEY is not set; set it to the passphrase this deployment used"
    )]
    NoPassphrase {
        /// Which key.
        what: String,
    },
    /// Sealed with another passphrase, or damaged.
    #[error(
        "{what} does not open with MCP_PROXY_DB_ENCRYPTION_KEY; set the passphrase this deployment used, or restore the backup that belongs to it"
    )]
    WrongPassphrase {
        /// Which key.
        what: String,
    },
    /// Only one half is there.
    #[error("{what} is there, but {missing} is not; restore both from a backup")]
    Incomplete {
        /// What is there.
        what: String,
        /// What is missing.
        missing: &'static str,
    },
    /// It does not parse, or certificate and key do not belong together.
    #[error("{what} cannot be used: {problem}")]
    Unusable {
        /// Which key.
        what: String,
        /// What is wrong with it; never its content.
        problem: String,
    },
    /// Several active keys where there must be one.
    #[error(
        "the key store holds {count} active keys of type {kind}; keep one active row in pki_key_store and set deprecated_at on the others"
    )]
    Ambiguous {
        /// The key type.
        kind: &'static str,
        /// How many.
        count: usize,
    },
}

/// Keeps private keys.
pub trait Custody: Send + Sync {
    /// The name of the provider, as operators configure it.
    fn name(&self) -> &'static str;

    /// Whether what it keeps is encrypted at rest.
    fn is_sealed(&self) -> bool;

    /// The active CA of `kind`; `None` when there is none yet.
    ///
    /// # Errors
    /// When there is one, but it cannot be used: never mint over it.
    fn load(&self, kind: CaKind) -> Result<Option<CaKey>, CustodyError>;

    /// Keeps a new CA. What must go into the database comes back as statements, for the caller's unit; a provider
    /// that keeps keys elsewhere has stored it when this returns.
    ///
    /// # Errors
    /// When it cannot be sealed or stored.
    fn keep(&self, kind: CaKind, ca: &CaKey, at: Stamp) -> Result<Vec<Statement>, CustodyError>;

    /// Puts `next` in the place of the active CA of `kind`, whose key is not kept there any more: wrap it before, if it
    /// still has work to do. Statements for the caller's unit, as with [`keep`](Self::keep).
    ///
    /// # Errors
    /// When it cannot be sealed or stored.
    fn replace(&self, kind: CaKind, next: &CaKey, at: Stamp) -> Result<Vec<Statement>, CustodyError>;

    /// What to store in the database for another secret: a signing key, an escrowed agent key, the nonce key.
    ///
    /// # Errors
    /// When it cannot be sealed.
    fn wrap(&self, what: &str, secret: &SecretString) -> Result<SecretString, CustodyError>;

    /// The secret that [`wrap`](Self::wrap) stored, or the bare one that an older system left.
    ///
    /// # Errors
    /// When it does not open.
    fn unwrap(&self, what: &str, stored: &SecretString) -> Result<SecretString, CustodyError>;

    /// What seals the keys that lie bare in the database: there were some before a passphrase was set, or an operator
    /// pasted one. Empty when there are none, or when this provider does not seal.
    ///
    /// # Errors
    /// When they cannot be read or sealed.
    fn seal_bare(&self) -> Result<Vec<Statement>, CustodyError>;
}
