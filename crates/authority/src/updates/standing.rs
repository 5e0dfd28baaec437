//! Where the framework updates are at one moment: part of the trust state.

use mastio_custody::Custody;
use mastio_store::{
    sqlite::Database,
    updates::{self, Status},
};

use super::{Criticality, Enrollment, Migration, REGISTRY};

/// Which updates wait, and which of them halts signing.
#[derive(Debug, Clone)]
pub struct Standing {
    /// How many there are of each status. One that waits and is not needed any more counts as applied.
    pub counts: [(Status, i64); 4],
    /// Whether a critical one waits.
    pub critical: bool,
    /// The first critical one that waits, or failed, and touches agents of this deployment: nothing is signed until then.
    pub halting: Option<&'static str>,
    /// The first critical one that waits, or failed, and touches whoever gets certificates here, whether or not there is
    /// such an agent already: nobody is certified until then.
    pub certifying: Option<&'static str>,
    /// Those that wait and are not needed any more.
    pub settled: Vec<&'static str>,
}

impl Standing {
    /// Reads it. Whether an update that waits is still needed is looked at again, so that whatever else repairs the same,
    /// such as a rotation of the root, ends its halt.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(crate) fn load(database: &Database, custody: &dyn Custody) -> Result<Self, mastio_store::ReadError> {
        let mut standing = Self {
            counts: Status::ALL.map(|status| (status, 0)),
            critical: false,
            halting: None,
            certifying: None,
            settled: Vec::new(),
        };
        for row in updates::all(database)? {
            let Some(migration) = REGISTRY.into_iter().find(|known| known.id() == row.migration) else {
                continue;
            };
            let waits = matches!(row.status, Status::Pending | Status::Failed);
            // One that cannot be looked at is needed, as it was when it was proposed.
            let settled = waits && matches!(migration.check(database, custody), Ok(false));
            standing.count(if settled { Status::Applied } else { row.status });
            if settled {
                standing.settled.push(migration.id());
            } else if waits && migration.criticality() == Criticality::Critical {
                standing.critical = true;
                if standing.certifying.is_none() && migration.affects().contains(&Enrollment::Connector) {
                    standing.certifying = Some(migration.id());
                }
                if standing.halting.is_none() && overlaps(database, migration)? {
                    standing.halting = Some(migration.id());
                }
            }
        }
        Ok(standing)
    }

    fn count(&mut self, status: Status) {
        for (_, count) in self.counts.iter_mut().filter(|(counted, _)| *counted == status) {
            *count += 1;
        }
    }

    /// How many wait; one that failed waits to be tried again.
    #[must_use]
    pub fn waiting(&self) -> i64 {
        let waits = |(status, _): &&(Status, i64)| matches!(status, Status::Pending | Status::Failed);
        self.counts.iter().filter(waits).map(|(_, count)| count).sum()
    }
}

/// Whether `migration` touches agents of this deployment. One without active agents is there for those that the Mastio
/// will make certificates for.
fn overlaps(database: &Database, migration: &dyn Migration) -> Result<bool, mastio_store::ReadError> {
    let has = |way| updates::has_active(database, way);
    for way in migration.affects() {
        if has(*way)? {
            return Ok(true);
        }
    }
    let nobody = !has(Enrollment::Byoca)? && !has(Enrollment::Spire)?;
    Ok(nobody && migration.affects().contains(&Enrollment::Connector))
}
