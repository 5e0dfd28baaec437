//! DPoP proofs and nonces of this Mastio: what [`mastio_jose::dpop`] checks, with our names, our nonces, our memory.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use mastio_core::{Clock, Jkt, Rng, Stamp};
use mastio_custody::{Custody, CustodyError};
use mastio_jose::{
    DpopError, Expectation, HtuSet, NonceCheck, NonceKey, NonceRing, Proof, Window, replay_key,
};
use mastio_store::{Unit, config, sqlite::Database};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    Authority, Outage,
    authenticate::AuthError,
    replay::{ReplayCache, Use},
};

/// How many proofs one generation remembers; at 16 bytes each some 100 MB when full.
const CAPACITY: usize = 2_000_000;
/// How many assertions.
const ASSERTIONS: usize = 500_000;

/// A request as far as a proof must match it.
#[derive(Debug, Clone, Copy)]
pub struct RequestLine<'a> {
    /// The method.
    pub method: &'a str,
    /// The path as received, without query.
    pub path: &'a str,
    /// The one `DPoP` header, if there is one.
    pub proof: Option<&'a str>,
}

/// Judges proofs.
pub struct Proofs {
    htu: HtuSet,
    window: Window,
    nonces: ArcSwap<NonceRing>,
    used: ReplayCache,
    assertions: ReplayCache,
    started: Stamp,
    ring_made_at: AtomicI64,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Proofs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proofs").field("htu", &self.htu).field("window", &self.window).finish_non_exhaustive()
    }
}

/// A proof that holds but is not used up: [`consume`](PendingProof::consume) comes after every other check.
#[derive(Debug)]
#[must_use]
pub struct PendingProof {
    /// The key that signed it.
    pub jkt: Jkt,
    key: [u8; 16],
}

impl Proofs {
    /// Proofs for requests to `htu`, made within `window`, with nonces of `ring`.
    #[must_use]
    pub fn new(htu: HtuSet, window: Window, ring: NonceRing, clock: Arc<dyn Clock>) -> Self {
        let life = window.past + window.future;
        let assertions = mastio_jose::assertion::MAX_LIFETIME + 2 * mastio_jose::assertion::LEEWAY;
        Self {
            htu,
            window,
            nonces: ArcSwap::from_pointee(ring),
            used: ReplayCache::new(life, CAPACITY),
            assertions: ReplayCache::new(assertions, ASSERTIONS),
            // Proofs carry whole seconds: one of this very second must not look older than we are.
            started: Stamp::from_unix(clock.now().unix()),
            ring_made_at: AtomicI64::new(clock.now().unix()),
            clock,
        }
    }

    /// Our own names.
    #[must_use]
    pub fn htu(&self) -> &HtuSet {
        &self.htu
    }

    /// A nonce for `DPoP-Nonce`: base64url.
    #[must_use]
    pub fn nonce(&self) -> String {
        self.nonces.load().issue(self.clock.now())
    }

    fn rotation_due(&self, life: Duration) -> bool {
        let made_at = Stamp::from_unix(self.ring_made_at.load(Ordering::Relaxed));
        self.clock.now().since(made_at) > life
    }

    fn set_ring(&self, ring: NonceRing) {
        self.ring_made_at.store(self.clock.now().unix(), Ordering::Relaxed);
        self.nonces.store(Arc::new(ring));
    }

    /// Verifies the proof of `request`, if it carries one. With `needs_nonce` a nonce of ours must be in it.
    ///
    /// # Errors
    /// When there is a proof and it does not hold: never a downgrade to none (design decision 11).
    pub fn verify(
        &self,
        request: &RequestLine<'_>,
        token: Option<&str>,
        needs_nonce: bool,
    ) -> Result<Option<PendingProof>, AuthError> {
        let Some(text) = request.proof else { return Ok(None) };
        let (ring, now) = (self.nonces.load(), self.clock.now());
        let check = |nonce: &str| ring.check(nonce, now);
        let expected = Expectation {
            method: request.method,
            htu: &self.htu,
            path: request.path,
            access_token: token,
            nonce: if needs_nonce { NonceCheck::Required(&check) } else { NonceCheck::NotRequired },
            now,
            window: self.window,
        };
        let verified = Proof::parse(text).and_then(|proof| proof.verify(&expected));
        if let Err(DpopError::Url { expected, got }) = &verified {
            tracing::warn!(expected = %expected, got = %got, "DPoP htu mismatch");
        }
        let verified = verified?;
        if self.may_predate_us(verified.iat) {
            return Err(DpopError::UseNonce.into());
        }
        Ok(Some(PendingProof { jkt: verified.jkt, key: replay_key(&verified.jkt, &verified.jti) }))
    }

