//! The hard cut: from one unit to the next another root is the organisation's, and nothing that the old one certified
//! logs in any more.

use std::sync::Arc;

use mastio_core::{Event, Stamp, Thumbprint, event::catalogue};
use mastio_custody::CaKey;
use mastio_pki::Issuer;
use mastio_store::{
    Touch, Unit, agents,
    cas::{self, CaState, Superseded},
    keys::{self, CaKind, KeyState},
    rotations::{Mode, Phase, Rotation, Transition, following},
};

use super::{Affected, Candidate, Cut, NoContinuity, RotationError, Staged, preflight::Vouched, undone};
use crate::{
    Authority, Outage,
    admin::Operator,
    evidence::Identity,
    fresh::Succession,
    signing_key::{Decision, GraceDays},
    updates,
};

/// A rotation that has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// Its name.
    pub id: String,
    /// Where the new root came from.
    pub mode: Mode,
    /// How agents get to it.
    pub transition: Transition,
    /// SHA-256 of the new root.
    pub fingerprint: Thumbprint,
    /// Its subject.
    pub subject: String,
    /// When it ends.
    pub not_after: Stamp,
    /// SHA-256 of the root of before.
    pub previous: Thumbprint,
    /// SHA-256 of every root that is superseded now, the newest first.
    pub superseded: Vec<Thumbprint>,
    /// Whether clients that know only the old root believe this server still, or why they do not.
    pub continuity: Result<(), NoContinuity>,
    /// The rotation with overlap that was open, and ended with it.
    pub ended: Option<String>,
    /// Whose certificates ended.
    pub agents: Affected,
    /// Whether it counts already: it is stored in any case, and nobody is let in before it does.
    pub in_force: bool,
    /// When.
    pub at: Stamp,
}

impl Authority {
    /// Both units of the cut. When the second one fails, the first one is undone.
    pub(super) async fn cut(
        self: &Arc<Self>,
        candidate: &Candidate,
        cut: Cut,
        operator: &Operator,
    ) -> Result<Rotated, RotationError> {
        let staged = self.stage(candidate, cut.into(), operator).await?;
        match self.switch(&staged, operator).await {
            Ok(rotated) => Ok(self.settled(rotated).await),
            Err(error) => {
                self.give_up(&staged, &error).await;
                Err(error)
            }
        }
    }

    /// The same in one unit, which ends the rotation with overlap `open` too: whoever is killed finds all of it or
    /// nothing. Both of its roots are believed no more, because their keys lay in one custody.
    pub(super) async fn cut_through(
        self: &Arc<Self>,
        open: &Rotation,
        candidate: &Candidate,
        cut: Cut,
        operator: &Operator,
    ) -> Result<Rotated, RotationError> {
        let ending = self.broken_off(open, operator).await?;
        let (staged, mut unit) = self.staging(candidate, cut.into(), operator, ending)?;
        let (switch, rotated) = self.switching(&staged, operator).await?;
        unit.events.extend(switch.events);
        self.commit_staged(unit.write_all(switch.statements), &staged.rotation, Some(open)).await?;
        tracing::warn!(
            overlap = open.id, fingerprint = %rotated.fingerprint, agents = rotated.agents.total(),
            "pki.rotate: the Org CA was rotated, and the rotation with overlap ended"
        );
        Ok(self.settled(Rotated { ended: Some(open.id.clone()), ..rotated }).await)
    }

    async fn switch(&self, staged: &Staged, operator: &Operator) -> Result<Rotated, RotationError> {
        let (unit, rotated) = self.switching(staged, operator).await?;
        self.commit(unit).await.map_err(Outage::from)?;
        tracing::info!(
            fingerprint = %rotated.fingerprint, agents = rotated.agents.total(),
            "pki.rotate: the Org CA was rotated"
        );
        Ok(rotated)
    }

