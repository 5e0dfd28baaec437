//! Starting: from settings to an [`Authority`], minting what is missing only when nothing says that it once was.

mod adopted_spire;
mod backfill;
mod dashboard;
mod error;
mod first_keys;
mod root;
mod sealing;
mod unregistered;

use std::sync::Arc;

use mastio_config::{Database as DatabaseSetting, Settings};
use mastio_core::{Clock, Event, OrgId, Rng, Stamp, event::catalogue};
use mastio_custody::{Custody, Local};
use mastio_jose::{HtuSet, NonceRing, Window};
use mastio_pki::ServerNames;
use mastio_store::{
    Adoption, OpenOptions, Statement, Store, Unit, audit, config, dashboard as sessions, rotations,
    sqlite::Database,
};

pub use self::error::BootError;
use self::root::{Root, refuse_lost_database, refuse_other_org};
use crate::{
    Authority,
    admin::{self, AdminSecret},
    authority::Parts,
    dashboard::{CookieKey, Dashboard},
    evidence::{self, Identity},
    files::TlsFiles,
    metrics::Metrics,
    nonces,
    proofs::Proofs,
    registry::Registry,
    trust::{Halt, Trust},
    updates,
};

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
    let (database, adoption) = open(&settings, clock.now())?;
    let custody = key_store(&settings, &database, &clock, &rng);
    let boot = Boot {
        settings: &settings,
        database: &database,
        custody: custody.as_ref(),
        clock: clock.as_ref(),
        rng: rng.as_ref(),
    };
    let (org, root) = boot.root()?;
    let store = Arc::new(Store::start(Arc::clone(&database), org.clone(), Arc::clone(&clock), rng.as_ref())?);
    let completed = boot.complete(&store, &org, root, &adoption).await?;
    let trust = boot.trust(&org)?;
    boot.keep_identity(&trust)?;
    let names = boot.server_names()?;
    let (urls, window) = (boot.own_urls(&names)?, boot.window());
    let authority = Authority::assemble(Parts {
        metrics: Metrics::new().map_err(mint)?,
        registry: Registry::load(Arc::clone(&store), clock.now())?,
        admin_secret: AdminSecret::new(&settings.admin_secret, &completed.admin_hash),
        dashboard: Dashboard::new(completed.cookie_key),
        tls_files: TlsFiles::new(settings.tls_dir.clone(), settings.certs_dir.clone(), names),
        chain_broken: !audit::told_breaks(&database)?.is_empty(),
        proofs: Proofs::new(urls, window, completed.nonces, Arc::clone(&clock), rng.as_ref()),
        trust,
        store,
        custody,
        clock,
        rng,
        settings,
    });
    completed.told.iter().for_each(|event| authority.tell(event));
    authority.remember_enrollments().await?;
    authority.write_copies()?;
    Ok(authority)
}

/// The database, unless it cannot be that of this deployment.
fn open(settings: &Settings, now: Stamp) -> Result<(Arc<Database>, Adoption), BootError> {
    let DatabaseSetting::Sqlite(path) = &settings.database;
    refuse_lost_database(path, &settings.tls_dir)?;
    refuse_other_org(path, settings.org_id.as_ref())?;
    let backups = settings.dir.join("backups");
    Ok(Database::open(&OpenOptions { path, backups: &backups, now })?)
}

fn key_store(
    settings: &Settings,
    database: &Arc<Database>,
    clock: &Arc<dyn Clock>,
    rng: &Arc<dyn Rng>,
) -> Arc<dyn Custody> {
    let passphrase = settings.at_rest_passphrase.as_ref();
    let custody = Local::new(Arc::clone(database), passphrase, Arc::clone(clock), Arc::clone(rng));
    let sealed = if custody.is_sealed() { ", sealed" } else { "" };
    tracing::info!("KMS provider: {} (proxy_config DB{sealed})", custody.name());
    Arc::new(custody)
}

/// Commits a unit of the start.
async fn write(store: &Store, told: &mut Vec<Event>, unit: Option<Unit>) -> Result<(), BootError> {
    let Some(unit) = unit else { return Ok(()) };
    told.extend(unit.events.iter().cloned());
    store.submit(unit).await?;
    Ok(())
}

