//! The agents as the hot path sees them: parsed records in a bounded cache, and every epoch in full.

mod bindings;

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use mastio_core::{AgentId, Jkt, SpiffeId, Stamp, Thumbprint};
use mastio_jose::VerifyingKey;
use mastio_pki::{Certificate, pem};
use mastio_store::{
    ReadError, Store, Touch,
    agents::{self, AgentRow, Method},
    revocations,
    spiffe::Binding,
    sqlite::Database,
};

use self::bindings::Bindings;
use crate::{lifetime::renewal_due_after, peer::ClientChain, trust::Trust};

/// How many records are kept. A record is about 3 KB.
const CAPACITY: u64 = 16_384;
const STRIPES: usize = 256;

/// An agent with everything parsed that a request needs.
#[derive(Debug)]
pub struct Agent {
    /// The row.
    pub row: AgentRow,
    /// Its certificates, leaf first.
    pub certificates: Vec<Certificate>,
    /// The leaf's thumbprint: the pin.
    pub pin: Option<Thumbprint>,
    /// The leaf's key, for message signatures and assertions.
    pub key: Option<VerifyingKey>,
    /// The leaf of before, if an update has reissued it: the agent has that one still, and it counts as much.
    held_pin: Option<Thumbprint>,
    /// The pin of the grace slot.
    pub grace_pin: Option<Thumbprint>,
    /// From when on the leaf should be renewed, if SPIRE does not do it.
    renew_after: Option<Stamp>,
    /// Which intermediate of ours issued the leaf, once somebody wanted to know: that costs a signature to verify.
    issuer: OnceLock<Option<Thumbprint>>,
}

impl From<AgentRow> for Agent {
    fn from(row: AgentRow) -> Self {
        let certificates =
            row.certificates.as_deref().map(pem::certificates).and_then(Result::ok).unwrap_or_default();
        let leaf = certificates.first();
        let thumbprint = |pem: &str| Certificate::from_pem(pem).ok().map(|leaf| leaf.thumbprint());
        let held_pin = row.held.as_deref().and_then(thumbprint);
        let grace_pin =
            row.grace.as_ref().and_then(|grace| grace.certificates.as_deref()).and_then(thumbprint);
        Self {
            pin: leaf.map(Certificate::thumbprint),
            key: leaf.and_then(|leaf| VerifyingKey::from_spki_der(leaf.spki_der()).ok()),
            renew_after: leaf.filter(|_| row.method != Some(Method::Spiffe)).map(renewal_due_after),
            issuer: OnceLock::new(),
            held_pin,
            grace_pin,
            certificates,
            row,
        }
    }
}

impl Agent {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &AgentId {
        &self.row.id
    }

    /// Whether it may act.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.row.is_active()
    }

    /// Whether `leaf` is its certificate now: the pinned one, or the one that an update has reissued as that.
    #[must_use]
    pub fn is_pinned_to(&self, leaf: &Thumbprint) -> bool {
        [self.pin, self.held_pin].contains(&Some(*leaf))
    }

    /// Since when its certificate should be renewed here, if that is so already: because two thirds of its life are
    /// over, or because agents are to move to another root. Certificates of SPIRE and of an organisation's own CA are
    /// renewed there, however the agent came in.
    pub(crate) fn renewal_due(&self, now: Stamp, trust: &Trust) -> Option<Stamp> {
        let by_age = self.renew_after?;
        let aged = by_age <= now;
        if !aged && !trust.cas.has_outgoing() {
            return None;
        }
        let issuer = self.issuer(trust)?;
        if aged { Some(by_age) } else { trust.left_behind(&issuer, self.id(), now) }
    }

    /// Which intermediate of ours issued its certificate, if one did.
    fn issuer(&self, trust: &Trust) -> Option<Thumbprint> {
        let ours = || trust.issuer_of(self.certificates.first()?).map(Certificate::thumbprint);
        *self.issuer.get_or_init(ours)
    }

    /// The same of a certificate that it presents, if that is its certificate now.
    pub(crate) fn issuer_of(&self, presented: &Thumbprint, trust: &Trust) -> Option<Thumbprint> {
        self.is_pinned_to(presented).then(|| self.issuer(trust)).flatten()
    }

    /// Whether it is known by its SPIFFE id, whatever SVID it presents, and not by a pinned certificate.
    #[must_use]
    pub fn is_spiffe(&self) -> bool {
        self.row.method == Some(Method::Spiffe)
    }

    /// The same agent with the SVID that it presents now in place of the one that was kept.
    pub(crate) fn presenting(&self, chain: &ClientChain) -> Self {
        let leaf = &chain.leaf;
        let above = if chain.presented.is_empty() { self.above() } else { &chain.presented };
        Self {
            row: self.row.clone(),
            certificates: std::iter::once(leaf).chain(above).cloned().collect(),
            pin: Some(leaf.thumbprint()),
            key: VerifyingKey::from_spki_der(leaf.spki_der()).ok(),
            held_pin: None,
            grace_pin: None,
            // SPIRE renews it, not its holder.
            renew_after: None,
            issuer: OnceLock::new(),
        }
    }

    /// The certificates above its leaf.
    pub(crate) fn above(&self) -> &[Certificate] {
        self.certificates.get(1..).unwrap_or_default()
    }

    /// Until when the grace slot counts, if it still does.
    #[must_use]
    pub fn grace_until(&self, now: Stamp) -> Option<Stamp> {
        self.row.grace.as_ref().map(|grace| grace.until).filter(|until| *until > now)
    }

    /// Whether `jkt` is its registered DPoP key, or that of the grace slot.
    #[must_use]
    pub fn knows_dpop_key(&self, jkt: &Jkt, now: Stamp) -> bool {
        let graced = || {
            self.grace_until(now).is_some()
                && self.row.grace.as_ref().is_some_and(|grace| grace.dpop_jkt == Some(*jkt))
        };
        self.row.dpop_jkt == Some(*jkt) || graced()
    }
}

