//! The new root and its intermediate take the place of the old ones, or the other way round; and what is left behind
//! ends.

use mastio_core::{Event, Stamp, event::catalogue};
use mastio_custody::{CaKey, CustodyError};
use mastio_pki::{Certificate, KeyPair};
use mastio_store::{
    Unit,
    cas::{self, CaRow, CaState, Superseded},
    keys::CaKind,
    rotations::{Rotation, following},
};
use secrecy::ExposeSecret;

use super::{By, OverlapError};
use crate::{Authority, Outage, trust::Ca, updates};

/// A root and the intermediate under it that certifies.
struct Pair {
    root: CaKey,
    intermediate: CaKey,
}

impl Authority {
    /// The staged CAs become the active ones. The old ones are still believed; both of their keys are kept for the way
    /// back, and the old root vouches for the new one.
    pub(super) fn exchange(&self, unit: Unit, rotation: &Rotation, by: &str) -> Result<Unit, OverlapError> {
        let (from, to) = (self.active_pair()?, self.stored_pair("new", rotation, CaState::Staged)?);
        let root_key = self.wrapped(&from.root)?;
        let vouched = self.vouched(&from.root, &to.root.certificate)?;
        let link = vouched.link.as_ref().ok().map(Certificate::pem);
        let leaving = Superseded {
            private: Some(&root_key),
            link: link.as_deref(),
            lineage: vouched.lineage.as_deref(),
            ..Superseded::default()
        };
        self.exchanged(unit, &from, &to, &leaving, by)
    }

    /// The new CAs certify from now on: their keys must be here.
    pub(super) fn holds_new_keys(&self, rotation: &Rotation) -> Result<(), OverlapError> {
        self.stored_pair("new", rotation, CaState::Staged).map(drop)
    }

    /// The old CAs become the active ones again. What the new ones certified is believed until it has been replaced, and
    /// who knows the new root alone gets to the old one by a link. In the lineage this root was never one.
    pub(super) fn exchange_back(
        &self,
        unit: Unit,
        rotation: &Rotation,
        by: &str,
    ) -> Result<Unit, OverlapError> {
        let (from, to) = (self.active_pair()?, self.stored_pair("old", rotation, CaState::Superseded)?);
        let end = to.root.certificate.not_after().min(to.intermediate.certificate.not_after());
        if end <= self.clock.now() {
            return Err(OverlapError::OldEnded(end));
        }
        let vouched = self.vouched(&from.root, &to.root.certificate)?;
        let link = vouched.link.as_ref().ok().map(Certificate::pem);
        let leaving = Superseded { link: link.as_deref(), ..Superseded::default() };
        self.exchanged(unit, &from, &to, &leaving, by)
    }

    /// What of before the new root is believed no more: the last step.
    pub(super) async fn retire_old(
        &self,
        unit: Unit,
        rotation: &Rotation,
        by: By<'_>,
    ) -> Result<Unit, OverlapError> {
        let (trust, progress) = (self.trust(), self.progress(rotation).await?);
        let root = &trust.root;
        let of_before = |ca: &&Ca| {
            ca.state == CaState::Superseded
                && !ca.cut
                && (ca.kind == CaKind::Root || !ca.certificate.is_signed_by(root))
        };
        let cuts = trust.cas.iter().filter(of_before).map(|ca| cas::cut(ca.certificate.thumbprint()));
        let old = trust.cas.iter().find(|ca| ca.certificate.thumbprint() == rotation.old_root);
        let rotated = catalogue::RootRotated {
            rotation_id: rotation.id.clone(),
            mode: rotation.mode.as_str(),
            transition: rotation.transition.as_str(),
            compromise: false,
            fingerprint_sha256: rotation.new_root,
            subject: root.subject().to_owned(),
            not_after: root.not_after(),
            previous_fingerprint_sha256: rotation.old_root,
            tls_continuity: old.is_some_and(|old| trust.cas.leads_here(old)),
            agents_invalidated: progress.left(rotation.phase) + progress.byoca_left(),
            by: by.name(),
        };
        let unit = unit
            .write_all(cuts)
            .write(following::note_former_issuer(rotation.old_root))
            .write(following::end_tokens_of_unmoved(rotation, &trust.org));
        let unit = updates::left_with_root(unit, self.store.database(), &by.name()).map_err(Outage::from)?;
        Ok(unit.tell(Event::new(&rotated)))
    }

