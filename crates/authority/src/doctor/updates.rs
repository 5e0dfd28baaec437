//! What framework updates left: keys in their snapshots, and a root that the Python implementation replaced by halves.

use mastio_store::{
    ReadError,
    keys::CaKind,
    rotations,
    updates::{nameless, snapshots},
};

use super::{Kind, Notes, Patient, cas::Registry};
use crate::updates::{Snapshot, is_by_halves, is_outlived};

pub(super) fn examine(
    patient: &Patient<'_>,
    registry: &Registry,
    notes: &mut Notes,
) -> Result<(), ReadError> {
    for id in nameless(patient.database)? {
        notes.find(Kind::UpdateNameless, id);
    }
    for row in snapshots(patient.database)? {
        let snapshot = Snapshot::read(&row);
        let id = &row.migration;
        let readable = match snapshot.wiped_after() {
            Some(after) => format!("the snapshot of {id}, wiped after {after}"),
            None => format!("the snapshot of {id}; the next start sets the time after which it is wiped"),
        };
        match (snapshot.is_sealed(), patient.settings.at_rest_passphrase.is_some()) {
            (true, _) => {}
            (false, true) => notes.find(Kind::KeysBare, format!("the snapshot of {id}")),
            (false, false) => notes.find(Kind::SnapshotReadable, readable),
        }
        let active = |kind| registry.active(kind).map(|ca| &ca.certificate);
        if let (Some(root), Some(below)) = (active(CaKind::Root), active(CaKind::Intermediate))
            && is_by_halves(&snapshot, root, below)
        {
            notes.find(Kind::UpdateByHalves, id);
        } else if let Some(root) = active(CaKind::Root)
            && rotations::open(patient.database)?.is_none()
            && is_outlived(patient.database, &snapshot, root, patient.now)?
        {
            notes.find(Kind::SnapshotOutlived, format!("the snapshot of {id}"));
        }
    }
    Ok(())
}
