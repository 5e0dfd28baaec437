//! What this release uses.

mod audit;

use super::{Kind, Variable};

pub(super) use audit::AUDIT;

const NO_LIMIT: u64 = u32::MAX as u64;
/// Up to a hundred years.
const DAYS: Kind = Kind::Integer { min: 1, max: 36_500 };

pub(crate) const IDENTITY: &[Variable] = &[
    Variable::built(
        "MCP_PROXY_ENVIRONMENT",
        Kind::Choice(&["development", "production"]),
        "development",
        "`production` turns on the production checks: signing key, passphrase and https address must be set",
    ),
    Variable::built(
        "MCP_PROXY_ADMIN_SECRET",
        Kind::Secret,
        "",
        "required: the secret of the admin API (`X-Admin-Secret`), at least 16 visible ASCII characters; \
         make one with `openssl rand -hex 32`",
    ),
    Variable::built(
        "MCP_PROXY_DASHBOARD_SIGNING_KEY",
        Kind::Secret,
        "",
        "signs the session cookies of the dashboard; at least 16 characters, required in production; another one \
         logs everybody out",
    ),
    Variable::built(
        "MCP_PROXY_DASHBOARD_SIGNING_KEY_PATH",
        Kind::Path,
        "certs/.mcp_proxy_dashboard_signing_key",
        "where that key is made and kept when none is set",
    ),
    Variable::built(
        "MCP_PROXY_INITIAL_ADMIN_PASSWORD",
        Kind::Secret,
        "",
        "a password for the dashboard beside the admin secret, 8 to 72 bytes; stored as a hash when there is none yet, \
         without effect afterwards",
    ),
    Variable::built(
        "MCP_PROXY_FORCE_LOCAL_PASSWORD",
        Kind::Boolean,
        "false",
        "lets the password log in although it was switched off; the admin secret always does",
    ),
    Variable::built(
        "MCP_PROXY_ORG_ID",
        Kind::Text("letters, digits, '.', '_' or '-', at most 128, beginning with a letter or digit"),
        "",
        "pins the organisation id; unset: the stored one, or derived from the Org CA key at first boot",
    ),
    Variable::built(
        "MCP_PROXY_TRUST_DOMAIN",
        Kind::Text("lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit"),
        "cullis.local",
        "the SPIFFE trust domain of the agents",
    )
    .or(&["PROXY_TRUST_DOMAIN"]),
    Variable::built(
        "MCP_PROXY_STANDALONE",
        Kind::Boolean,
        "true",
        "no uplink to a broker; `false` is refused, because federation is not built yet",
    ),
    Variable::built(
        "MCP_PROXY_PROXY_PUBLIC_URL",
        Kind::Text("an address such as https://mastio.example.com:9443, without path or query"),
        "",
        "the address that agents use and sign in their DPoP proofs; its host joins the server certificate; \
         required, with https, in production",
    ),
];

pub(crate) const NETWORK: &[Variable] = &[
    Variable::built("MCP_PROXY_HOST", Kind::Text("an IP address"), "0.0.0.0", "address of the TLS listener"),
    Variable::built(
        "MCP_PROXY_PORT",
        Kind::Integer { min: 0, max: 65_535 },
        "9443",
        "port of the TLS listener; 0 takes any free one. Change MCP_PROXY_PROXY_PUBLIC_URL with it",
    ),
    Variable::built(
        "MCP_PROXY_HTTP_LISTEN",
        Kind::Text("an address and port such as 127.0.0.1:9100, or off"),
        "127.0.0.1:9100",
        "the plain listener for a TLS sidecar, health and metrics; `off` closes it",
    ),
    Variable::built(
        "MCP_PROXY_TRUSTED_PROXIES",
        Kind::Networks,
        "",
        "whose forwarded client certificates and addresses are believed; empty: nobody's, not even loopback's",
    ),
    Variable::built(
        "MCP_PROXY_EDGE_SECRET",
        Kind::Secret,
        "",
        "a trusted proxy must present it too; at least 16 visible ASCII characters",
    ),
    Variable::built(
        "MCP_PROXY_ALLOWED_ORIGINS",
        Kind::Text("origins such as https://app.example.com, separated by commas, or *"),
        "",
        "web origins that may call the API (CORS); empty: none; `*` is refused in production",
    ),
    Variable::built(
        "MCP_PROXY_NGINX_SAN",
        Kind::Text("host names and IP addresses, separated by commas"),
        "mastio.local,localhost",
        "names in the TLS server certificate, the first is its common name; the public host is added",
    ),
    Variable::built(
        "MCP_PROXY_NGINX_CERT_DIR",
        Kind::Path,
        "nginx-certs",
        "where the TLS server certificate and `org-ca.crt` are written",
    ),
    Variable::built(
        "MCP_PROXY_NGINX_CERT_RENEW_WITHIN_DAYS",
        Kind::Integer { min: 1, max: 364 },
        "30",
        "the TLS server certificate (365 days) is renewed when fewer days are left",
    ),
    Variable::built(
        "MCP_PROXY_NGINX_CERT_WATCHER_ENABLED",
        Kind::Boolean,
        "true",
        "renew the TLS server certificate while running; `false`: only at start",
    ),
    Variable::built(
        "MCP_PROXY_NGINX_CERT_WATCHER_INTERVAL_SECONDS",
        Kind::Integer { min: 1, max: 604_800 },
        "86400",
        "how often the TLS server certificate's age is looked at",
    ),
];

