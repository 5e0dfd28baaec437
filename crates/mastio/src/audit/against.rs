//! Holds the entries of a database against a checkpoint that somebody saved.

use std::{ops::ControlFlow, path::Path};

use mastio_audit::{note::SignedCheckpoint, tree::Peaks};
use mastio_store::{
    audit::{Filter, Range, evidence, tree},
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
/// are not believed.
///
/// # Errors
/// When the database cannot be read, or has no tree.
pub(super) fn held(path: &Path, saved: &SignedCheckpoint) -> Result<Held, String> {
    let database = Database::open_for_tool(path).map_err(|error| error.to_string())?;
    let stored = tree::stored(&database).map_err(|error| error.to_string())?;
    let org = evidence::announcing_org(&database).map_err(|error| error.to_string())?;
    let (Some(stored), Some(org)) = (stored, org) else {
        return Err(
            "this database has no tree yet, so there is nothing to hold against the checkpoint".to_owned()
        );
    };
    let expected = saved.unverified().head;
    let first = stored.base_seq.cast_signed();
    let range = Range { org, first, last: first + expected.size.cast_signed() - 1 };
    let mut peaks = Peaks::default();
    let read = database.audit(|view| {
        view.walk(&range, &Filter::default(), &mut |row| {
            let mut hash = [0; 32];
            let in_place = row.chain_seq == Some(first + peaks.size().cast_signed());
            if !in_place || hex::decode_to_slice(row.entry_hash.unwrap_or_default(), &mut hash).is_err() {
                return ControlFlow::Break(());
            }
            peaks.append(&hash);
            ControlFlow::Continue(())
        })
    });
    read.map_err(|error| error.to_string())?;
    Ok(if peaks.size() < expected.size {
        Held::Contradicts(format!(
            "the saved checkpoint has {} entries, and only {} of them are here: they were cut off, or archived",
            expected.size,
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