    fn exchanged(
        &self,
        unit: Unit,
        from: &Pair,
        to: &Pair,
        leaving: &Superseded<'_>,
        by: &str,
    ) -> Result<Unit, OverlapError> {
        let now = self.clock.now();
        let key = self.wrapped(&from.intermediate)?;
        let issuer_leaves = Superseded { private: Some(&key), ..Superseded::default() };
        let unit = unit
            .write(cas::supersede(from.root.certificate.thumbprint(), leaving, now))
            .write(cas::supersede(from.intermediate.certificate.thumbprint(), &issuer_leaves, now));
        let unit = self.placed(unit, CaKind::Root, &to.root, now)?;
        let unit = self.placed(unit, CaKind::Intermediate, &to.intermediate, now)?;
        Ok(self.replace_signing_key(unit, &to.intermediate, false, by, now)?)
    }

    fn placed(&self, unit: Unit, kind: CaKind, ca: &CaKey, now: Stamp) -> Result<Unit, OverlapError> {
        let unit = unit.write(cas::activate(ca.certificate.thumbprint(), now));
        Ok(unit.write_all(self.custody.replace(kind, ca, now)?))
    }

    fn wrapped(&self, ca: &CaKey) -> Result<secrecy::SecretString, OverlapError> {
        let what = format!("pki_cas {}", ca.certificate.thumbprint());
        Ok(self.custody.wrap(&what, &ca.key.to_pkcs8_pem())?)
    }

    fn active_pair(&self) -> Result<Pair, OverlapError> {
        let load = |kind| match self.custody.load(kind)? {
            Some(ca) => Ok(ca),
            None => Err(OverlapError::from(Outage::internal("an active CA is missing"))),
        };
        Ok(Pair { root: load(CaKind::Root)?, intermediate: load(CaKind::Intermediate)? })
    }

    /// The CAs of one side of `rotation`, out of the registry with their keys: of several intermediates the one that was
    /// in use last.
    fn stored_pair(
        &self,
        which: &'static str,
        rotation: &Rotation,
        state: CaState,
    ) -> Result<Pair, OverlapError> {
        let root = if state == CaState::Staged { rotation.new_root } else { rotation.old_root };
        let gone = || OverlapError::KeyGone(which);
        let rows = cas::all(self.store.database()).map_err(Outage::from)?;
        let of = |kind| rows.iter().filter(move |row| (row.kind, row.state) == (kind, state));
        let root = of(CaKind::Root).find(|row| row.thumbprint == root).ok_or_else(gone)?;
        let root = self.with_key(root)?.ok_or_else(gone)?;
        let mut below = Vec::new();
        for row in of(CaKind::Intermediate).filter(|row| !row.cut) {
            let issued = Certificate::from_pem(&row.certificate);
            if issued.is_ok_and(|issued| issued.is_signed_by(&root.certificate)) {
                below.push(row);
            }
        }
        below.sort_by_key(|row| row.superseded_at);
        let intermediate = below.last().ok_or_else(gone)?;
        Ok(Pair { intermediate: self.with_key(intermediate)?.ok_or_else(gone)?, root })
    }

    /// A CA with its key. One that does not open although those of the active CAs do is as good as gone.
    fn with_key(&self, row: &CaRow) -> Result<Option<CaKey>, OverlapError> {
        let Some(stored) = &row.private else { return Ok(None) };
        let certificate = Certificate::from_pem(&row.certificate).map_err(Outage::internal)?;
        let key = match self.custody.unwrap(&format!("pki_cas {}", row.thumbprint), stored) {
            Err(CustodyError::Read(error)) => return Err(Outage::from(error).into()),
            Err(error) => Err(error.to_string()),
            Ok(pem) => KeyPair::from_pem(pem.expose_secret()).map_err(|error| error.to_string()),
        };
        match key {
            Ok(key) if key.matches(&certificate) => return Ok(Some(CaKey { certificate, key })),
            Ok(_) => tracing::error!("pki_cas {}: the key is another one's", row.thumbprint),
            Err(error) => tracing::error!(error, "pki_cas {}: the key cannot be used", row.thumbprint),
        }
        Ok(None)
    }
}
