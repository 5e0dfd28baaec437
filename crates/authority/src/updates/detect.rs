//! The boot detector.

use mastio_core::{Event, Stamp, event::catalogue};
use mastio_custody::Custody;
use mastio_store::{
    ReadError, Unit, rotations,
    sqlite::Database,
    updates::{self, Status},
};

use super::REGISTRY;

/// Proposes every migration that is needed and has no row, and settles those that wait and are not needed any more. What
/// was applied, taken back or set aside is left alone. One that cannot be looked at now is looked at again at the next
/// start: it stops nothing.
///
/// # Errors
/// When the table cannot be read.
pub fn detect(database: &Database, custody: &dyn Custody, now: Stamp) -> Result<Option<Unit>, ReadError> {
    let (rows, rotation) = (updates::all(database)?, rotations::open(database)?);
    for id in updates::nameless(database)? {
        tracing::warn!(
            id,
            "a row of pending_updates has an id that is no text, so it counts for nothing; delete it"
        );
    }
    let mut unit = Unit::default();
    for migration in REGISTRY {
        let id = migration.id();
        let status = rows.iter().find(|row| row.migration == id).map(|row| row.status);
        if !matches!(status, None | Some(Status::Pending | Status::Failed)) {
            continue;
        }
        match (migration.check(database, custody), status) {
            (Err(error), _) => {
                tracing::warn!(migration_id = id, %error, "whether a framework update is needed cannot be seen; it is looked at again at the next start");
            }
            (Ok(true), None) => {
                let criticality = migration.criticality().as_str();
                let event = Event::new(&catalogue::UpdateDetected { migration_id: id, criticality });
                unit = unit.write(updates::propose(id, now)).tell(event);
            }
            (Ok(false), Some(_)) if rotation.is_none() => unit = settle(unit, id, now),
            (Ok(_), Some(_)) | (Ok(false), None) => {}
        }
    }
    Ok((!unit.statements.is_empty()).then_some(unit))
}

/// `id` waits no more, because it is not needed. Rejected while a rotation is open: it can be aborted, and what it repaired
/// would be as it was.
pub(super) fn settle(unit: Unit, id: &'static str, now: Stamp) -> Unit {
    unit.write(rotations::none_is_open())
        .write(updates::mark_applied(id, now))
        .tell(Event::new(&catalogue::UpdateNotNeeded { migration_id: id }))
}
