//! Everything that is set, typed and checked.

mod access;
mod audit;
mod dashboard;
mod database;
mod expiry;
mod keys;
mod limits;
mod network;
mod process;
mod tsa;
mod witnessing;

use std::{
    net::SocketAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
use mastio_core::{OrgId, TrustDomain};
use secrecy::SecretString;
use url::Url;

use crate::{Problem, Problems, Source, reader::Reader, variable::variable};

pub use access::{Dpop, EgressDpop};
pub use audit::Audit;
pub use dashboard::Dashboard;
pub use database::Database;
pub use expiry::{Expiry, WarnDays};
pub use keys::{Custody, KeyRotation};
pub use limits::{GlobalLimit, Limits};
pub use network::Listen;
pub use process::LogFormat;
pub use tsa::Tsa;
pub use witnessing::{Syslog, Witness, Witnessing};

/// The settings of one Mastio. Paths are absolute or relative to the working directory, like `dir` itself.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The data directory (`--dir`).
    pub dir: PathBuf,
    /// Whether the production checks were made.
    pub environment: Environment,
    /// The secret of the admin API: at least 16 visible ASCII characters, not the well-known default.
    pub admin_secret: SecretString,
    /// How operators log in to the dashboard.
    pub dashboard: Dashboard,
    /// The pinned organisation id; without one the stored or derived id counts (contract `enrollment.md` §1).
    pub org_id: Option<OrgId>,
    /// The SPIFFE trust domain of the agents.
    pub trust_domain: TrustDomain,
    /// No uplink to a broker. Always true: federation is not built yet.
    pub standalone: bool,
    /// Where agents reach this Mastio: `http` or `https`, no path (so it prints with one `/` at its end).
    pub public_url: Option<Url>,
    /// The addresses to listen on.
    pub listen: Listen,
    /// From whom forwarded certificates and addresses are believed; empty: from nobody.
    pub trusted_proxies: Vec<IpNet>,
    /// What such a proxy must present as well.
    pub edge_secret: Option<SecretString>,
    /// Web origins that may call the API, as browsers write them; `*` stands alone and only outside production.
    pub allowed_origins: Vec<String>,
    /// Names and addresses of the TLS server certificate, separated by commas, as typed; the public host is added by
    /// whoever issues it (contract `operations.md` §3).
    pub server_names_csv: String,
    /// The directory of the TLS server certificate and `org-ca.crt`.
    pub tls_dir: PathBuf,
    /// The directory of the copies for operators, `<dir>/certs`.
    pub certs_dir: PathBuf,
    /// The TLS server certificate is renewed when less than this is left.
    pub server_cert_renew_within: Duration,
    /// How often its age is looked at while running; `None`: only at start.
    pub server_cert_watch_every: Option<Duration>,
    /// Where the state is kept.
    pub database: Database,
    /// Seals private keys at rest: trimmed, at least 16 characters, in production 32.
    pub at_rest_passphrase: Option<SecretString>,
    /// Where the Org CA key lives.
    pub custody: Custody,
    /// When the intermediate and the signing key are rotated.
    pub key_rotation: KeyRotation,
    /// Refuse to start on an Org CA with path length zero.
    pub strict_pki: bool,
    /// How proofs of possession are judged.
    pub dpop: Dpop,
    /// How long an agent's token lives: 1 to 3600 s (design §10.10).
    pub token_ttl: Duration,
    /// How long the previous certificate works after a voluntary renewal.
    pub agent_cert_grace: Duration,
    /// How often grace slots whose time is over are emptied; `None`: never. What is in them does not count any more.
    pub grace_sweep_every: Option<Duration>,
    /// When the ends of certificates are told.
    pub expiry: Expiry,
    /// How the audit log is made provable and handed out, and what becomes of old entries.
    pub audit: Audit,
    /// What is too much.
    pub limits: Limits,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Threads of the process; `None`: one per processor.
    pub workers: Option<NonZeroUsize>,
    /// The version that `/health` reports: 0.5.0 or later, or no version at all such as `dev`.
    pub reported_version: String,
}

/// Settings, and what is odd about them without stopping the boot.
#[derive(Debug)]
pub struct Loaded {
    /// What is in effect.
    pub settings: Settings,
    /// Unknown names, settings without effect, risks: to be logged one by one.
    pub warnings: Vec<Problem>,
}

/// Whether this is the real thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// Trials and tests; the default.
    Development,
    /// Turns on the production checks (contract `operations.md` §2.4), as far as they concern what is built: signing
    /// key, passphrase of 32 characters and https address are set, audit fails closed, no `*` among the origins.
    Production,
}