    /// The second unit: everything that makes the new root the organisation's, or nothing of it.
    async fn switching(
        &self,
        staged: &Staged,
        operator: &Operator,
    ) -> Result<(Unit, Rotated), RotationError> {
        let (trust, now, agents) = (self.trust(), self.clock.now(), self.affected().await?);
        let (rotation, root) = (&staged.rotation, &staged.root.certificate);
        let old_root = self.active_root()?;
        let vouched = match rotation.compromise {
            true => Vouched::of_nothing(),
            false => self.vouched(&old_root, root)?,
        };
        let continuity = vouched.link.as_ref().map(drop).map_err(Clone::clone);
        let rotated = catalogue::RootRotated {
            rotation_id: rotation.id.clone(),
            mode: rotation.mode.as_str(),
            transition: rotation.transition.as_str(),
            compromise: rotation.compromise,
            fingerprint_sha256: rotation.new_root,
            subject: root.subject().to_owned(),
            not_after: root.not_after(),
            previous_fingerprint_sha256: rotation.old_root,
            tls_continuity: continuity.is_ok(),
            agents_invalidated: agents.total(),
            by: operator.fingerprint.clone(),
        };
        let unit = Unit::of(Event::new(&rotated)).write(rotation.enter(Phase::Done, now));
        let unit = self.succeed(unit, staged, &vouched, now)?;
        let by = &operator.fingerprint;
        let unit = updates::left_with_root(unit, self.store.database(), by).map_err(Outage::from)?;
        let unit = self.replace_signing_key(unit, &staged.intermediate, rotation.compromise, by, now)?;
        let unit = unit.write(agents::raise_epochs_but_spiffe()).touch(Touch::Trust);
        let rotated = Rotated {
            id: rotation.id.clone(),
            mode: rotation.mode,
            transition: rotation.transition,
            fingerprint: rotation.new_root,
            subject: root.subject().to_owned(),
            not_after: root.not_after(),
            previous: trust.root.thumbprint(),
            superseded: vec![],
            continuity,
            ended: None,
            agents,
            in_force: false,
            at: now,
        };
        Ok((unit, rotated))
    }

    /// The new root and intermediate take the place of the old ones, and whatever was superseded is cut. The old root's
    /// key is kept nowhere; the old intermediate's signs the revocation lists of its leaves until they have ended.
    fn succeed(
        &self,
        mut unit: Unit,
        staged: &Staged,
        vouched: &Vouched,
        now: Stamp,
    ) -> Result<Unit, RotationError> {
        let compromised = staged.rotation.compromise;
        let link = vouched.link.as_ref().ok().map(mastio_pki::Certificate::pem);
        let left = Superseded {
            cut: true,
            compromised,
            link: link.as_deref(),
            lineage: vouched.lineage.as_deref(),
            ..Superseded::default()
        };
        unit = unit.write(cas::supersede(staged.rotation.old_root, &left, now));
        if let Some(old) = self.custody.load(CaKind::Intermediate)? {
            let thumbprint = old.certificate.thumbprint();
            let key = self.custody.wrap(&format!("pki_cas {thumbprint}"), &old.key.to_pkcs8_pem())?;
            let left = Superseded { private: Some(&key), cut: true, compromised, ..Superseded::default() };
            unit = unit.write(cas::supersede(thumbprint, &left, now));
        }
        unit = unit
            .write(cas::cut_superseded(compromised))
            .write(following::note_former_issuer(staged.rotation.old_root));
        for (kind, next) in [(CaKind::Root, &staged.root), (CaKind::Intermediate, &staged.intermediate)] {
            unit = unit
                .write(cas::activate(next.certificate.thumbprint(), now))
                .write_all(self.custody.replace(kind, next, now)?);
        }
        let parked = keys::wipe_parked(self.store.database()).map_err(Outage::from)?;
        Ok(unit.write_all(parked))
    }

