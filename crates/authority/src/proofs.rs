//! DPoP proofs and nonces of this Mastio: what [`mastio_jose::dpop`] checks, with our names, our nonces, our memory.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use mastio_core::{Clock, Jkt, Stamp};
use mastio_jose::{DpopError, Expectation, HtuSet, NonceCheck, NonceRing, Proof, Window, replay_key};

use crate::{
    auth_error::AuthError,
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
    pub fn new(
        htu: HtuSet,
        window: Window,
        (ring, made_at): (NonceRing, Stamp),
        clock: Arc<dyn Clock>,
    ) -> Self {
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
            ring_made_at: AtomicI64::new(made_at.unix()),
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

    pub(crate) fn rotation_due(&self, life: Duration) -> bool {
        let made_at = Stamp::from_unix(self.ring_made_at.load(Ordering::Relaxed));
        self.clock.now().since(made_at) > life
    }

    pub(crate) fn ring(&self) -> Arc<NonceRing> {
        self.nonces.load_full()
    }

    pub(crate) fn set_ring(&self, ring: NonceRing) {
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
