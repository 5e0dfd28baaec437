//! What our chain says about the rows that are not written any more (design decision 15).

use mastio_audit::{Break, Head, Problem, UnchainedReport};
use mastio_core::{
    event::{Details, catalogue},
    hash_from_hex,
};
use rusqlite::{Connection, OptionalExtension};
use serde::Deserialize;

use super::Chain;
use crate::{
    ReadError,
    sqlite::{self, Database},
};

/// How a chain was found when it was adopted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seal {
    /// Its last entry: the chain leads through it for good.
    pub(super) head: Head,
    /// The rows outside of it: the first of those that are there for good.
    pub(super) unchained: UnchainedReport,
}

impl Seal {
    /// Whether the rows that were sealed are still `found`.
    pub(super) fn check(&self, found: UnchainedReport) -> Result<(), Break> {
        match found == self.unchained {
            true => Ok(()),
            false => Err(Break { seq: self.head.seq, id: None, problem: Problem::Unsealed }),
        }
    }
}

/// The seal over `chain`, if there is one.
pub(super) fn seal(connection: &Connection, chain: &str) -> rusqlite::Result<Option<Seal>> {
    if !is_adopted(connection)? {
        return Ok(None);
    }
    let sql = "SELECT details FROM local_audit WHERE event_type = ?1 AND json_valid(details) \
        AND details ->> 'chain' = ?2 ORDER BY id LIMIT 1";
    let name = catalogue::LegacyChainSealed::KIND.name;
    let details = connection.query_row(sql, [name, chain], |row| row.get::<_, String>(0)).optional()?;
    Ok(details.and_then(|text| read(&text)))
}

/// Every chain that was sealed.
pub(super) fn sealed_chains(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    if !is_adopted(connection)? {
        return Ok(Vec::new());
    }
    let sql =
        "SELECT DISTINCT details ->> 'chain' FROM local_audit WHERE event_type = ?1 AND json_valid(details)";
    let mut statement = connection.prepare(sql)?;
    statement.query_map([catalogue::LegacyChainSealed::KIND.name], |row| row.get(0))?.collect()
}

/// Only adopted databases have old chains, and their table has an index of events: others are not searched for seals.
fn is_adopted(connection: &Connection) -> rusqlite::Result<bool> {
    if !sqlite::has_table(connection, "cullis_schema")? {
        return Ok(false);
    }
    connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM cullis_schema WHERE adopted_from IS NOT NULL)",
        [],
        |row| row.get(0),
    )
}

fn read(details: &str) -> Option<Seal> {
    #[derive(Deserialize)]
    struct Told {
        last_seq: u64,
        last_hash: String,
        unchained_rows: u64,
        unchained_sha256: String,
    }
    let told: Told = serde_json::from_str(details).ok()?;
    let unchained =
        UnchainedReport { rows: told.unchained_rows, sha256: hash_from_hex(&told.unchained_sha256).ok()? };
    Some(Seal { head: Head { seq: told.last_seq, hash: hash_from_hex(&told.last_hash).ok() }, unchained })
}

/// The last entry of a chain when it was sealed.
///
/// # Errors
/// When the database cannot be read.
pub fn sealed_head(database: &Database, chain: &Chain) -> Result<Option<Head>, ReadError> {
    Ok(database.read(|connection| seal(connection, chain.name()))?.map(|seal| seal.head))
}
