//! Another root for the organisation (contract `pki.md` §5, design §4).
//!
//! A rotation is a saga of units. The first one, [`stage`](Authority::stage), stores the new root with its intermediate
//! and opens the row that says so; nothing else has changed then. How it goes on is the [`Transition`]: [`cut`] ends
//! every certificate of before in one more unit; with [`overlap`] agents move one after the other. Whoever finds a
//! rotation that was left after the first unit [undoes](undo) it.

pub mod candidate;
mod cut;
mod error;
mod held;
pub mod overlap;
pub mod preflight;
mod trial;
mod undo;

use std::sync::Arc;

use mastio_core::{Event, Thumbprint, event::catalogue};
use mastio_custody::CaKey;
use mastio_pki::Issuer;
use mastio_store::{
    Rejection, Statement, Touch, Unit, WriteError,
    cas::{self, CaState, NewCa},
    keys::CaKind,
    rotations::{self, Mode, Phase, Rotation, Transition},
    updates,
};

pub use self::{
    candidate::{Candidate, CandidateError, Upload},
    cut::Rotated,
    error::RotationError,
    preflight::{Affected, NoContinuity, Preflight},
    trial::TrialFault,
};
use self::{held::Held, trial::Trial};
pub(crate) use self::{held::Rotations, undo::undone};
use crate::{Authority, Outage, admin::Operator};

/// Where the new root comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// It is made here.
    Mint,
    /// The operator brings it.
    Upload(Upload),
    /// It was prepared and looked at before, and is kept under this name.
    Prepared(String),
}

/// A hard cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cut {
    /// The old key may be known to others: nothing that it signs counts any more.
    pub compromise: bool,
}

/// How to rotate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// All at once.
    Cut(Cut),
    /// Agent by agent: the old key is believed meanwhile, so it must not be known to others.
    Overlap,
}

impl From<Cut> for Plan {
    fn from(cut: Cut) -> Self {
        Self::Cut(cut)
    }
}

impl Plan {
    /// How agents get to the new root.
    #[must_use]
    pub fn transition(self) -> Transition {
        match self {
            Self::Cut(_) => Transition::Cut,
            Self::Overlap => Transition::Overlap,
        }
    }

    /// Whether the old key may be known to others.
    #[must_use]
    pub fn compromise(self) -> bool {
        matches!(self, Self::Cut(Cut { compromise: true }))
    }
}

/// What an operator said of how to rotate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Words {
    /// Where the new root comes from.
    pub mode: Option<Mode>,
    /// How agents get to it; a cut if nothing is said.
    pub plan: Option<Plan>,
}

/// A rotation whose first unit is to be written.
#[derive(Debug)]
pub(crate) struct Staged {
    /// Its row.
    pub(crate) rotation: Rotation,
    /// The new root.
    pub(crate) root: CaKey,
    /// The intermediate below it.
    pub(crate) intermediate: CaKey,
}

impl Authority {
    /// A root that could take the place of the active one. One that is prepared stays, to be looked at again.
    ///
    /// # Errors
    /// What speaks against it.
    pub fn candidate(&self, source: &Source) -> Result<Arc<Candidate>, RotationError> {
        let (trust, now) = (self.trust(), self.clock.now());
        Ok(match source {
            Source::Mint => Arc::new(Candidate::minted(&trust, &trust.org, now, self.rng.as_ref())?),
            Source::Upload(upload) => {
                let brought = Candidate::uploaded(upload, &trust, now)?;
                candidate::not_held(brought.certificate(), self.store.database())?;
                let (names, rng) = (self.tls_files.names(), self.rng.as_ref());
                let trial = Trial { org: &trust.org, domain: &trust.domain, names, now, rng };
                trial.of(brought.ca())?;
                Arc::new(brought)
            }
            Source::Prepared(name) => self.prepared(name)?.candidate,
        })
    }

    /// Keeps a root that was looked at for 10 minutes and returns its name for [`Source::Prepared`]. It is good for
    /// `plan` alone, and in the place of the root `instead_of`: what was shown is what is done.
    #[must_use]
    pub fn prepare(&self, candidate: Arc<Candidate>, plan: Plan, instead_of: Thumbprint) -> String {
        let name = self.rng.uuid().to_string();
        self.rotations.hold(name.clone(), candidate, (plan, instead_of), self.clock.elapsed());
        name
    }