pub(crate) const STORAGE: &[Variable] = &[
    Variable::built(
        "MCP_PROXY_DATABASE_URL",
        Kind::Text("sqlite:///relative/path, sqlite:////absolute/path or a plain path"),
        "data/mcp_proxy.db",
        "the SQLite file; `sqlite+aiosqlite:///` is understood; `postgresql://` is refused, not built yet",
    )
    .or(&["PROXY_DB_URL"]),
    Variable::built(
        "MCP_PROXY_DB_ENCRYPTION_KEY",
        Kind::Secret,
        "",
        "passphrase that seals the private keys in the database; at least 16 characters, 32 in production, \
         where it is required; unset: the keys lie there in clear",
    ),
    Variable::built(
        "MCP_PROXY_KMS_BACKEND",
        Kind::Choice(&["local", "filesystem"]),
        "local",
        "where the Org CA key lives; `filesystem` is another name of `local`; others are refused, not built yet",
    ),
    Variable::built(
        "CULLIS_MASTIO_ROTATION_MIN_INTERVAL_SECONDS",
        Kind::Integer { min: 0, max: 31_536_000 },
        "30",
        "how old the key that signs tokens must be before an operator may rotate it; 0: it need not be",
    ),
    Variable::built(
        "MCP_PROXY_PKI_AUTO_ROTATE_ENABLED",
        Kind::Boolean,
        "true",
        "rotate the intermediate and the key that signs tokens when 30 days are left; `false`: that is left to you",
    ),
    Variable::built(
        "MCP_PROXY_STRICT_PKI",
        Kind::Boolean,
        "false",
        "refuse to start (exit 3) on an Org CA with path length zero",
    ),
    Variable::built(
        "MCP_PROXY_AUDIT_FAIL_DENY",
        Kind::Boolean,
        "true",
        "a call whose audit entry cannot be written is refused, always; `false` is refused in production and \
         has no effect elsewhere",
    ),
];

pub(crate) const ACCESS: &[Variable] = &[
    Variable::built(
        "MCP_PROXY_LOCAL_TOKEN_TTL_SECONDS",
        Kind::Integer { min: 1, max: 3600 },
        "300",
        "how long an agent's token lives",
    ),
    Variable::built(
        "MCP_PROXY_DPOP_IAT_WINDOW",
        Kind::Integer { min: 1, max: 600 },
        "60",
        "how old a DPoP proof may be, in seconds",
    ),
    Variable::built(
        "MCP_PROXY_DPOP_CLOCK_SKEW",
        Kind::Integer { min: 0, max: 60 },
        "5",
        "how far in the future a DPoP proof may be dated, in seconds",
    ),
    Variable::built(
        "MCP_PROXY_EGRESS_DPOP_MODE",
        Kind::Choice(&["off", "optional", "required", "none", "bound"]),
        "optional",
        "whether a call over mTLS also needs a DPoP proof; `none` is `off`, `bound` is `required`; two names with \
         different values are refused",
    )
    .or(&["CULLIS_EGRESS_DPOP_MODE"]),
    Variable::built(
        "MCP_PROXY_AGENT_CERT_GRACE_PERIOD_HOURS",
        Kind::Integer { min: 0, max: 8760 },
        "48",
        "how long the previous certificate works after a voluntary renewal; rotate and revoke give none",
    ),
    Variable::built(
        "MCP_PROXY_AGENT_CERT_GRACE_CLEANUP_ENABLED",
        Kind::Boolean,
        "true",
        "whether certificates of before are forgotten when their grace period is over; they do not work any more \
         either way",
    ),
    Variable::built(
        "MCP_PROXY_AGENT_CERT_GRACE_CLEANUP_INTERVAL_SECONDS",
        Kind::Integer { min: 1, max: 86_400 },
        "3600",
        "how often that is looked after, in seconds",
    ),
];

