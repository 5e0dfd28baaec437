//! `2026-04-23-org-ca-pathlen-1`: an Org CA whose path length is zero permits no CA below it, so that strict verifiers
//! refuse every chain through the intermediate.
//!
//! `rekey` is what the operators' documents describe: a new root key, and every leaf made again. The intermediate keeps
//! its key and its name under the new root, so that the certificates which agents hold have a chain, too. `reissue`
//! makes the root's certificate again for its own key, and nothing else (contract `pki.md`, "better than both" 1).

use mastio_core::{Stamp, Thumbprint, counted};
use mastio_custody::{CaKey, Custody};
use mastio_pki::{Certificate, Issuer, KeyPair, lineage, profile};
use mastio_store::{
    Statement,
    cas::{self, CaState, NewCa, Superseded},
    keys::CaKind,
    sqlite::Database,
    updates,
};
use serde_json::json;

use super::{
    Criticality, Enrollment, Kind, Migration, Plan, READABLE_SNAPSHOT_LIFE, Scene, UpdateError, adopted,
    migration::Up,
    outlived::has_vouched,
    snapshot::{ROOT, ROOT_KEY, Snapshot},
};
use crate::Outage;

const REKEY: &str = "rekey";
const REISSUE: &str = "reissue";
/// Where the snapshot keeps the intermediate.
const BELOW: &str = "mastio_ca_cert_pem";

/// What going back does, as operators read it.
const WAY_BACK: &[&str] = &[
    "the root and the intermediate of before are the active ones again, with their keys",
    "the agents' leaves of before are the pinned ones again",
    "agents with certificates of their organisation go on, also below the root of after rekey, until those end",
    "clients that were given the root of after rekey alone cannot follow: they fetch /pki/ca.crt again",
    "the migration is not proposed any more, and nothing halts",
];

/// The migration.
pub(super) struct OrgCaPathLen;

