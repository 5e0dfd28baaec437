//! The way back from `2026-04-23-org-ca-pathlen-1` as the Python implementation applied it (contract `pki.md` §8 and its
//! shortfall 2).
//!
//! It made another root and pinned to every agent a leaf that this root had signed for the agent's key. The intermediate it
//! left below the old root, and agents never got the new leaves. So the way back is short: the old root has its place
//! again, and the agents' leaves of before, which they hold still, are the pinned ones.

use std::collections::HashMap;

use mastio_custody::{CaKey, Custody};
use mastio_pki::{Certificate, KeyPair, pem};
use mastio_store::{
    ReadError, Statement,
    agents::pin_again,
    cas::{
        self, CaState, Superseded,
        leaves::{self, Living},
    },
    config,
    keys::CaKind,
    sqlite::Database,
    updates::{SnapshotRow, snapshots},
};
use secrecy::ExposeSecret;
use serde_json::Value;

use super::{
    Scene, UpdateError,
    org_ca_path_len::{custody_ca, entry, held_root},
    snapshot::Snapshot,
};
use crate::lifecycle::pinned_leaf;

/// Where its snapshot keeps the agents' certificates of before.
const AGENTS: &str = "internal_agents";
/// How many agents are looked at at once.
const PORTION: u32 = 1000;

/// What the operator reads of it beforehand.
pub(super) const WAY_BACK: &[&str] = &[
    "the root of before is the active one again, with its key and its path length 0",
    "the certificates that agents hold are the pinned ones again, where the Python implementation pinned others",
    "the migration is not proposed any more, and nothing halts; to repair the root here, delete its row in \
     pending_updates, restart, and apply it again",
];

/// Whether the intermediate is below the root that `snapshot` holds and not below that of today: what agents hold is
/// refused then.
pub(crate) fn is_by_halves(snapshot: &Snapshot, root: &Certificate, below: &Certificate) -> bool {
    !snapshot.is_ours()
        && !below.is_signed_by(root)
        && snapshot.root().is_ok_and(|before| below.is_signed_by(&before))
}

/// The migration of which that is so, if it is of one.
///
/// # Errors
/// When the database cannot be read.
pub(crate) fn by_halves(
    database: &Database,
    root: &Certificate,
    below: &Certificate,
) -> Result<Option<String>, ReadError> {
    // Spares reading snapshots, which may be long, wherever all is well.
    if below.is_signed_by(root) {
        return Ok(None);
    }
    let is_half = |row: &SnapshotRow| is_by_halves(&Snapshot::read(row), root, below);
    Ok(snapshots(database)?.into_iter().find(is_half).map(|row| row.migration))
}

/// The migration in the middle of which the Python implementation stopped, if the certificate that belongs to the stored
/// key of the root is in its snapshot, and another one in its place: it wrote the two one after the other.
///
/// # Errors
/// When the database cannot be read.
pub(crate) fn cut_short(database: &Database, custody: &dyn Custody) -> Result<Option<String>, ReadError> {
    let Some(stored) = config::get(database, "org_ca_key")? else { return Ok(None) };
    let key = custody.unwrap("proxy_config.org_ca_key", &stored.into()).ok();
    let Some(key) = key.and_then(|pem| KeyPair::from_pem(pem.expose_secret()).ok()) else { return Ok(None) };
    let belongs = |row: &SnapshotRow| Snapshot::read(row).root().is_ok_and(|before| key.matches(&before));
    Ok(snapshots(database)?.into_iter().find(belongs).map(|row| row.migration))
}

/// The roots that change places, if the way back is one still.
pub(super) struct Roots {
    /// The one of before, with its key.
    old: CaKey,
    /// What gives it its place.
    in_place: Statement,
    /// The one of today.
    new: Certificate,
}

