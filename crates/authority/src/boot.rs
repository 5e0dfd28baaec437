//! Starting: from settings to an [`Authority`], minting what is missing only when nothing says that it once was.

mod adopted_spire;
mod backfill;
mod dashboard;
mod error;
mod first_keys;
mod unregistered;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use mastio_config::{Database as DatabaseSetting, Settings};
use mastio_core::{Clock, Event, OrgId, Rng, Thumbprint, event::catalogue};
use mastio_custody::{Custody, Local};
use mastio_jose::{HtuSet, Window};
use mastio_pki::{Certificate, KeyPair, ServerNames, pem, spki_short_id};
use mastio_store::{
    Adoption, OpenOptions, Statement, Store, Unit, audit,
    cas::{self, CaState},
    config, dashboard as sessions,
    keys::CaKind,
    rotations,
    sqlite::Database,
};

use crate::{
    Authority,
    admin::{self, AdminSecret},
    authority::Parts,
    dashboard::Dashboard,
    evidence::{self, EvidenceError, Identity},
    files::TlsFiles,
    metrics::Metrics,
    proofs::Proofs,
    registry::Registry,
    trust::{Halt, Trust},
    updates,
};

pub use error::BootError;

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
    refuse_lost_database(path, &settings.tls_dir)?;
    refuse_other_org(path, settings.org_id.as_ref())?;
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
            let path_len = first.imported.as_ref().and_then(|(certificate, _)| certificate.path_len());
            if settings.strict_pki && path_len == Some(0) {
                return Err(BootError::StrictPki);
            }
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
    let mut told = Vec::new();
    // One after the other: each looks at what the one before has written.
    write(&store, &mut told, boot.missing(&org, root, first)?).await?;
    write(&store, &mut told, boot.unregistered()?).await?;
    write(&store, &mut told, boot.half_a_cut()?).await?;
    write(&store, &mut told, boot.bare_keys()?).await?;
    if adoption.unsealed.is_some() {
        backfill::adopted_agents(&store, &boot.own_cas()?, clock.now()).await?;
    }
    write(&store, &mut told, boot.tell_adoption(&adoption, &org)?).await?;
    let admin_hash = boot.admin_secret()?;
    write(&store, &mut told, admin_hash.write).await?;
    write(&store, &mut told, updates::detect(&database, custody.as_ref(), clock.now())?).await?;
    let cookie_key = boot.cookie_key();
    write(&store, &mut told, boot.sessions(&cookie_key)?).await?;
    write(&store, &mut told, boot.password()?).await?;
    write(&store, &mut told, boot.adopted_spire_bundle()?).await?;
    let ring = crate::nonces::load_ring(&database, custody.as_ref(), clock.now(), rng.as_ref())?;
    if let Some(unit) = ring.write {
        store.submit(unit).await?;
    }
    let trust = Trust::load(&database, custody.as_ref(), &org, &settings.trust_domain, 1, clock.now())?
        .ok_or_else(|| mint("the root is gone right after it was stored"))?;
    match &trust.halt {
        Some(halt @ Halt::PendingUpdate(migration_id)) => {
            tracing::error!(migration_id, "cullis_proxy_sign_halt_pending_migration: {halt}");
        }
        Some(halt) => tracing::error!("cullis_proxy_sign_halt_pending_migration: {halt}"),
        None => {}
    }
    let identity = Identity::of(&org, &trust.root);
    if Identity::read(path).ok().flatten().as_ref() != Some(&identity) {
        identity
            .write(path)
            .map_err(|source| BootError::IdentityFile { path: evidence::file(path), source })?;
    }
    let names = boot.server_names()?;
    let nonces = (ring.ring, ring.made_at);
    let proofs = Proofs::new(boot.own_urls(&names)?, boot.window(), nonces, Arc::clone(&clock), rng.as_ref());
    let authority = Authority::assemble(Parts {
        metrics: Metrics::new().map_err(mint)?,
        registry: Registry::load(Arc::clone(&store), clock.now())?,
        admin_secret: AdminSecret::new(&settings.admin_secret, &admin_hash.text),
        dashboard: Dashboard::new(cookie_key),
        tls_files: TlsFiles::new(settings.tls_dir.clone(), settings.certs_dir.clone(), names),
        chain_broken: !audit::told_breaks(&database)?.is_empty(),
        proofs,
        trust,
        store,
        custody,
        clock,
        rng,
        settings,
    });
    told.iter().for_each(|event| authority.tell(event));
    authority.remember_enrollments().await?;
    authority.write_copies()?;
    Ok(authority)
}

/// Commits a unit of the start; its events are told once there is an authority to count them.
async fn write(store: &Store, told: &mut Vec<Event>, unit: Option<Unit>) -> Result<(), BootError> {
    let Some(unit) = unit else { return Ok(()) };
    told.extend(unit.events.iter().cloned());
    store.submit(unit).await?;
    Ok(())
}

/// A database that is gone while its identity file is there: refused before an empty one takes the place where a
/// backup must be restored.
fn refuse_lost_database(path: &Path, tls_dir: &Path) -> Result<(), BootError> {
    if path.exists() {
        return Ok(());
    }
    match Identity::read(path).map_err(EvidenceError::from)? {
        None => Ok(()),
        Some(identity) => Err(BootError::RootLost {
            found: format!("{} names organisation {}", evidence::file(path).display(), identity.org_id),
            leftovers: [evidence::file(path), tls_dir.join("org-ca.crt")]
                .iter()
                .filter(|path| path.exists())
                .map(|path| path.display().to_string())
                .collect::<Vec<_>>()
                .join(" and "),
        }),
    }
}