impl Migration for OrgCaPathLen {
    fn id(&self) -> &'static str {
        "2026-04-23-org-ca-pathlen-1"
    }

    fn kind(&self) -> Kind {
        Kind::CertSchema
    }

    fn criticality(&self) -> Criticality {
        Criticality::Critical
    }

    fn affects(&self) -> &'static [Enrollment] {
        &[Enrollment::Connector]
    }

    fn description(&self) -> &'static str {
        "Replace an Org CA of path length 0, below which strict verifiers accept nothing, by one of path length 1. Every \
         agent keeps its key and the certificate that it holds."
    }

    fn strategies(&self) -> &'static [&'static str] {
        &[REKEY, REISSUE]
    }

    fn check(&self, _: &Database, custody: &dyn Custody) -> Result<bool, Outage> {
        let root = custody.load(CaKind::Root).map_err(Outage::internal)?;
        Ok(root.is_some_and(|root| root.certificate.path_len() == Some(0)))
    }

    fn plan(&self, scene: &Scene<'_>, strategy: Option<&'static str>) -> Result<Plan, UpdateError> {
        let root = root(scene)?.certificate;
        let census = updates::census(scene.database)?;
        let rekey = strategy != Some(REISSUE);
        let days = READABLE_SNAPSHOT_LIFE.as_secs() / 86_400;
        let kept = match scene.custody.is_sealed() {
            true => "its key is sealed in it".to_owned(),
            false => format!("its key is READABLE in it, and it is wiped after {days} days"),
        };
        let end = root.not_after();
        let mut steps = vec![format!("a snapshot of the Org CA is kept for the way back: {kept}")];
        steps.extend(if rekey {
            vec![
                format!("a root with a new RSA-4096 key takes its place: {}, path length 1, until {end} as before", root.subject()),
                "the intermediate is certified again by it, with its key and its name".to_owned(),
                format!(
                    "the leaves of {} are made again: subject, key, alternative names and dates stay, serial numbers \
                     are fresh; the certificates that agents hold go on",
                    counted(census.managed, "agent", "agents")
                ),
                "clients that know only the old root cannot follow, nor can OpenSSL with the old CA file: they fetch /pki/ca.crt".to_owned(),
            ]
        } else {
            vec![
                format!("the root is certified again for its own key: {}, path length 1, until {end} as before", root.subject()),
                "nothing else changes: every chain, pin and token goes on; strict verifiers fetch /pki/ca.crt".to_owned(),
            ]
        });
        if census.byoca > 0 && rekey {
            steps.push(format!(
                "{} with certificates of their organisation stay as they are: enroll them again with certificates below \
                 the new root before the old one ends",
                counted(census.byoca, "agent", "agents")
            ));
        }
        steps.push("the halt ends, and the TLS files are written anew, without a restart".to_owned());
        let facts = json!({
            "root": {
                "subject": root.subject(),
                "fingerprint_sha256": root.thumbprint().to_string(),
                "not_after": end.to_string(),
            },
            "agents": census,
            "tls_continuity": !rekey,
            "snapshot_sealed": scene.custody.is_sealed(),
        });
        Ok(Plan { strategy, steps, rollback: WAY_BACK, facts })
    }

    fn way_back(&self, snapshot: &Snapshot) -> &'static [&'static str] {
        if snapshot.is_ours() { WAY_BACK } else { adopted::WAY_BACK }
    }

    fn snapshot(&self, scene: &Scene<'_>) -> Result<Snapshot, UpdateError> {
        let old = root(scene)?;
        let below = custody_ca(scene, CaKind::Intermediate)?;
        Ok(Snapshot::new(scene)
            .note(ROOT, old.certificate.pem())
            .key(ROOT_KEY, scene, &old.key.to_pkcs8_pem())?
            .note(BELOW, below.certificate.pem()))
    }

    fn covers(&self, scene: &Scene<'_>, kept: &Snapshot, now: &Snapshot) -> bool {
        let (Ok(root), Ok(key), Ok(below)) =
            (kept.root(), kept.key_pair(ROOT_KEY, scene), kept.certificate(BELOW))
        else {
            return false;
        };
        kept.is_ours()
            && key.matches(&root)
            && now.root().is_ok_and(|now| now == root)
            && now.certificate(BELOW).is_ok_and(|now| now.spki_der() == below.spki_der())
    }

    fn up(&self, scene: &Scene<'_>, strategy: Option<&'static str>, _: &Snapshot) -> Result<Up, UpdateError> {
        let old = root(scene)?;
        match strategy {
            Some(REISSUE) => reissue(scene, &old),
            _ => rekey(scene, &old, custody_ca(scene, CaKind::Intermediate)?),
        }
    }

    fn leads_back(&self, scene: &Scene<'_>, snapshot: &Snapshot) -> Result<(), UpdateError> {
        match snapshot.is_ours() {
            true => self.down(scene, snapshot).map(drop),
            false => adopted::roots(scene, snapshot).map(drop),
        }
    }

    fn down(&self, scene: &Scene<'_>, snapshot: &Snapshot) -> Result<Vec<Statement>, UpdateError> {
        if !snapshot.is_ours() {
            return adopted::down(scene, snapshot);
        }
        let old = held_root(scene, snapshot)?;
        let new = custody_ca(scene, CaKind::Root)?.certificate;
        if !has_vouched(scene.database, &old.certificate, &new)? {
            return Err(UpdateError::MovedOn("the Org CA was rotated since"));
        }
        let mut statements = step_back(scene, CaKind::Root, &new, &old)?;
        // The same key: whatever is below the new root is below the old one as well.
        if old.key.matches(&new) {
            statements.push(cas::retire(new.thumbprint(), scene.now));
            return Ok(statements);
        }
        // Whoever was enrolled below the new root needs it on; nothing is certified by it any more.
        if updates::census(scene.database)?.byoca == 0 {
            statements.push(cas::retire(new.thumbprint(), scene.now));
        }
        let below = custody_ca(scene, CaKind::Intermediate)?;
        let before = snapshot.certificate(BELOW)?;
        if !below.key.matches(&before) {
            return Err(UpdateError::MovedOn("the intermediate was rotated since"));
        }
        let old = CaKey { certificate: before, key: below.key };
        statements.extend(step_back(scene, CaKind::Intermediate, &below.certificate, &old)?);
        statements.push(cas::retire(below.certificate.thumbprint(), scene.now));
        Ok(statements)
    }
}

fn rekey(scene: &Scene<'_>, old: &CaKey, below: CaKey) -> Result<Up, UpdateError> {
    let Scene { now, rng, .. } = *scene;
    let key = KeyPair::generate_rsa_4096().map_err(UpdateError::failed)?;
    let end = old.certificate.not_after();
    let root = profile::successor(&old.certificate, &key, end, now, rng).map_err(UpdateError::failed)?;
    let root = CaKey { certificate: root, key };
    let word = vouch(scene, old, &root.certificate)?;
    let mut statements = take_place(scene, CaKind::Root, &old.certificate, &root, Some(&word))?;
    let root = Issuer::new(root.certificate, root.key).map_err(UpdateError::failed)?;
    let again =
        profile::intermediate_again(&root, &below.certificate, now, rng).map_err(UpdateError::failed)?;
    let next = CaKey { certificate: again, key: below.key };
    statements.extend(take_place(scene, CaKind::Intermediate, &below.certificate, &next, None)?);
    Ok(Up {
        statements,
        reissue_under: Some(Issuer::new(next.certificate, next.key).map_err(UpdateError::failed)?),
    })
}

