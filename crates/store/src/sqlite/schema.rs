//! The tables. A fresh database has those of the existing system that we use, under their names and columns, so that
//! operators' SQL works; everything of our own is in new tables (design §6).

mod archive;
mod evidence;
mod issuers;
mod overlap;
mod search;
mod trust;
mod updates;

use archive::ARCHIVE_TABLES;
use evidence::{EVIDENCE_TABLES, SPLIT_VIEWS, SUSPICIONS, THINNING};
use issuers::ISSUERS;
use overlap::OVERLAP_TABLES;
use search::SEARCH_TABLES;
use trust::TRUST_TABLES;
use updates::{UPDATE_TABLES, UPDATE_UNDER_WAY};

/// What `cullis_schema` says when every step was taken.
pub(super) const VERSION: i64 = STEPS.len() as i64;

/// What makes each version out of the one before it. A fresh and an adopted database take all steps, one of ours those
/// that it lacks. Steps only add, and never change once they are released.
pub(super) const STEPS: [&str; 14] = [
    FIRST_TABLES,
    AGENT_TABLES,
    MESSAGE_INDEXES,
    EVIDENCE_TABLES,
    SEARCH_TABLES,
    SPLIT_VIEWS,
    ARCHIVE_TABLES,
    SUSPICIONS,
    TRUST_TABLES,
    THINNING,
    OVERLAP_TABLES,
    UPDATE_TABLES,
    UPDATE_UNDER_WAY,
    ISSUERS,
];

/// The tables that the existing system has too, as it left them at its revision `0042_audit_log_v2`, without the
/// indexes on `local_audit`: each costs every audited request a page. What they are for is in [`SEARCH_TABLES`],
/// which are written outside the path of requests.
pub(super) const SHARED_TABLES: &str = r#"
CREATE TABLE proxy_config (
    "key" TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);
CREATE TABLE internal_agents (
    agent_id TEXT NOT NULL PRIMARY KEY,
    display_name TEXT NOT NULL,
    capabilities TEXT DEFAULT '[]' NOT NULL,
    cert_pem TEXT,
    created_at TEXT NOT NULL,
    is_active INTEGER DEFAULT 1 NOT NULL,
    federated BOOLEAN DEFAULT 0 NOT NULL,
    federated_at DATETIME,
    federation_revision INTEGER DEFAULT 0 NOT NULL,
    last_pushed_revision INTEGER DEFAULT 0 NOT NULL,
    device_info TEXT,
    dpop_jkt TEXT,
    enrollment_method TEXT,
    spiffe_id TEXT,
    enrolled_at TEXT,
    reach VARCHAR(10) DEFAULT 'both' NOT NULL,
    last_attestation TEXT,
    revoked_at DATETIME,
    revoked_reason VARCHAR(128),
    last_stale_event_at DATETIME,
    previous_cert_pem TEXT,
    previous_dpop_jkt TEXT,
    previous_grace_period_expires_at TEXT,
    principal_type TEXT DEFAULT 'agent' NOT NULL
);
CREATE INDEX idx_internal_agents_grace_expiry ON internal_agents (previous_grace_period_expires_at);
CREATE TABLE mastio_keys (
    kid TEXT NOT NULL PRIMARY KEY,
    pubkey_pem TEXT NOT NULL,
    privkey_pem TEXT NOT NULL,
    cert_pem TEXT,
    created_at TEXT NOT NULL,
    activated_at TEXT,
    deprecated_at TEXT,
    expires_at TEXT
);
CREATE INDEX idx_mastio_keys_active ON mastio_keys (activated_at, deprecated_at);
CREATE TABLE pki_key_store (
    key_id TEXT NOT NULL PRIMARY KEY,
    key_type TEXT NOT NULL,
    ciphertext TEXT NOT NULL,
    cert_pem TEXT NOT NULL,
    created_at TEXT NOT NULL,
    activated_at TEXT,
    deprecated_at TEXT,
    expires_at TEXT
);
CREATE INDEX idx_pki_key_store_type_active ON pki_key_store (key_type, activated_at, deprecated_at);
CREATE TABLE local_audit (
    id INTEGER NOT NULL PRIMARY KEY,
    timestamp TEXT NOT NULL,
    agent_id TEXT,
    event_type TEXT NOT NULL,
    details TEXT,
    previous_hash TEXT,
    entry_hash TEXT,
    session_id TEXT,
    org_id TEXT,
    result TEXT DEFAULT 'ok' NOT NULL,
    chain_seq INTEGER,
    peer_org_id TEXT,
    peer_row_hash TEXT,
    hash_format TEXT,
    CONSTRAINT uq_local_audit_org_chain_seq UNIQUE (org_id, chain_seq)
);
CREATE TABLE local_messages (
    msg_id TEXT NOT NULL PRIMARY KEY,
    session_id TEXT,
    sender_agent_id TEXT NOT NULL,
    recipient_agent_id TEXT NOT NULL,
    payload_ciphertext TEXT NOT NULL,
    idempotency_key TEXT,
    delivery_status SMALLINT DEFAULT 0 NOT NULL,
    enqueued_at TEXT NOT NULL,
    delivered_at TEXT,
    expires_at TEXT,
    seq INTEGER,
    nonce TEXT,
    signature TEXT,
    attempts INTEGER DEFAULT 0 NOT NULL,
    expired_at TEXT,
    is_oneshot INTEGER DEFAULT 0 NOT NULL,
    correlation_id TEXT,
    reply_to_correlation_id TEXT,
    CONSTRAINT uq_local_messages_session_seq UNIQUE (session_id, seq),
    CONSTRAINT uq_local_messages_nonce UNIQUE (nonce)
);
CREATE INDEX idx_local_messages_recipient_oneshot
    ON local_messages (recipient_agent_id, is_oneshot, delivery_status);
