//! Starting: from settings to an [`Authority`], minting what is missing only when nothing says that it once was.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use mastio_config::{Database as DatabaseSetting, Settings};
use mastio_core::{Clock, Event, OrgId, Rng, event::catalogue};
use mastio_custody::{CaKey, Custody, CustodyError, Local};
use mastio_jose::{HtuSet, SigningKey, Window};
use mastio_pki::{Certificate, Issuer, KeyPair, ServerNames, pem, profile, spki_short_id};
use mastio_store::{
    Adoption, OpenError, OpenOptions, ReadError, Statement, Store, Unavailable, Unit, WriteError, audit,
    config,
    keys::{self, CaKind},
    sqlite::Database,
};

use crate::{
    Authority,
    admin::{self, AdminSecret},
    authority::Parts,
    evidence::{self, EvidenceError, Identity},
    files::{FilesError, TlsFiles},
    metrics::Metrics,
    proofs::Proofs,
    registry::Registry,
    trust::{Trust, TrustError},
};

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
         verified; replace the root with POST /pki/rotate-ca on a running Mastio, or offline with \
         cullis-proxy rotate-org-ca --mint, or unset MCP_PROXY_STRICT_PKI to start without signing"
    )]
    StrictPki,
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

fn mint(error: impl ToString) -> BootError {
    BootError::Mint(error.to_string())
}

/// Opens the database and makes the authority, on the first start with a new root, then with what is stored.
///
/// # Errors
/// [`BootError`]. Nothing was minted over anything.
pub async fn start(
    settings: Settings,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
) -> Result<Arc<Authority>, BootError> {
    let DatabaseSetting::Sqlite(path) = &settings.database;
    let backups = settings.dir.join("backups");
    let (database, adoption) = Database::open(&OpenOptions { path, backups: &backups, now: clock.now() })?;
    let passphrase = settings.at_rest_passphrase.as_ref();
    let custody: Arc<dyn Custody> =
        Arc::new(Local::new(Arc::clone(&database), passphrase, Arc::clone(&clock), Arc::clone(&rng)));
    tracing::info!(
        "KMS provider: {} (proxy_config DB{})",
        custody.name(),
        if custody.is_sealed() { ", sealed" } else { "" }
    );
    let boot = Boot {
        settings: &settings,
        database: &database,
        custody: custody.as_ref(),
        clock: clock.as_ref(),
        rng: rng.as_ref(),
    };

    let root = custody.load(CaKind::Root)?;
    let (org, first) = match &root {
        Some(root) => (boot.org_of(&root.certificate)?, None),
        None => {
            let first = boot.first_root()?;
            (boot.org_of_new(&first)?, Some(first))
        }
    };
    if let Some(root) = &root {
        boot.check_identity(&org, &root.certificate)?;
        if settings.strict_pki && root.certificate.path_len() == Some(0) {
            return Err(BootError::StrictPki);
        }
    }
    let store = Arc::new(Store::start(Arc::clone(&database), org.clone(), Arc::clone(&clock), rng.as_ref())?);
    if let Some(unit) = boot.missing(&org, root, first)? {
        store.submit(unit).await?;
    }
    if let Some(unit) = boot.tell_adoption(&adoption, &org)? {
        store.submit(unit).await?;
    }
    if let Some(unit) = boot.admin_secret()? {
        store.submit(unit).await?;
    }
    let ring = crate::proofs::load_ring(&database, custody.as_ref(), rng.as_ref())?;
    if let Some(unit) = ring.write {
        store.submit(unit).await?;
    }
    let trust = Trust::load(&database, custody.as_ref(), &org, &settings.trust_domain, 1, clock.now())?
        .ok_or_else(|| mint("the root is gone right after it was stored"))?;
    if let Some(halt) = &trust.halt {
        tracing::error!("cullis_proxy_sign_halt_pending_migration: {halt}");
    }
    let identity = Identity::of(&org, &trust.root);
    if Identity::read(path).ok().flatten().as_ref() != Some(&identity) {
        identity
            .write(path)
            .map_err(|source| BootError::IdentityFile { path: evidence::file(path), source })?;
    }
    let names = boot.server_names()?;
    let proofs = Proofs::new(boot.own_urls(&names)?, boot.window(), ring.ring, Arc::clone(&clock));
    let authority = Authority::assemble(Parts {
        metrics: Metrics::new().map_err(mint)?,
        registry: Registry::load(Arc::clone(&store))?,
        admin_secret: AdminSecret::new(&settings.admin_secret),
        tls_files: TlsFiles::new(settings.tls_dir.clone(), settings.certs_dir.clone(), names),
        proofs,
        trust,
        store,
        custody,
        clock,
        rng,
        settings,
    });
    authority.write_copies()?;
    Ok(authority)
}