    /// The plan that an operator's words mean: of a prepared root the one that it was shown with.
    ///
    /// # Errors
    /// When the words say something else than what was shown, or the prepared root is gone.
    pub fn plan(&self, words: Words, source: &Source) -> Result<Plan, RotationError> {
        let Source::Prepared(name) = source else {
            return Ok(words.plan.unwrap_or_else(|| Cut::default().into()));
        };
        let held = self.rotations.find(name, self.clock.elapsed()).ok_or(RotationError::NotPrepared)?;
        let same = words.mode.is_none_or(|mode| mode == held.candidate.mode())
            && words.plan.is_none_or(|said| {
                said == held.plan || said == Plan::Cut(Cut::default()) && held.plan.compromise()
            });
        if same { Ok(held.plan) } else { Err(RotationError::OtherPlan) }
    }

    /// The root of `source`, if it is not one that was shown with another plan. One that is prepared is used with that.
    fn candidate_for(&self, source: &Source, plan: Plan) -> Result<Arc<Candidate>, RotationError> {
        let Source::Prepared(name) = source else { return self.candidate(source) };
        if self.prepared(name)?.plan != plan {
            return Err(RotationError::OtherPlan);
        }
        self.rotations.take(name, self.clock.elapsed()).ok_or(RotationError::NotPrepared)
    }

    /// The prepared root of this name, if it was not shown in the place of another root.
    fn prepared(&self, name: &str) -> Result<Held, RotationError> {
        let held = self.rotations.find(name, self.clock.elapsed()).ok_or(RotationError::NotPrepared)?;
        match held.instead_of == self.trust().root.thumbprint() {
            true => Ok(held),
            false => Err(RotationError::OtherRoot(held.instead_of)),
        }
    }

    /// Replaces the Org CA. Once begun it goes on to its end even if nobody waits for it. After a compromise a rotation
    /// with overlap that is open ends with it.
    ///
    /// # Errors
    /// When another rotation is open, and this one is not for a compromise; or something speaks against this one. Then what was before is still so.
    pub async fn rotate_root(
        self: &Arc<Self>,
        source: Source,
        cut: Cut,
        operator: &Operator,
    ) -> Result<Rotated, RotationError> {
        let (authority, operator) = (Arc::clone(self), operator.clone());
        let run = async move {
            let _one_cut = authority.rotations.cut().ok_or(RotationError::InProgress)?;
            // A key that others may know does not wait for somebody to try again, nor for a rotation that is open.
            let _one_at_a_time = match cut.compromise {
                true => authority.rotations.wait().await,
                false => authority.rotations.begin().ok_or(RotationError::InProgress)?,
            };
            let _keys_stay = authority.rotations.keys().await;
            authority.knows_whom_to_believe()?;
            authority.no_update_runs::<RotationError>()?;
            let open = authority.undo_leftover().await?;
            if open.is_some() && !cut.compromise {
                return Err(RotationError::InProgress);
            }
            let candidate = authority.candidate_for(&source, cut.into())?;
            match &open {
                None => authority.cut(&candidate, cut, &operator).await,
                Some(open) => authority.cut_through(open, &candidate, cut, &operator).await,
            }
        };
        let ended = tokio::spawn(run).await.unwrap_or_else(|error| Err(Outage::internal(error).into()));
        ended.inspect_err(|error| tracing::error!(%error, "pki.rotate: the Org CA was not rotated"))
    }