/// What starting works with.
struct Boot<'a> {
    settings: &'a Settings,
    database: &'a Arc<Database>,
    custody: &'a dyn Custody,
    clock: &'a dyn Clock,
    rng: &'a dyn Rng,
}

/// What there is once everything is stored that a Mastio needs.
struct Completed {
    /// The events of what was written, which are told once there is an authority to count them.
    told: Vec<Event>,
    admin_hash: String,
    cookie_key: CookieKey,
    /// The keys of nonces, and since when they are in use.
    nonces: (NonceRing, Stamp),
}

/// The stored hash of the admin secret, and what stores it when it is new.
struct AdminHash {
    text: String,
    write: Option<Unit>,
}

impl Boot<'_> {
    /// Writes what is missing, unit after unit: each looks at what the one before has written.
    async fn complete(
        &self,
        store: &Store,
        org: &OrgId,
        root: Root,
        adoption: &Adoption,
    ) -> Result<Completed, BootError> {
        let mut told = Vec::new();
        write(store, &mut told, self.missing(org, root)?).await?;
        write(store, &mut told, self.unregistered()?).await?;
        write(store, &mut told, self.half_a_cut()?).await?;
        write(store, &mut told, updates::interrupted(self.database)?).await?;
        self.seal(store, &mut told).await?;
        if adoption.unsealed.is_some() {
            backfill::adopted_agents(store, &self.own_cas()?, self.clock.now()).await?;
        }
        write(store, &mut told, self.tell_adoption(adoption, org)?).await?;
        let admin_hash = self.admin_secret()?;
        write(store, &mut told, admin_hash.write).await?;
        write(store, &mut told, updates::detect(self.database, self.custody, self.clock.now())?).await?;
        let cookie_key = self.cookie_key();
        write(store, &mut told, self.sessions(&cookie_key)?).await?;
        write(store, &mut told, self.password()?).await?;
        write(store, &mut told, self.adopted_spire_bundle()?).await?;
        let nonces = nonces::load_ring(self.database, self.custody, self.clock.now(), self.rng)?;
        write(store, &mut told, nonces.write).await?;
        Ok(Completed { told, admin_hash: admin_hash.text, cookie_key, nonces: (nonces.ring, nonces.made_at) })
    }

    /// The trust state, which may say that nothing is signed.
    fn trust(&self, org: &OrgId) -> Result<Trust, BootError> {
        let (domain, now) = (&self.settings.trust_domain, self.clock.now());
        let trust = Trust::load(self.database, self.custody, org, domain, 1, now)?
            .ok_or_else(|| mint("the root is gone right after it was stored"))?;
        match &trust.halt {
            Some(halt @ Halt::PendingUpdate(migration_id)) => {
                tracing::error!(
                    migration_id,
                    "cullis_proxy_sign_halt_pending_migration: {halt}; apply it: mastio pki updates apply {migration_id}"
                );
            }
            Some(halt) => tracing::error!("cullis_proxy_sign_halt_pending_migration: {halt}"),
            None => {}
        }
        if let Some(migration_id) = &trust.by_halves {
            tracing::error!(
                migration_id,
                "the Python implementation replaced the Org CA and left the intermediate below the old one: agents are \
                 refused with the certificates that they hold; take it back: mastio pki updates rollback {migration_id} \
                 (docs/updates.md)"
            );
        }
        Ok(trust)
    }

    /// Writes the identity file when it is missing or of a root of before.
    fn keep_identity(&self, trust: &Trust) -> Result<(), BootError> {
        let (path, identity) = (self.database.path(), Identity::of(&trust.org, &trust.root));
        if Identity::read(path).ok().flatten().as_ref() == Some(&identity) {
            return Ok(());
        }
        let written = identity.write(path);
        written.map_err(|source| BootError::IdentityFile { path: evidence::file(path), source })
    }

    /// A rotation of the Org CA that ended with the process before the new root counted.
    fn half_a_cut(&self) -> Result<Option<Unit>, BootError> {
        let open = rotations::open(self.database)?;
        let why = "the Mastio stopped before the new Org CA counted";
        Ok(open.and_then(|rotation| crate::rotation::undone(&rotation, why, self.clock.now())))
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
