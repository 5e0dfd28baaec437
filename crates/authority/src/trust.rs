//! The trust state: an immutable snapshot of roots, intermediates and signing keys behind an atomic pointer.
//!
//! Loaded from the database at start and whenever somebody else commits; nothing else reads a CA row (design §4).

mod cas;
mod signing_keys;

use std::{collections::HashMap, sync::Arc, time::Duration};

use mastio_core::{AgentId, Kid, OrgId, Stamp, Thumbprint, TrustDomain, sha256};
use mastio_custody::{Custody, CustodyError};
use mastio_jose::{JwkSet, SigningKey, VerifyingKey};
use mastio_pki::{Anchors, Certificate, Issuer, KeyPair, trust_file};
use mastio_store::{
    ReadError,
    keys::CaKind,
    rotations::{self, Phase, Rotation, Transition, following},
    sqlite::Database,
};

pub use self::cas::{Ca, Cas};
use self::signing_keys::SigningKeys;
pub(crate) use self::signing_keys::signer;
use crate::{spire, updates};

/// The pause between two agents that are asked to move: 100 renewals a second leave most of a small server to calls.
const TURN_MILLIS: u64 = 10;

/// Why minting and issuing are halted. Verifying goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// A critical framework update waits that affects agents of this deployment. The words are the operators' documents'.
    #[error("signing halted — pending migration {0}")]
    PendingUpdate(&'static str),
    /// A signing key was staged and neither activated nor dropped.
    #[error("signing halted — a rotation of the signing key was interrupted (staged key {0})")]
    StagedRotation(Kid),
}

impl Halt {
    /// The halt that what is stored means now: for tools that work beside a server, or without one.
    ///
    /// # Errors
    /// When something is stored that cannot be used.
    pub(crate) fn stored(
        database: &Database,
        custody: &dyn Custody,
        now: Stamp,
    ) -> Result<Option<Self>, TrustError> {
        let updates = updates::Standing::load(database, custody)?;
        Ok(Self::of(&updates, &SigningKeys::load(database, custody, now)?))
    }

    fn of(updates: &updates::Standing, keys: &SigningKeys) -> Option<Self> {
        let staged = || keys.staged.clone().map(Self::StagedRotation);
        updates.halting.map(Self::PendingUpdate).or_else(staged)
    }
}

/// Why the trust state cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A key.
    #[error(transparent)]
    Custody(#[from] CustodyError),
    /// The database.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Something stored cannot be used.
    #[error("{what}: {problem}")]
    Unusable {
        /// What.
        what: String,
        /// Why.
        problem: String,
    },
    /// Several signing keys are active where one must be.
    #[error(
        "{0} signing keys are active in mastio_keys; keep one and set deprecated_at and expires_at on the others"
    )]
    SigningKeys(usize),
}

/// The key that signs tokens.
pub struct Signer {
    /// Its name in tokens.
    pub kid: Kid,
    /// The key.
    pub key: SigningKey,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// Whom we trust and what we sign with, at one moment.
pub struct Trust {
    /// Raised with every load.
    pub generation: u64,
    /// Our organisation.
    pub org: OrgId,
    /// Our SPIFFE trust domain.
    pub domain: TrustDomain,
    /// The active root.
    pub root: Certificate,
    /// What certifies agents, with its key: the active intermediate, or in a rotation with overlap its successor.
    pub issuer: Option<Arc<Issuer<KeyPair>>>,
    /// What certifies this server and its signing key: the active intermediate, with its key.
    pub server_issuer: Option<Arc<Issuer<KeyPair>>>,
    /// Every CA that we have, had, or are about to have.
    pub cas: Cas,
    /// The rotation of the Org CA that is under way, if one is.
    pub rotation: Option<Rotation>,
    /// The certificate of the active signing key, if it is stored and readable.
    pub signing_leaf: Option<Certificate>,
    /// Whom certificate paths may end at.
    pub anchors: Anchors,
    /// Whom they ended at before a rotation cut them off.
    cut: Anchors,
    /// The active signing key.
    pub signer: Option<Arc<Signer>>,
    /// Keys whose tokens are accepted, and until when.
    pub verifiers: HashMap<String, (VerifyingKey, Option<Stamp>)>,
    /// `/.well-known/jwks-local.json`.
    pub jwks: JwkSet,
    /// `/pki/ca.crt` and `org-ca.crt`: the active root, then intermediates, then other roots.
    pub trust_file: String,
    /// The framework updates.
    pub updates: updates::Standing,
    /// The framework update that the Python implementation applied by halves, if it did: agents are refused with the
    /// certificates that they hold.
    pub by_halves: Option<String>,
    /// The SHA-256 of [`Trust::trust_file`].
    pub bundle: Thumbprint,
    /// Why nothing is signed, if so.
    pub halt: Option<Halt>,
    /// How many agents have certificates, if some should move to another root.
    pinned: u32,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust")
            .field("generation", &self.generation)
            .field("root", &self.root.subject())
            .finish_non_exhaustive()
    }
}

