//! The CA registry: every CA by itself, above each other, and what leads from one root to the next.

use std::collections::BTreeSet;

use mastio_core::Thumbprint;
use mastio_pki::{Certificate, lineage::StepError};
use mastio_store::{
    ReadError,
    cas::{self, CaRow, CaState},
    keys::CaKind,
    rotations::{self, Phase, Rotation, Transition},
};

use super::{Kind, Notes, Patient};
use crate::{
    lineage::{ROTATIONS, line_of},
    rotation::overlap,
    trust::Cas,
};

/// A CA of the registry whose certificate can be read.
pub(super) struct KnownCa {
    pub(super) row: CaRow,
    pub(super) certificate: Certificate,
}

impl KnownCa {
    fn is(&self, kind: CaKind, state: CaState) -> bool {
        (self.row.kind, self.row.state) == (kind, state)
    }

    /// Whether what it certified does not count any more.
    pub(super) fn is_former(&self) -> bool {
        self.row.cut || self.row.compromised || self.row.state == CaState::Retired
    }

    pub(super) fn word(&self) -> &'static str {
        match self.row.kind {
            CaKind::Root => "root",
            CaKind::Intermediate => "intermediate",
        }
    }
}

/// The registry, as far as it can be read.
pub(super) struct Registry {
    pub(super) cas: Vec<KnownCa>,
    /// The rotation that is under way.
    pub(super) rotation: Option<Rotation>,
    /// The roots that rotations with overlap brought which were given up.
    given_up: BTreeSet<Thumbprint>,
    /// What the server makes of it; `None` when it could not.
    pub(super) believed: Option<Cas>,
}

impl Registry {
    pub(super) fn active(&self, kind: CaKind) -> Option<&KnownCa> {
        self.cas.iter().find(|ca| ca.is(kind, CaState::Active))
    }

    pub(super) fn of(&self, kind: CaKind) -> impl Iterator<Item = &KnownCa> {
        self.cas.iter().filter(move |ca| ca.row.kind == kind)
    }

    /// Whether the server never showed this superseded root: its rotation was given up before it was the active one. What is
    /// given up then gets both times at once.
    pub(super) fn never_served(&self, root: &KnownCa) -> bool {
        self.given_up.contains(&root.row.thumbprint) && root.row.activated_at == root.row.superseded_at
    }

    /// The trust file of today, if it can be made.
    pub(super) fn trust_file(&self) -> Option<String> {
        let (root, believed) = (self.active(CaKind::Root)?, self.believed.as_ref()?);
        Some(mastio_pki::trust_file(&root.certificate, believed.shown()))
    }

    /// Whether the way back of the open rotation needs the key of this root.
    fn needs_key_of(&self, root: &KnownCa) -> bool {
        self.rotation.as_ref().is_some_and(|rotation| rotation.old_root == root.row.thumbprint)
    }
}

/// Which CAs are in which state, and how far the newest rotation is.
#[derive(PartialEq, Eq)]
pub(super) struct Standing {
    cas: Vec<(Thumbprint, CaState)>,
    rotation: Option<Rotation>,
}

/// As it is now: another one later tells that what was read in between need not fit together.
pub(super) fn standing(patient: &Patient<'_>) -> Result<Standing, ReadError> {
    let cas = cas::all(patient.database)?.into_iter().map(|row| (row.thumbprint, row.state)).collect();
    Ok(Standing { cas, rotation: rotations::newest(patient.database, 1)?.pop() })
}

pub(super) fn examine(patient: &Patient<'_>, notes: &mut Notes) -> Result<Registry, ReadError> {
    let rows = cas::all(patient.database)?;
    let newest = rotations::newest(patient.database, ROTATIONS)?;
    judge_lines(&rows, &newest, notes);
    judge_rotations(&newest, patient.served, notes);
    let cas: Vec<KnownCa> = rows.into_iter().filter_map(|row| read(row, notes)).collect();
    let given_up =
        |rotation: &&Rotation| (rotation.transition, rotation.phase) == (Transition::Overlap, Phase::Aborted);
    let given_up = newest.iter().filter(given_up).map(|rotation| rotation.new_root).collect();
    let rotation = newest.into_iter().find(|rotation| rotation.ended_at.is_none());
    let believed = believed(patient, &cas, rotation.as_ref(), notes);
    let registry = Registry { cas, rotation, given_up, believed };
    for kind in [CaKind::Root, CaKind::Intermediate] {
        if registry.active(kind).is_none() {
            notes.find(Kind::CaMissing, format!("no active {} in pki_cas", kind.as_str()));
        }
    }
    for ca in registry.cas.iter().filter(|ca| ca.row.state != CaState::Retired) {
        judge(patient, &registry, ca, notes);
    }
    Ok(registry)
}

