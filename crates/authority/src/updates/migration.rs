//! What every migration says of itself.

use mastio_core::{Rng, Stamp};
use mastio_custody::Custody;
use mastio_pki::{Issuer, KeyPair};
pub use mastio_store::updates::Enrollment;
use mastio_store::{Statement, sqlite::Database};
use serde_json::Value;

use super::{UpdateError, snapshot::Snapshot};
use crate::Outage;

/// What a migration is about (contract `pki.md` §8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// What certificates look like.
    CertSchema,
    /// Which keys they have.
    CertAlgorithm,
    /// What is kept or permitted.
    PolicyChange,
    /// Something new.
    NewFeature,
    /// The same in another form.
    CodeRefactor,
}

/// What waiting costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Criticality {
    /// What is issued meanwhile would be refused elsewhere: signing halts.
    Critical,
    /// Something is less safe than it could be.
    Warning,
    /// Nothing.
    Info,
}

impl Criticality {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// What a migration works with.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// What is stored.
    pub database: &'a Database,
    /// Where keys live.
    pub custody: &'a dyn Custody,
    /// Whether a start is refused on a root of path length 0.
    pub strict_pki: bool,
    /// For serial numbers.
    pub rng: &'a dyn Rng,
    /// Now.
    pub now: Stamp,
}

impl std::fmt::Debug for Scene<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scene").field("now", &self.now).finish_non_exhaustive()
    }
}

/// What applying would do, for people.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Plan {
    /// How, if there is more than one way.
    pub strategy: Option<&'static str>,
    /// What happens, one sentence each.
    pub steps: Vec<String>,
    /// What taking it back does.
    pub rollback: &'static [&'static str],
    /// The facts behind the sentences: fingerprints, dates, numbers of agents.
    pub facts: Value,
}

impl Plan {
    /// Of a migration that waits and is not needed any more.
    pub(super) fn nothing() -> Self {
        let step = "nothing: what it repairs is in order by now, so it counts as applied from then on";
        Self { strategy: None, steps: vec![step.to_owned()], rollback: &[], facts: Value::Null }
    }
}

/// What applying writes. The snapshot is durable before it is made.
pub struct Up {
    /// The change, for one unit.
    pub(super) statements: Vec<Statement>,
    /// Under what the leaves of all agents whose certificates the Mastio makes are reissued, if they are.
    pub(super) reissue_under: Option<Issuer<KeyPair>>,
}

/// A framework update.
///
/// Everything that it decides is data: nothing here writes, so it can be asked for its plan as often as one likes, and
/// its change is made whole or not at all.
pub trait Migration: Sync {
    /// Its name: the day on which it was written, and what it is about. Migrations are applied in the order of names.
    fn id(&self) -> &'static str;

    /// What it is about.
    fn kind(&self) -> Kind;

    /// What waiting costs.
    fn criticality(&self) -> Criticality;

    /// Whose agents it touches.
    fn affects(&self) -> &'static [Enrollment];

    /// What it repairs, as operators read it.
    fn description(&self) -> &'static str;

    /// The ways in which it can be applied, the usual one first; none if there is but one.
    fn strategies(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether it is needed.
    ///
    /// # Errors
    /// When that cannot be seen now.
    fn check(&self, database: &Database, custody: &dyn Custody) -> Result<bool, Outage>;

    /// What [`up`](Self::up) would do.
    ///
    /// # Errors
    /// When it would refuse.
    fn plan(&self, scene: &Scene<'_>, strategy: Option<&'static str>) -> Result<Plan, UpdateError>;

    /// What [`down`](Self::down) does from `snapshot`, one sentence each.
    fn way_back(&self, snapshot: &Snapshot) -> &'static [&'static str];

    /// What is there before the change.
    ///
    /// # Errors
    /// When [`up`](Self::up) would refuse, or something of ours fails.
    fn snapshot(&self, scene: &Scene<'_>) -> Result<Snapshot, UpdateError>;

    /// Whether `kept`, which an attempt that failed has left, leads back still from the change of what `now` holds.
    fn covers(&self, scene: &Scene<'_>, kept: &Snapshot, now: &Snapshot) -> bool;

    /// The change of what `before` holds. `strategy` is one of [`strategies`](Self::strategies). May take seconds: keep it
    /// off a runtime's threads.
    ///
    /// # Errors
    /// When it refuses, or something of ours fails.
    fn up(
        &self,
        scene: &Scene<'_>,
        strategy: Option<&'static str>,
        before: &Snapshot,
    ) -> Result<Up, UpdateError>;

    /// Whether there is a way back to what `snapshot` holds: whatever [`down`](Self::down) would refuse, without what it
    /// would write, which takes seconds for many agents.
    ///
    /// # Errors
    /// When there is none any more.
    fn leads_back(&self, scene: &Scene<'_>, snapshot: &Snapshot) -> Result<(), UpdateError> {
        self.down(scene, snapshot).map(drop)
    }

    /// The way back to what `snapshot` holds, for one unit.
    ///
    /// # Errors
    /// When there is none any more.
    fn down(&self, scene: &Scene<'_>, snapshot: &Snapshot) -> Result<Vec<Statement>, UpdateError>;
}

impl std::fmt::Debug for dyn Migration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.id())
    }
}
