//! Entries of a chain with everything that their hashes cover.

use mastio_core::{
    AgentId, OrgId,
    event::{Details, catalogue},
};

use crate::{Query, ReadError, Row, RowError, Store, Value};

const TABLE: &str = "local_audit";

const COLUMNS: &str = "SELECT id, timestamp, event_type, agent_id, session_id, org_id, result, details, entry_hash, \
    previous_hash, chain_seq, hash_format FROM local_audit";

/// One entry of a chain: the columns of its row, in the words in which they are stored (contract
/// `audit-and-database.md` §1.2).
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of contract audit-and-database.md §1.2")]
pub struct ChainEntry {
    pub id: i64,
    pub timestamp: String,
    pub event_type: String,
    pub agent_id: Option<String>,
    pub session_id: Option<String>,
    pub org_id: String,
    pub result: String,
    pub details: Option<String>,
    pub entry_hash: String,
    pub previous_hash: Option<String>,
    pub chain_seq: i64,
    pub hash_format: Option<String>,
}

impl ChainEntry {
    fn read(row: &Row) -> Result<Self, RowError> {
        let owned = |column| row.text(column).map(str::to_owned);
        let or_null = |column| Ok::<_, RowError>(row.text_or_null(column)?.map(str::to_owned));
        Ok(Self {
            id: row.int("id")?,
            timestamp: owned("timestamp")?,
            event_type: owned("event_type")?,
            agent_id: or_null("agent_id")?,
            session_id: or_null("session_id")?,
            org_id: owned("org_id")?,
            result: owned("result")?,
            details: or_null("details")?,
            entry_hash: owned("entry_hash")?,
            previous_hash: or_null("previous_hash")?,
            chain_seq: row.int("chain_seq")?,
            hash_format: or_null("hash_format")?,
        })
    }
}

/// The entries of the chain of `org` at `seqs`, oldest first; those that went into an archive are left out.
///
/// # Errors
/// When the database cannot be read or a row is illegal.
pub async fn entries(store: &Store, org: &OrgId, seqs: &[i64]) -> Result<Vec<ChainEntry>, ReadError> {
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
pub async fn endings(store: &Store, org: &OrgId, agent: &AgentId) -> Result<Vec<ChainEntry>, ReadError> {
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

async fn read(store: &Store, sql: String, values: Vec<Value>) -> Result<Vec<ChainEntry>, ReadError> {
    let rows = store.rows(Query { table: TABLE, sql: sql.into(), values }).await?;
    rows.iter().map(ChainEntry::read).collect::<Result<_, RowError>>().map_err(Into::into)
}