/// What starting works with.
struct Boot<'a> {
    settings: &'a Settings,
    database: &'a Arc<Database>,
    custody: &'a dyn Custody,
    clock: &'a dyn Clock,
    rng: &'a dyn Rng,
}

/// A root that is not stored yet.
struct FirstRoot {
    key: KeyPair,
    /// The certificate, if it was found beside the TLS files.
    imported: Option<(Certificate, PathBuf)>,
}

impl Boot<'_> {
    /// The organisation of a stored root: pinned, stored, or derived from its key; never two different ones.
    fn org_of(&self, root: &Certificate) -> Result<OrgId, BootError> {
        let stored = config::get(self.database, "org_id")?
            .map(|text| OrgId::parse(&text).map_err(|error| BootError::IllegalOrg(error.to_string())))
            .transpose()?;
        match (&self.settings.org_id, stored) {
            (Some(pinned), Some(stored)) if *pinned != stored => {
                Err(BootError::OtherOrg { pinned: pinned.clone(), stored })
            }
            (_, Some(stored)) => Ok(stored),
            (Some(pinned), None) => Ok(pinned.clone()),
            (None, None) => derived(root.spki_der()),
        }
    }

    fn org_of_new(&self, first: &FirstRoot) -> Result<OrgId, BootError> {
        self.settings.org_id.clone().map_or_else(|| derived(first.key.spki_der()), Ok)
    }

    fn check_identity(&self, org: &OrgId, root: &Certificate) -> Result<(), BootError> {
        let path = self.database.path();
        let (expected, actual) =
            (Identity::read(path).map_err(EvidenceError::from)?, Identity::of(org, root));
        match expected {
            Some(expected) if expected != actual => Err(BootError::OtherIdentity {
                file: evidence::file(path),
                expected: format!("{} with root key {}", expected.org_id, expected.root_spki_sha256),
                actual: format!("{} with root key {}", actual.org_id, actual.root_spki_sha256),
            }),
            _ => Ok(()),
        }
    }

    /// A new root, or the one whose key pair lies beside the TLS files; refused when there was another one.
    fn first_root(&self) -> Result<FirstRoot, BootError> {
        let tls_dir = &self.settings.tls_dir;
        let found = evidence::find(self.database, tls_dir)?;
        let trust_file = tls_dir.join("org-ca.crt");
        let only_files = found.len() == usize::from(trust_file.exists());
        if only_files && let Some(pair) = importable(tls_dir) {
            return Ok(pair);
        }
        if found.is_empty() {
            let key = KeyPair::generate_p256().map_err(mint)?;
            return Ok(FirstRoot { key, imported: None });
        }
        let path = self.database.path();
        let leftovers =
            [path.to_owned(), evidence::file(path), trust_file].into_iter().filter(|path| path.exists());
        Err(BootError::RootLost {
            found: found.join("; "),
            leftovers: leftovers.map(|path| path.display().to_string()).collect::<Vec<_>>().join(" and "),
        })
    }

    /// Root, intermediate and signing key, as far as they are missing, in one unit.
    fn missing(
        &self,
        org: &OrgId,
        root: Option<CaKey>,
        first: Option<FirstRoot>,
    ) -> Result<Option<Unit>, BootError> {
        let mut unit = Unit::default();
        let root = match (root, first) {
            (Some(root), _) => root,
            (None, Some(first)) => self.add_root(&mut unit, org, first)?,
            (None, None) => return Ok(None),
        };
        if config::get(self.database, "org_id")?.is_none() {
            unit.statements.push(config::put_new("org_id", org.as_str()));
        }
        let stored_issuer = self.custody.load(CaKind::Intermediate)?;
        let has_signing_key = !keys::signing_keys(self.database)?.is_empty();
        if stored_issuer.is_none() || !has_signing_key {
            let issuer = match stored_issuer {
                Some(ca) => Issuer::new(ca.certificate, ca.key).map_err(mint)?,
                None => self.add_intermediate(&mut unit, org, root)?,
            };
            if !has_signing_key {
                self.add_signing_key(&mut unit, org, &issuer)?;
            }
        }
        Ok((!unit.statements.is_empty()).then_some(unit))
    }

    fn add_root(&self, unit: &mut Unit, org: &OrgId, first: FirstRoot) -> Result<CaKey, BootError> {
        let now = self.clock.now();
        let FirstRoot { key, imported } = first;
        let (certificate, event) = match imported {
            Some((certificate, source)) => {
                let event = Event::new(&catalogue::RootImported {
                    org_id: org.to_string(),
                    fingerprint_sha256: certificate.thumbprint(),
                    not_after: certificate.not_after(),
                    source: source.display().to_string(),
                });
                (certificate, event)
            }
            None => {
                let certificate = profile::root(org, &key, now, self.rng).map_err(mint)?;
                let event = Event::new(&catalogue::RootMinted {
                    org_id: org.to_string(),
                    fingerprint_sha256: certificate.thumbprint(),
                    not_after: certificate.not_after(),
                });
                (certificate, event)
            }
        };
        let root = CaKey { certificate, key };
        unit.statements.extend(self.custody.keep(CaKind::Root, &root, now)?);
        unit.events.push(event);
        Ok(root)
    }

    fn add_intermediate(
        &self,
        unit: &mut Unit,
        org: &OrgId,
        root: CaKey,
    ) -> Result<Issuer<KeyPair>, BootError> {
        let now = self.clock.now();
        let root = Issuer::new(root.certificate, root.key).map_err(mint)?;
        let key = KeyPair::generate_p256().map_err(mint)?;
        let certificate = profile::intermediate(&root, org, key.spki_der(), now, self.rng).map_err(mint)?;
        let ca = CaKey { certificate, key };
        unit.statements.extend(self.custody.keep(CaKind::Intermediate, &ca, now)?);
        unit.events.push(Event::new(&catalogue::IntermediateMinted {
            fingerprint_sha256: ca.certificate.thumbprint(),
            subject: ca.certificate.subject().to_owned(),
            not_after: ca.certificate.not_after(),
        }));
        Issuer::new(ca.certificate, ca.key).map_err(mint)
    }

    fn add_signing_key(
        &self,
        unit: &mut Unit,
        org: &OrgId,
        issuer: &Issuer<KeyPair>,
    ) -> Result<(), BootError> {
        let now = self.clock.now();
        let key = KeyPair::generate_p256().map_err(mint)?;
        let domain = &self.settings.trust_domain;
        let leaf = profile::mastio_leaf(issuer, domain, org, key.spki_der(), now, self.rng).map_err(mint)?;
        let kid = SigningKey::from_pkcs8_der(&key.to_pkcs8_der()).map_err(mint)?.kid();
        let private = self.custody.wrap(kid.as_str(), &key.to_pkcs8_pem())?;
        unit.statements.push(keys::insert_signing_key(&kid, &key.spki_pem(), &private, &leaf.pem(), now));
        unit.events.push(Event::new(&catalogue::SigningKeyMinted { kid, not_after: leaf.not_after() }));
        Ok(())
    }

    /// After an adoption: what was adopted, whether its chains hold, and a seal over those that we do not continue.
    fn tell_adoption(&self, adoption: &Adoption, org: &OrgId) -> Result<Option<Unit>, BootError> {
        let Some(adopted) = &adoption.unsealed else { return Ok(None) };
        let mut unit = Unit::of(Event::new(&catalogue::DatabaseAdopted {
            schema: adopted.revision.clone(),
            backup: adopted.backup.display().to_string(),
        }));
        for finding in audit::verify_file(self.database.path(), &mut |_| {})? {
            unit.events.extend(chain_events(finding, org));
        }
        let (statement, touch): (Statement, _) = Adoption::sealed();
        Ok(Some(unit.write(statement).touch(touch)))
    }

    /// The stored hash follows the secret in the environment (runbook §7).
    fn admin_secret(&self) -> Result<Option<Unit>, BootError> {
        const NAME: &str = "admin_secret_hash";
        let secret = &self.settings.admin_secret;
        let stored = config::own(self.database, NAME)?;
        if stored.as_deref().is_some_and(|hash| admin::matches(secret, hash)) {
            return Ok(None);
        }
        let hash = admin::hash(secret, self.rng).map_err(mint)?;
        let unit = Unit::default().write(config::put_own(NAME, &hash));
        Ok(Some(match stored {
            Some(_) => unit.tell(Event::new(&catalogue::AdminSecretRebootstrapped {})),
            None => unit,
        }))
    }

    fn server_names(&self) -> Result<ServerNames, BootError> {
        let host = self.settings.public_url.as_ref().and_then(|url| url.host_str());
        ServerNames::from_settings(&self.settings.server_names_csv, host)
            .map_err(|error| BootError::Names(format!("MCP_PROXY_NGINX_SAN: {error}")))
    }

    /// The base URLs that a DPoP proof may name: the public one, and every name of the server certificate at our port.
    fn own_urls(&self, names: &ServerNames) -> Result<HtuSet, BootError> {
        let port = self.settings.listen.tls.port();
        let public = self.settings.public_url.iter().map(|url| url.as_str().trim_end_matches('/').to_owned());
        let by_name = names.iter().map(|name| match name.to_string() {
            address if address.contains(':') => format!("https://[{address}]:{port}"),
            name => format!("https://{name}:{port}"),
        });
        HtuSet::new(public.chain(by_name)).map_err(|error| BootError::Names(error.to_string()))
    }

    fn window(&self) -> Window {
        Window { past: self.settings.dpop.window, future: self.settings.dpop.skew }
    }
}

