//! Walks the lines of `events.ndjson`.

use std::{
    borrow::Cow,
    io::{self, BufRead, Read},
};

use mastio_audit::{Head, LocalRow, LocalVerifier, Sealed, SetBack, lines};
use mastio_core::Stamp;
use serde::Deserialize;

use crate::format::{Digest, MAX_LINE, read_digest};

/// The event that tells of a database that was restored, with entries lost.
const RESTORED: &str = "audit.restored";
/// Most restores that are reported one by one.
const MAX_RESTORED: usize = 16;

/// One end of a range of entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) seq: u64,
    pub(crate) hash: Digest,
    pub(crate) timestamp: String,
}

/// A range of entries that hangs together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Walked {
    pub(crate) entries: u64,
    pub(crate) first: End,
    pub(crate) last: End,
    /// What the first entry links to.
    pub(crate) previous: Option<Digest>,
    /// Entries that tell of a restore, the first few.
    pub(crate) restored: Vec<u64>,
    /// Whether the clock was set back meanwhile.
    pub(crate) set_back: Option<SetBack>,
    /// Which entries have more than one reading.
    pub(crate) ambiguous: Option<Ambiguous>,
}

impl Walked {
    /// An entry with more than one reading from after `announced`, when this Mastio already wrote the log. It writes no
    /// such entry, so somebody cut one of its entries into other columns.
    pub(crate) fn recut_since(&self, announced: Stamp) -> Option<u64> {
        let (at, seq) = self.ambiguous?.newest?;
        (at >= announced).then_some(seq)
    }
}

/// Entries that hold `|` or a control character outside their details, as the Python implementation may have written
/// them: the same hash may be right for their columns cut elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ambiguous {
    /// How many.
    pub(crate) entries: u64,
    /// The place of the first.
    pub(crate) first: u64,
    /// Time and place of the newest of format v2. A time is nothing that can be cut, and entries of ours can be cut only
    /// into entries of that format.
    newest: Option<(Stamp, u64)>,
}

impl Ambiguous {
    fn count(before: Option<Self>, seq: u64, newest: Option<(Stamp, u64)>) -> Self {
        let before = before.unwrap_or(Self { entries: 0, first: seq, newest: None });
        Self { entries: before.entries + 1, newest: before.newest.max(newest), ..before }
    }
}

/// A line, as far as it makes a row. The rest of it is compared with what that row is written as.
#[derive(Deserialize)]
struct Line<'a> {
    id: i64,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    event_type: Cow<'a, str>,
    agent_id: Option<String>,
    session_id: Option<String>,
    org_id: Option<String>,
    #[serde(borrow)]
    result: Cow<'a, str>,
    details: Option<String>,
    entry_hash: Option<String>,
    previous_hash: Option<String>,
    chain_seq: Option<i64>,
    peer_org_id: Option<String>,
    hash_format: Option<String>,
}

impl Line<'_> {
    fn row(&self) -> LocalRow<'_> {
        LocalRow {
            id: self.id,
            timestamp: &self.timestamp,
            event_type: &self.event_type,
            agent_id: self.agent_id.as_deref(),
            session_id: self.session_id.as_deref(),
            org_id: self.org_id.as_deref(),
            result: &self.result,
            details: self.details.as_deref(),
            previous_hash: self.previous_hash.as_deref(),
            entry_hash: self.entry_hash.as_deref(),
            chain_seq: self.chain_seq,
            peer_org_id: self.peer_org_id.as_deref(),
            hash_format: self.hash_format.as_deref(),
        }
    }
}

