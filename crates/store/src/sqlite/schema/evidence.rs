//! The tables of the proofs: tree, checkpoints, time stamps, archive, witness.

/// What makes the audit log provable to others (design decisions 17 to 19), and what makes it searchable.
pub(super) const EVIDENCE_TABLES: &str = r#"
-- The Merkle tree over the chain that we write: leaf `chain_seq - base_seq` is its `entry_hash`.
CREATE TABLE audit_tree (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    base_seq INTEGER NOT NULL CHECK (base_seq > 0),
    size INTEGER NOT NULL CHECK (size >= 0)
) STRICT;
-- C2SP tlog-tiles: up to 256 hashes of 32 bytes. A tile only grows; a full one never changes.
CREATE TABLE audit_tiles (
    level INTEGER NOT NULL,
    tile INTEGER NOT NULL,
    hashes BLOB NOT NULL CHECK (length(hashes) BETWEEN 32 AND 8192 AND length(hashes) % 32 = 0),
    PRIMARY KEY (level, tile)
) STRICT;
-- Under which name and key checkpoints are signed. An accepted restore starts the next generation.
CREATE TABLE audit_origins (
    generation INTEGER PRIMARY KEY CHECK (generation > 0),
    origin TEXT NOT NULL UNIQUE,
    vkey TEXT NOT NULL,
    log_key TEXT NOT NULL, -- PKCS#8 PEM of an Ed25519 key, sealed as other keys are
    announcement TEXT NOT NULL, -- JWS by the Mastio's signing key over origin, key and base
    started_at TEXT NOT NULL
) STRICT;
CREATE TABLE audit_checkpoints (
    id INTEGER PRIMARY KEY,
    origin TEXT NOT NULL,
    tree_size INTEGER NOT NULL CHECK (tree_size > 0),
    root_hash TEXT NOT NULL, -- hex
    note TEXT NOT NULL, -- the signed note, with the log's signature alone
    signed_at TEXT NOT NULL,
    UNIQUE (origin, tree_size)
) STRICT;
CREATE TABLE audit_cosignatures (
    origin TEXT NOT NULL,
    tree_size INTEGER NOT NULL,
    witness TEXT NOT NULL,
    line TEXT NOT NULL, -- the signature line, without its newline
    received_at TEXT NOT NULL,
    PRIMARY KEY (origin, tree_size, witness)
) STRICT, WITHOUT ROWID;
-- Named and framed as the Court's (contract audit-and-database.md 1.9): the token is `T1|` and the DER.
CREATE TABLE audit_tsa_anchors (
    id INTEGER PRIMARY KEY,
    org_id TEXT NOT NULL,
    chain_seq INTEGER NOT NULL,
    row_hash TEXT NOT NULL,
    tsa_token BLOB NOT NULL,
    tsa_url TEXT NOT NULL,
    tsa_cert_chain TEXT,
    created_at TEXT NOT NULL,
    UNIQUE (org_id, chain_seq)
) STRICT;
-- Up to where entries left for an archive. The chain goes on from here.
CREATE TABLE audit_marks (
    org_id TEXT NOT NULL,
    archived_through INTEGER NOT NULL CHECK (archived_through >= first_seq),
    first_seq INTEGER NOT NULL CHECK (first_seq > 0),
    head_hash TEXT NOT NULL,
    file TEXT NOT NULL,
    bundle_sha256 TEXT NOT NULL,
    marked_at TEXT NOT NULL,
    PRIMARY KEY (org_id, archived_through)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER audit_marks_guard BEFORE INSERT ON audit_marks FOR EACH ROW BEGIN
    -- From the first entry on: a chain that lost its beginning would look whole behind its first mark.
    SELECT RAISE(ABORT, 'audit_marks: a mark follows the one before it')
        WHERE NEW.first_seq <> coalesce((SELECT max(archived_through) + 1 FROM audit_marks WHERE org_id = NEW.org_id), 1);
    SELECT RAISE(ABORT, 'audit_marks: a mark names an entry that is there and not the newest, with its hash')
        WHERE NOT EXISTS (SELECT 1 FROM local_audit WHERE org_id = NEW.org_id AND chain_seq = NEW.archived_through
                AND entry_hash = NEW.head_hash)
            OR NEW.archived_through >= (SELECT max(chain_seq) FROM local_audit WHERE org_id = NEW.org_id);
    SELECT RAISE(ABORT, 'audit_marks: a mark needs a checkpoint that covers it')
        WHERE NOT EXISTS (SELECT 1 FROM audit_checkpoints, audit_tree
            WHERE audit_tree.base_seq + audit_checkpoints.tree_size > NEW.archived_through);
END;
CREATE TRIGGER audit_marks_no_update BEFORE UPDATE ON audit_marks FOR EACH ROW BEGIN
    SELECT RAISE(ABORT, 'audit_marks is append-only: UPDATE not permitted');
END;
CREATE TRIGGER audit_marks_no_delete BEFORE DELETE ON audit_marks FOR EACH ROW BEGIN
    SELECT RAISE(ABORT, 'audit_marks is append-only: DELETE not permitted');
END;
-- The marks that count. By itself a mark shows nothing: whoever can write to the file can write one. An entry of the
-- chain behind it must tell of the same archive. The index holds such entries alone, so others cost nothing.
CREATE INDEX cullis_audit_archived ON local_audit (org_id, chain_seq DESC) WHERE event_type = 'audit.archived';
CREATE VIEW audit_told_marks AS SELECT m.org_id, m.archived_through
    FROM (SELECT org_id, chain_seq, CASE WHEN json_valid(details) THEN details END AS details
        FROM local_audit WHERE event_type = 'audit.archived') a
    CROSS JOIN audit_marks m ON m.org_id = a.org_id AND m.archived_through = a.details ->> 'last_seq'
        AND m.archived_through < a.chain_seq AND m.head_hash = a.details ->> 'last_hash'
        AND m.bundle_sha256 = a.details ->> 'bundle_sha256' AND m.file = a.details ->> 'file';
DROP TRIGGER IF EXISTS local_audit_no_delete;
CREATE TRIGGER local_audit_no_delete BEFORE DELETE ON local_audit FOR EACH ROW
    WHEN OLD.chain_seq IS NULL OR NOT EXISTS
        (SELECT 1 FROM audit_told_marks WHERE org_id = OLD.org_id AND archived_through >= OLD.chain_seq)
BEGIN
    SELECT RAISE(ABORT, 'local_audit is append-only (CRIT-3): DELETE not permitted; old entries leave for an archive with: cullis-proxy audit archive --before DATE --out DIR');
END;
-- Archived entries that were brought back for a search. Not the log: drop them when done.
CREATE TABLE restored_audit (
    id INTEGER NOT NULL,
    timestamp TEXT NOT NULL,
    agent_id TEXT,
    event_type TEXT NOT NULL,
    details TEXT,
    previous_hash TEXT,
    entry_hash TEXT NOT NULL,
    session_id TEXT,
    org_id TEXT NOT NULL,
    result TEXT NOT NULL,
    chain_seq INTEGER NOT NULL,
    peer_org_id TEXT,
    hash_format TEXT,
    ts TEXT GENERATED ALWAYS AS (timestamp) VIRTUAL,
    PRIMARY KEY (org_id, chain_seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX idx_restored_audit_id ON restored_audit (id);
-- Logs that this Mastio is a witness of (C2SP tlog-witness).
CREATE TABLE witnessed_logs (
    origin TEXT PRIMARY KEY,
    tree_size INTEGER NOT NULL CHECK (tree_size >= 0),
    root_hash TEXT NOT NULL, -- hex
    note TEXT NOT NULL,
    seen_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;
-- Agents that were deleted; their ids are not issued again unless an operator insists.
CREATE TABLE agent_tombstones (
    agent_id TEXT PRIMARY KEY,
    deleted_at TEXT NOT NULL,
    reason TEXT NOT NULL,
    first_seq INTEGER NOT NULL, -- of the entries that tell the end
    last_seq INTEGER NOT NULL,
    receipt TEXT NOT NULL -- JWS by the Mastio's signing key
) STRICT, WITHOUT ROWID;
"#;

/// Pairs of notes of one log of which at most one can be true.
pub(super) const SPLIT_VIEWS: &str = r#"
CREATE TABLE audit_split_views (
    id INTEGER PRIMARY KEY,
    origin TEXT NOT NULL,
    known TEXT NOT NULL, -- the note that was there first
    other TEXT NOT NULL, -- the note that contradicts it, or what a witness said
    seen_at TEXT NOT NULL,
    acknowledged_at TEXT,
    UNIQUE (origin, known, other)
) STRICT;
CREATE INDEX audit_split_views_open ON audit_split_views (origin) WHERE acknowledged_at IS NULL;
"#;

/// A suspicion is no proof: it ends when the log proves a checkpoint of at least that size. And the id of a deleted agent
/// is looked for in whatever letters.
pub(super) const SUSPICIONS: &str = "
ALTER TABLE audit_split_views ADD COLUMN suspected_size INTEGER; -- of `other`; NULL when the two notes are the proof
CREATE INDEX idx_agent_tombstones_lookalike ON agent_tombstones (lower(agent_id));
";

/// What finds old checkpoints, and lets cosignatures go with theirs.
pub(super) const THINNING: &str = "
CREATE INDEX audit_checkpoints_by_time ON audit_checkpoints (signed_at);
CREATE TRIGGER audit_checkpoints_with_cosignatures AFTER DELETE ON audit_checkpoints FOR EACH ROW BEGIN
    DELETE FROM audit_cosignatures WHERE origin = OLD.origin AND tree_size = OLD.tree_size;
END;
";
