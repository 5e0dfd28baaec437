//! Why the Mastio cannot start.

use std::path::PathBuf;

use mastio_core::{OrgId, Thumbprint};
use mastio_custody::CustodyError;
use mastio_store::{OpenError, ReadError, Unavailable, WriteError};

use crate::{evidence::EvidenceError, files::FilesError, nonces::NonceError, trust::TrustError};

/// Why the Mastio cannot start: exit code 3, one message that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The database.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// It cannot be written.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// A key.
    #[error(transparent)]
    Custody(#[from] CustodyError),
    /// What is stored cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The nonce keys.
    #[error(transparent)]
    Nonces(#[from] NonceError),
    /// Evidence could not be looked for.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// There was a root, and its key is not to be had.
    #[error(
        "this deployment had an Org CA ({found}), but its key is not in the database; a new one is never made over it. \
         Ways out: restore the database from a backup; point MCP_PROXY_DATABASE_URL at the right database; set \
         MCP_PROXY_DB_ENCRYPTION_KEY if the keys were sealed; or, to begin anew, move {leftovers} away"
    )]
    RootLost {
        /// What was found.
        found: String,
        /// What to move away.
        leftovers: String,
    },
    /// Custody and registry disagree about the active CA.
    #[error(
        "the active {kind} is {custody}, but the registry pki_cas says {registry}; whoever changed one of the two by \
         hand must undo it, or restore the database from a backup. To bring another Org CA, use cullis-proxy rotate-org-ca"
    )]
    OtherCa {
        /// `org_ca` or `intermediate_ca`.
        kind: &'static str,
        /// SHA-256 of the certificate that the registry has.
        registry: Thumbprint,
        /// SHA-256 of the certificate that custody has.
        custody: Thumbprint,
    },
    /// The database belongs to another identity than the file beside it.
    #[error(
        "{file} says that this deployment is organisation {expected}, but the database holds {actual}; restore the \
         database that belongs here, or, if this database is the right one, delete {file}"
    )]
    OtherIdentity {
        /// The identity file.
        file: PathBuf,
        /// What it says.
        expected: String,
        /// What the database says.
        actual: String,
    },
    /// The pinned organisation is another one.
    #[error(
        "MCP_PROXY_ORG_ID is {pinned}, but the database belongs to {stored}; unset it or set it to {stored}"
    )]
    OtherOrg {
        /// What is set.
        pinned: OrgId,
        /// What is stored.
        stored: OrgId,
    },
    /// The stored organisation id is illegal.
    #[error("proxy_config.org_id cannot be used: {0}")]
    IllegalOrg(String),
    /// Strict PKI and a root with path length 0.
    #[error(
        "MCP_PROXY_STRICT_PKI=1 refuses boot on legacy Org CA (pathLen 0): nothing below an intermediate can be \
         verified; to keep the agents, unset MCP_PROXY_STRICT_PKI, start, mastio pki updates apply \
         2026-04-23-org-ca-pathlen-1, and set it again; or replace the root, which cuts all of them off, with \
         cullis-proxy rotate-org-ca --mint while it is stopped, or with POST /pki/rotate-ca once it runs"
    )]
    StrictPki,
    /// The Python implementation stopped in the middle of an update.
    #[error(
        "the Org CA's certificate and key do not belong together: the Python implementation stopped in the middle of the \
         update {migration}; the certificate of the key is in its snapshot. Back the database up, then put it back: \
         UPDATE proxy_config SET value = (SELECT json_extract(snapshot_json, '$.org_ca_cert_pem') FROM \
         migration_state_backups WHERE migration_id = '{migration}') WHERE key = 'org_ca_cert' (docs/updates.md)"
    )]
    CutShort {
        /// Which.
        migration: String,
    },
    /// A key or certificate could not be made.
    #[error("a key or certificate could not be made: {0}")]
    Mint(String),
    /// Names of the TLS server certificate or the public URL.
    #[error("{0}")]
    Names(String),
    /// Files beside the database.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The identity file.
    #[error("{path} cannot be written: {source}")]
    IdentityFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}
