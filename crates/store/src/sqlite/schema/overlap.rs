//! What a rotation with overlap keeps beside its saga.

/// How long the old root is believed after the new one became the active one.
pub(super) const OVERLAP_TABLES: &str = r#"
CREATE TABLE rotation_grace (
    rotation_id TEXT PRIMARY KEY,
    days INTEGER NOT NULL CHECK (days >= 0)
) STRICT, WITHOUT ROWID;
"#;
