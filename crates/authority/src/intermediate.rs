//! Rotating the intermediate (contract `pki.md` §6): another one under the same root, and a signing key that it certified.
//!
//! One unit. What the intermediate of before certified goes on until it ends; it is believed, shown and signs its
//! revocation list as long, and is retired then (see `retire`). The key of the root is opened for this one signature.

mod error;

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use mastio_core::{Event, Kid, Stamp, Thumbprint, event::catalogue};
use mastio_custody::{CaKey, CustodyError};
use mastio_pki::{Issuer, KeyPair, SigningKey as _};
use mastio_store::{
    Touch, Unit,
    cas::{self, CaState, NewCa, Superseded},
    keys::CaKind,
    rotations::{self, Phase},
    updates,
};

use crate::{
    Authority, Outage,
    admin::Operator,
    fresh::Succession,
    signing_key::{GraceDays, OPERATOR},
    trust::{Halt, Trust},
    updates::left_with_intermediate,
};

pub use error::IntermediateError;

/// How an intermediate is to be rotated.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    /// Make everything, and keep nothing of it.
    pub dry_run: bool,
    /// For how many days the signing key of before verifies tokens.
    pub grace: GraceDays,
    /// SHA-256 of the intermediate that another is to take the place of; whichever is in place, if `None`.
    pub instead_of: Option<Thumbprint>,
}

/// Another intermediate.
#[derive(Debug)]
pub struct RotatedIntermediate {
    /// The name of the one of before.
    pub old_cn: String,
    /// SHA-256 of its certificate.
    pub previous: Thumbprint,
    /// The name of the new one. That of a dry run is never seen again.
    pub new_cn: String,
    /// SHA-256 of its certificate.
    pub fingerprint: Thumbprint,
    /// When it ends.
    pub not_after: Stamp,
    /// The key that signs tokens now; `None` for a dry run.
    pub new_kid: Option<Kid>,
    /// The signature of the key of before over the new certificate: ECDSA in DER, base64url without padding.
    pub continuity_proof: String,
}

/// What is made before anything is written.
struct Draft {
    old: Arc<Issuer<KeyPair>>,
    ca: CaKey,
    minted: Event,
    continuity_proof: String,
}

impl Authority {
    /// Has another intermediate certify. When this returns it does, and the signing key is another one as well; the TLS
    /// files follow within a second.
    ///
    /// # Errors
    /// [`IntermediateError`]; nothing was changed.
    pub async fn rotate_intermediate(
        self: &Arc<Self>,
        question: Question,
        by: &Operator,
    ) -> Result<RotatedIntermediate, IntermediateError> {
        self.rotate_intermediate_for(question, OPERATOR, &by.fingerprint, None).await
    }

    /// Whether another intermediate could be made now.
    ///
    /// # Errors
    /// [`IntermediateError`]: what comes first.
    pub fn may_rotate_intermediate(&self) -> Result<(), IntermediateError> {
        self.no_update_runs::<IntermediateError>()?;
        may_rotate(&self.trust(), self.clock.now())
    }

    /// `told` is what tells of it beside the events of every rotation.
    pub(crate) async fn rotate_intermediate_for(
        self: &Arc<Self>,
        question: Question,
        trigger: &'static str,
        by: &str,
        told: Option<Event>,
    ) -> Result<RotatedIntermediate, IntermediateError> {
        let rotated = self.try_rotate_intermediate(question, (trigger, by), told).await;
        let rotated = rotated.map_err(|error| error.traced(self.rng.as_ref()));
        rotated.inspect_err(|error| {
            tracing::warn!(%error, trigger, "pki.rotate: the intermediate was not rotated");
        })
    }

