//! What framework updates left: keys in their snapshots, and a root that the Python implementation replaced by halves.

use mastio_pki::Certificate;
use mastio_store::{ReadError, keys::CaKind, updates::snapshots};

use super::{Kind, Notes, Patient, cas::Registry};
use crate::updates::Snapshot;

pub(super) fn examine(
    patient: &Patient<'_>,
    registry: &Registry,
    notes: &mut Notes,
) -> Result<(), ReadError> {
    for row in snapshots(patient.database)? {
        let Ok(snapshot) = Snapshot::read(&row) else { continue };
        let id = &row.migration;
        if !snapshot.is_sealed() {
            match (patient.settings.at_rest_passphrase.is_some(), snapshot.wiped_after()) {
                (true, _) => {
                    notes.find(Kind::KeysBare, format!("the snapshot of {id} in migration_state_backups"))
                }
                (false, Some(after)) => {
                    notes.find(Kind::SnapshotReadable, format!("{id}, wiped after {after}"))
                }
                (false, None) => {
                    notes.find(Kind::SnapshotReadable, format!("{id}; the next start sets its time"))
                }
            }
        }
        if is_by_halves(registry, &snapshot) {
            notes.find(Kind::UpdateByHalves, id);
        }
    }
    Ok(())
}

/// Whether the intermediate is below the root of before and not below that of today.
fn is_by_halves(registry: &Registry, snapshot: &Snapshot) -> bool {
    let (Some(root), Some(below)) = (registry.active(CaKind::Root), registry.active(CaKind::Intermediate))
    else {
        return false;
    };
    let signed = |root: &Certificate| below.certificate.is_signed_by(root);
    !snapshot.is_ours()
        && !signed(&root.certificate)
        && snapshot.certificate("org_ca_cert_pem").is_ok_and(|before| signed(&before))
}
