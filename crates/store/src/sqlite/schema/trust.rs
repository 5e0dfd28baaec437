//! The tables of the trust root: every CA there was, and its rotations.

/// The CA registry and its sagas (contract `pki.md`, "What would be better than both" 2 and 6).
pub(super) const TRUST_TABLES: &str = r#"
CREATE TABLE pki_cas (
    thumbprint TEXT PRIMARY KEY, -- SHA-256 of the certificate
    kind TEXT NOT NULL CHECK (kind IN ('org_ca', 'intermediate_ca')), -- as in pki_key_store.key_type
    state TEXT NOT NULL CHECK (state IN ('staged', 'active', 'superseded', 'retired')),
    cert_pem TEXT NOT NULL,
    spki_sha256 TEXT NOT NULL,
    private_key TEXT, -- as custody wraps it; those of the active CAs lie where operators look for them
    cut INTEGER NOT NULL DEFAULT 0 CHECK (cut IN (0, 1)), -- 1: what it certified does not log in any more
    compromised INTEGER NOT NULL DEFAULT 0 CHECK (compromised IN (0, 1)),
    link_pem TEXT, -- a superseded root's certificate for its successor
    lineage TEXT, -- the same as a signed statement
    created_at TEXT NOT NULL,
    activated_at TEXT,
    superseded_at TEXT,
    retired_at TEXT
) STRICT;
CREATE UNIQUE INDEX pki_cas_active ON pki_cas (kind) WHERE state = 'active';
CREATE UNIQUE INDEX pki_cas_staged ON pki_cas (kind) WHERE state = 'staged';
CREATE TABLE pki_rotations (
    id TEXT PRIMARY KEY,
    mode TEXT NOT NULL CHECK (mode IN ('mint', 'upload')),
    transition TEXT NOT NULL CHECK (transition IN ('cut', 'overlap')),
    phase TEXT NOT NULL CHECK (phase IN ('staged', 'distribute', 'reissue', 'activated', 'done', 'aborted')),
    paused INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
    compromise INTEGER NOT NULL DEFAULT 0 CHECK (compromise IN (0, 1)),
    old_root TEXT NOT NULL, -- thumbprints, in pki_cas
    new_root TEXT NOT NULL,
    started_by TEXT NOT NULL,
    started_at TEXT NOT NULL,
    changed_at TEXT NOT NULL,
    ended_at TEXT,
    error TEXT,
    CHECK ((ended_at IS NULL) = (phase NOT IN ('done', 'aborted')))
) STRICT;
CREATE UNIQUE INDEX pki_rotations_open ON pki_rotations ((ended_at IS NULL)) WHERE ended_at IS NULL;
-- Which trust file an agent fetched last.
CREATE TABLE agent_trust_bundles (
    agent_id TEXT PRIMARY KEY,
    bundle_sha256 TEXT NOT NULL,
    fetched_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;
-- Who has presented a certificate of the new root.
CREATE TABLE rotation_moves (
    rotation_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    moved_at TEXT NOT NULL,
    PRIMARY KEY (rotation_id, agent_id)
) STRICT, WITHOUT ROWID;
"#;
