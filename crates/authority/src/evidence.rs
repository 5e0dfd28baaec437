//! Never mint over evidence: what says that this organisation has a root already (design §4).

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use mastio_core::{OrgId, Thumbprint};
use mastio_pki::Certificate;
use mastio_store::{Query, ReadError, config, sqlite::Database};

/// `data/.mastio-identity`: which organisation and root this deployment belongs to. Written after the commit that
/// made them, rewritten when missing.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Identity {
    /// The organisation.
    pub org_id: String,
    /// SHA-256 of the root's public key, hex.
    pub root_spki_sha256: String,
}

/// The name of the file.
pub const FILE_NAME: &str = ".mastio-identity";

impl Identity {
    /// The identity of `org` under `root`.
    #[must_use]
    pub fn of(org: &OrgId, root: &Certificate) -> Self {
        Self { org_id: org.to_string(), root_spki_sha256: Thumbprint::of(root.spki_der()).to_string() }
    }

    /// What the file beside the database says.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read(database: &Path) -> io::Result<Option<Self>> {
        match fs::read(file(database)) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, database: &Path) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        crate::files::replace(&file(database), &text, 0o644)
    }
}

/// Where the file of a database is.
#[must_use]
pub fn file(database: &Path) -> PathBuf {
    database.with_file_name(FILE_NAME)
}

/// What was found that belongs to a root which cannot be loaded.
///
/// # Errors
/// When the database or a file cannot be read.
pub fn find(database: &Database, tls_dir: &Path) -> Result<Vec<String>, EvidenceError> {
    let mut found = Vec::new();
    if let Some(identity) = Identity::read(database.path())? {
        let path = file(database.path());
        found.push(format!("{} names organisation {}", path.display(), identity.org_id));
    }
    for key in ["org_id", "org_ca_cert", "org_ca_key", "mastio_ca_cert"] {
        if config::get(database, key)?.is_some() {
            found.push(format!("proxy_config holds {key}"));
        }
    }
    for table in ["internal_agents", "mastio_keys", "pki_key_store", "local_audit"] {
        if !database.rows_now(&Query::first_of(table))?.is_empty() {
            found.push(format!("{table} holds rows"));
        }
    }
    let trust_file = tls_dir.join("org-ca.crt");
    if trust_file.exists() {
        found.push(format!("{} holds a root certificate", trust_file.display()));
    }
    Ok(found)
}

/// Why evidence could not be looked for.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// The database.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file.
    #[error("the identity file cannot be read: {0}")]
    Io(#[from] io::Error),
}