impl Environment {
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "development" => Some(Self::Development),
            "production" => Some(Self::Production),
            _ => None,
        }
    }
}

impl Settings {
    /// Reads everything. Relative paths are taken relative to `dir`. Reads the files that `<NAME>_FILE` variables
    /// name, and nothing else.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(source: &Source, dir: &Path) -> Result<Loaded, Problems> {
        let mut reader = Reader::new(source, dir);
        let settings = read(&mut reader);
        reader.look_at_the_rest();
        let warnings = reader.finish()?;
        // Without a problem nothing is missing; the tests read every default.
        settings.map(|settings| Loaded { settings, warnings }).ok_or_else(|| Problems(Vec::new()))
    }

    /// What to tell the operator when `address` is taken (seed runbook, "port is already allocated").
    #[must_use]
    pub fn address_taken(&self, address: SocketAddr) -> String {
        if self.listen.plain == Some(address) {
            return format!(
                "{address} is taken by another process; set MCP_PROXY_HTTP_LISTEN to a free address"
            );
        }
        let public = self.public_url.as_ref().map_or("not set", Url::as_str);
        format!(
            "{address} is taken by another process; set MCP_PROXY_PORT to a free port, and the same port in \
             MCP_PROXY_PROXY_PUBLIC_URL (now {public}), because agents sign that address"
        )
    }
}

/// First everything is read, so that every problem is noted; then it is put together.
fn read(read: &mut Reader<'_>) -> Option<Settings> {
    let admin_secret = keys::admin_secret(read);
    let dashboard = dashboard::dashboard(read);
    let org_id = read.parse(variable!("MCP_PROXY_ORG_ID"), |text| OrgId::parse(text).ok());
    let trust_domain = read.parse(variable!("MCP_PROXY_TRUST_DOMAIN"), |text| TrustDomain::parse(text).ok());
    let standalone = process::standalone(read);
    let public_url = network::public_url(read);
    let listen = network::listen(read);
    let trusted_proxies = network::trusted_proxies(read);
    let edge_secret = keys::edge_secret(read);
    let allowed_origins = network::allowed_origins(read);
    let server_names_csv = network::server_names(read);
    let tls_dir = read.path(variable!("MCP_PROXY_NGINX_CERT_DIR"));
    let renew_within = network::renew_within(read);
    let watch_every = network::watch_every(read);
    let database = database::database(read);
    let at_rest_passphrase = keys::at_rest_passphrase(read);
    let custody = keys::custody(read);
    let key_rotation = keys::rotation(read);
    let strict_pki = read.boolean(variable!("MCP_PROXY_STRICT_PKI"));
    process::audit_fails_closed(read);
    let dpop = access::dpop(read);
    let token_ttl = read.duration(variable!("MCP_PROXY_LOCAL_TOKEN_TTL_SECONDS"), 1);
    let agent_cert_grace = read.duration(variable!("MCP_PROXY_AGENT_CERT_GRACE_PERIOD_HOURS"), 3600);
    let grace_sweep_every = access::grace_sweep_every(read);
    let expiry = expiry::expiry(read);
    let audit = audit::audit(read);
    let limits = limits::limits(read);
    let log_format = process::log_format(read);
    let workers = read.integer(variable!("MASTIO_WORKERS")).and_then(NonZeroUsize::new);
    let reported_version = process::reported_version(read);

    Some(Settings {
        dir: read.dir().to_owned(),
        environment: read.environment(),
        admin_secret: admin_secret?,
        dashboard: dashboard?,
        org_id,
        trust_domain: trust_domain?,
        standalone: standalone?,
        public_url,
        listen: listen?,
        trusted_proxies,
        edge_secret,
        allowed_origins,
        server_names_csv: server_names_csv?,
        tls_dir: tls_dir?,
        certs_dir: read.dir().join("certs"),
        server_cert_renew_within: renew_within?,
        server_cert_watch_every: watch_every?,
        database: database?,
        at_rest_passphrase,
        custody: custody?,
        key_rotation: key_rotation?,
        strict_pki: strict_pki?,
        dpop: dpop?,
        token_ttl: token_ttl?,
        agent_cert_grace: agent_cert_grace?,
        grace_sweep_every: grace_sweep_every?,
        expiry: expiry?,
        audit: audit?,
        limits: limits?,
        log_format: log_format?,
        workers,
        reported_version: reported_version?,
    })
}
