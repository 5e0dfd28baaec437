//! Entries of a chain with everything that their hashes cover.

use mastio_core::{
    AgentId, OrgId,
    event::{Details, catalogue},
};

use super::Entry;
use crate::{Query, ReadError, RowError, Store, Value};

const TABLE: &str = "local_audit";

const COLUMNS: &str = "SELECT id, timestamp, event_type, agent_id, session_id, org_id, result, details, entry_hash, \
    previous_hash, chain_seq, hash_format FROM local_audit";

/// The entries of the chain of `org` at `seqs`, oldest first; those that went into an archive are left out.
///
/// # Errors
/// When the database cannot be read or a row is illegal.
pub async fn entries(store: &Store, org: &OrgId, seqs: &[i64]) -> Result<Vec<Entry>, ReadError> {
    let places: Vec<_> = (2..seqs.len() + 2).map(|place| format!("?{place}")).collect();
    let sql =
        format!("{COLUMNS} WHERE org_id = ?1 AND chain_seq IN ({}) ORDER BY chain_seq", places.join(","));
    let values =
        std::iter::once(org.as_str().into()).chain(seqs.iter().map(|seq| Value::from(*seq))).collect();
    read(store, sql, values).await
}

/// The entry that tells the last deletion of `agent`, and before it that of its last revocation.
///
/// # Errors
/// When the database cannot be read or a row is illegal.
pub async fn endings(store: &Store, org: &OrgId, agent: &AgentId) -> Result<Vec<Entry>, ReadError> {
    let newest = |parameter: u8| {
        format!(
            "id = (SELECT max(id) FROM local_audit WHERE agent_id = ?2 AND event_type = ?{parameter} \
             AND org_id = ?1 AND chain_seq IS NOT NULL)"
        )
    };
    let sql = format!("{COLUMNS} WHERE {} OR {} ORDER BY chain_seq", newest(3), newest(4));
    let (revoked, deleted) = (catalogue::AgentRevoked::KIND.name, catalogue::AgentDeleted::KIND.name);
    read(store, sql, vec![org.as_str().into(), agent.into(), revoked.into(), deleted.into()]).await
}

async fn read(store: &Store, sql: String, values: Vec<Value>) -> Result<Vec<Entry>, ReadError> {
    let rows = store.rows(Query { table: TABLE, sql: sql.into(), values }).await?;
    rows.iter().map(Entry::read).collect::<Result<_, RowError>>().map_err(Into::into)
}
