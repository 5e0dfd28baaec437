//! Streaming verification of stored chains.

use std::{marker::PhantomData, time::Duration};

use mastio_core::{Stamp, sha256};

use crate::{
    chain::Head,
    problem::{Break, Problem},
    row::{AdminRow, Link, LocalRow, Row},
};

/// The table `local_audit`: one chain for each organisation.
#[derive(Debug, Clone, Copy)]
pub enum Local {}

/// The table `audit_log`: one chain for the whole database, written by the Python implementation only.
#[derive(Debug, Clone, Copy)]
pub enum Admin {}

/// Verifies one organisation's chain in `local_audit`.
pub type LocalVerifier = Verifier<Local>;

/// Verifies the chain in `audit_log`.
pub type AdminVerifier = Verifier<Admin>;

/// Entries dated this much before an earlier one are told. The Python implementation dated them before queueing.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

/// A clock that was set back while a chain grew. The order of the entries is proved, their times are only stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetBack {
    /// The first entry that is dated more than [`CLOCK_TOLERANCE`] before an earlier one.
    pub seq: u64,
    /// How many such entries there are.
    pub entries: u64,
    /// The furthest of them from the newest date before it.
    pub by: Duration,
}

/// Walks the rows of one chain in the order of `chain_seq`, each by its own hash format.
///
/// Memory is constant (the longest row seen) and nothing is allocated for a row, except for one whose timestamp has
/// to be rendered anew.
#[derive(Debug, Clone)]
pub struct Verifier<Table> {
    head: Head,
    /// The hash of the head in hex, as the next row must hold it.
    head_text: [u8; 64],
    rows: u64,
    ambiguous: u64,
    first_seq: Option<u64>,
    last_timestamp: String,
    newest_timestamp: String,
    set_back: Option<SetBack>,
    canonical: Vec<u8>,
    table: PhantomData<Table>,
}

/// What a verifier saw of a chain that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainReport {
    /// How many rows were verified.
    pub rows: u64,
    /// The last of them, or the start when there were none.
    pub head: Head,
    /// Position of the first row.
    pub first_seq: Option<u64>,
    /// Timestamp of the last row as stored. Within a chain that the Python implementation wrote, times may go back.
    pub last_timestamp: Option<String>,
    /// Whether the clock was set back meanwhile.
    pub set_back: Option<SetBack>,
    /// Rows that hold the separator `|` or a control character outside their details. Their hash is right, but it may
    /// also be right for the same text cut into columns elsewhere. Mastio never writes such a row.
    pub ambiguous: u64,
}

impl LocalVerifier {
    /// Verifies the next row.
    ///
    /// # Errors
    /// What is wrong with it; the verifier then still stands at the row before.
    pub fn push(&mut self, row: &LocalRow<'_>) -> Result<(), Break> {
        self.accept(row)
    }
}

impl AdminVerifier {
    /// Verifies the next row.
    ///
    /// # Errors
    /// What is wrong with it; the verifier then still stands at the row before.
    pub fn push(&mut self, row: &AdminRow<'_>) -> Result<(), Break> {
        self.accept(row)
    }
}

impl<Table> Default for Verifier<Table> {
    fn default() -> Self {
        Self::from(Head::GENESIS)
    }
}

/// Starts after `head`, the last entry of the part that is verified elsewhere, such as an archive.
impl<Table> From<Head> for Verifier<Table> {
    fn from(head: Head) -> Self {
        Self {
            head,
            head_text: hex_text(&head.hash.unwrap_or_default()),
            rows: 0,
            ambiguous: 0,
            first_seq: None,
            last_timestamp: String::new(),
            newest_timestamp: String::new(),
            set_back: None,
            canonical: Vec::new(),
            table: PhantomData,
        }
    }
}

impl<Table> Verifier<Table> {
    /// Starts at the beginning of the chain: its first row must be number 1.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The last row that held.
    #[must_use]
    pub fn head(&self) -> Head {
        self.head
    }

    /// Ends the walk. A chain that lost its newest rows looks intact here: see [`Self::finish_at`].
    #[must_use]
    pub fn finish(self) -> ChainReport {
        ChainReport {
            rows: self.rows,
            head: self.head,
            first_seq: self.first_seq,
            last_timestamp: (self.rows > 0).then_some(self.last_timestamp),
            ambiguous: self.ambiguous,
            set_back: self.set_back,
        }
    }

    /// Ends the walk where it must end: at `expected`, known from elsewhere.
    ///
    /// # Errors
    /// When the chain is shorter, longer, or another one.
    pub fn finish_at(self, expected: Head) -> Result<ChainReport, Break> {
        let Head { seq, hash } = self.head;
        let broken = |seq, problem| Err(Break { seq, id: None, problem });
        if seq < expected.seq {
            broken(seq + 1, Problem::Truncated { expected: expected.seq })
        } else if seq > expected.seq {
            broken(expected.seq + 1, Problem::Overrun { expected: expected.seq })
        } else if hash != expected.hash {
            broken(seq, Problem::Rebuilt)
        } else {
            Ok(self.finish())
        }
    }