pub(crate) const EXPIRY: &[Variable] = &[
    Variable::built(
        "MCP_PROXY_CERT_EXPIRY_WATCHER_ENABLED",
        Kind::Boolean,
        "true",
        "tell once, in the audit log, when the end of a certificate comes near",
    ),
    Variable::built(
        "MCP_PROXY_CERT_EXPIRY_WATCHER_INTERVAL_SECONDS",
        Kind::Integer { min: 1, max: 604_800 },
        "86400",
        "how often the ends of all certificates are looked at; they are at every start",
    ),
    Variable::built(
        "MCP_PROXY_CERT_EXPIRY_WARN_DAYS_ORG_ROOT",
        DAYS,
        "1825",
        "days before the end of the Org CA at which that is told first",
    ),
    Variable::built(
        "MCP_PROXY_CERT_EXPIRY_WARN_DAYS_INTERMEDIATE",
        DAYS,
        "730",
        "the same for the intermediate",
    ),
    Variable::built(
        "MCP_PROXY_CERT_EXPIRY_WARN_DAYS_MASTIO_LEAF",
        DAYS,
        "90",
        "the same for the certificate of the key that signs tokens",
    ),
    Variable::built(
        "MCP_PROXY_CERT_EXPIRY_WARN_DAYS_AGENT",
        DAYS,
        "90",
        "the same for certificates of active agents; at most a third of their life before",
    ),
    Variable::built(
        "MCP_PROXY_CERT_EXPIRY_WARN_DAYS_NGINX",
        DAYS,
        "30",
        "the same for the TLS server certificate",
    ),
];

pub(crate) const LIMITS: &[Variable] = &[
    Variable::built(
        "MCP_PROXY_RATE_LIMIT_PER_MINUTE",
        Kind::Integer { min: 1, max: NO_LIMIT },
        "1800",
        "requests in any 60 seconds of one agent, and of one address at the token endpoint and the admin API",
    ),
    Variable::built(
        "MCP_PROXY_GLOBAL_RATE_LIMIT_RPS",
        Kind::Text("a number above 0"),
        "",
        "requests per second that the process takes in all; unset: no such limit",
    ),
    Variable::built(
        "MCP_PROXY_GLOBAL_RATE_LIMIT_BURST",
        Kind::Integer { min: 1, max: NO_LIMIT },
        "1000",
        "requests that may come at once when the process-wide limit is set",
    ),
    Variable::built(
        "MCP_PROXY_MAX_REQUEST_BODY_BYTES",
        Kind::Integer { min: 0, max: 1 << 40 },
        "2097152",
        "the longest request body; 0 lifts the limit",
    ),
];

pub(crate) const PROCESS: &[Variable] = &[
    Variable::built(
        "MASTIO_WORKERS",
        Kind::Integer { min: 1, max: 1024 },
        "",
        "threads of the one process, which share all state; unset: one per processor",
    ),
    Variable::built(
        "LOG_FORMAT",
        Kind::Choice(&["text", "json"]),
        "text",
        "how log lines on standard error look",
    ),
    Variable::built(
        "CULLIS_MASTIO_VERSION",
        Kind::Text("0.5.0 or later"),
        env!("CARGO_PKG_VERSION"),
        "the version that `/health` reports; Connectors refuse one below 0.5.0, and accept words such as `dev`",
    ),
];
