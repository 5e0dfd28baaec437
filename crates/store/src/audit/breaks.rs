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
    let sql = "SELECT id, event_type, details ->> 'chain' AS chain, CAST(details ->> 'seq' AS INTEGER) AS seq \
        FROM local_audit WHERE event_type IN (?1, ?2) AND json_valid(details) ORDER BY id";
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
