//! Verifying stored chains a piece at a time, beside everything else that reads and writes.

use mastio_audit::{AdminVerifier, Break, Head, LocalRow, LocalVerifier, Problem};
use mastio_core::hash_from_hex;
use rusqlite::{Connection, OptionalExtension};

use super::{
    ADMIN_CHAIN, ADMIN_COLUMNS, LOCAL_COLUMNS, admin_row, archive::told_marks, behind, covered::Covered,
    local_row, newest_mark, organisations, walk,
};
use crate::{
    ReadError,
    sqlite::{self, Database},
};

/// One stored chain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Chain {
    /// An organisation's, in `local_audit`.
    Organisation(String),
    /// That of the table `audit_log`.
    AuditLog,
}

impl Chain {
    /// The organisation, or `audit_log`.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Organisation(org) => org,
            Self::AuditLog => ADMIN_CHAIN,
        }
    }
}

/// Every chain in the database.
///
/// # Errors
/// When the database cannot be read.
pub fn chains(database: &Database) -> Result<Vec<Chain>, ReadError> {
    let chains = database.read(|connection| {
        let mut chains: Vec<_> = organisations(connection)?.into_iter().map(Chain::Organisation).collect();
        if sqlite::has_table(connection, ADMIN_CHAIN)? {
            chains.push(Chain::AuditLog);
        }
        Ok(chains)
    })?;
    Ok(chains)
}

/// Where the verification of a chain starts: behind its newest archive mark, else at its beginning.
///
/// # Errors
/// When the database cannot be read.
pub fn start(database: &Database, chain: &Chain) -> Result<Head, ReadError> {
    match chain {
        Chain::Organisation(org) => Ok(database.read(|connection| newest_mark(connection, org))?),
        Chain::AuditLog => Ok(Head::GENESIS),
    }
}

/// The position of a chain's newest entry; 0 when it has none.
///
/// # Errors
/// When the database cannot be read.
pub fn last_seq(database: &Database, chain: &Chain) -> Result<u64, ReadError> {
    let newest = |row: &rusqlite::Row<'_>| row.get::<_, Option<i64>>(0);
    let last = database.read(|connection| match chain {
        Chain::Organisation(org) => {
            let sql = "SELECT max(chain_seq) FROM local_audit WHERE org_id = ?1";
            connection.prepare_cached(sql)?.query_row([org], newest)
        }
        Chain::AuditLog => connection.query_row("SELECT max(chain_seq) FROM audit_log", [], newest),
    })?;
    Ok(last.unwrap_or_default().cast_unsigned())
}

/// The last entry of the chain of `org` that the newest checkpoint covers, as it is stored; `None` without a checkpoint,
/// or when that entry is not there.
///
/// # Errors
/// When the database cannot be read.
pub fn checkpointed(database: &Database, org: &str) -> Result<Option<Head>, ReadError> {
    let sql = "SELECT chain_seq, entry_hash FROM local_audit WHERE org_id = ?1 AND chain_seq = \
        (SELECT max(tree_size) FROM audit_checkpoints) + (SELECT base_seq FROM audit_tree) - 1";
    let covered = database.read(|connection| {
        let entry = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?));
        connection.query_row(sql, [org], entry).optional()
    })?;
    Ok(covered.and_then(|(seq, hash)| {
        Some(Head { seq: seq.cast_unsigned(), hash: Some(hash_from_hex(&hash).ok()?) })
    }))
}

/// A verification of one chain that has got so far.
#[derive(Debug)]
pub struct Walk {
    at: At,
    /// An entry that was seen earlier: the chain must still lead through it.
    known: Option<Head>,
    /// Whether the chain tells what became of the entries before its start.
    told: Result<(), Break>,
}

#[derive(Debug)]
enum At {
    Organisation(String, LocalVerifier, Option<Covered>),
    AuditLog(AdminVerifier),
}

impl Walk {
    /// Starts behind `start`. The chain must lead through `known`, if that is given.
    #[must_use]
    pub fn new(chain: Chain, start: Head, known: Option<Head>) -> Self {
        let at = match chain {
            Chain::Organisation(org) => At::Organisation(org, start.into(), None),
            Chain::AuditLog => At::AuditLog(start.into()),
        };
        Self { at, known: known.filter(|known| known.seq > start.seq), told: Ok(()) }
    }

