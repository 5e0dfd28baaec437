//! Accepting that the database is an older copy: what is lost is written down, and checkpoints go on under the next
//! generation of the log (design decision 18).
//!
//! It has a fresh key. The one of before is in the copy that was restored, and in every other copy of it: whoever holds
//! one could go on signing the history that was given up.

use std::{collections::BTreeSet, io};

use mastio_audit::note::Name;
use mastio_authority::{Outage, trust::Trust};
use mastio_core::{
    Clock, Event, OrgId, Rng,
    event::{Details, catalogue},
};
use mastio_custody::Custody;
use mastio_store::{
    ReadError, Store,
    audit::{
        archive::{self, Told},
        checkpoints, tree,
    },
    crl,
    sqlite::Database,
};
use serde_json::Value;

use super::{Rewind, find, forget, judge, judge_entries, newest_of, told};
use crate::{
    checkpoint_file::{CheckpointFile, Known},
    checkpoints::CheckpointError,
    log_key::{LogKey, LogKeyError, Maker, name_of},
};

/// Why nothing was accepted. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The log continues everything that is known of it.
    #[error("there is nothing to accept: the audit log continues every checkpoint that is known of it")]
    NothingLost,
    /// There is no log.
    #[error("the audit log has no checkpoints yet; start the Mastio once")]
    NoLog,
    /// The key.
    #[error("{0}")]
    Key(#[from] LogKeyError),
    /// The comparison failed.
    #[error("{0}")]
    Compare(#[from] CheckpointError),
    /// The file beside the database.
    #[error("the file of checkpoints cannot be read: {0}")]
    File(#[from] io::Error),
    /// Something of ours.
    #[error("{0}")]
    Outage(#[from] Outage),
}

impl From<ReadError> for AcceptError {
    fn from(error: ReadError) -> Self {
        Self::Outage(error.into())
    }
}

/// What an older copy of the database does not have.
#[derive(Debug)]
pub struct Loss {
    /// What it contradicts.
    pub rewind: Rewind,
    /// When the server noticed it, in RFC 3339; `None`: it has not.
    pub noticed_at: Option<String>,
    /// The first entry that is lost.
    pub first: u64,
    /// The last entry that is known to be lost; later ones may have been written after the last known checkpoint.
    pub last: u64,
    /// The log's name until now.
    pub origin: Name,
    /// Its name from now on.
    pub new_origin: Name,
    generation: u64,
    base_seq: u64,
}

impl Loss {
    /// Finds out what the database at hand has lost, by the file beside it and by what a witness said to the server.
    ///
    /// # Errors
    /// [`AcceptError::NothingLost`] when it has lost nothing.
    pub fn examine(database: &Database, custody: &dyn Custody, trust: &Trust) -> Result<Self, AcceptError> {
        let key = LogKey::stored(database, custody)?.ok_or(AcceptError::NoLog)?;
        // A tree is stored before its checkpoint is signed: one that is larger was signed over entries that are gone.
        let size = tree::stored(database)?.map_or(0, |tree| tree.size);
        let file = CheckpointFile::beside(database.path());
        let by_file = find(database, &file, &trust.org, &key, size)?;
        let noticed = noticed(database, &trust.org)?;
        let by_witness = told_rewind(database, &trust.org, &key, size, noticed.as_ref())?;
        let newest = |rewind: &Rewind| newest_of(&key, &rewind.known);
        let rewind =
            by_file.into_iter().chain(by_witness).max_by_key(newest).ok_or(AcceptError::NothingLost)?;

        let all = file.all()?;
        let (_, known_size) = newest_of(&key, &rewind.known).unwrap_or_default();
        let used: BTreeSet<u64> = all
            .iter()
            .chain([&rewind.known])
            .filter_map(|known| newest_of(&key, known))
            .map(|(used, _)| used)
            .collect();
        // The first behind ours that was not used: what does not follow was written by somebody else.
        let mut behind = (1..).map_while(|step| key.generation.checked_add(step));
        let generation = behind.find(|generation| !used.contains(generation)).ok_or(AcceptError::NoLog)?;
        let last = key.base_seq + known_size - 1;
        let agreed = key.base_seq + agreed(database, &key, size.min(known_size), &all)?;
        // Entries that were there when the lost checkpoint was signed were in the copy.
        let kept =
            rewind.known.at.map(|at| tree::last_until(database, &trust.org, at)).transpose()?.flatten();
        let first = kept.map_or(agreed, |kept| agreed.max(kept + 1));
        Ok(Self {
            // Where the times say that nothing is lost, entries were rewritten in place.
            first: if first > last { agreed.min(last) } else { first },
            last,
            origin: key.origin().clone(),
            new_origin: name_of(&key, generation).map_err(LogKeyError::from)?,
            generation,
            base_seq: key.base_seq,
            noticed_at: noticed.map(|noticed| noticed.timestamp),
            rewind,
        })
    }

    /// Writes into the log what is lost and that `by` accepted it, and begins the next generation, in one unit.
    ///
    /// # Errors
    /// When it cannot be written, or somebody else accepted first.
    pub async fn accept(
        &self,
        store: &Store,
        custody: &dyn Custody,
        trust: &Trust,
        (clock, rng): (&dyn Clock, &dyn Rng),
        by: &str,
    ) -> Result<(), AcceptError> {
        let signer = trust.signer.as_deref().ok_or(LogKeyError::NoSigner)?;
        let maker = Maker { org: &trust.org, signer, custody, rng, now: clock.now() };
        let restored = catalogue::LogRestored {
            origin: self.origin.to_string(),
            new_origin: self.new_origin.to_string(),
            lost_first: self.first,
            lost_last: self.last,
            last_checkpoint: self.rewind.known.note.to_string(),
            last_checkpoint_at: self.rewind.known.at,
            by: by.to_owned(),
        };
        let mut unit = maker.begin(self.generation, self.new_origin.clone(), self.base_seq)?;
        unit.events.insert(0, Event::new(&restored));
        let unit = unit.write(forget()).write(crl::raise_numbers(clock.now()));
        store.submit(unit).await.map_err(Outage::from)?;
        Ok(())
    }
}

/// The entry that told of the rewind that is not accepted yet.
fn noticed(database: &Database, org: &OrgId) -> Result<Option<Told>, AcceptError> {
    if told(database)?.is_none() {
        return Ok(None);
    }
    Ok(archive::newest_told(database, org, 0, [catalogue::LogRolledBack::KIND.name; 2])?)
}

/// The rewind that the server told, by a checkpoint of a witness perhaps, if it is one still.
fn told_rewind(
    database: &Database,
    org: &OrgId,
    key: &LogKey,
    size: u64,
    noticed: Option<&Told>,
) -> Result<Option<Rewind>, AcceptError> {
    let Some(known) = told(database)? else { return Ok(None) };
    let reason = judge_entries(database, org, key, size, &known).map_err(CheckpointError::from)?;
    let details: Option<Value> = noticed.and_then(|noticed| serde_json::from_str(&noticed.details).ok());
    let seen_in = details.as_ref().and_then(|details| details["seen_in"].as_str());
    let seen_in = seen_in.unwrap_or("the audit log").to_owned();
    Ok(reason.map(|reason| Rewind { reason, known, seen_in, entries: size }))
}

/// The size of the largest published tree, at most `limit`, that the database still continues.
fn agreed(database: &Database, key: &LogKey, limit: u64, all: &[Known]) -> Result<u64, CheckpointError> {
    let stored = checkpoints::newest(database, key.origin())?;
    let stored = stored.map(|row| Known { note: row.note, at: Some(row.signed_at) });
    let mut candidates: Vec<(u64, &Known)> = all
        .iter()
        .chain(&stored)
        .filter_map(|known| Some((newest_of(key, known)?.1, known)))
        .filter(|(size, known)| *size <= limit && known.note.verify(key.vkey()).is_ok())
        .collect();
    candidates.sort_by_key(|(size, _)| std::cmp::Reverse(*size));
    for (size, known) in candidates {
        if judge(database, key, limit, known)?.is_none() {
            return Ok(size);
        }
    }
    Ok(0)
}
