//! `2026-11-22-parked-keys-1`: when the existing system sealed its CA keys it parked the readable ones in
//! `legacy_pki_archive`, for ever (contract `pki.md`, shortfall 15).

use mastio_custody::Custody;
use mastio_store::{
    Statement,
    keys::CaKind,
    sqlite::Database,
    updates::{ParkedKey, has_archive, none_is_parked, parked_keys},
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::{
    Criticality, Enrollment, Kind, Migration, Plan, Scene, UpdateError, migration::Up, snapshot::Snapshot,
};
use crate::Outage;

/// What going back does, as operators read it.
const WAY_BACK: &[&str] = &["the rows are put back, readable as they were"];

/// The migration.
pub(super) struct ParkedKeys;

impl Migration for ParkedKeys {
    fn id(&self) -> &'static str {
        "2026-11-22-parked-keys-1"
    }

    fn kind(&self) -> Kind {
        Kind::PolicyChange
    }

    fn criticality(&self) -> Criticality {
        Criticality::Warning
    }

    fn affects(&self) -> &'static [Enrollment] {
        &[]
    }

    fn description(&self) -> &'static str {
        "Delete the readable copies of CA keys that lie in legacy_pki_archive although the keys themselves are sealed."
    }

    /// Only while the sealed keys open: until then the copies may be all that is left.
    fn check(&self, database: &Database, custody: &dyn Custody) -> Result<bool, Outage> {
        if !custody.is_sealed() || parked_keys(database)?.is_empty() {
            return Ok(false);
        }
        custody.load(CaKind::Root).map_err(Outage::internal)?;
        custody.load(CaKind::Intermediate).map_err(Outage::internal)?;
        Ok(true)
    }

    fn plan(&self, scene: &Scene<'_>, _: Option<&'static str>) -> Result<Plan, UpdateError> {
        let parked = parked_keys(scene.database)?;
        let ids: Vec<&str> = parked.iter().map(|key| key.id.as_str()).collect();
        Ok(Plan {
            strategy: None,
            steps: vec![
                "a snapshot holds the copies, sealed like all other keys".to_owned(),
                format!("these rows of legacy_pki_archive are deleted: {}", ids.join(", ")),
            ],
            rollback: WAY_BACK,
            facts: json!({ "keys": ids }),
        })
    }

    fn way_back(&self, _: &Snapshot) -> &'static [&'static str] {
        WAY_BACK
    }

    fn snapshot(&self, scene: &Scene<'_>) -> Result<Snapshot, UpdateError> {
        let parked = parked_keys(scene.database)?;
        let mut snapshot = Snapshot::new(scene);
        let mut rows = Vec::new();
        for key in &parked {
            rows.push(json!({ "key_id": key.id, "key_type": key.kind, "archived_at": key.archived_at }));
            snapshot = snapshot.key(&key.id, scene, &key.pem)?;
        }
        Ok(snapshot.note("rows", rows))
    }

    fn covers(&self, scene: &Scene<'_>, kept: &Snapshot, now: &Snapshot) -> bool {
        let (Ok(kept), Ok(now)) = (self::kept(scene, kept), self::kept(scene, now)) else { return false };
        let is_same = |one: &ParkedKey, other: &ParkedKey| {
            one.id == other.id && one.pem.expose_secret() == other.pem.expose_secret()
        };
        now.iter().all(|key| kept.iter().any(|other| is_same(key, other)))
    }

    /// What the snapshot holds is deleted, and there is nothing else.
    fn up(&self, scene: &Scene<'_>, _: Option<&'static str>, before: &Snapshot) -> Result<Up, UpdateError> {
        let mut statements: Vec<_> = kept(scene, before)?.iter().map(ParkedKey::purge).collect();
        statements.push(none_is_parked());
        Ok(Up { statements, reissue_under: None })
    }

    fn down(&self, scene: &Scene<'_>, snapshot: &Snapshot) -> Result<Vec<Statement>, UpdateError> {
        if !has_archive(scene.database)? {
            let gone = "legacy_pki_archive, where its rows were, is gone; wipe the snapshot, or make the table again";
            return Err(UpdateError::Snapshot(gone.to_owned()));
        }
        let there = parked_keys(scene.database)?;
        let kept = kept(scene, snapshot)?;
        if let Some(key) = kept.iter().find(|key| there.iter().any(|other| other.id == key.id)) {
            let id = &key.id;
            let taken =
                format!("legacy_pki_archive has a row {id} again; delete that row, or wipe the snapshot");
            return Err(UpdateError::Snapshot(taken));
        }
        Ok(kept.iter().map(ParkedKey::restore).collect())
    }
}

/// The rows that `snapshot` holds.
fn kept(scene: &Scene<'_>, snapshot: &Snapshot) -> Result<Vec<ParkedKey>, UpdateError> {
    let key = |row: &Value| {
        let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (id, kind, archived_at) = (text("key_id"), text("key_type"), text("archived_at"));
        Ok(ParkedKey { pem: snapshot.secret(&id, scene)?, id, kind, archived_at })
    };
    snapshot.list("rows")?.iter().map(key).collect()
}
