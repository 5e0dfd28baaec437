//! What is known, so that nobody mistakes it for a typing error, and what setting it does.
//!
//! A variable is refused when ignoring it would leave something open, unprotected or unchecked that the operator
//! asked to have closed; else it warns.

use super::{
    Kind::{self, Boolean, Choice, Path, Secret, Url},
    Stage, Variable, WhenSet,
};

const TEXT: Kind = Kind::Text("text");
const NUMBER: Kind = Kind::Text("a number");

const fn warns(why: &'static str) -> Stage {
    Stage::Later { when_set: WhenSet::Warn, why }
}

const fn refuses(unless: &'static [&'static str], why: &'static str) -> Stage {
    Stage::Later { when_set: WhenSet::Refuse { unless }, why }
}

const fn moot(why: &'static str) -> Stage {
    Stage::Moot { why }
}

const fn elsewhere(why: &'static str) -> Stage {
    Stage::Elsewhere { why }
}

const VAULT: Stage = warns("keys and secrets in Vault are not built yet");
const CLOUD: Stage = warns("keys in a cloud secret manager are not built yet");
const FEDERATION: Stage = warns("federation with a broker is not built yet");
const DASHBOARD: Stage = warns("this part of the dashboard is not built yet");
const DECISION: Stage = warns("outside policy decisions are not built yet");
const BREAKER: Stage = warns("the database-latency breaker is not built yet");
const ANOMALY: Stage = warns("anomaly detection is not built yet");
const WEBAUTHN: Stage = warns("WebAuthn is not built yet");
const GATEWAY: Stage = warns("the AI gateway is not built yet");
const GUARDIAN: Stage = warns("the guardian is not built yet");
const FRONTDESK: Stage = warns("the Frontdesk's user lifecycle is not built yet");
const DEVICES: Stage = warns("device management and attestation are not built yet");
const SESSIONS: Stage = warns("sessions between agents are not built yet");
const EXPORT: Stage = warns("audit export to other services is not built yet");
const LICENCE: Stage = warns("there are no licensed features yet");
const TOOLS: Stage = warns("MCP tools are not built yet");
const INTRA_ORG: Stage = warns("messages within the organisation are always carried here, as `mtls-only`");

const QUEUE: Stage = moot("audit entries are durable before the answer, so there is no queue to tune");
const SWEEP: Stage = moot("expired rows are swept by the server itself");
const ONE_PROCESS: Stage = moot("one process holds all replay state, so nothing is lost without Redis");
const COMPOSE: Stage = elsewhere("the compose bundle");
const TLS_LIBRARY: Stage = elsewhere("TLS libraries of tools beside the server");
const PROVIDER: Stage = elsewhere("a provider's own credential; no provider is built yet");

const fn row(name: &'static str, kind: Kind, default: &'static str, stage: Stage) -> Variable {
    Variable::unbuilt(name, kind, default, stage)
}