fn read(mut row: CaRow, notes: &mut Notes) -> Option<KnownCa> {
    let thumbprint = row.thumbprint;
    let certificate = match Certificate::from_pem(&row.certificate) {
        Ok(certificate) => certificate,
        Err(error) => {
            notes.find(Kind::RegistryRow, format!("{thumbprint}: {error}"));
            return None;
        }
    };
    if certificate.thumbprint() != thumbprint {
        let found = certificate.thumbprint();
        notes.find(Kind::RegistryRow, format!("{thumbprint}: its certificate has the thumbprint {found}"));
    }
    if let Some(Err(error)) = row.link.as_deref().map(Certificate::from_pem) {
        notes.find(Kind::LinkBroken, format!("{}: {error}", certificate.subject()));
        row.link = None;
    }
    Some(KnownCa { row, certificate })
}

/// What a server makes of the registry, without any key.
fn believed(
    patient: &Patient<'_>,
    cas: &[KnownCa],
    rotation: Option<&Rotation>,
    notes: &mut Notes,
) -> Option<Cas> {
    let rows: Vec<_> = cas.iter().map(|ca| CaRow { private: None, ..ca.row.clone() }).collect();
    let believed = Cas::from_rows(&rows, patient.custody, None, rotation, patient.now);
    believed.map_err(|error| notes.find(Kind::RegistryRow, error.to_string())).ok()
}

fn judge(patient: &Patient<'_>, registry: &Registry, ca: &KnownCa, notes: &mut Notes) {
    let (certificate, days) = (&ca.certificate, patient.settings.expiry.warn_days);
    let subject = format!("{} {}", ca.word(), certificate.subject());
    let in_use = ca.row.state != CaState::Superseded;
    if in_use {
        let warn_days = if ca.row.kind == CaKind::Root { days.root } else { days.intermediate };
        notes.ends(ca.word(), certificate, warn_days, patient.now);
        for fault in certificate.strict_faults() {
            notes.find(Kind::StrictRules, format!("{subject}: {fault}"));
        }
    }
    if !certificate.is_ca() || !certificate.may_sign_certificates() || !certificate.key_strength_ok() {
        notes.find(Kind::ChainBroken, format!("{subject}: it is no CA that may sign with an accepted key"));
    }
    match ca.row.kind {
        CaKind::Root => judge_root(patient, registry, ca, notes),
        CaKind::Intermediate => {
            let above = |root: &KnownCa| certificate.is_signed_by(&root.certificate);
            let held = match ca.row.state {
                CaState::Active => registry.active(CaKind::Root).is_some_and(above),
                _ => registry.of(CaKind::Root).any(above),
            };
            if !held {
                notes.find(Kind::ChainBroken, format!("{subject}: not signed by the root that it is below"));
            }
        }
    }
}

fn judge_root(patient: &Patient<'_>, registry: &Registry, ca: &KnownCa, notes: &mut Notes) {
    let (certificate, subject) = (&ca.certificate, ca.certificate.subject());
    if !certificate.is_signed_by(certificate) {
        notes.find(Kind::ChainBroken, format!("root {subject}: it did not sign itself"));
    }
    if ca.row.state == CaState::Active {
        if certificate.path_len() == Some(0) {
            notes.find(Kind::PathLengthZero, subject);
        }
        if certificate.organization().is_some_and(|named| named != patient.org.as_str()) {
            notes.find(Kind::OtherOrganisation, format!("{subject}, and the database says {}", patient.org));
        }
    }
    if ca.row.state == CaState::Superseded && ca.row.private.is_some() && !registry.needs_key_of(ca) {
        notes.find(Kind::RootKeyKept, subject);
    }
    if let Some(Ok(link)) = ca.row.link.as_deref().map(Certificate::from_pem) {
        let leads_to = |root: &KnownCa| {
            root.certificate.spki_der() == link.spki_der()
                && root.certificate.subject_raw() == link.subject_raw()
        };
        if !link.is_signed_by(certificate) || !registry.of(CaKind::Root).any(leads_to) {
            notes.find(Kind::LinkBroken, subject);
        }
    }
}

fn judge_lines(rows: &[CaRow], rotations: &[Rotation], notes: &mut Notes) {
    let Some(line) = line_of(rows, rotations) else { return };
    for step in line.steps() {
        let about = format!("{} to {}", step.from.thumbprint(), step.to.thumbprint());
        match step.vouched {
            Ok(_) => {}
            Err(StepError::Break(why)) => notes.find(Kind::LineageMissing, format!("{about}: {why}")),
            Err(StepError::Statement(error)) => notes.find(Kind::LineageBroken, format!("{about}: {error}")),
        }
    }
}

fn judge_rotations(newest: &[Rotation], served: bool, notes: &mut Notes) {
    let Some(last) = newest.first() else { return };
    let about = |why: &str| {
        let phase = last.phase.as_str();
        format!("{} (phase {phase} since {}){why}", last.id, last.changed_at)
    };
    let why = last.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
    let interrupted = !served && last.transition == Transition::Cut;
    match (last.ended_at, last.phase) {
        (None, _) if last.error.is_some() || interrupted => notes.find(Kind::RotationStuck, about(&why)),
        (None, _) => notes.find(Kind::RotationOpen, about(if last.paused { ", paused" } else { "" })),
        (Some(_), Phase::Aborted) if !overlap::was_given_up(last) => {
            notes.find(Kind::RotationFailed, about(&why));
        }
        _ => {}
    }
}