/// Another organisation's database: refused before it is adopted, which changes it.
fn refuse_other_org(path: &Path, pinned: Option<&OrgId>) -> Result<(), BootError> {
    if pinned.is_none() || !path.exists() {
        return Ok(());
    }
    // A file that cannot be read is refused by opening it, with what to do.
    let stored = config::peek(path, "org_id").ok().flatten();
    stored_org(stored, pinned).map(drop)
}

/// The stored id of the organisation, if there is one; it must be the pinned one.
fn stored_org(stored: Option<String>, pinned: Option<&OrgId>) -> Result<Option<OrgId>, BootError> {
    let Some(text) = stored else { return Ok(None) };
    let stored = OrgId::parse(&text).map_err(|error| BootError::IllegalOrg(error.to_string()))?;
    match pinned {
        Some(pinned) if *pinned != stored => Err(BootError::OtherOrg { pinned: pinned.clone(), stored }),
        _ => Ok(Some(stored)),
    }
}

/// What starting works with.
struct Boot<'a> {
    settings: &'a Settings,
    database: &'a Arc<Database>,
    custody: &'a dyn Custody,
    clock: &'a dyn Clock,
    rng: &'a dyn Rng,
}

/// The stored hash of the admin secret, and what stores it when it is new.
struct AdminHash {
    text: String,
    write: Option<Unit>,
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
        let pinned = self.settings.org_id.as_ref();
        let stored = stored_org(config::get(self.database, "org_id")?, pinned)?;
        stored.or_else(|| pinned.cloned()).map_or_else(|| derived(root.spki_der()), Ok)
    }

    fn org_of_new(&self, first: &FirstRoot) -> Result<OrgId, BootError> {
        self.settings.org_id.clone().map_or_else(|| derived(first.key.spki_der()), Ok)
    }

    fn check_identity(&self, org: &OrgId, root: &Certificate) -> Result<(), BootError> {
        let path = self.database.path();
        let (expected, actual) =
            (Identity::read(path).map_err(EvidenceError::from)?, Identity::of(org, root));
        match expected {
            Some(expected) if expected != actual && !self.is_predecessor(&expected, &actual)? => {
                Err(BootError::OtherIdentity {
                    file: evidence::file(path),
                    expected: format!("{} with root key {}", expected.org_id, expected.root_spki_sha256),
                    actual: format!("{} with root key {}", actual.org_id, actual.root_spki_sha256),
                })
            }
            _ => Ok(()),
        }
    }

    /// Whether `expected` is this organisation under a root that another took the place of: the process ended between
    /// that commit and the file.
    fn is_predecessor(&self, expected: &Identity, actual: &Identity) -> Result<bool, BootError> {
        let was_root = |ca: &cas::CaRow| {
            ca.kind == CaKind::Root
                && matches!(ca.state, CaState::Superseded | CaState::Retired)
                && Certificate::from_pem(&ca.certificate).is_ok_and(|root| {
                    Thumbprint::of(root.spki_der()).to_string() == expected.root_spki_sha256
                })
        };
        Ok(expected.org_id == actual.org_id && cas::all(self.database)?.iter().any(was_root))
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

    /// A rotation of the Org CA that ended with the process before the new root counted.
    fn half_a_cut(&self) -> Result<Option<Unit>, BootError> {
        let open = rotations::open(self.database)?;
        let why = "the Mastio stopped before the new Org CA counted";
        Ok(open.and_then(|rotation| crate::rotation::undone(&rotation, why, self.clock.now())))
    }

    /// Keys that lie readable although a passphrase is set.
    fn bare_keys(&self) -> Result<Option<Unit>, BootError> {
        let statements = self.custody.seal_bare()?;
        if statements.is_empty() {
            return Ok(None);
        }
        let count = statements.len() as u64;
        Ok(Some(Unit::of(Event::new(&catalogue::KeysSealed { count })).write_all(statements)))
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
    fn admin_secret(&self) -> Result<AdminHash, BootError> {
        const NAME: &str = "admin_secret_hash";
        let secret = &self.settings.admin_secret;
        let stored = config::own(self.database, NAME)?;
        let is_first = stored.is_none();
        if let Some(text) = stored.filter(|hash| admin::matches(secret, hash)) {
            return Ok(AdminHash { text, write: None });
        }
        let text = admin::hash(secret, self.rng).map_err(mint)?;
        let unit = Unit::default().write(config::put_own(NAME, &text));
        let unit = if is_first {
            unit
        } else {
            // Whoever logged in with the old one must do so again.
            unit.write(sessions::end_all(None, self.clock.now()))
                .tell(Event::new(&catalogue::AdminSecretRebootstrapped {}))
        };
        Ok(AdminHash { text, write: Some(unit) })
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
        Ok(report) if chain != org.as_str() || finding.unchained.rows > 0 => {
            vec![Event::new(&catalogue::LegacyChainSealed {
                chain,
                last_seq: report.head.seq,
                last_hash: report.head.hash.map(hex::encode).unwrap_or_default(),
                rows: report.rows,
                unchained_rows: finding.unchained.rows,
                unchained_sha256: hex::encode(finding.unchained.sha256),
            })]
        }
        Ok(_) => vec![],
    }
}