/// Reads lines up to the first that does not follow from those before; what is wrong with it is the inner error.
pub(crate) fn walk(
    input: &mut impl BufRead,
    org: &str,
    each: &mut dyn FnMut(&LocalRow<'_>),
) -> io::Result<Result<Walked, String>> {
    let (mut line, mut written) = (Vec::new(), Vec::new());
    let mut walk: Option<Walk> = None;
    for number in 1u64.. {
        line.clear();
        if input.by_ref().take(MAX_LINE as u64 + 1).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if let Err(why) = push(&mut walk, &line, &mut written, org, each) {
            return Ok(Err(format!("line {number}: {why}")));
        }
    }
    Ok(walk.map(Walk::finish).ok_or_else(|| "there are no entries".to_owned()))
}

fn push(
    walk: &mut Option<Walk>,
    line: &[u8],
    written: &mut Vec<u8>,
    org: &str,
    each: &mut dyn FnMut(&LocalRow<'_>),
) -> Result<(), String> {
    if line.len() > MAX_LINE {
        return Err(format!("it is longer than {MAX_LINE} bytes"));
    }
    let read: Line<'_> = serde_json::from_slice(line).map_err(|error| format!("not an entry: {error}"))?;
    let row = read.row();
    written.clear();
    lines::ndjson(&row, written);
    if written != line {
        return Err("its members contradict each other, or it is written in another form".to_owned());
    }
    if row.org_id != Some(org) {
        return Err(format!("it is of the chain of {}", row.org_id.unwrap_or("nobody")));
    }
    let walk = match walk {
        Some(walk) => walk,
        None => walk.insert(Walk::before(&row)?),
    };
    walk.push(&row)?;
    each(&row);
    Ok(())
}

/// The place and the hash of an entry that stands alone, if it has that hash.
pub(crate) fn alone(line: &[u8]) -> Result<(u64, Digest), String> {
    let read: Line<'_> = serde_json::from_slice(line).map_err(|error| format!("not an entry: {error}"))?;
    let row = read.row();
    let mut walk = Walk::before(&row)?;
    walk.push(&row)?;
    let Walked { last, ambiguous, .. } = walk.finish();
    if ambiguous.is_some() {
        return Err("it holds `|` or a control character outside its details: it was cut into other columns"
            .to_owned());
    }
    Ok((last.seq, last.hash))
}

/// A walk in which every entry followed from the one before, so far.
pub(crate) struct Walk {
    verifier: LocalVerifier,
    previous: Option<Digest>,
    first: Option<End>,
    restored: Vec<u64>,
    ambiguous: Option<Ambiguous>,
}

impl Walk {
    /// Starts with `row`, whatever it links to: that is the manifest's to say.
    pub(crate) fn before(row: &LocalRow<'_>) -> Result<Self, String> {
        let seq = row.chain_seq.and_then(|seq| u64::try_from(seq).ok()).filter(|seq| *seq > 0);
        let seq = seq.ok_or("it has no place in the chain")?;
        let previous = match row.previous_hash {
            Some(text) => Some(read_digest(text).ok_or("its previous_hash is not a hash")?),
            None => None,
        };
        if previous.is_none() != (seq == 1) {
            return Err("the first entry of a chain links to nothing, and no other".to_owned());
        }
        let verifier = LocalVerifier::from(Head { seq: seq - 1, hash: previous });
        let previous = previous.map(Digest);
        Ok(Self { verifier, previous, first: None, restored: Vec::new(), ambiguous: None })
    }

    pub(crate) fn push(&mut self, row: &LocalRow<'_>) -> Result<(), String> {
        self.verifier.push(row).map_err(|broken| broken.to_string())?;
        let head = self.verifier.head();
        if row.can_be_recut() {
            let at = Stamp::parse(row.timestamp).map_err(|_| "its timestamp is not a time")?;
            let newest = (row.hash_format == Some(Sealed::HASH_FORMAT)).then_some((at, head.seq));
            self.ambiguous = Some(Ambiguous::count(self.ambiguous, head.seq, newest));
        }
        if self.first.is_none() {
            self.first = Some(End {
                seq: head.seq,
                hash: Digest(head.hash.unwrap_or_default()),
                timestamp: row.timestamp.to_owned(),
            });
        }
        if row.event_type == RESTORED && self.restored.len() < MAX_RESTORED {
            self.restored.push(head.seq);
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Walked {
        let report = self.verifier.finish();
        let last = End {
            seq: report.head.seq,
            hash: Digest(report.head.hash.unwrap_or_default()),
            timestamp: report.last_timestamp.unwrap_or_default(),
        };
        Walked {
            entries: report.rows,
            first: self.first.unwrap_or_else(|| last.clone()),
            last,
            previous: self.previous,
            restored: self.restored,
            set_back: report.set_back,
            ambiguous: self.ambiguous,
        }
    }
}
