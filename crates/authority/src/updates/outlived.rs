//! Snapshots that nothing leads back to any more: the key of a root goes with the last way in which it could count again.

use mastio_core::{Event, Stamp, event::catalogue};
use mastio_pki::{Certificate, lineage};
use mastio_store::{
    ReadError, Unit, cas,
    rotations::Phase,
    sqlite::Database,
    updates::{SnapshotRow, snapshots},
};

use super::{adopted::took_its_place, snapshot::Snapshot};
use crate::trust::Trust;

/// What is told of snapshots that a rotation wiped.
const ROTATED: &str = "ca_rotated";

/// Behind another Org CA nothing leads back: all snapshots go with the old one, in its unit.
///
/// # Errors
/// When the database cannot be read.
pub(crate) fn left_with_root(unit: Unit, database: &Database, by: &str) -> Result<Unit, ReadError> {
    Ok(snapshots(database)?.iter().fold(unit, |unit, row| wiped(unit, row, by)))
}

/// With the intermediate only those go whose root has another key than that of today: below it is nothing any more. And
/// what cannot be read, which may be such a one. While the root of an overlap is the active one its intermediate is no
/// part of any way back: an abort brings back those of before, and the last step wipes all.
///
/// # Errors
/// When the database cannot be read.
pub(crate) fn left_with_intermediate(
    unit: Unit,
    database: &Database,
    trust: &Trust,
    by: &str,
) -> Result<Unit, ReadError> {
    if trust.rotation.as_ref().is_some_and(|rotation| rotation.phase == Phase::Activated) {
        return Ok(unit);
    }
    let of_another = |row: &&SnapshotRow| {
        let before = Snapshot::read(row);
        before.is_unread() || before.root().is_ok_and(|before| before.spki_der() != trust.root.spki_der())
    };
    Ok(snapshots(database)?.iter().filter(of_another).fold(unit, |unit, row| wiped(unit, row, by)))
}

/// Whatever became of it meanwhile: a rotation does not fail over it.
fn wiped(unit: Unit, row: &SnapshotRow, by: &str) -> Unit {
    let event = catalogue::UpdateSnapshotWiped {
        migration_id: row.migration.clone(),
        reason: ROTATED,
        by: Some(by.to_owned()),
    };
    unit.write_all(row.wipe_anyway()).tell(Event::new(&event))
}

/// Whether `snapshot` holds the key of a root to which nothing leads back from `root`, the active one.
///
/// # Errors
/// When the database cannot be read.
pub(crate) fn is_outlived(
    database: &Database,
    snapshot: &Snapshot,
    root: &Certificate,
    now: Stamp,
) -> Result<bool, ReadError> {
    let Ok(before) = snapshot.root() else { return Ok(false) };
    let leads_back = before == *root
        || match snapshot.is_ours() {
            true => has_vouched(database, &before, root)?,
            false => took_its_place(&before, root),
        };
    Ok(snapshot.holds_root_key() && (!leads_back || before.not_after() <= now))
}

/// Whether `new` is the one that took the place of `old`.
///
/// # Errors
/// When the database cannot be read.
pub(super) fn has_vouched(
    database: &Database,
    old: &Certificate,
    new: &Certificate,
) -> Result<bool, ReadError> {
    let registry = cas::all(database)?;
    let word =
        registry.iter().find(|row| row.thumbprint == old.thumbprint()).and_then(|row| row.lineage.as_deref());
    Ok(word.is_some_and(|word| lineage::verify(word, old, new).is_ok()))
}
