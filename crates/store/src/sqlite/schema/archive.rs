//! The table of the archive that is under way.

/// An archive that was begun and is not done. Its row says how far it got; whoever serves the database goes on with it.
pub(super) const ARCHIVE_TABLES: &str = r#"
CREATE TABLE audit_archive_job (
    id INTEGER PRIMARY KEY CHECK (id = 1), -- one at a time
    phase TEXT NOT NULL CHECK (phase IN ('writing', 'deleting')),
    first_seq INTEGER NOT NULL CHECK (first_seq > 0),
    last_seq INTEGER NOT NULL CHECK (last_seq >= first_seq),
    file TEXT NOT NULL,
    operator TEXT NOT NULL,
    started_at TEXT NOT NULL
) STRICT;
"#;