    fn accept<R: Row>(&mut self, row: &R) -> Result<(), Break> {
        let link = row.link();
        let seq = link.seq.and_then(|seq| u64::try_from(seq).ok()).filter(|seq| *seq > 0);
        let hash = self.check(row, &link, seq).map_err(|problem| Break {
            seq: seq.unwrap_or(self.head.seq + 1),
            id: Some(link.id),
            problem,
        })?;
        self.head = Head { seq: self.head.seq + 1, hash: Some(hash) };
        self.head_text = hex_text(&hash);
        self.rows += 1;
        self.ambiguous += u64::from(row.is_ambiguous());
        self.first_seq.get_or_insert(self.head.seq);
        replace(&mut self.last_timestamp, link.timestamp);
        self.watch_clock(link.timestamp);
        Ok(())
    }

    /// What we write sorts as text, so times are read only where the text goes back.
    fn watch_clock(&mut self, timestamp: &str) {
        if timestamp >= self.newest_timestamp.as_str() {
            replace(&mut self.newest_timestamp, timestamp);
            return;
        }
        let (Ok(newest), Ok(this)) = (Stamp::parse(&self.newest_timestamp), Stamp::parse(timestamp)) else {
            return;
        };
        let by = newest.since(this);
        if by > CLOCK_TOLERANCE {
            let known = self.set_back.unwrap_or(SetBack { seq: self.head.seq, entries: 0, by });
            self.set_back = Some(SetBack { entries: known.entries + 1, by: known.by.max(by), ..known });
        }
    }

    /// The hash of `row`, if it is the next link of this chain.
    fn check<R: Row>(&mut self, row: &R, link: &Link<'_>, seq: Option<u64>) -> Result<[u8; 32], Problem> {
        self.check_place(seq.ok_or(Problem::Unreadable { column: "chain_seq" })?)?;
        let predecessor = match self.head.hash {
            Some(_) => Some(self.head_text.as_slice()),
            None => R::GENESIS.map(str::as_bytes),
        };
        if link.previous.map(str::as_bytes) != predecessor {
            return Err(Problem::Link);
        }
        self.check_hash(row, link)
    }

    fn check_place(&self, seq: u64) -> Result<(), Problem> {
        match self.head.seq {
            head if seq == head + 1 => Ok(()),
            head if seq <= head => Err(Problem::Fork { head }),
            0 => Err(Problem::FirstMissing),
            after => Err(Problem::Gap { after }),
        }
    }

    /// The timestamp counts as stored, or else as the reference rendered it (contract §1.3).
    fn check_hash<R: Row>(&mut self, row: &R, link: &Link<'_>) -> Result<[u8; 32], Problem> {
        let stored = link.hash.ok_or(Problem::Unreadable { column: R::HASH_COLUMN })?;
        let format = link.format.ok_or(Problem::Unreadable { column: "hash_format" })?;
        let mut with_timestamp = |timestamp: &str| {
            self.canonical.clear();
            row.write_canonical(format, timestamp, &mut self.canonical);
            let hash = sha256(&self.canonical);
            (hex_text(&hash) == stored.as_bytes()).then_some(hash)
        };
        with_timestamp(link.timestamp)
            .or_else(|| {
                let rendered = R::RENDERS_TIMESTAMP.then(|| python_rendition(link.timestamp)).flatten()?;
                with_timestamp(&rendered)
            })
            .ok_or(Problem::Hash)
    }
}

fn replace(text: &mut String, with: &str) {
    text.clear();
    text.push_str(with);
}

/// The text as Python parses and writes it: in UTC, without a fraction when that is zero.
fn python_rendition(timestamp: &str) -> Option<String> {
    Some(Stamp::parse(timestamp).ok()?.to_string().replace(".000000+", "+"))
}

/// Lower-case hex, as hashes are stored.
fn hex_text(hash: &[u8; 32]) -> [u8; 64] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 64];
    for (pair, byte) in text.chunks_exact_mut(2).zip(hash) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_rendered_as_python_does() {
        for (stored, rendered) in [
            ("2026-04-23T19:04:22.000000Z", "2026-04-23T19:04:22+00:00"),
            ("2026-04-23 19:04:22.123", "2026-04-23T19:04:22.123000+00:00"),
            ("2026-04-23T21:04:22.5+02:00", "2026-04-23T19:04:22.500000+00:00"),
        ] {
            assert_eq!(python_rendition(stored).as_deref(), Some(rendered));
        }
        assert_eq!(python_rendition("yesterday"), None);
    }

    #[test]
    fn hex_is_lower_case() {
        let hash = sha256(b"");
        assert_eq!(hex_text(&hash), hex::encode(hash).as_bytes());
    }
}
