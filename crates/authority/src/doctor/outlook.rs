//! What follows for clients: who believes the server now, and what a rotation would break.

use std::collections::BTreeMap;

use mastio_core::{Stamp, Thumbprint, counted};
use mastio_pki::Certificate;
use mastio_store::{
    ReadError,
    cas::CaState,
    keys::CaKind,
    rotations::{Phase, Transition, following},
};

use super::{
    Fleet, Kind, Notes, Patient,
    agents::SPIFFE,
    cas::{KnownCa, Registry},
    files::believes,
};
use crate::rotation::overlap;

/// What follows for clients.
#[derive(Debug, serde::Serialize)]
pub struct Outlook {
    /// Every CA that is not history.
    pub cas: Vec<CaOutlook>,
    /// What each kind of rotation would mean today; while one with overlap is open, what that one still needs.
    pub rotations: Vec<Rotation>,
}

/// A CA, and who depends on it.
#[derive(Debug, serde::Serialize)]
pub struct CaOutlook {
    /// `root` or `intermediate`.
    pub kind: &'static str,
    /// Where it is in its life.
    pub state: CaState,
    /// Its subject.
    pub subject: String,
    /// SHA-256 of the certificate.
    pub thumbprint: Thumbprint,
    /// Its last second.
    pub not_after: Stamp,
    /// What it certified does not log in any more.
    pub cut: bool,
    /// Its key may be known to others.
    pub compromised: bool,
    /// How many active agents log in by it.
    pub agents: u64,
    /// Of a root: whether a client that trusts nothing else believes the server now.
    pub connects: Option<bool>,
}

/// What a rotation would mean, or still needs.
#[derive(Debug, serde::Serialize)]
pub struct Rotation {
    /// `cut`, `overlap` or `intermediate`.
    pub of: &'static str,
    /// Whether clients that trust only the root of today believe the server afterwards; `None`: the root's key could not
    /// be looked at.
    pub tls_continuity: Option<bool>,
    /// How many active agents are refused until they get another certificate, by how they came in.
    pub refused_until_reissued: BTreeMap<String, u64>,
    /// How many active agents an operator has to see to, because their certificates come from elsewhere.
    pub by_hand: u64,
    /// Of the one that is open: how many agents its next step waits for.
    pub waits_for: Option<u64>,
    /// The same in words.
    pub means: String,
}

pub(super) fn of(
    patient: &Patient<'_>,
    registry: &Registry,
    served: &[Certificate],
    fleet: &Fleet,
    root_key: Option<bool>,
    notes: &mut Notes,
) -> Result<Outlook, ReadError> {
    let every = [CaKind::Root, CaKind::Intermediate].into_iter().flat_map(|kind| registry.of(kind));
    let known = every.filter(|ca| ca.row.state != CaState::Retired);
    let cas = known.map(|ca| look(patient, registry, ca, served, fleet, notes)).collect();
    let rotations = match (open(patient, registry)?, registry.active(CaKind::Root)) {
        (Some(open), _) => vec![open],
        (None, Some(root)) => rotations(root, fleet, root_key),
        (None, None) => vec![],
    };
    Ok(Outlook { cas, rotations })
}

fn look(
    patient: &Patient<'_>,
    registry: &Registry,
    ca: &KnownCa,
    served: &[Certificate],
    fleet: &Fleet,
    notes: &mut Notes,
) -> CaOutlook {
    let certificate = &ca.certificate;
    let connects = match served.split_first() {
        Some((leaf, above)) if ca.row.kind == CaKind::Root => {
            Some(believes(certificate, leaf, above, patient).is_ok())
        }
        _ => None,
    };
    // A root that the server never showed nobody trusts alone, and nobody should trust a compromised one.
    let expected = ca.row.state == CaState::Superseded && !ca.row.compromised && !registry.never_served(ca);
    if connects == Some(false) && expected && certificate.not_after() > patient.now {
        notes.find(
            Kind::LinkMissing,
            format!("root {} ({})", certificate.subject(), certificate.thumbprint()),
        );
    }
    CaOutlook {
        kind: ca.word(),
        state: ca.row.state,
        subject: certificate.subject().to_owned(),
        thumbprint: certificate.thumbprint(),
        not_after: certificate.not_after(),
        cut: ca.row.cut,
        compromised: ca.row.compromised,
        agents: fleet.by_ca.get(&certificate.thumbprint()).copied().unwrap_or(0),
        connects,
    }
}