CREATE TRIGGER local_audit_no_update BEFORE UPDATE ON local_audit FOR EACH ROW BEGIN
    SELECT RAISE(ABORT, 'local_audit is append-only (CRIT-3): UPDATE not permitted');
END;
"#;

const FIRST_TABLES: &str = r#"
CREATE TABLE cullis_schema (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    version INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    adopted_from TEXT,
    adoption_sealed INTEGER NOT NULL CHECK (adoption_sealed IN (0, 1))
) STRICT;
CREATE TABLE cullis_writer (
    id INTEGER PRIMARY KEY CHECK (id IN (1, 2)), -- the server's writer, a tool's
    ticket INTEGER NOT NULL
) STRICT;
INSERT INTO cullis_writer (id, ticket) VALUES (1, 0), (2, 0);
CREATE TABLE cullis_config (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE agent_epochs (
    agent_id TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL CHECK (epoch > 0)
) STRICT, WITHOUT ROWID;
CREATE TABLE message_keys (
    sender TEXT NOT NULL,
    recipient TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    msg_id TEXT NOT NULL,
    PRIMARY KEY (sender, recipient, idempotency_key)
) STRICT, WITHOUT ROWID;
"#;

/// Enrolment, revocation and renewal. Three tables exist in adopted databases already.
const AGENT_TABLES: &str = r#"
CREATE TABLE IF NOT EXISTS pending_enrollments (
    session_id TEXT NOT NULL PRIMARY KEY,
    pubkey_pem TEXT NOT NULL,
    pubkey_fingerprint TEXT NOT NULL,
    requester_name TEXT NOT NULL,
    requester_email TEXT NOT NULL,
    reason TEXT,
    device_info TEXT,
    status TEXT DEFAULT 'pending' NOT NULL,
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    decided_at TEXT,
    decided_by TEXT,
    agent_id_assigned TEXT,
    capabilities_assigned TEXT DEFAULT '[]',
    groups_assigned TEXT DEFAULT '[]',
    cert_pem TEXT,
    rejection_reason TEXT,
    dpop_jkt TEXT,
    device_attestation_json TEXT,
    principal_type TEXT DEFAULT 'agent' NOT NULL
);
CREATE INDEX IF NOT EXISTS idx_pending_enrollments_status ON pending_enrollments (status);
CREATE INDEX IF NOT EXISTS idx_pending_enrollments_created_at ON pending_enrollments (created_at);
CREATE INDEX IF NOT EXISTS idx_pending_enrollments_fingerprint ON pending_enrollments (pubkey_fingerprint);
CREATE TABLE IF NOT EXISTS user_sessions (
    session_id TEXT NOT NULL PRIMARY KEY,
    principal_id TEXT NOT NULL,
    agent_cert_thumbprint TEXT NOT NULL,
    sso_subject TEXT NOT NULL,
    idp_issuer TEXT NOT NULL,
    display_name TEXT,
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    revoked_at TEXT,
    user_signed_assertion TEXT,
    user_credential_id BLOB
);
CREATE INDEX IF NOT EXISTS idx_user_sessions_thumbprint ON user_sessions (agent_cert_thumbprint);
CREATE TABLE IF NOT EXISTS local_agent_resource_bindings (
    binding_id TEXT NOT NULL PRIMARY KEY,
    agent_id TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    org_id TEXT,
    granted_by TEXT NOT NULL,
    granted_at TEXT NOT NULL,
    revoked_at TEXT,
    principal_type TEXT DEFAULT 'agent' NOT NULL,
    CONSTRAINT uq_local_bindings_principal_resource UNIQUE (agent_id, principal_type, resource_id)
);
CREATE INDEX IF NOT EXISTS idx_local_bindings_agent_revoked ON local_agent_resource_bindings (agent_id, revoked_at);

-- What lists, filters and watchers need of the pinned certificate without parsing it.
CREATE TABLE agent_certs (
    agent_id TEXT PRIMARY KEY,
    thumbprint TEXT NOT NULL,
    spki_sha256 TEXT NOT NULL,
    not_after TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX idx_agent_certs_not_after ON agent_certs (not_after);
CREATE INDEX idx_agent_certs_spki ON agent_certs (spki_sha256);
CREATE INDEX idx_agent_certs_lookalike ON agent_certs (lower(agent_id));
CREATE TABLE revoked_agent_certs (
    thumbprint TEXT PRIMARY KEY,
    serial TEXT NOT NULL,
    spki_sha256 TEXT NOT NULL,
    key_barred INTEGER NOT NULL CHECK (key_barred IN (0, 1)), -- 0: the certificate ended, its key may go on
    issuer_ski TEXT, -- NULL: none of our issuers signed it
    agent_id TEXT NOT NULL,
    revoked_at TEXT NOT NULL,
    reason TEXT NOT NULL,
    not_after TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX idx_revoked_agent_certs_spki ON revoked_agent_certs (spki_sha256);
CREATE INDEX idx_revoked_agent_certs_agent ON revoked_agent_certs (agent_id);
CREATE INDEX idx_revoked_agent_certs_not_after ON revoked_agent_certs (not_after);
CREATE TABLE crl_numbers (
    issuer_ski TEXT PRIMARY KEY,
    number INTEGER NOT NULL CHECK (number > 0)
) STRICT, WITHOUT ROWID;
CREATE TABLE dpop_jwks (
    jkt TEXT PRIMARY KEY,
    jwk TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE enrollment_jwks (
    session_id TEXT PRIMARY KEY,
    jwk TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE agent_lifetimes (
    agent_id TEXT PRIMARY KEY,
    seconds INTEGER NOT NULL CHECK (seconds > 0)
) STRICT, WITHOUT ROWID;
CREATE TABLE spiffe_bindings (
    spiffe_id TEXT PRIMARY KEY,
    agent_id TEXT NOT NULL UNIQUE,
    issued_after TEXT -- when the agent was revoked last: SVIDs of before stay refused
) STRICT, WITHOUT ROWID;
-- The existing system did not keep a SPIFFE id to one agent: the active and oldest one has it.
INSERT OR IGNORE INTO spiffe_bindings (spiffe_id, agent_id, issued_after)
    SELECT spiffe_id, agent_id, CAST(revoked_at AS TEXT) FROM internal_agents
    WHERE enrollment_method = 'spiffe' AND spiffe_id IS NOT NULL ORDER BY is_active DESC, created_at, agent_id;
-- The same for the id itself, whoever it stands for next.
CREATE TABLE spiffe_floors (
    spiffe_id TEXT PRIMARY KEY,
    issued_after TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO spiffe_floors SELECT spiffe_id, issued_after FROM spiffe_bindings WHERE issued_after IS NOT NULL;
CREATE TABLE spiffe_bundles (
    trust_domain TEXT PRIMARY KEY,
    bundle_pem TEXT NOT NULL,
    updated_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE dashboard_sessions (
    session_sha256 TEXT PRIMARY KEY,
    address TEXT NOT NULL,
    user_agent TEXT NOT NULL,
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    ended_at TEXT
) STRICT, WITHOUT ROWID;
CREATE TABLE idempotency_keys (
    key_sha256 TEXT PRIMARY KEY,
    request_sha256 TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    thumbprint TEXT NOT NULL,
    created_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX idx_idempotency_keys_created_at ON idempotency_keys (created_at);
CREATE TABLE expiry_notices (
    thumbprint TEXT NOT NULL,
    threshold_days INTEGER NOT NULL,
    told_at TEXT NOT NULL,
    PRIMARY KEY (thumbprint, threshold_days)
) STRICT, WITHOUT ROWID;
"#;

/// What the sweep looks for, so that it need not read every message. They go onto adopted tables too: an index changes
/// neither rows nor columns.
const MESSAGE_INDEXES: &str = r#"
CREATE INDEX cullis_messages_waiting ON local_messages (expires_at) WHERE delivery_status = 0;
CREATE INDEX cullis_messages_past ON local_messages (enqueued_at) WHERE is_oneshot = 1 AND delivery_status IN (1, 2);
"#;

/// Guards of the audit log and the alias column `ts` that the runbook's SQL names. They go onto adopted tables too.
/// What may be deleted is decided beside the marks of the archive, in [`EVIDENCE_TABLES`].
pub(super) const AUDIT_GUARDS: &str = r#"
CREATE TRIGGER local_audit_guard BEFORE INSERT ON local_audit FOR EACH ROW BEGIN
    SELECT RAISE(ABORT, 'local_audit is append-only: an entry with this id exists')
        WHERE NEW.id > 0 AND EXISTS (SELECT 1 FROM local_audit WHERE id = NEW.id);
    SELECT RAISE(ABORT, 'local_audit is append-only: chain_seq must follow the newest entry without gap or fork')
        WHERE NEW.chain_seq IS NOT NULL AND NEW.chain_seq <>
            coalesce((SELECT max(chain_seq) FROM local_audit WHERE org_id = NEW.org_id), 0) + 1;
    SELECT RAISE(ABORT, 'local_audit is append-only: previous_hash must be the hash of the newest entry')
        WHERE NEW.chain_seq IS NOT NULL AND NEW.previous_hash IS NOT
            (SELECT entry_hash FROM local_audit WHERE org_id = NEW.org_id AND chain_seq = NEW.chain_seq - 1);
    SELECT RAISE(ABORT, 'local_audit is append-only: an entry of the chain needs its organisation and its hash')
        WHERE NEW.chain_seq IS NOT NULL AND (NEW.org_id IS NULL OR NEW.entry_hash IS NULL);
END;
CREATE TRIGGER local_audit_ids AFTER INSERT ON local_audit FOR EACH ROW WHEN NEW.id < 1 BEGIN
    SELECT RAISE(ABORT, 'local_audit is append-only: the id of an entry is positive');
END;
ALTER TABLE local_audit ADD COLUMN ts TEXT GENERATED ALWAYS AS (timestamp) VIRTUAL;
"#;
