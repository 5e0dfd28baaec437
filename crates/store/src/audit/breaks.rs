//! What the log itself tells about broken chains.

use std::collections::BTreeSet;

use mastio_core::event::{Details, catalogue};

use crate::{Query, ReadError, sqlite::Database};

/// A place where a chain stopped holding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ToldBreak {
    /// The chain.
    pub chain: String,
    /// The position at fault.
    pub seq: u64,
}

/// The breaks that the log tells of, without those of chains that it tells to hold again since.
///
/// # Errors
/// When the database cannot be read.
pub fn told_breaks(database: &Database) -> Result<BTreeSet<ToldBreak>, ReadError> {
    let (detected, mended) =
        (catalogue::ChainBreakDetected::KIND.name, catalogue::ChainBreakMended::KIND.name);
    // The index has all but the newest entries.
    let sql = "SELECT id, event_type, details ->> 'chain' AS chain, CAST(details ->> 'seq' AS INTEGER) AS seq FROM ( \
        SELECT a.id, a.event_type, a.details FROM audit_search s CROSS JOIN local_audit a ON a.id = s.id \
        WHERE s.event_type IN (?1, ?2) UNION ALL SELECT id, event_type, details FROM local_audit \
        WHERE id > coalesce((SELECT max(last_id) FROM audit_chunks), 0) AND event_type IN (?1, ?2)) \
        WHERE json_valid(details) ORDER BY id";
    let rows = database.rows_now(&Query::new("local_audit", sql, vec![detected.into(), mended.into()]))?;
    let mut told = BTreeSet::new();
    for row in rows {
        let Some(chain) = row.text_or_null("chain")? else { continue };
        if row.text("event_type")? == mended {
            told.retain(|broken: &ToldBreak| broken.chain != chain);
        } else {
            let seq = row.int_or_null("seq")?.unwrap_or_default().cast_unsigned();
            told.insert(ToldBreak { chain: chain.to_owned(), seq });
        }
    }
    Ok(told)
}
