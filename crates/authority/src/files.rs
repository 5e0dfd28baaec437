//! The TLS server certificate and the files around it (contract `pki.md` §3, `operations.md` §3).
//!
//! `nginx-certs/org-ca.crt`, `mastio-server.crt` and `mastio-server.key` are kept as a set: whatever of them is
//! missing, ends soon, names other hosts, or does not belong together is made again.

use std::{
    fs::{self, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mastio_core::{Event, Stamp, Thumbprint, event::catalogue};
use mastio_pki::{Certificate, KeyPair, ServerNames, issued_chain, pem, profile};
use mastio_store::Unit;
use secrecy::ExposeSecret;
use tokio::sync::watch;

use crate::{Authority, Outage, trust::Trust};

/// What a TLS listener serves.
#[derive(Debug, Clone)]
pub struct ServerMaterial {
    /// Leaf, then intermediate, then links from superseded roots.
    pub chain: Vec<Certificate>,
    /// The leaf's key.
    pub key: Arc<KeyPair>,
}

/// Where the files are and what they held last.
#[derive(Debug)]
pub struct TlsFiles {
    folder: PathBuf,
    copies: PathBuf,
    names: ServerNames,
    serving: watch::Sender<Option<ServerMaterial>>,
    /// Whoever makes a key and a certificate writes both before another does.
    keeping: tokio::sync::Mutex<()>,
    trouble: Mutex<Option<Trouble>>,
}

/// Why the files were not kept the last time, and when to try again.
#[derive(Debug, Clone)]
struct Trouble {
    text: String,
    /// Under which trust file: another one is worth a try at once.
    bundle: Thumbprint,
    retry_at: Stamp,
}

/// How long to wait after a failure: each try may leave an audit entry.
const BACK_OFF: Duration = Duration::from_secs(60);

/// Why the files could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The file system.
    #[error("{path} cannot be written: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no intermediate, or issuing is halted: nothing can be made.
    #[error("the TLS server certificate cannot be made: {0}")]
    Issue(String),
    /// The audit log.
    #[error(transparent)]
    Outage(#[from] Outage),
}

impl TlsFiles {
    /// What the server is called.
    pub(crate) fn names(&self) -> &ServerNames {
        &self.names
    }

    pub(crate) fn new(folder: PathBuf, copies: PathBuf, names: ServerNames) -> Self {
        Self {
            folder,
            copies,
            names,
            serving: watch::Sender::default(),
            keeping: tokio::sync::Mutex::default(),
            trouble: Mutex::default(),
        }
    }

    /// Why the files are not in order, if they are not.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(|trouble| trouble.text.clone())
    }

    fn is_backing_off(&self, bundle: Thumbprint, now: Stamp) -> bool {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.as_ref().is_some_and(|trouble| trouble.bundle == bundle && now < trouble.retry_at)
    }

    fn remember(&self, failed: Option<&FilesError>, bundle: Thumbprint, now: Stamp) {
        let trouble =
            failed.map(|error| Trouble { text: error.to_string(), bundle, retry_at: now.plus(BACK_OFF) });
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// What is to be served now.
    #[must_use]
    pub fn serving(&self) -> Option<ServerMaterial> {
        self.serving.borrow().clone()
    }

    /// Whoever serves hears of the next change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Option<ServerMaterial>> {
        self.serving.subscribe()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Puts a new set into the files. The certificate comes last: nginx and the next judge look at it, and a crash
    /// before it leaves a pair that does not match and is made again.
    fn store(&self, made: &ServerMaterial) -> Result<(), FilesError> {
        let (leaf, above) = made.chain.split_first().ok_or_else(|| FilesError::Issue("no leaf".into()))?;
        let key = made.key.to_pkcs8_pem();
        write(&self.path("mastio-server.key"), key.expose_secret().as_bytes(), 0o600)?;
        write(&self.path("mastio-server.crt"), issued_chain(leaf, above).as_bytes(), 0o644)
    }

    /// What the files hold, if they are a good set under `trust`; else why not.
    fn judge(&self, authority: &Authority, trust: &Trust) -> Result<ServerMaterial, &'static str> {
        let read = |name: &str| fs::read_to_string(self.path(name)).map_err(|_| "missing");
        let issuer = trust.server_issuer.as_ref().ok_or("no intermediate")?;
        let chain = pem::certificates(&read("mastio-server.crt")?).map_err(|_| "unreadable")?;
        let key = KeyPair::from_pem(&read("mastio-server.key")?).map_err(|_| "unreadable")?;
        let [leaf, above @ ..] = chain.as_slice() else { return Err("incomplete") };
        // A certificate that ends with its issuer gains nothing by being made again.
        let renewable = leaf.not_after() < issuer.certificate().not_after();
        let renew_at = leaf.not_after().minus(authority.settings.server_cert_renew_within);
        if above != trust.above_server() || !leaf.is_signed_by(issuer.certificate()) {
            Err("issuer changed")
        } else if !key.matches(leaf) {
            Err("key mismatch")
        } else if !self.names.match_certificate(leaf) {
            Err("names changed")
        } else if renew_at <= authority.clock.now() && renewable {
            Err("expiring")
        } else {
            Ok(ServerMaterial { key: Arc::new(key), chain })
        }
    }
}

impl Authority {
    /// Keeps the files: rewrites what clients trust, makes the server certificate again when the set is not good.
    /// What to serve then is [`TlsFiles::serving`].
    ///
    /// # Errors
    /// When a file cannot be written, or nothing can be issued.
    pub async fn keep_files(&self) -> Result<(), FilesError> {
        let _one_at_a_time = self.tls_files.keeping.lock().await;
        let (trust, files, now) = (self.trust(), &self.tls_files, self.clock.now());
        if files.is_backing_off(trust.bundle, now) {
            return Ok(());
        }
        let kept = self.keep_files_now(&trust).await;
        files.remember(kept.as_ref().err(), trust.bundle, now);
        kept
    }

    /// What is served does not wait for a disk that takes no files: a rotation must count in any case.
    async fn keep_files_now(&self, trust: &Trust) -> Result<(), FilesError> {
        let files = &self.tls_files;
        let copied = self.copy_trust_file(trust);
        let (material, stored) = match files.judge(self, trust) {
            Ok(material) => (material, Ok(())),
            Err(reason) => {
                let made = self.make_server_certificate(trust, reason).await?;
                let stored = files.store(&made);
                (made, stored)
            }
        };
        let left = material.chain[0].not_after().unix() - self.clock.now().unix();
        self.metrics.server_cert_seconds_left.set(left);
        files.serving.send_if_modified(|serving| {
            let other = serving.as_ref().is_none_or(|serving| serving.chain != material.chain);
            if other {
                *serving = Some(material);
            }
            other
        });
        copied.and(stored)
    }

    fn copy_trust_file(&self, trust: &Trust) -> Result<(), FilesError> {
        let path = self.tls_files.path("org-ca.crt");
        if fs::read_to_string(&path).ok().as_deref() == Some(&trust.trust_file) {
            return Ok(());
        }
        write(&path, trust.trust_file.as_bytes(), 0o644)?;
        self.write_copies()
    }

    /// The copies for operators: `certs/org-ca.pem` and `certs/org-id`, rewritten at each start and when the CAs change.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write_copies(&self) -> Result<(), FilesError> {
        let trust = self.trust();
        let copies = &self.tls_files.copies;
        write(&copies.join("org-ca.pem"), trust.trust_file.as_bytes(), 0o644)?;
        write(&copies.join("org-id"), format!("{}\n", trust.org).as_bytes(), 0o644)
    }

    async fn make_server_certificate(
        &self,
        trust: &Trust,
        reason: &'static str,
    ) -> Result<ServerMaterial, FilesError> {
        let issue = |error: &dyn std::fmt::Display| FilesError::Issue(error.to_string());
        let issuer = trust.server_issuer.as_ref().ok_or_else(|| issue(&"there is no intermediate"))?;
        let files = &self.tls_files;
        let key = KeyPair::generate_p256().map_err(|error| issue(&error))?;
        let now = self.clock.now();
        let leaf = profile::server(issuer, &files.names, &trust.org, key.spki_der(), now, self.rng.as_ref())
            .map_err(|error| issue(&error))?;
        let event = catalogue::ServerCertificateMinted {
            fingerprint_sha256: leaf.thumbprint(),
            sans: files.names.iter().map(ToString::to_string).collect(),
            not_after: leaf.not_after(),
            reason,
        };
        self.commit(Unit::of(Event::new(&event))).await.map_err(Outage::from)?;
        let chain = std::iter::once(leaf).chain(trust.above_server()).collect();
        Ok(ServerMaterial { chain, key: Arc::new(key) })
    }
}

