//! Framework updates: repairs of what an older version left behind, which an operator applies and can take back
//! (contract `pki.md` §8).
//!
//! A [`Migration`] says what it is, whether it is needed, and what it would write; everything else is the same for all:
//! [`detect`] proposes it at each start, a critical one halts signing ([`Standing::halting`]), [`Authority::apply_update`]
//! keeps rotations out, keeps a snapshot, and then makes the change in one unit; [`Authority::roll_back_update`] takes it
//! back in one.

mod adopted;
mod apply;
mod detect;
mod error;
mod leaves;
mod listed;
mod migration;
mod org_ca_path_len;
mod outlived;
mod parked_keys;
mod roll_back;
mod snapshot;
mod standing;
mod under_way;

use std::time::Duration;

pub(crate) use self::{
    adopted::{by_halves, cut_short, is_by_halves},
    outlived::{is_outlived, left_with_intermediate, left_with_root},
    snapshot::{Snapshot, looked_after},
    under_way::interrupted,
};
pub use self::{
    apply::Applied,
    detect::detect,
    error::{UpdateError, UpdateUnderWay},
    leaves::Progress,
    listed::{Kept, Listed},
    migration::{Criticality, Enrollment, Kind, Migration, Plan, Scene},
    roll_back::RolledBack,
    standing::Standing,
};
use self::{org_ca_path_len::OrgCaPathLen, parked_keys::ParkedKeys};
#[cfg(doc)]
use crate::Authority;

/// Every migration that there is, in the order of ids: the first critical one that waits halts signing.
pub const REGISTRY: [&dyn Migration; 2] = [&OrgCaPathLen, &ParkedKeys];

/// The migration `id`.
///
/// # Errors
/// [`UpdateError::Unknown`].
fn registered(id: &str) -> Result<&'static dyn Migration, UpdateError> {
    let found = REGISTRY.into_iter().find(|migration| migration.id() == id);
    found.ok_or_else(|| UpdateError::Unknown(id.to_owned()))
}

/// How often snapshots are looked at that have to go, and what interrupted updates left.
pub(crate) const TIDY_EVERY: Duration = Duration::from_secs(60);

/// How long a snapshot is kept whose keys are readable because no passphrase is set.
pub const READABLE_SNAPSHOT_LIFE: Duration = Duration::from_secs(14 * 24 * 3600);

/// The update that is under way, of which there is one at a time.
#[derive(Debug, Default)]
pub(crate) struct Updating {
    turn: tokio::sync::Mutex<()>,
    progress: Progress,
}

/// How long an update waits for the one before: tidying up takes moments, another update much longer.
const PATIENCE: Duration = Duration::from_secs(2);

impl Updating {
    async fn turn(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, UpdateError> {
        tokio::time::timeout(PATIENCE, self.turn.lock()).await.map_err(|_| UpdateError::Busy)
    }
}