    /// A signing key under the new intermediate. What the old one signed for SPIFFE agents is accepted for the usual
    /// time; after a compromise nothing of before is. What was staged is thrown away.
    pub(super) fn replace_signing_key(
        &self,
        unit: Unit,
        intermediate: &CaKey,
        compromise: bool,
        by: &str,
        now: Stamp,
    ) -> Result<Unit, RotationError> {
        let trust = self.trust();
        let issuer =
            Issuer::new(intermediate.certificate.clone(), &intermediate.key).map_err(Outage::internal)?;
        let fresh = self.maker(&trust).signing_key(&issuer)?;
        let unit = match trust.signer.as_deref() {
            None => unit,
            Some(old) if compromise => {
                unit.write(keys::deprecate_signing_key(&old.kid, now, now)).write(keys::end_grace(now))
            }
            Some(old) => {
                let grace = GraceDays::stored(self.store.database()).map_err(Outage::from)?;
                let grace_until = self.signing_grace_until(grace, now);
                let how = Succession { old, grace_until, trigger: "org_ca", by, now };
                let (left, _) = how.unit(&fresh.kid, &fresh.public_pem)?;
                left.events.into_iter().fold(unit.write_all(left.statements), Unit::tell)
            }
        };
        self.without_staged(unit.tell(fresh.event()).write(fresh.insert(now)), by)
    }

    /// What was staged below the CAs of before is thrown away, and the halt because of it ends.
    fn without_staged(&self, unit: Unit, by: &str) -> Result<Unit, RotationError> {
        let keys = keys::signing_keys(self.store.database()).map_err(Outage::from)?;
        let staged = keys.into_iter().filter(|key| key.state == KeyState::Staged);
        let dropped = staged.map(|key| {
            let (decision, by) = (Decision::Drop.as_str(), by.to_owned());
            Event::new(&catalogue::StagedKeyCompleted { kid: key.kid, decision, by })
        });
        Ok(dropped.fold(unit, Unit::tell).write(keys::drop_staged_signing_keys()))
    }

    async fn settled(self: &Arc<Self>, rotated: Rotated) -> Rotated {
        self.settle().await;
        Rotated { superseded: self.superseded_roots(), in_force: self.stale().is_none(), ..rotated }
    }

    /// After the commit: what is in memory and in files follows. Whatever fails here is made good by the server's round
    /// or the next start.
    pub(crate) async fn settle(self: &Arc<Self>) {
        self.reload_cas().await;
        let trust = self.trust();
        let identity = Identity::of(&trust.org, &trust.root);
        if let Err(error) = identity.write(self.store.database().path()) {
            tracing::error!(%error, "pki.rotate: the identity file could not be written; the next start does it");
        }
        if let Err(error) = self.keep_files().await {
            tracing::error!(%error, "pki.rotate: the TLS files could not be kept; it is tried again");
        }
        if let Err(error) = self.write_copies() {
            tracing::error!(%error, "pki.rotate: the copies for operators could not be written; the next start does it");
        }
        if let Err(error) = self.store.forget_deleted().await {
            tracing::warn!(%error, "pki.rotate: the old key may be readable in the write-ahead log until the next stop");
        }
    }

    fn superseded_roots(&self) -> Vec<Thumbprint> {
        let trust = self.trust();
        let superseded = |ca: &&crate::trust::Ca| (ca.kind, ca.state) == (CaKind::Root, CaState::Superseded);
        trust.cas.iter().filter(superseded).map(|ca| ca.certificate.thumbprint()).collect()
    }

    pub(super) async fn give_up(self: &Arc<Self>, staged: &Staged, why: &RotationError) {
        let Some(unit) = undone(&staged.rotation, &why.to_string(), self.clock.now()) else { return };
        if let Err(error) = self.commit(unit).await {
            tracing::error!(%error, "pki.rotate: the rotation could not be undone; the next one, or the next start, does it");
        }
        self.reload_now().await;
    }
}