/// The rotation with overlap that is open: what it still needs.
fn open(patient: &Patient<'_>, registry: &Registry) -> Result<Option<Rotation>, ReadError> {
    let overlap = registry.rotation.as_ref().filter(|open| open.transition == Transition::Overlap);
    let followed = overlap.filter(|open| open.phase >= Phase::Distribute);
    let (Some(open), Some(trust_file)) = (followed, registry.trust_file()) else { return Ok(None) };
    let fleet = following::Fleet { org: patient.org, now: patient.now };
    let bundle = Thumbprint::of(trust_file.as_bytes());
    let progress = following::progress_now(patient.database, fleet, open, bundle)?;
    let left = progress.left(open.phase);
    let mut means = format!(
        "in phase {} {}, so {} left",
        open.phase.as_str(),
        overlap::summary(open.phase, &progress),
        counted(left, "agent is", "agents are")
    );
    if open.phase == Phase::Activated {
        means +=
            &format!("; the old root is believed until {}", overlap::old_root_until(patient.database, open)?);
    }
    means += &format!(
        "; {} to be seen to by hand",
        counted(progress.operators_left(), "agent has", "agents have")
    );
    if open.paused {
        means += "; it is paused";
    }
    Ok(Some(Rotation {
        of: "overlap",
        tls_continuity: Some(true),
        refused_until_reissued: BTreeMap::new(),
        by_hand: progress.operators_left(),
        waits_for: Some(left),
        means,
    }))
}

fn on_their_own(spiffe: u64) -> String {
    counted(spiffe, "SPIFFE agent goes on", "SPIFFE agents go on")
}

fn rotations(root: &KnownCa, fleet: &Fleet, root_key: Option<bool>) -> Vec<Rotation> {
    // The new root keeps the name, so a link certificate needs room for one CA below it.
    let is_legacy = root.certificate.path_len() == Some(0);
    let tls_continuity = root_key.map(|usable| usable && !is_legacy);
    let (elsewhere, spiffe) = (fleet.brought, fleet.spiffe);
    let mut refused = fleet.by_enrollment.clone();
    refused.remove(SPIFFE);
    let count: u64 = refused.values().sum();
    let clients = match tls_continuity {
        Some(true) => "clients that trust only the root of today connect on, by a link certificate",
        Some(false) => {
            "clients that trust only the root of today get a handshake error until they have the new trust file"
        }
        None => {
            "whether clients that trust only the root of today connect on depends on its key, which was not looked at"
        }
    };
    let rotation = |of, tls_continuity, refused_until_reissued, by_hand, means| Rotation {
        of,
        tls_continuity,
        refused_until_reissued,
        by_hand,
        waits_for: None,
        means,
    };
    vec![
        rotation(
            "cut",
            tls_continuity,
            refused,
            elsewhere,
            format!(
                "every certificate of before ends: {} until another is there; {}; {clients}",
                counted(count, "active agent is refused", "active agents are refused"),
                on_their_own(spiffe)
            ),
        ),
        rotation(
            "overlap",
            Some(true),
            BTreeMap::new(),
            elsewhere,
            format!(
                "agents move one after the other, both roots being believed; {} another by hand; {}{}",
                counted(
                    elsewhere,
                    "that brought its certificate needs",
                    "that brought their certificates need"
                ),
                on_their_own(spiffe),
                if is_legacy { "; it does not begin while signing is halted" } else { "" }
            ),
        ),
        rotation(
            "intermediate",
            Some(true),
            BTreeMap::new(),
            0,
            match is_legacy {
                true => "it is refused below this root, whose path length is 0: replace that first",
                false => {
                    "agents' certificates go on until they end; clients that trust the root notice nothing"
                }
            }
            .to_owned(),
        ),
    ]
}
