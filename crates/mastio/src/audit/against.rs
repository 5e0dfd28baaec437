//! Holds the entries of a database against a checkpoint that somebody saved.

use std::{ops::ControlFlow, path::Path};

use mastio_audit::{
    checkpoint::SignedCheckpoint,
    tree::{Peaks, Tree},
};
use mastio_core::{counted, hash_from_hex};
use mastio_ledger::checkpoint_file::CheckpointFile;
use mastio_store::{
    audit::{
        self, Chain, Filter, Range, evidence,
        origins::{self, OriginRow},
        tree::{self, StoredTiles, StoredTree},
    },
    sqlite::Database,
};

/// What became of the check.
pub(super) enum Held {
    /// The entries have the root that was saved.
    Continues,
    /// They do not; why.
    Contradicts(String),
}

/// Computes the root of as many entries as the checkpoint has, from the entries themselves: stored hashes of the tree
/// are believed only for what is in an archive.
///
/// # Errors
/// When the database cannot be read, or has no tree, or what is archived is not in its tree any more.
pub(super) fn held(path: &Path, saved: &SignedCheckpoint) -> Result<Held, String> {
    let database = Database::open_for_tool(path).map_err(|error| error.to_string())?;
    let stored = tree::stored(&database).map_err(|error| error.to_string())?;
    let org = evidence::announcing_org(&database).map_err(|error| error.to_string())?;
    let (Some(stored), Some(org)) = (stored, org) else {
        return Err(
            "this database has no tree yet, so there is nothing to hold against the checkpoint".to_owned()
        );
    };
    if let Some(why) = other_log(&database, saved, stored, &org)? {
        return Ok(Held::Contradicts(why));
    }
    let expected = saved.unverified().head;
    let peaks = peaks(&database, stored, org, expected.size)?;
    Ok(if peaks.size() < expected.size {
        Held::Contradicts(format!(
            "the saved checkpoint has {}, and only {} of them here: the others were cut off, or an older copy was put back",
            counted(expected.size, "entry", "entries"),
            peaks.size()
        ))
    } else if peaks.head() != expected {
        Held::Contradicts(
            "the saved checkpoint has another root for these entries: history was rewritten".to_owned(),
        )
    } else {
        Held::Continues
    })
}

/// Holds them against the last checkpoint in the file beside the database, which a restore does not reach. `None`: there
/// is none.
///
/// # Errors
/// As [`held`].
pub(super) fn beside(path: &Path) -> Result<Option<Held>, String> {
    let file = CheckpointFile::beside(path);
    let last = file.last().map_err(|error| format!("{}: {error}", file.path().display()))?;
    let Some(known) = last.last() else { return Ok(None) };
    let database = Database::open_for_tool(path).map_err(|error| error.to_string())?;
    let generations = origins::all(&database).map_err(|error| error.to_string())?;
    // Of a name that was given up: what it had is accepted to be lost.
    let given_up = |row: &OriginRow| *row.vkey.name() == known.note.unverified().origin;
    if generations.iter().skip(1).any(given_up) {
        return Ok(None);
    }
    held(path, &known.note).map(Some)
}

/// The tree of the first `size` entries, or of as many as there are.
fn peaks(database: &Database, stored: StoredTree, org: String, size: u64) -> Result<Peaks, String> {
    let chain = Chain::Organisation(org.clone());
    let archived = audit::start(database, &chain).map_err(|error| error.to_string())?.seq;
    let archived = (archived + 1).saturating_sub(stored.base_seq).min(size);
    let tiles = StoredTiles(database);
    let mut peaks = Tree::new(archived, &tiles).peaks().map_err(|error| {
        format!(
            "the first {} in an archive, and not in the stored tree ({error}): ask the Mastio for a bundle with \"against_size\": {size}",
            counted(archived, "entry is", "entries are")
        )
    })?;
    let base = stored.base_seq.cast_signed();
    let first = base + archived.cast_signed();
    let range = Range { org, first, last: base + size.cast_signed() - 1 };
    let read = database.audit(|view| {
        view.walk(&range, &Filter::default(), &mut |row| {
            let in_place = row.chain_seq == Some(base + peaks.size().cast_signed());
            match hash_from_hex(row.entry_hash.unwrap_or_default()) {
                Ok(hash) if in_place => peaks.append(&hash),
                _ => return ControlFlow::Break(()),
            }
            ControlFlow::Continue(())
        })
    });
    read.map_err(|error| error.to_string())?;
    Ok(peaks)
}

/// Why a checkpoint says nothing of the entries that are here: it is of another log, or of a name that this one had
/// before a restore, with entries that were lost then.
fn other_log(
    database: &Database,
    saved: &SignedCheckpoint,
    stored: StoredTree,
    org: &str,
) -> Result<Option<String>, String> {
    let said = saved.unverified();
    let generations = origins::all(database).map_err(|error| error.to_string())?;
    let Some(newest) = generations.first().filter(|newest| *newest.vkey.name() != said.origin) else {
        return Ok(None);
    };
    let now = newest.vkey.name();
    if generations.iter().all(|row| *row.vkey.name() != said.origin) {
        return Ok(Some(format!("the saved checkpoint is of {}, and this log is {now}", said.origin)));
    }
    let restores = evidence::restores(database, org).map_err(|error| error.to_string())?;
    let since = restores.iter().position(|restore| restore.origin == said.origin.as_str()).unwrap_or(0);
    let lost = restores[since.min(restores.len())..]
        .iter()
        .find(|restore| said.head.size > restore.lost_first.saturating_sub(stored.base_seq));
    Ok(lost.map(|restore| {
        format!(
            "the saved checkpoint is of {} with {}; this log, {now}, is its successor after a restore, and entries {} to {} were lost: see audit.restored, entry {}",
            said.origin,
            counted(said.head.size, "entry", "entries"),
            restore.lost_first,
            restore.lost_last,
            restore.seq
        )
    }))
}