/// # Errors
/// When there is no way back any more.
pub(super) fn roots(scene: &Scene<'_>, snapshot: &Snapshot) -> Result<Roots, UpdateError> {
    let old = held_root(scene, snapshot)?;
    let new = custody_ca(scene, CaKind::Root)?.certificate;
    if !took_its_place(&old.certificate, &new) {
        return Err(UpdateError::MovedOn(
            "the Org CA is not the one that the Python implementation made then",
        ));
    }
    if !custody_ca(scene, CaKind::Intermediate)?.certificate.is_signed_by(&old.certificate) {
        return Err(UpdateError::MovedOn("the intermediate was rotated since"));
    }
    snapshot.map(AGENTS)?;
    Ok(Roots { in_place: in_place(scene, &old)?, old, new })
}

/// The statements of the way back, if it is one still.
pub(super) fn down(scene: &Scene<'_>, snapshot: &Snapshot) -> Result<Vec<Statement>, UpdateError> {
    let Roots { old, in_place, new } = roots(scene, snapshot)?;
    let mut statements = vec![cas::supersede(new.thumbprint(), &Superseded::default(), scene.now)];
    let (pins, others) = pins(scene, &new, snapshot.map(AGENTS)?)?;
    if !others {
        statements.push(cas::retire(new.thumbprint(), scene.now));
    }
    statements.push(in_place);
    statements.extend(scene.custody.replace(CaKind::Root, &old, scene.now)?);
    statements.extend(pins);
    Ok(statements)
}

/// It made the new root with the name and the end of the old one, and path length 1.
pub(super) fn took_its_place(old: &Certificate, new: &Certificate) -> bool {
    (old.path_len(), new.path_len()) == (Some(0), Some(1))
        && old.subject_raw() == new.subject_raw()
        && old.not_after() == new.not_after()
        && old.spki_der() != new.spki_der()
}

/// The old root has its place again, whether or not the registry knew it.
fn in_place(scene: &Scene<'_>, old: &CaKey) -> Result<Statement, UpdateError> {
    let thumbprint = old.certificate.thumbprint();
    match cas::all(scene.database)?.iter().find(|row| row.thumbprint == thumbprint) {
        Some(known) if known.compromised => Err(UpdateError::MovedOn("the old Org CA's key was compromised")),
        Some(_) => Ok(cas::reinstate(thumbprint)),
        None => Ok(entry(CaKind::Root, &old.certificate, CaState::Active, scene.now)),
    }
}

/// What pins the leaves of before, and whether anybody else has a certificate by the root itself, who needs it on.
fn pins(
    scene: &Scene<'_>,
    root: &Certificate,
    before: &serde_json::Map<String, Value>,
) -> Result<(Vec<Statement>, bool), UpdateError> {
    let before: HashMap<&str, &str> =
        before.iter().filter_map(|(agent, pem)| Some((agent.as_str(), pem.as_str()?))).collect();
    let (mut statements, mut others) = (Vec::new(), false);
    let mut behind: Option<Living> = None;
    loop {
        let portion = leaves::living(scene.database, scene.now, behind.as_ref(), PORTION)?;
        for living in &portion {
            let Some(now) = below(root, &living.pinned) else { continue };
            match before.get(living.agent.as_str()).and_then(|pem| held_still(pem, &now)) {
                Some((held, leaf)) => {
                    let facts = pinned_leaf(&leaf, None);
                    statements.extend(pin_again(&living.agent, &living.pinned, held, &facts));
                }
                None => others = true,
            }
        }
        match portion.into_iter().last() {
            Some(last) => behind = Some(last),
            None => return Ok((statements, others)),
        }
    }
}

/// The pinned leaf, if `root` itself signed it.
fn below(root: &Certificate, pinned: &str) -> Option<Certificate> {
    pem::first_certificate(pinned).ok().filter(|leaf| leaf.is_signed_by(root))
}

/// The certificate of before, if it is of the same agent and key as `now`.
fn held_still<'a>(pem: &'a str, now: &Certificate) -> Option<(&'a str, Certificate)> {
    let leaf = pem::first_certificate(pem).ok()?;
    let same = leaf.spki_der() == now.spki_der() && leaf.subject_raw() == now.subject_raw();
    same.then_some((pem, leaf))
}
