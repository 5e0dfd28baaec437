//! The tables of framework updates.

/// Which updates there are and what they changed. The first two are named and shaped as the existing system has them, so
/// that operators' SQL works (contract `pki.md` §3, §8).
pub(super) const UPDATE_TABLES: &str = r#"
CREATE TABLE IF NOT EXISTS pending_updates (
    migration_id TEXT NOT NULL PRIMARY KEY,
    detected_at TEXT NOT NULL,
    status TEXT NOT NULL,
    applied_at TEXT,
    error TEXT
);
CREATE INDEX IF NOT EXISTS idx_pending_updates_status ON pending_updates (status);
CREATE TABLE IF NOT EXISTS migration_state_backups (
    migration_id TEXT NOT NULL PRIMARY KEY,
    created_at TEXT NOT NULL,
    snapshot_json TEXT NOT NULL
);
-- Leaves that an update has made again for the agents' own keys. They take the place of the pinned ones, which stay
-- where they are and count as well, once their migration has its row in leaf_generations.
CREATE TABLE reissued_leaves (
    migration_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    replaces TEXT NOT NULL, -- the thumbprint of the pinned leaf: another pin, and this row says nothing any more
    thumbprint TEXT NOT NULL,
    leaf_pem TEXT NOT NULL,
    PRIMARY KEY (migration_id, agent_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX reissued_leaves_agent ON reissued_leaves (agent_id);
CREATE TABLE leaf_generations (
    migration_id TEXT PRIMARY KEY,
    issuer_pem TEXT NOT NULL, -- the intermediate above its leaves
    flipped_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;
"#;

/// The update that is being applied. Whatever else changes keys is refused meanwhile; a row that a stopped process left
/// says that it was interrupted.
pub(super) const UPDATE_UNDER_WAY: &str = r#"
CREATE TABLE update_under_way (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    migration_id TEXT NOT NULL,
    begun_by TEXT NOT NULL,
    begun_at TEXT NOT NULL
) STRICT;
"#;