/// Finds agents.
#[derive(Debug)]
pub struct Registry {
    store: Arc<Store>,
    records: moka::sync::Cache<AgentId, Arc<Agent>>,
    /// Raised with each change of an agent of the stripe, so that a record loaded before a change is not kept after it.
    stripes: Vec<AtomicU64>,
    hasher: RandomState,
    bindings: Bindings,
    epochs: RwLock<HashMap<AgentId, i64>>,
    revoked: RwLock<HashSet<Thumbprint>>,
}

impl Registry {
    /// A registry with all epochs and all revocations loaded.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn load(store: Arc<Store>, now: Stamp) -> Result<Self, ReadError> {
        let epochs = agents::epochs(store.database())?.into_iter().collect();
        let revoked = revocations::unexpired(store.database(), now)?;
        Ok(Self {
            store,
            records: moka::sync::Cache::new(CAPACITY),
            stripes: (0..STRIPES).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
            bindings: Bindings::new(),
            epochs: RwLock::new(epochs),
            revoked: RwLock::new(revoked.into_iter().map(|revocation| revocation.thumbprint).collect()),
        })
    }

    /// The agent `id`, active or not.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn find(&self, id: &AgentId) -> Result<Option<Arc<Agent>>, ReadError> {
        // A record of another epoch was loaded before a revocation and kept after it: it does not count.
        if let Some(agent) = self.records.get(id).filter(|agent| agent.row.epoch == self.epoch(id)) {
            return Ok(Some(agent));
        }
        let stripe = self.stripe(id);
        let before = stripe.load(Ordering::Acquire);
        let Some(row) = agents::find(&self.store, id).await? else { return Ok(None) };
        let agent = Arc::new(Agent::from(row));
        self.records.insert(id.clone(), Arc::clone(&agent));
        if stripe.load(Ordering::Acquire) != before {
            self.records.invalidate(id);
        }
        Ok(Some(agent))
    }

    /// Whom a SPIFFE id stands for.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn bound(&self, id: &SpiffeId) -> Result<Option<Binding>, ReadError> {
        self.bindings.find(&self.store, id).await
    }

    /// The epoch that an agent's tokens must carry.
    #[must_use]
    pub fn epoch(&self, id: &AgentId) -> i64 {
        self.epochs.read().unwrap_or_else(PoisonError::into_inner).get(id).copied().unwrap_or(0)
    }

    /// Whether a certificate was revoked. Those that have ended by themselves may be forgotten.
    #[must_use]
    pub fn is_revoked(&self, certificate: &Thumbprint) -> bool {
        self.revoked.read().unwrap_or_else(PoisonError::into_inner).contains(certificate)
    }

    /// Makes stale what a commit touched.
    pub fn apply(&self, touches: &[Touch]) {
        for touch in touches {
            match touch {
                Touch::Agent(id) => {
                    self.stripe(id).fetch_add(1, Ordering::AcqRel);
                    self.records.invalidate(id);
                }
                Touch::Epoch(id, epoch) => {
                    self.epochs.write().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), *epoch);
                }
                Touch::Revoked(certificate) => {
                    self.revoked.write().unwrap_or_else(PoisonError::into_inner).insert(*certificate);
                }
                Touch::Spiffe(id) => self.bindings.forget(id),
                Touch::Trust => {}
            }
        }
    }

    /// Forgets every record and reads epochs and revocations again, after somebody else committed.
    ///
    /// # Errors
    /// When the database cannot be read; records are forgotten all the same.
    pub fn reload(&self, database: &Database, now: Stamp) -> Result<(), ReadError> {
        for stripe in &self.stripes {
            stripe.fetch_add(1, Ordering::AcqRel);
        }
        self.records.invalidate_all();
        self.bindings.forget_all();
        let fresh = revocations::unexpired(database, now)?;
        // Nothing is taken out: a revocation is never taken back.
        self.revoked
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(fresh.into_iter().map(|revocation| revocation.thumbprint));
        let fresh = agents::epochs(database)?;
        let mut epochs = self.epochs.write().unwrap_or_else(PoisonError::into_inner);
        for (id, epoch) in fresh {
            // A commit of ours may have raised one since it was read: epochs only grow.
            let known = epochs.entry(id).or_insert(epoch);
            *known = (*known).max(epoch);
        }
        Ok(())
    }

    fn stripe(&self, id: &AgentId) -> &AtomicU64 {
        let hash = usize::try_from(self.hasher.hash_one(id) % STRIPES as u64).unwrap_or(0);
        &self.stripes[hash]
    }
}
