//! Reissuing the leaves of all agents whose certificates the Mastio makes: in portions, into a table where they count for
//! nothing until one row flips them.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use mastio_core::{Rng, Stamp, sha256};
use mastio_pki::{Certificate, Issuer, KeyPair, profile};
use mastio_store::{
    Unit,
    updates::{self, ManagedLeaf, ReissuedLeaf},
};

use super::UpdateError;
use crate::{Authority, Outage};

/// How many leaves are signed, and then written, at a time: a few dozen milliseconds of one processor.
const PORTION: u32 = 500;
/// How often progress is told in the log.
const TELL_EVERY: u64 = 10_000;
/// How many leaves are deleted at a time.
const FORGET_AT_ONCE: u32 = 2_000;

/// How far the update is that is under way.
#[derive(Debug, Default)]
pub struct Progress {
    migration: Mutex<Option<&'static str>>,
    done: AtomicU64,
    total: AtomicU64,
}

impl Progress {
    /// Leaves done, and leaves in all, of `migration`, if it is the one under way.
    #[must_use]
    pub fn of(&self, migration: &str) -> Option<(u64, u64)> {
        let running = *self.migration.lock().unwrap_or_else(PoisonError::into_inner);
        (running == Some(migration))
            .then(|| (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed)))
    }

    pub(super) fn begin(&self, migration: Option<&'static str>, total: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
        *self.migration.lock().unwrap_or_else(PoisonError::into_inner) = migration;
    }
}

/// What was reissued.
#[derive(Debug, Default)]
pub(super) struct Reissued {
    pub(super) count: u64,
    thumbprints: Vec<u8>,
}

impl Reissued {
    /// SHA-256 over the thumbprints, 32 bytes each, in the order of agents.
    pub(super) fn digest(&self) -> String {
        hex::encode(sha256(&self.thumbprints))
    }

    fn add(&mut self, leaves: &[ReissuedLeaf]) {
        self.count += leaves.len() as u64;
        self.thumbprints.extend(leaves.iter().flat_map(|leaf| *leaf.thumbprint.as_bytes()));
    }
}

impl Authority {
    /// Makes the leaves again under `issuer`. Signing happens off the runtime's threads, and each portion is a small
    /// unit, so requests are answered meanwhile.
    pub(super) async fn reissue_leaves(
        self: &Arc<Self>,
        migration: &'static str,
        issuer: Arc<Issuer<KeyPair>>,
    ) -> Result<Reissued, UpdateError> {
        self.forget_leaves(migration).await?;
        let total = updates::census(self.store.database())?.managed;
        self.updating.progress.begin(Some(migration), total);
        let (mut reissued, mut after, mut seen) = (Reissued::default(), String::new(), 0);
        loop {
            let (authority, issuer, from) = (Arc::clone(self), Arc::clone(&issuer), after.clone());
            let portion = tokio::task::spawn_blocking(move || authority.next_leaves(&issuer, &from)).await;
            let (last, read, leaves) = portion.map_err(Outage::internal)??;
            let Some(last) = last else { break };
            after = last;
            let keep = leaves.iter().map(|leaf| leaf.keep(migration));
            self.commit(Unit::default().write_all(keep)).await?;
            reissued.add(&leaves);
            let before = seen;
            seen += read;
            self.updating.progress.done.store(seen, Ordering::Relaxed);
            if before / TELL_EVERY != seen / TELL_EVERY {
                tracing::info!(migration_id = migration, "{seen} of {total} leaves are reissued");
            }
        }
        Ok(reissued)
    }

    /// The next portion after an agent: the last agent of it, how many there are, and their leaves.
    fn next_leaves(
        &self,
        issuer: &Issuer<KeyPair>,
        after: &str,
    ) -> Result<(Option<String>, u64, Vec<ReissuedLeaf>), UpdateError> {
        let portion = updates::managed_leaves(self.store.database(), after, PORTION)?;
        let (own, now) = (self.own_cas_by_use(), self.clock.now());
        let leaves = portion.iter().filter_map(|leaf| reissue(leaf, issuer, &own, now, self.rng.as_ref()));
        Ok((portion.last().map(|leaf| leaf.agent.clone()), portion.len() as u64, leaves.collect()))
    }

    /// Our CAs, the one first that most leaves are signed by.
    fn own_cas_by_use(&self) -> Vec<Certificate> {
        let trust = self.trust();
        let issuer = trust.issuer.iter().map(|issuer| issuer.certificate().clone());
        issuer.chain(trust.own_cas()).collect()
    }

    /// Deletes what an update left that did not come to its end, or was taken back.
    pub(super) async fn forget_leaves(&self, migration: &'static str) -> Result<(), UpdateError> {
        while self.forget_some_leaves(migration).await? {}
        Ok(())
    }

    /// Deletes a portion of that; whether there was any.
    pub(super) async fn forget_some_leaves(&self, migration: &'static str) -> Result<bool, UpdateError> {
        let some = updates::has_idle_leaves(self.store.database(), migration)?;
        if some {
            self.commit(Unit::default().write(updates::forget_leaves(migration, FORGET_AT_ONCE))).await?;
        }
        Ok(some)
    }
}

/// The leaf again, unless it has ended, or is not one of ours: an operator may have brought it.
fn reissue(
    pinned: &ManagedLeaf,
    issuer: &Issuer<KeyPair>,
    own: &[Certificate],
    now: Stamp,
    rng: &dyn Rng,
) -> Option<ReissuedLeaf> {
    let old = Certificate::from_pem(&pinned.certificates).ok()?;
    if old.not_after() <= now || !own.iter().any(|ca| old.is_signed_by(ca)) {
        return None;
    }
    let leaf = profile::leaf_again(issuer, &old, now, rng);
    let leaf = leaf.inspect_err(
        |error| tracing::warn!(agent = pinned.agent, %error, "a leaf cannot be reissued; it stays as it is"),
    );
    let leaf = leaf.ok()?;
    Some(ReissuedLeaf {
        agent: pinned.agent.clone(),
        replaces: pinned.thumbprint,
        thumbprint: leaf.thumbprint(),
        pem: leaf.pem(),
    })
}