pub(crate) const UNBUILT: &[Variable] = &[
    row(
        "MCP_PROXY_REDIS_URL",
        Url,
        "",
        warns("Redis is not built yet; replay protection is complete in one process"),
    ),
    row("MCP_PROXY_ALLOW_INMEMORY_SECURITY_STORES", Boolean, "true", ONE_PROCESS),
    row("MCP_PROXY_DEPLOYMENT_TOPOLOGY", TEXT, "single-worker-vertical", ONE_PROCESS),
    row("MCP_PROXY_LOCAL_TOKEN_REQUIRE_DPOP", Boolean, "true", moot("tokens are always bound to a key")),
    row(
        "MCP_PROXY_LOCAL_AUTH_ENABLED",
        Boolean,
        "true",
        refuses(&[], "the local token endpoint cannot be switched off yet"),
    )
    .or(&["PROXY_LOCAL_AUTH"]),
    // keys
    row("MCP_PROXY_VAULT_ADDR", Url, "", VAULT),
    row("MCP_PROXY_VAULT_TOKEN", Secret, "", VAULT),
    row("MCP_PROXY_VAULT_CA_CERT_PATH", Path, "", VAULT),
    row("MCP_PROXY_VAULT_VERIFY_TLS", Boolean, "true", VAULT),
    row("MCP_PROXY_VAULT_ORG_CA_PATH", TEXT, "secret/data/cullis-mastio/org-ca", VAULT),
    row("MCP_PROXY_VAULT_INTERMEDIATE_CA_PATH", TEXT, "", VAULT),
    row("MCP_PROXY_VAULT_SECRET_PREFIX", TEXT, "secret/data/mcp-proxy/tools", VAULT),
    row(
        "MCP_PROXY_SECRET_BACKEND",
        Choice(&["env", "vault"]),
        "env",
        refuses(
            &[],
            "secrets in Vault are not built yet, and agent keys would be kept in the database instead",
        ),
    ),
    row("MCP_PROXY_SECRET_ENCRYPTION_KEY_B64", Secret, "", GATEWAY),
    row("VAULT_ALLOW_HTTP", Boolean, "false", VAULT),
    row("CULLIS_CLOUD_KMS_AWS_SECRET_ID", TEXT, "", CLOUD),
    row("CULLIS_CLOUD_KMS_AWS_REGION", TEXT, "", CLOUD),
    row("CULLIS_CLOUD_KMS_AZURE_VAULT_URL", Url, "", CLOUD),
    row("CULLIS_CLOUD_KMS_AZURE_SECRET_NAME", TEXT, "", CLOUD),
    row("CULLIS_CLOUD_KMS_GCP_PROJECT_ID", TEXT, "", CLOUD),
    row("CULLIS_CLOUD_KMS_GCP_SECRET_ID", TEXT, "", CLOUD),
    row("PROXY_SKIP_MIGRATIONS", Boolean, "false", moot("the schema is brought up to date at start, always")),
    // operators
    row("MCP_PROXY_OIDC_REDIRECT_URI_BASE", Url, "", DASHBOARD),
    row("MCP_PROXY_VERSION", TEXT, "", DASHBOARD),
    row("MCP_PROXY_CONNECTOR_DOWNLOAD_BASE", Url, "", DASHBOARD),
    row("MCP_PROXY_WEBAUTHN_RP_ID", TEXT, "mastio.local", WEBAUTHN),
    row("MCP_PROXY_WEBAUTHN_RP_NAME", TEXT, "Cullis Mastio", WEBAUTHN),
    row(
        "MCP_PROXY_WEBAUTHN_ENFORCEMENT",
        Choice(&["off", "warn", "required"]),
        "warn",
        refuses(&["off"], "WebAuthn is not built yet, and users would pass without their passkey"),
    ),
    row("MCP_PROXY_WEBAUTHN_CHALLENGE_TTL_SECONDS", NUMBER, "300", WEBAUTHN),
    row("MCP_PROXY_WEBAUTHN_EXPECTED_ORIGIN", TEXT, "", WEBAUTHN),
    row("MCP_PROXY_WEBAUTHN_WARN_INSECURE_OK", Boolean, "false", WEBAUTHN),
    // decisions
    row(
        "MCP_PROXY_PDP_URL",
        Url,
        "",
        refuses(&[], "outside policy decisions are not built yet, and what yours denies would be allowed"),
    ),
    row("MCP_PROXY_PDP_WEBHOOK_HMAC_SECRET", Secret, "", DECISION),
    row(
        "MCP_PROXY_TOOL_PDP_ENABLED",
        Boolean,
        "false",
        refuses(&[], "tool policy decisions are not built yet, and what yours denies would be allowed"),
    ),
    row("MCP_PROXY_TOOL_PDP_FEDERATION_URLS", TEXT, "{}", DECISION),
    row("MCP_PROXY_POLICY_WEBHOOK_ALLOW_PRIVATE_IPS", Boolean, "false", DECISION),
    row("MCP_PROXY_INTERNAL_HOST_ALLOWLIST", TEXT, "", DECISION),
    row(
        "MCP_PROXY_EGRESS_INSPECTION_ENABLED",
        Boolean,
        "false",
        refuses(&[], "inspection of messages is not built yet, and they would pass unread"),
    )
    .or(&["PROXY_EGRESS_INSPECTION_ENABLED"]),
    row(
        "MCP_PROXY_ANOMALY_QUARANTINE_MODE",
        Choice(&["off", "shadow", "enforce"]),
        "shadow",
        refuses(&["off"], "anomaly detection is not built yet, and no agent would be quarantined"),
    ),
    row("MCP_PROXY_ANOMALY_RATIO_THRESHOLD", NUMBER, "10", ANOMALY),
    row("MCP_PROXY_ANOMALY_ABSOLUTE_THRESHOLD_RPS", NUMBER, "100", ANOMALY),
    row("MCP_PROXY_ANOMALY_ABSOLUTE_THRESHOLD_RPS_SOFT", NUMBER, "5", ANOMALY),
    row("MCP_PROXY_ANOMALY_EVALUATION_INTERVAL_S", NUMBER, "30", ANOMALY),
    row("MCP_PROXY_ANOMALY_SUSTAINED_TICKS_REQUIRED", NUMBER, "3", ANOMALY),
    row("MCP_PROXY_ANOMALY_QUARANTINE_TTL_HOURS", NUMBER, "24", ANOMALY),
    row("MCP_PROXY_ANOMALY_CEILING_PER_MIN", NUMBER, "3", ANOMALY),
    row("MCP_PROXY_ANOMALY_BASELINE_MIN_DAYS", NUMBER, "7", ANOMALY),
    row("MCP_PROXY_ANOMALY_ENFORCE_MIN_SHADOW_DAYS", NUMBER, "28", ANOMALY),
    row("MCP_PROXY_CB_DB_LATENCY_ACTIVATION_MS", NUMBER, "500", BREAKER),
    row("MCP_PROXY_CB_DB_LATENCY_DEACTIVATION_MS", NUMBER, "350", BREAKER),
    row("MCP_PROXY_CB_DB_LATENCY_MAX_SHED_FRACTION", NUMBER, "0.95", BREAKER),
    row("MCP_PROXY_CB_DB_LATENCY_PROBE_INTERVAL_S", NUMBER, "1", BREAKER),
    row("MCP_PROXY_CB_DB_LATENCY_PROBE_TIMEOUT_S", NUMBER, "2", BREAKER),
    row("MCP_PROXY_CB_DB_LATENCY_WINDOW_S", NUMBER, "5", BREAKER),
    // federation and routing
    row("MCP_PROXY_ORG_SECRET", Secret, "", FEDERATION),
    row("MCP_PROXY_BROKER_URL", Url, "", FEDERATION),
    row("MCP_PROXY_BROKER_JWKS_URL", Url, "", FEDERATION),
    row("MCP_PROXY_BROKER_VERIFY_TLS", Boolean, "true", FEDERATION),
    row("MCP_PROXY_JWKS_OVERRIDE_PATH", Path, "", FEDERATION),
    row("MCP_PROXY_JWKS_REFRESH_INTERVAL_SECONDS", NUMBER, "3600", FEDERATION),
    row("MCP_PROXY_FEDERATION_SYNC_ENABLED", Boolean, "false", FEDERATION).or(&["PROXY_FEDERATION_SYNC"]),
    row("MCP_PROXY_FEDERATION_POLL_INTERVAL_S", NUMBER, "30", FEDERATION),
    row("MCP_PROXY_FEDERATION_STATS_INTERVAL_S", NUMBER, "300", FEDERATION),
    row("MCP_PROXY_AUDIT_REPLICATION_POLL_INTERVAL_S", NUMBER, "30", FEDERATION),
    row("MCP_PROXY_AUTO_BASELINE_BINDING", Boolean, "true", FEDERATION),
    row("MCP_PROXY_INTRA_ORG_ROUTING", Boolean, "true", INTRA_ORG).or(&["PROXY_INTRA_ORG"]),
    row(
        "MCP_PROXY_TRANSPORT_INTRA_ORG",
        Choice(&["envelope", "mtls-only", "hybrid"]),
        "mtls-only",
        INTRA_ORG,
    )
    .or(&["PROXY_TRANSPORT_INTRA_ORG"]),
    row("PROXY_LOCAL_SWEEPER_DISABLED", Boolean, "false", SWEEP),
    row("PROXY_LOCAL_SWEEP_INTERVAL_SECONDS", NUMBER, "30", SWEEP),
    row("PROXY_LOCAL_SESSION_IDLE_TIMEOUT_SECONDS", NUMBER, "600", SESSIONS),
    row("PROXY_LOCAL_SESSION_HARD_TTL_MINUTES", NUMBER, "60", SESSIONS),
    row("PROXY_LOCAL_SESSION_CAP_ACTIVE_PER_AGENT", NUMBER, "50", SESSIONS),
    row("MCP_PROXY_TOOLS_CONFIG_PATH", Path, "tools.yaml", TOOLS),
    // audit
    row("MCP_PROXY_AUDIT_CHAIN_BATCH_SIZE", NUMBER, "100", QUEUE),
    row("MCP_PROXY_AUDIT_CHAIN_FLUSH_INTERVAL_S", NUMBER, "1.0", QUEUE),
    row("MCP_PROXY_AUDIT_CHAIN_DISABLED", Boolean, "false", QUEUE),
    row("MCP_PROXY_AUDIT_CHAIN_BACKGROUND_FAIL_DENY", Boolean, "true", QUEUE),
    row("MCP_PROXY_AUDIT_CHAIN_BACKGROUND_FAIL_OPEN", Boolean, "false", QUEUE),
    row("CULLIS_AUDIT_EXPORT_S3_BUCKET", TEXT, "", EXPORT),
    row("CULLIS_AUDIT_EXPORT_DATADOG_API_KEY", Secret, "", EXPORT),
    row("CULLIS_LOG_STRIPPED_HEADERS", TEXT, "", moot("request headers are not logged")),
    // models, users, devices
    row("MCP_PROXY_LLM_TOKENS_PER_MINUTE", NUMBER, "100000", GATEWAY),
    row("MCP_PROXY_ANTHROPIC_API_KEY", Secret, "", GATEWAY),
    row("MCP_PROXY_AI_GATEWAY_BACKEND", TEXT, "litellm_embedded", GATEWAY),
    row("MCP_PROXY_AI_GATEWAY_PROVIDER", TEXT, "anthropic", GATEWAY),
    row("MCP_PROXY_AI_GATEWAY_URL", Url, "http://localhost:8787", GATEWAY),
    row("MCP_PROXY_AI_GATEWAY_REQUEST_TIMEOUT_S", NUMBER, "30", GATEWAY),
    row("MCP_PROXY_AI_PROBE_ALLOW_BYO_ENDPOINT", Boolean, "false", GATEWAY),
    row("MCP_PROXY_GUARDIAN_TICKET_KEY", Secret, "", GUARDIAN),
    row("MCP_PROXY_GUARDIAN_TICKET_TTL_S", NUMBER, "30", GUARDIAN),
    row("MCP_PROXY_USER_SESSION_TTL_SECONDS", NUMBER, "3600", FRONTDESK),
    row("MCP_PROXY_FRONTDESK_AUDIT_WARNING_ENABLED", Boolean, "true", FRONTDESK),
    row("MCP_PROXY_FRONTDESK_AMBASSADOR_URL", Url, "", FRONTDESK),
    row("MCP_PROXY_FRONTDESK_ADMIN_SECRET", Secret, "", FRONTDESK),
    row("MCP_PROXY_FRONTDESK_VERIFY_TLS", Boolean, "true", FRONTDESK),
    row("MCP_PROXY_FRONTDESK_CA_BUNDLE", Path, "", FRONTDESK),
    row(
        "MCP_PROXY_MDM_INTUNE_ENABLED",
        Boolean,
        "false",
        refuses(&[], "device management is not built yet, and lost devices would keep their certificates"),
    ),
    row("MCP_PROXY_MDM_INTUNE_TENANT_ID", TEXT, "", DEVICES),
    row("MCP_PROXY_MDM_INTUNE_CLIENT_ID", TEXT, "", DEVICES),
    row("MCP_PROXY_MDM_INTUNE_CLIENT_SECRET", Secret, "", DEVICES),
    row("MCP_PROXY_MDM_INTUNE_POLL_INTERVAL_SECONDS", NUMBER, "600", DEVICES),
    row("MCP_PROXY_ATTESTATION_NONCE_TTL_SECONDS", NUMBER, "60", DEVICES),
    row("MCP_PROXY_ATTESTATION_STALE_THRESHOLD_SECONDS", NUMBER, "900", DEVICES),
    row("MCP_PROXY_ATTESTATION_STALE_WATCHER_ENABLED", Boolean, "true", DEVICES),
    row("MCP_PROXY_ATTESTATION_STALE_WATCHER_INTERVAL_SECONDS", NUMBER, "60", DEVICES),
    row(
        "MCP_PROXY_TIER_MATRIX_PATH",
        Path,
        "",
        refuses(&[], "device tiers are not built yet, and every device would pass"),
    ),
    // around the server
    row("CULLIS_LICENSE_KEY", Secret, "", LICENCE),
    row("CULLIS_LICENSE_PATH", Path, "", LICENCE),
    row("CULLIS_LICENSE_PUBKEY_PATH", Path, "", LICENCE),
    row("MASTIO_DATA_DIR", Path, "", COMPOSE),
    row("MASTIO_NGINX_CERTS_DIR", Path, "", COMPOSE),
    row("MASTIO_AUTO_ADMIN_PWD", Boolean, "", COMPOSE),
    row("CULLIS_CERTS_DIR", Path, "", COMPOSE),
    row("MCP_PROXY_BROKER_CA_BUNDLE", Path, "", COMPOSE),
    row("NGINX_RELOAD_POLL_SECONDS", NUMBER, "60", COMPOSE),
    row("SSL_CERT_FILE", Path, "", TLS_LIBRARY),
    row("REQUESTS_CA_BUNDLE", Path, "", TLS_LIBRARY),
    row("LAKERA_API_KEY", Secret, "", PROVIDER),
    row("OPENAI_API_KEY", Secret, "", PROVIDER),
    row("PORTKEY_API_KEY", Secret, "", PROVIDER),
    row("PORTKEY_GUARDRAIL_ID", TEXT, "", PROVIDER),
    row("REPLICATE_API_KEY", Secret, "", PROVIDER),
    row("LLAMA_GUARD_MODEL", TEXT, "", PROVIDER),
];