    /// Holds the entries against the newest checkpoint over them, and the mark that it starts behind against the chain:
    /// call it before the first step.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn as_signed(mut self, database: &Database) -> Result<Self, ReadError> {
        let start = self.head();
        if let At::Organisation(org, _, covered) = &mut self.at {
            (*covered, self.told) = database.read(|connection| {
                Ok((Covered::load(connection, org, start)?, told(connection, org, start)?))
            })?;
        }
        Ok(self)
    }

    /// The last entry that held.
    #[must_use]
    pub fn head(&self) -> Head {
        match &self.at {
            At::Organisation(_, verifier, _) => verifier.head(),
            At::AuditLog(verifier) => verifier.head(),
        }
    }

    /// Verifies the next `rows` rows, and says how many there were; 0 at the end of the chain.
    ///
    /// # Errors
    /// When the database cannot be read. Inside: where the chain stops holding.
    pub fn advance(&mut self, database: &Database, rows: u32) -> Result<Result<u64, Break>, ReadError> {
        let before = self.head().seq;
        let broken = database.read(|connection| self.push_next(connection, rows))?;
        Ok(match broken {
            Some(broken) => Err(broken),
            None if self.head().seq > before => Ok(self.head().seq - before),
            None => match &self.at {
                At::Organisation(_, verifier, covered) => {
                    ended(verifier.head(), self.known, covered.as_ref())
                }
                At::AuditLog(verifier) => reached(verifier.head(), self.known),
            }
            .and_then(|()| self.told.clone())
            .map(|()| 0),
        })
    }

    fn push_next(&mut self, connection: &Connection, rows: u32) -> rusqlite::Result<Option<Break>> {
        let (after, known) = (behind(self.head()), self.known);
        match &mut self.at {
            At::Organisation(org, verifier, covered) => {
                let sql = format!(
                    "{LOCAL_COLUMNS} FROM local_audit a WHERE org_id = ?1 AND chain_seq > ?2 ORDER BY chain_seq LIMIT ?3"
                );
                walk(connection, &sql, &[org, &after, &rows], |row| {
                    Ok(accept(verifier, &local_row(row)?, known, covered.as_mut()))
                })
            }
            At::AuditLog(verifier) => {
                let sql = format!("{ADMIN_COLUMNS} WHERE chain_seq > ?1 ORDER BY chain_seq LIMIT ?2");
                walk(connection, &sql, &[&after, &rows], |row| {
                    let row = admin_row(row)?;
                    Ok(verifier.push(&row).and_then(|()| same(verifier.head(), known, row.id)))
                })
            }
        }
    }
}

/// Verifies the next row of an organisation's chain by itself, against what was seen of it and what was signed for it.
pub(super) fn accept(
    verifier: &mut LocalVerifier,
    row: &LocalRow<'_>,
    known: Option<Head>,
    covered: Option<&mut Covered>,
) -> Result<(), Break> {
    verifier.push(row)?;
    let head = verifier.head();
    same(head, known, row.id)?;
    covered.map_or(Ok(()), |covered| covered.push(head, row.id))
}

/// Whether an entry behind `start`, where that is a mark, tells of the archive: else what is missing was deleted.
pub(super) fn told(connection: &Connection, org: &str, start: Head) -> rusqlite::Result<Result<(), Break>> {
    if start.seq == 0 {
        return Ok(Ok(()));
    }
    let is_start = |last: i64| last.cast_unsigned() == start.seq;
    let told = told_marks(connection, org)?.iter().any(|mark| is_start(mark.span.last));
    Ok(if told { Ok(()) } else { Err(Break { seq: start.seq + 1, id: None, problem: Problem::Untold }) })
}

/// Whether a walk that ended at `head` came as far as it must.
pub(super) fn ended(head: Head, known: Option<Head>, covered: Option<&Covered>) -> Result<(), Break> {
    reached(head, known)?;
    covered.map_or(Ok(()), |covered| covered.reached(head))
}

/// Whether a walk that ended at `head` came as far as `known`.
pub(super) fn reached(head: Head, known: Option<Head>) -> Result<(), Break> {
    match known.filter(|known| known.seq > head.seq) {
        Some(known) => {
            Err(Break { seq: head.seq + 1, id: None, problem: Problem::Truncated { expected: known.seq } })
        }
        None => Ok(()),
    }
}

/// Whether an entry that was seen earlier is still the same.
pub(super) fn same(head: Head, known: Option<Head>, id: i64) -> Result<(), Break> {
    match known.filter(|known| known.seq == head.seq && known.hash != head.hash) {
        Some(_) => Err(Break { seq: head.seq, id: Some(id), problem: Problem::Rebuilt }),
        None => Ok(()),
    }
}
