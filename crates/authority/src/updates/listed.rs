//! The list of updates as operators see it.

use mastio_core::Stamp;
use mastio_store::updates::{self, UpdateRow};

use super::{Migration, REGISTRY, UpdateError, snapshot::Snapshot};
use crate::Authority;

/// A migration with what is known of it here.
#[derive(Debug, Clone)]
pub struct Listed {
    /// What it is.
    pub migration: &'static dyn Migration,
    /// Where it is, if it was ever needed.
    pub row: Option<UpdateRow>,
    /// Whether the next start proposes it: it has no row, and is needed.
    pub proposed_next: bool,
    /// The way back, if there is one.
    pub snapshot: Option<Kept>,
    /// Leaves done and in all, while it is being applied.
    pub progress: Option<(u64, u64)>,
}

/// A snapshot, without what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Kept {
    /// When it was taken, if its row says so.
    pub created_at: Option<Stamp>,
    /// Whether its keys are encrypted.
    pub sealed: bool,
    /// When it is wiped because they are not.
    pub wiped_after: Option<Stamp>,
}

impl Authority {
    /// Every registered migration, in the order in which they are applied.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn updates(&self) -> Result<Vec<Listed>, UpdateError> {
        let database = self.store.database();
        let (mut rows, snapshots) = (updates::all(database)?, updates::snapshots(database)?);
        let listed = REGISTRY.into_iter().map(|migration| {
            let id = migration.id();
            let snapshot = snapshots.iter().find(|row| row.migration == id).map(|row| {
                let read = Snapshot::read(row);
                Kept { created_at: row.created_at, sealed: read.is_sealed(), wiped_after: read.wiped_after() }
            });
            let row = rows.iter().position(|row| row.migration == id).map(|place| rows.swap_remove(place));
            // Where it cannot be seen, the next start looks again.
            let needed = || migration.check(database, self.custody().as_ref()).unwrap_or(true);
            Listed {
                migration,
                proposed_next: row.is_none() && needed(),
                row,
                snapshot,
                progress: self.updating.progress.of(id),
            }
        });
        Ok(listed.collect())
    }
}