impl Trust {
    /// Loads the state; `None` when there is no root.
    ///
    /// # Errors
    /// When something is there that cannot be used.
    pub fn load(
        database: &Database,
        custody: &dyn Custody,
        org: &OrgId,
        domain: &TrustDomain,
        generation: u64,
        now: Stamp,
    ) -> Result<Option<Self>, TrustError> {
        let Some(root) = custody.load(CaKind::Root)? else { return Ok(None) };
        let root = root.certificate;
        let server_issuer = custody
            .load(CaKind::Intermediate)?
            .map(|ca| Issuer::new(ca.certificate, ca.key).map(Arc::new))
            .transpose()
            .map_err(|error| unusable("the intermediate", error))?;
        let rotation = rotations::open(database)?;
        let cas = Cas::load(database, custody, server_issuer.as_ref(), rotation.as_ref(), now)?;
        let known: Vec<Certificate> = cas.known().cloned().collect();
        let own = Anchors::builder().org(cas.believed().cloned());
        let anchors = spire::stored(database, &known)?
            .into_iter()
            .fold(own, |anchors, (domain, bundle)| anchors.spire(domain, bundle))
            .build()
            .map_err(|error| unusable("the trust anchors", error))?;
        let cut = Anchors::builder()
            .org(cas.cut().cloned())
            .build()
            .map_err(|error| unusable("the CAs that were cut", error))?;
        let keys = SigningKeys::load(database, custody, now)?;
        let updates = updates::Standing::load(database, custody)?;
        let below = server_issuer.as_ref().map(|issuer| issuer.certificate());
        let by_halves = below.map(|below| updates::by_halves(database, &root, below)).transpose()?.flatten();
        let halt = Halt::of(&updates, &keys);
        let pinned = if cas.has_outgoing() { following::pinned(database)? } else { 0 };
        let trust_file = trust_file(&root, cas.shown());
        Ok(Some(Self {
            generation,
            org: org.clone(),
            domain: domain.clone(),
            bundle: Thumbprint::of(trust_file.as_bytes()),
            trust_file,
            issuer: cas.issuing(),
            root,
            server_issuer,
            cas,
            rotation,
            anchors,
            cut,
            signing_leaf: keys.leaf,
            signer: keys.active,
            verifiers: keys.verifiers,
            jwks: JwkSet::new(keys.published),
            updates,
            by_halves,
            halt,
            pinned,
        }))
    }

    /// Why no agent gets a certificate here, if so. Where agents bring theirs nothing else may be halted: the first one
    /// that is certified here does not come in before the update that would halt all for its sake.
    pub(crate) fn halt_of_certifying(&self) -> Option<Halt> {
        self.halt.clone().or(self.updates.certifying.map(Halt::PendingUpdate))
    }

    /// Whether a replaced signing key is still held and published although its grace is over.
    pub(crate) fn holds_ended_key(&self, now: Stamp) -> bool {
        self.verifiers.values().any(|(_, until)| until.is_some_and(|until| until <= now))
    }