    /// Whether something issued at `iat` may have been used before this process started, which we cannot remember
    /// (design decision 12).
    fn may_predate_us(&self, iat: Stamp) -> bool {
        let remembered = self.window.past + self.window.future;
        iat < self.started && self.clock.now().since(self.started) < remembered
    }

    /// Uses up an assertion, identified by `key`.
    ///
    /// # Errors
    /// When it was used before, may have been, or cannot be remembered.
    pub fn consume_assertion(&self, key: [u8; 16], iat: Stamp) -> Result<(), AuthError> {
        if iat.plus(Duration::from_secs(30)) < self.started {
            return Err(AuthError::AssertionReplayed);
        }
        match self.assertions.consume(key, self.clock.as_ref()) {
            Use::First => Ok(()),
            Use::Again => Err(AuthError::AssertionReplayed),
            Use::Full => Err(AuthError::ReplayMemoryFull),
        }
    }
}

impl PendingProof {
    /// Uses the proof up.
    ///
    /// # Errors
    /// When it was used before, or cannot be remembered.
    pub fn consume(self, proofs: &Proofs) -> Result<Jkt, AuthError> {
        match proofs.used.consume(self.key, proofs.clock.as_ref()) {
            Use::First => Ok(self.jkt),
            Use::Again => Err(DpopError::Replay.into()),
            Use::Full => Err(AuthError::ReplayMemoryFull),
        }
    }
}

/// The nonce keys as they are stored, and what must be written for them to be.
pub(crate) struct LoadedRing {
    pub(crate) ring: NonceRing,
    pub(crate) write: Option<Unit>,
}

/// Under which of our own names the nonce keys lie.
const RING_NAME: &str = "dpop_nonce_keys";

/// The stored form, before sealing.
#[derive(serde::Serialize, serde::Deserialize)]
struct StoredRing {
    current: String,
    previous: Option<String>,
}

impl StoredRing {
    fn open(&self) -> Option<NonceRing> {
        let key = |text: &String| {
            let mut raw = [0; 32];
            hex::decode_to_slice(text, &mut raw).ok()?;
            Some(NonceKey::from_bytes(raw))
        };
        let previous = self.previous.as_ref().map(key);
        Some(NonceRing { current: key(&self.current)?, previous: previous.flatten() })
    }

    fn of(ring: &NonceRing) -> Self {
        Self {
            current: hex::encode(ring.current.expose()),
            previous: ring.previous.as_ref().map(|key| hex::encode(key.expose())),
        }
    }

    fn write(&self, custody: &dyn Custody) -> Result<Unit, CustodyError> {
        let text: SecretString = serde_json::to_string(self).unwrap_or_default().into();
        let sealed = custody.wrap(RING_NAME, &text)?;
        Ok(Unit::default().write(config::put_own(RING_NAME, sealed.expose_secret())))
    }
}

fn fresh_key(rng: &dyn Rng) -> NonceKey {
    let mut raw = [0; 32];
    rng.fill(&mut raw);
    NonceKey::from_bytes(raw)
}

/// The nonce keys: stored ones, so that nonces outlive a restart, or fresh ones.
pub(crate) fn load_ring(
    database: &Database,
    custody: &dyn Custody,
    rng: &dyn Rng,
) -> Result<LoadedRing, crate::boot::BootError> {
    if let Some(stored) = stored_ring(database, custody)?
        && let Some(ring) = stored.open()
    {
        return Ok(LoadedRing { ring, write: None });
    }
    let ring = NonceRing { current: fresh_key(rng), previous: None };
    let write = StoredRing::of(&ring).write(custody)?;
    Ok(LoadedRing { ring, write: Some(write) })
}

fn stored_ring(
    database: &Database,
    custody: &dyn Custody,
) -> Result<Option<StoredRing>, crate::boot::BootError> {
    let Some(sealed) = config::own(database, RING_NAME)? else { return Ok(None) };
    let text = custody.unwrap(RING_NAME, &sealed.into())?;
    Ok(serde_json::from_str(text.expose_secret()).ok())
}

impl Authority {
    /// Once a day new nonces are made with a new key; the old one is accepted for another day.
    pub(crate) async fn rotate_nonce_key(&self) -> Result<(), Outage> {
        if !self.proofs.rotation_due(Self::NONCE_KEY_LIFE) {
            return Ok(());
        }
        let next = (**self.proofs.nonces.load()).clone().rotated(fresh_key(self.rng.as_ref()));
        let unit = StoredRing::of(&next).write(self.custody.as_ref()).map_err(Outage::internal)?;
        self.commit(unit).await?;
        self.proofs.set_ring(next);
        Ok(())
    }
}
