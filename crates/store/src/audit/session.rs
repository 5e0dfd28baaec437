//! What both audit tables say about one session or request.

use mastio_core::AgentId;

use crate::{Query, ReadError, Row, RowError, Store, sqlite};

/// The most rows that one session is searched for.
const MOST: i64 = 5000;

/// Which table an entry is from: they know different parties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `local_audit`, by `session_id`.
    Local,
    /// `audit_log`, by `request_id`, which clients chose.
    AuditLog,
}

/// One entry about a session.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionEntry {
    /// Its table.
    pub source: Source,
    /// When, as it is stored.
    pub timestamp: String,
    /// Who acted.
    pub agent_id: Option<String>,
    /// What happened.
    pub action: String,
    /// The tool, where there was one.
    pub tool_name: Option<String>,
    /// How it ended, in the words of the table.
    pub status: String,
    /// JSON or free text.
    pub detail: Option<String>,
    /// How long it took.
    pub duration_ms: Option<f64>,
}

impl SessionEntry {
    fn read(row: &Row) -> Result<Self, RowError> {
        let owned = |column| Ok::<_, RowError>(row.text_or_null(column)?.map(str::to_owned));
        Ok(Self {
            source: if row.int("local")? == 1 { Source::Local } else { Source::AuditLog },
            timestamp: row.text("timestamp")?.to_owned(),
            agent_id: owned("agent_id")?,
            action: row.text("action")?.to_owned(),
            tool_name: owned("tool_name")?,
            status: row.text("status")?.to_owned(),
            detail: owned("detail")?,
            duration_ms: row.real_or_null("duration_ms")?,
        })
    }
}

/// Agents' traffic in `local_audit`, through the index and behind it: what operators do is told there too, under ids of
/// their own.
const LOCAL: &str = "SELECT 1 AS local, timestamp, agent_id, event_type AS action, NULL AS tool_name, result AS status, \
    details AS detail, NULL AS duration_ms FROM ( \
        SELECT a.* FROM audit_search s CROSS JOIN local_audit a ON a.id = s.id WHERE s.session_id = ?1 \
        UNION ALL SELECT * FROM local_audit \
        WHERE id > coalesce((SELECT max(last_id) FROM audit_chunks), 0) AND session_id = ?1) \
    WHERE (event_type GLOB 'session_*' OR event_type GLOB 'message_*' OR event_type GLOB 'oneshot_*' \
        OR event_type GLOB 'inbox_*' OR event_type IN ('resource_call', 'guardian.inspect'))";

/// `duration_ms` is text in databases that started before their schema had versions.
const AUDIT_LOG: &str = " UNION ALL SELECT 0, timestamp, agent_id, action, tool_name, status, detail, \
    CAST(duration_ms AS REAL) FROM audit_log WHERE request_id = ?1";

/// What was written under the session, correlation or request id `session`, oldest first. If that is a lot, what may
/// concern `agent` goes before the rest. Who may see it, the caller decides.
///
/// # Errors
/// When the database cannot be read or a row is illegal.
pub async fn within(store: &Store, session: &str, agent: &AgentId) -> Result<Vec<SessionEntry>, ReadError> {
    let adopted = store.database().read(|connection| sqlite::has_table(connection, super::ADMIN_CHAIN))?;
    let both = if adopted { AUDIT_LOG } else { "" };
    let sql = format!(
        "SELECT * FROM ({LOCAL}{both}) \
         ORDER BY agent_id IS ?2 OR instr(coalesce(detail, ''), ?2) > 0 DESC, timestamp LIMIT {MOST}"
    );
    let query = Query { table: "local_audit", sql: sql.into(), values: vec![session.into(), agent.into()] };
    let rows = store.rows(query).await?;
    let mut entries = rows.iter().map(SessionEntry::read).collect::<Result<Vec<_>, RowError>>()?;
    entries.sort_by(|one, other| one.timestamp.cmp(&other.timestamp));
    Ok(entries)
}
