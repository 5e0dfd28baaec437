//! The tables that make the audit log searchable.

/// An index beside `local_audit`, written in chunks from committed rows (`audit::index`): what is newer than the last
/// chunk is read from `local_audit` itself. It can be dropped and is made again. What is archived leaves it too, by
/// `audit::archive::remove`: a trigger would need FTS5 of whoever only tries to delete, and hide why that is refused.
pub(super) const SEARCH_TABLES: &str = r#"
CREATE TABLE audit_search (
    id INTEGER PRIMARY KEY, -- of the row in local_audit
    agent_id TEXT,
    event_type TEXT NOT NULL,
    session_id TEXT,
    result TEXT NOT NULL
) STRICT;
CREATE INDEX audit_search_agent ON audit_search (agent_id, event_type) WHERE agent_id IS NOT NULL;
CREATE INDEX audit_search_event ON audit_search (event_type);
CREATE INDEX audit_search_session ON audit_search (session_id) WHERE session_id IS NOT NULL;
CREATE INDEX audit_search_refused ON audit_search (result) WHERE result <> 'ok';
-- The words of the details: letters and digits of ASCII, which is all that canonical JSON holds.
CREATE VIRTUAL TABLE audit_text USING fts5 (details, content = '', contentless_delete = 1, detail = none, tokenize = 'ascii');
-- One row for each chunk: between which times its entries are. A clock may go back, so times need not follow ids.
CREATE TABLE audit_chunks (
    last_id INTEGER PRIMARY KEY,
    first_id INTEGER NOT NULL,
    earliest TEXT NOT NULL,
    latest TEXT NOT NULL
) STRICT;
"#;