    /// Tells that an operator took the trust file with them.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub async fn tell_export(&self, operator: &Operator) -> Result<(), Outage> {
        let fingerprint_sha256 = self.trust().root.thumbprint();
        let event = catalogue::RootExported { fingerprint_sha256, by: operator.fingerprint.clone() };
        self.commit(Unit::of(Event::new(&event))).await?;
        Ok(())
    }

    /// The first unit: the new root and an intermediate below it are stored with their keys, and the rotation is open.
    ///
    /// # Errors
    /// When another rotation is open or an update is being applied, the active root is another one, or the keys cannot be
    /// made or sealed.
    pub(crate) async fn stage(
        &self,
        candidate: &Candidate,
        plan: Plan,
        operator: &Operator,
    ) -> Result<Staged, RotationError> {
        let (staged, unit) = self.staging(candidate, plan, operator, Unit::default())?;
        self.commit_staged(unit, &staged.rotation, None).await?;
        Ok(staged)
    }

    /// What [`Self::stage`] writes, and in the same unit before it what `ending` does. Its first statement touches no row
    /// when another root is the active one.
    fn staging(
        &self,
        candidate: &Candidate,
        plan: Plan,
        operator: &Operator,
        ending: Unit,
    ) -> Result<(Staged, Unit), RotationError> {
        let (trust, now) = (self.trust(), self.clock.now());
        candidate.still_good(&trust, now)?;
        candidate::not_held(candidate.certificate(), self.store.database())?;
        let root = copy(candidate.ca())?;
        let issuer = Issuer::new(root.certificate.clone(), &root.key).map_err(Outage::internal)?;
        let (intermediate, made) = self.maker(&trust).intermediate(&issuer)?;
        let (old_root, new_root) = (trust.root.thumbprint(), root.certificate.thumbprint());
        let rotation = Rotation {
            id: self.rng.uuid().to_string(),
            mode: candidate.mode(),
            transition: plan.transition(),
            phase: Phase::Staged,
            paused: false,
            compromise: plan.compromise(),
            old_root,
            new_root,
            started_by: operator.fingerprint.clone(),
            started_at: now,
            changed_at: now,
            ended_at: None,
            error: None,
        };
        let started = catalogue::RotationStarted {
            rotation_id: rotation.id.clone(),
            mode: rotation.mode.as_str(),
            transition: rotation.transition.as_str(),
            compromise: rotation.compromise,
            fingerprint_sha256: new_root,
            subject: root.certificate.subject().to_owned(),
            not_after: root.certificate.not_after(),
            previous_fingerprint_sha256: old_root,
            by: operator.fingerprint.clone(),
        };
        let unit = Unit { events: ending.events, ..Unit::default() }
            .tell(Event::new(&started))
            .tell(made)
            .write(cas::is_active(old_root))
            .write_all(ending.statements)
            .write(rotation.begin())
            .write(self.enter(CaKind::Root, &root)?)
            .write(self.enter(CaKind::Intermediate, &intermediate)?)
            .write(updates::none_is_under_way())
            .touch(Touch::Trust);
        Ok((Staged { rotation, root, intermediate }, unit))
    }

    /// Commits what opens `rotation`, and ends the rotation `ended` if there is one.
    async fn commit_staged(
        &self,
        unit: Unit,
        rotation: &Rotation,
        ended: Option<&Rotation>,
    ) -> Result<(), RotationError> {
        let Err(error) = self.commit(unit).await else { return Ok(()) };
        if let WriteError::Rejected(rejection) = &error {
            if matches!(rejection, Rejection::Rows { statement: 0, .. }) {
                return Err(RotationError::OtherRoot(rotation.old_root));
            }
            self.no_update_runs::<RotationError>()?;
            let open = rotations::open(self.store.database()).map_err(Outage::from)?;
            if open.is_some_and(|open| ended.is_none_or(|ended| open.id != ended.id)) {
                return Err(RotationError::InProgress);
            }
        }
        Err(Outage::from(error).into())
    }

    fn enter(&self, kind: CaKind, ca: &CaKey) -> Result<Statement, RotationError> {
        let thumbprint = ca.certificate.thumbprint();
        let private = self.custody.wrap(&format!("pki_cas {thumbprint}"), &ca.key.to_pkcs8_pem())?;
        let new = NewCa {
            thumbprint,
            spki: Thumbprint::of(ca.certificate.spki_der()),
            kind,
            certificate: &ca.certificate.pem(),
            private: Some(&private),
        };
        Ok(new.enter(CaState::Staged, self.clock.now()))
    }

    /// The active root with its key.
    pub(crate) fn active_root(&self) -> Result<CaKey, RotationError> {
        let root = self.custody.load(CaKind::Root)?;
        root.ok_or_else(|| Outage::internal("there is no Org CA").into())
    }
}

/// A prepared root is kept for a second try; what goes on has a copy of its own.
fn copy(ca: &CaKey) -> Result<CaKey, Outage> {
    let key = mastio_pki::KeyPair::from_pkcs8_der(&ca.key.to_pkcs8_der()).map_err(Outage::internal)?;
    Ok(CaKey { certificate: ca.certificate.clone(), key })
}