    /// Whether a path from `leaf` ended at a CA of ours that a rotation cut off, by any of these certificates above it.
    pub(crate) fn has_cut<'a>(
        &self,
        leaf: &Certificate,
        above: impl IntoIterator<Item = &'a Vec<Certificate>>,
        now: Stamp,
    ) -> bool {
        above.into_iter().any(|above| self.cut.validate(leaf, above, now).is_ok())
    }

    /// Our CAs, but for those that are history.
    pub(crate) fn own_cas(&self) -> Vec<Certificate> {
        self.cas.known().cloned().collect()
    }

    /// The rotation with overlap that agents follow now, if one is that far.
    #[must_use]
    pub fn followed(&self) -> Option<&Rotation> {
        let overlap = |rotation: &&Rotation| rotation.transition == Transition::Overlap;
        self.rotation.as_ref().filter(overlap).filter(|rotation| rotation.phase >= Phase::Distribute)
    }

    /// Since when a certificate of `agent` by this intermediate should be replaced, if it should by `now`, because what
    /// certifies agents now hangs under another root. Not all are asked at once: the more there are, the longer it takes.
    pub(crate) fn left_behind(&self, issuer: &Thumbprint, agent: &AgentId, now: Stamp) -> Option<Stamp> {
        let superseded = self.cas.outgoing(issuer)?.superseded_at;
        let since = self.followed().map(|rotation| rotation.changed_at).or(superseded).unwrap_or(now);
        Some(since.plus(turn(agent, self.pinned))).filter(|due| *due <= now)
    }

    /// Whether what the key `kid` signed at `at` leads to the root of today: what signs tokens now did it, since the CAs above
    /// that are there. Nobody can do better while nothing is signed, or while the clock is before those CAs.
    #[must_use]
    pub fn vouches_for(&self, kid: Option<&Kid>, at: Stamp, now: Stamp) -> bool {
        let Some(signer) = &self.signer else { return true };
        let issuer = self.server_issuer.iter().map(|issuer| issuer.certificate().not_before());
        let since = issuer.fold(self.root.not_before(), Stamp::max);
        now < since || (kid == Some(&signer.kid) && since <= at)
    }

    /// The CAs that `leaves` of this Mastio lead through, whether or not they are still believed, the root of the first
    /// leaf first: for who checks what was signed long ago. With the links from that root to those after it.
    #[must_use]
    pub fn evidence_chain(&self, leaves: &[Certificate]) -> String {
        let above = leaves.iter().flat_map(|leaf| self.cas.above(leaf));
        let above_first = leaves.first().into_iter().flat_map(|leaf| self.cas.above(leaf));
        let roots: Vec<_> =
            above_first.flat_map(|issuer| self.cas.above(issuer)).filter(|ca| ca.is_signed_by(ca)).collect();
        // A root that was certified again for its key stands beside its older form.
        let of_today = roots.iter().find(|root| ***root == self.root);
        let root = of_today.or(roots.first()).map_or(&self.root, |root| *root);
        trust_file(root, above.chain(self.cas.links()))
    }

    /// The value of the `iss` claim.
    #[must_use]
    pub fn token_issuer(&self) -> String {
        format!("cullis-mastio:{}", self.org)
    }

    /// Who signs revocation lists: every intermediate with leaves that have not ended.
    pub fn crl_issuers(&self) -> impl Iterator<Item = &Issuer<KeyPair>> {
        self.cas.issuers().filter(|issuer| issuer.certificate().may_sign_crls())
    }

    /// The intermediate of ours that signed `leaf`, if one did.
    pub(crate) fn issuer_of(&self, leaf: &Certificate) -> Option<&Certificate> {
        self.cas.issuers().map(Issuer::certificate).find(|issuer| leaf.is_signed_by(issuer))
    }

    /// What an issuing answer returns for `leaf`: leaf and intermediate.
    #[must_use]
    pub fn chain_of(&self, leaf: &Certificate) -> String {
        mastio_pki::issued_chain(leaf, self.issuer_of(leaf).map_or(&[], std::slice::from_ref))
    }

    /// What the TLS server sends above its leaf: the intermediate, then the links from superseded roots.
    #[must_use]
    pub fn above_server(&self) -> Vec<Certificate> {
        let issuer = self.server_issuer.iter().map(|issuer| issuer.certificate());
        issuer.chain(self.cas.links()).cloned().collect()
    }
}

/// How long an agent waits for its turn among `agents`.
fn turn(agent: &AgentId, agents: u32) -> Duration {
    let hash = sha256(agent.as_str().as_bytes());
    let place = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
    let before = (u64::from(agents) * u64::from(place)) >> 32;
    Duration::from_millis(before * TURN_MILLIS)
}

fn unusable(what: &str, problem: impl ToString) -> TrustError {
    TrustError::Unusable { what: what.to_owned(), problem: problem.to_string() }
}