fn reissue(scene: &Scene<'_>, old: &CaKey) -> Result<Up, UpdateError> {
    let end = old.certificate.not_after();
    let root = profile::successor(&old.certificate, &old.key, end, scene.now, scene.rng);
    let key = KeyPair::from_pkcs8_der(&old.key.to_pkcs8_der()).map_err(UpdateError::failed)?;
    let root = CaKey { certificate: root.map_err(UpdateError::failed)?, key };
    let word = vouch(scene, old, &root.certificate)?;
    Ok(Up {
        statements: take_place(scene, CaKind::Root, &old.certificate, &root, Some(&word))?,
        reissue_under: None,
    })
}

/// The old root's statement for its successor. A root of path length 0 cannot vouch for it by a link (design decision 3).
fn vouch(scene: &Scene<'_>, old: &CaKey, new: &Certificate) -> Result<String, UpdateError> {
    let old = Issuer::new(old.certificate.clone(), &old.key).map_err(UpdateError::failed)?;
    lineage::vouch(&old, new, scene.now).map_err(UpdateError::failed)
}

/// `next` takes the place of `old`, which stays superseded: what it certified goes on. Its key stays in the snapshot
/// alone.
fn take_place(
    scene: &Scene<'_>,
    kind: CaKind,
    old: &Certificate,
    next: &CaKey,
    lineage: Option<&str>,
) -> Result<Vec<Statement>, UpdateError> {
    let mut statements = vec![
        cas::supersede(old.thumbprint(), &Superseded { lineage, ..Superseded::default() }, scene.now),
        entry(kind, &next.certificate, CaState::Active, scene.now),
    ];
    statements.extend(scene.custody.replace(kind, next, scene.now)?);
    Ok(statements)
}

/// A CA enters the registry; its key is elsewhere.
pub(super) fn entry(kind: CaKind, certificate: &Certificate, state: CaState, now: Stamp) -> Statement {
    let new = NewCa {
        thumbprint: certificate.thumbprint(),
        spki: Thumbprint::of(certificate.spki_der()),
        kind,
        certificate: &certificate.pem(),
        private: None,
    };
    new.enter(state, now)
}

/// `old` is the active one again, in the place of `new`.
fn step_back(
    scene: &Scene<'_>,
    kind: CaKind,
    new: &Certificate,
    old: &CaKey,
) -> Result<Vec<Statement>, UpdateError> {
    let mut statements = vec![
        cas::supersede(new.thumbprint(), &Superseded::default(), scene.now),
        cas::reinstate(old.certificate.thumbprint()),
    ];
    statements.extend(scene.custody.replace(kind, old, scene.now)?);
    Ok(statements)
}

/// The root, which must not have ended: making it again would extend it in silence.
fn root(scene: &Scene<'_>) -> Result<CaKey, UpdateError> {
    let root = custody_ca(scene, CaKind::Root)?;
    if root.certificate.not_after() <= scene.now {
        return Err(UpdateError::RootExpired);
    }
    Ok(root)
}

/// The root of before the update, which must be good for anything still.
pub(super) fn held_root(scene: &Scene<'_>, snapshot: &Snapshot) -> Result<CaKey, UpdateError> {
    let certificate = snapshot.root()?;
    if scene.strict_pki && certificate.path_len() == Some(0) {
        return Err(UpdateError::StrictPki);
    }
    let key = snapshot.key_pair(ROOT_KEY, scene)?;
    if !key.matches(&certificate) {
        let other =
            "its org_ca_key_pem belongs to another certificate; restore a backup of before the update";
        return Err(UpdateError::Snapshot(other.to_owned()));
    }
    if certificate.not_after() <= scene.now {
        return Err(UpdateError::MovedOn("the old Org CA has ended"));
    }
    Ok(CaKey { certificate, key })
}

pub(super) fn custody_ca(scene: &Scene<'_>, kind: CaKind) -> Result<CaKey, UpdateError> {
    let missing = || UpdateError::failed(format!("there is no {} to work with", kind.as_str()));
    scene.custody.load(kind)?.ok_or_else(missing)
}
