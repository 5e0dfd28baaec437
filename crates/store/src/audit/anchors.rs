//! Time stamps over entries: table `audit_tsa_anchors` (contract `audit-and-database.md` §1.9).

use mastio_core::{
    OrgId, Stamp,
    event::{Details, catalogue},
};

use super::Newest;
use crate::{Query, ReadError, Row, RowError, Statement, Store};

const TABLE: &str = "audit_tsa_anchors";

/// What stands before a token of RFC 3161 in the table.
const FRAME: &[u8] = b"T1|";

/// A time stamp over one entry, as it was verified when it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// The entry's place in the chain.
    pub chain_seq: i64,
    /// The entry's hash, in hex: what is stamped.
    pub row_hash: String,
    /// The TimeStampToken in DER.
    pub token: Vec<u8>,
    /// Where it came from, without user and query.
    pub tsa_url: String,
    /// The certificates of the authority in PEM, the one that signed first.
    pub tsa_cert_chain: Option<String>,
    /// When it came, by our clock.
    pub created_at: Stamp,
}

impl Anchor {
    /// The token as the table and its export hold it: `T1|` and the DER.
    #[must_use]
    pub fn framed(&self) -> Vec<u8> {
        [FRAME, &self.token].concat()
    }

    fn read(row: &Row) -> Result<Self, RowError> {
        let token = row.blob("tsa_token")?.strip_prefix(FRAME);
        Ok(Self {
            chain_seq: row.int("chain_seq")?,
            row_hash: row.text("row_hash")?.to_owned(),
            token: token.ok_or_else(|| row.bad("tsa_token", "does not begin with T1|"))?.to_vec(),
            tsa_url: row.text("tsa_url")?.to_owned(),
            tsa_cert_chain: row.text_or_null("tsa_cert_chain")?.map(str::to_owned),
            created_at: row.stamp("created_at")?,
        })
    }
}

/// Keeps a time stamp; touches no row unless the entry is there with the hash that is stamped. Only one is kept for an
/// entry.
#[must_use]
pub fn keep(org: &OrgId, anchor: &Anchor) -> Statement {
    Statement::one(
        "INSERT INTO audit_tsa_anchors (org_id, chain_seq, row_hash, tsa_token, tsa_url, tsa_cert_chain, created_at) \
         SELECT org_id, chain_seq, entry_hash, ?4, ?5, ?6, ?7 FROM local_audit \
         WHERE org_id = ?1 AND chain_seq = ?2 AND entry_hash = ?3",
        vec![
            org.as_str().into(),
            anchor.chain_seq.into(),
            anchor.row_hash.as_str().into(),
            anchor.framed().into(),
            anchor.tsa_url.as_str().into(),
            anchor.tsa_cert_chain.as_deref().into(),
            anchor.created_at.into(),
        ],
    )
}

/// The time stamp over the entry at `seq`.
///
/// # Errors
/// When the database cannot be read.
pub async fn of(store: &Store, org: &OrgId, seq: i64) -> Result<Option<Anchor>, ReadError> {
    Ok(within(store, org, seq, seq, 1).await?.pop())
}

/// The time stamps over entries from `first` to `last`, in their order, at most `limit`: whoever wants more asks again
/// from behind the last one.
///
/// # Errors
/// When the database cannot be read.
pub async fn within(
    store: &Store,
    org: &OrgId,
    first: i64,
    last: i64,
    limit: u32,
) -> Result<Vec<Anchor>, ReadError> {
    let sql = "SELECT chain_seq, row_hash, tsa_token, tsa_url, tsa_cert_chain, created_at FROM audit_tsa_anchors \
        WHERE org_id = ?1 AND chain_seq BETWEEN ?2 AND ?3 ORDER BY chain_seq LIMIT ?4";
    let values = vec![org.as_str().into(), first.into(), last.into(), i64::from(limit).into()];
    let rows = store.rows(Query::new(TABLE, sql, values)).await?;
    rows.iter().map(Anchor::read).collect::<Result<_, RowError>>().map_err(Into::into)
}

/// The newest time stamp, by its place in the chain.
///
/// # Errors
/// When the database cannot be read.
pub async fn newest(store: &Store, org: &OrgId) -> Result<Option<Anchor>, ReadError> {
    let sql = "SELECT chain_seq, row_hash, tsa_token, tsa_url, tsa_cert_chain, created_at FROM audit_tsa_anchors \
        WHERE org_id = ?1 ORDER BY chain_seq DESC LIMIT 1";
    let rows = store.rows(Query::new(TABLE, sql, vec![org.as_str().into()])).await?;
    Ok(rows.first().map(Anchor::read).transpose()?)
}

/// The head of the chain, if anything happened since the newest time stamp. That a stamp was kept is an entry too, and
/// does not count: an idle log would be stamped for ever.
///
/// # Errors
/// When the database cannot be read.
pub async fn head_to_stamp(store: &Store, org: &OrgId) -> Result<Option<Newest>, ReadError> {
    let sql = "SELECT chain_seq, entry_hash, timestamp FROM local_audit WHERE org_id = ?1 AND chain_seq IS NOT NULL AND EXISTS \
        (SELECT 1 FROM local_audit WHERE org_id = ?1 AND event_type <> ?2 AND chain_seq > \
         coalesce((SELECT max(chain_seq) FROM audit_tsa_anchors WHERE org_id = ?1), 0)) \
        ORDER BY chain_seq DESC LIMIT 1";
    let own = catalogue::AuditAnchored::KIND.name;
    entry(store, sql, vec![org.as_str().into(), own.into()]).await
}

/// The entry at `seq`; `None` if there is none any more, or not yet.
///
/// # Errors
/// When the database cannot be read.
pub async fn entry_at(store: &Store, org: &OrgId, seq: i64) -> Result<Option<Newest>, ReadError> {
    let sql = "SELECT chain_seq, entry_hash, timestamp FROM local_audit WHERE org_id = ?1 AND chain_seq = ?2";
    entry(store, sql, vec![org.as_str().into(), seq.into()]).await
}

async fn entry(
    store: &Store,
    sql: &'static str,
    values: Vec<crate::Value>,
) -> Result<Option<Newest>, ReadError> {
    let rows = store.rows(Query::new("local_audit", sql, values)).await?;
    Ok(rows.first().map(Newest::read).transpose()?)
}