fn derived(spki: &[u8]) -> Result<OrgId, BootError> {
    OrgId::parse(&spki_short_id(spki)).map_err(mint)
}

/// `org-ca.crt` with its `org-ca.key`, if they are a CA (design decision 5).
fn importable(tls_dir: &Path) -> Option<FirstRoot> {
    let source = tls_dir.join("org-ca.key");
    let key = KeyPair::from_pem(&std::fs::read_to_string(&source).ok()?).ok()?;
    let certificate =
        pem::first_certificate(&std::fs::read_to_string(tls_dir.join("org-ca.crt")).ok()?).ok()?;
    let usable = certificate.is_ca() && certificate.may_sign_certificates() && key.matches(&certificate);
    usable.then_some(FirstRoot { key, imported: Some((certificate, source)) })
}

fn chain_events(finding: audit::ChainFinding, org: &OrgId) -> Vec<Event> {
    let chain = finding.chain;
    match finding.result {
        Err(broken) => vec![Event::new(&catalogue::ChainBreakDetected {
            chain,
            seq: broken.seq,
            problem: broken.problem.to_string(),
        })],
        Ok(report) if chain != org.as_str() => vec![Event::new(&catalogue::LegacyChainSealed {
            chain,
            last_seq: report.head.seq,
            last_hash: report.head.hash.map(hex::encode).unwrap_or_default(),
            rows: report.rows,
            unchained_rows: finding.unchained.rows,
            unchained_sha256: hex::encode(finding.unchained.sha256),
        })],
        Ok(_) => vec![],
    }
}