    async fn try_rotate_intermediate(
        self: &Arc<Self>,
        question: Question,
        (trigger, by): (&'static str, &str),
        told: Option<Event>,
    ) -> Result<RotatedIntermediate, IntermediateError> {
        let (trust, now) = (self.trust(), self.clock.now());
        self.no_update_runs::<IntermediateError>()?;
        may_rotate(&trust, now)?;
        let draft = self.draft(&trust).await?;
        let (old, new) = (draft.old.certificate().clone(), draft.ca.certificate.clone());
        if question.instead_of.is_some_and(|meant| meant != old.thumbprint()) {
            return Err(IntermediateError::Raced);
        }
        let name = |certificate: &mastio_pki::Certificate| {
            certificate.common_name().unwrap_or(certificate.subject()).to_owned()
        };
        let mut rotated = RotatedIntermediate {
            old_cn: name(&old),
            previous: old.thumbprint(),
            new_cn: name(&new),
            fingerprint: new.thumbprint(),
            not_after: new.not_after(),
            new_kid: None,
            continuity_proof: draft.continuity_proof.clone(),
        };
        if question.dry_run {
            return Ok(rotated);
        }
        let event = catalogue::IntermediateRotated {
            old_fingerprint_sha256: old.thumbprint(),
            new_fingerprint_sha256: new.thumbprint(),
            new_subject: new.subject().to_owned(),
            not_after: new.not_after(),
            old_key_signature: draft.continuity_proof.clone(),
            trigger,
            by: by.to_owned(),
        };
        let unit = self.replaced(&draft, now)?.tell(Event::new(&event));
        let unit = left_with_intermediate(unit, self.store.database(), &trust, by).map_err(Outage::from)?;
        let unit = told.into_iter().fold(unit, Unit::tell);
        let (unit, kid) = self.with_signing_key(unit, &trust, draft.ca, question.grace, by, now)?;
        let _no_cut = self.rotations.keys().await;
        if let Err(error) = self.commit(unit).await {
            self.no_update_runs::<IntermediateError>()?;
            return Err(error.into());
        }
        self.settle().await;
        rotated.new_kid = Some(kid);
        Ok(rotated)
    }

    /// The new intermediate: the root's key is in memory here and nowhere else.
    async fn draft(&self, trust: &Trust) -> Result<Draft, IntermediateError> {
        let old = trust.server_issuer.clone().ok_or(IntermediateError::NotLoaded)?;
        let custody = Arc::clone(&self.custody);
        let load = move || custody.load(CaKind::Root);
        let root = tokio::task::spawn_blocking(load).await.map_err(Outage::internal)??;
        let root = root.ok_or(IntermediateError::NotLoaded)?;
        if root.certificate != trust.root {
            return Err(IntermediateError::Raced);
        }
        let root = Issuer::new(root.certificate, root.key).map_err(Outage::internal)?;
        let (ca, minted) = self.maker(trust).intermediate(&root)?;
        let signature = old.key().sign(ca.certificate.der()).map_err(Outage::internal)?;
        Ok(Draft { old, ca, minted, continuity_proof: URL_SAFE_NO_PAD.encode(signature) })
    }

    /// The old one leaves its place, and keeps its key for its revocation list.
    fn replaced(&self, draft: &Draft, now: Stamp) -> Result<Unit, IntermediateError> {
        let old = draft.old.certificate();
        let key = self.custody.wrap(&old.thumbprint().to_string(), &draft.old.key().to_pkcs8_pem())?;
        let superseded = Superseded { private: Some(&key), ..Superseded::default() };
        let new = NewCa {
            thumbprint: draft.ca.certificate.thumbprint(),
            spki: Thumbprint::of(draft.ca.certificate.spki_der()),
            kind: CaKind::Intermediate,
            certificate: &draft.ca.certificate.pem(),
            private: None,
        };
        Ok(Unit::of(draft.minted.clone())
            .write(rotations::none_is_staged())
            .write(cas::supersede(old.thumbprint(), &superseded, now))
            .write(new.enter(CaState::Active, now))
            .write_all(self.custody.replace(CaKind::Intermediate, &draft.ca, now)?)
            .write(updates::none_is_under_way())
            .touch(Touch::Trust))
    }

    /// A signing key that `ca` certified takes the place of the present one.
    fn with_signing_key(
        &self,
        unit: Unit,
        trust: &Trust,
        ca: CaKey,
        grace: GraceDays,
        by: &str,
        now: Stamp,
    ) -> Result<(Unit, Kid), IntermediateError> {
        let issuer = Issuer::new(ca.certificate, ca.key).map_err(Outage::internal)?;
        let fresh = self.maker(trust).signing_key(&issuer)?;
        let unit = match trust.signer.as_deref() {
            None => fresh.enter(unit, now),
            Some(old) => {
                let grace_until = self.signing_grace_until(grace, now);
                let how = Succession { old, grace_until, trigger: "intermediate", by, now };
                let (key, _) = fresh.succeed(&how)?;
                key.events.into_iter().fold(unit.write_all(key.statements), Unit::tell)
            }
        };
        Ok((unit, fresh.kid))
    }
}

/// Whether the root can sign, and nothing else comes first. In a rotation with overlap the active root has another
/// intermediate as at any other time: such a rotation may take longer than the intermediate lives.
fn may_rotate(trust: &Trust, now: Stamp) -> Result<(), IntermediateError> {
    if let Some(rotation) = trust.rotation.as_ref().filter(|rotation| rotation.phase == Phase::Staged) {
        return Err(IntermediateError::RotationOpen(rotation.id.clone()));
    }
    if trust.root.path_len() == Some(0) {
        return Err(IntermediateError::RootPathLength);
    }
    if trust.root.not_after() <= now {
        return Err(IntermediateError::RootEnded(trust.root.not_after()));
    }
    match &trust.halt {
        None => Ok(()),
        Some(Halt::StagedRotation(kid)) => Err(IntermediateError::Staged(kid.clone())),
        Some(halt) => Err(IntermediateError::Halted(halt.clone())),
    }
}

impl From<CustodyError> for IntermediateError {
    fn from(error: CustodyError) -> Self {
        Self::Outage(Outage::internal(error))
    }
}