/// The folder, if it is to be made, is one that a TLS sidecar under another name can look into.
fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), FilesError> {
    let folder = path.parent().map_or(Ok(()), |folder| make_folder(folder, 0o755));
    let written = folder.and_then(|()| replace(path, content, mode));
    written.map_err(|source| FilesError::Io { path: path.to_owned(), source })
}

/// Makes the folder `path` with exactly this mode, whatever the umask; one that is there stays as it is.
fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    fs::create_dir_all(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Puts `content` at `path` in one step with exactly this mode, whatever the umask; its folder is made if need be.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = folder.join(format!(".{name}.new"));
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::File::options().write(true).create_new(true).mode(mode).open(&draft)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_umask_takes_a_mode_away() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, mode) = (dir.path().join("nginx-certs"), |path: &Path| {
            fs::metadata(path).unwrap().permissions().mode() & 0o777
        });
        // Every usual umask has these bits.
        make_folder(&folder, 0o777).unwrap();
        replace(&folder.join("org-ca.crt"), b"", 0o666).unwrap();
        assert_eq!((mode(&folder), mode(&folder.join("org-ca.crt"))), (0o777, 0o666));
        make_folder(&folder, 0o700).unwrap();
        assert_eq!(mode(&folder), 0o777, "an operator's folder stays as it is");
    }
}
