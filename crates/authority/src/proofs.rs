//! DPoP proofs and nonces of this Mastio: what [`mastio_jose::dpop`] checks, with our names, our nonces, our memory.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use mastio_core::{Clock, Jkt, Rng, Stamp, sha256};
use mastio_jose::{
    DpopError, Expectation, HtuSet, JwkError, NonceCheck, NonceKey, NonceRing, Proof, ProofKey,
    VerifiedProof, Window, replay_key,
};

use crate::{
    auth_error::AuthError,
    nonces::fresh_key,
    replay::{ReplayCache, Use},
};

/// How many proofs one generation remembers; at 16 bytes each some 100 MB when full.
const CAPACITY: usize = 2_000_000;
/// How many assertions.
const ASSERTIONS: usize = 500_000;
/// How many keys of proofs are kept parsed. A key is about 1 KB, a very long one of RSA 4 KB.
const KEYS: u64 = 4096;

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
    /// Makes the nonces of the first minute: whoever has one got it after the start.
    first_nonces: NonceKey,
    /// By the SHA-256 of the text that they came in.
    keys: moka::sync::Cache<[u8; 32], ProofKey>,
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
        rng: &dyn Rng,
    ) -> Self {
        let life = window.past + window.future;
        let assertions = mastio_jose::assertion::MAX_LIFETIME + 2 * mastio_jose::assertion::LEEWAY;
        Self {
            htu,
            window,
            nonces: ArcSwap::from_pointee(ring),
            first_nonces: fresh_key(rng),
            keys: moka::sync::Cache::new(KEYS),
            used: ReplayCache::new(life, CAPACITY),
            assertions: ReplayCache::new(assertions, ASSERTIONS),
            started: clock.now(),
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
        let now = self.clock.now();
        if now > self.started.plus(self.window.future + self.window.past) {
            self.nonces.load().issue(now)
        } else {
            self.first_nonces.issue(now)
        }
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
        let check = |nonce: &str| ring.check(nonce, now) || self.first_nonces.check(nonce, now);
        let expected = Expectation {
            method: request.method,
            htu: &self.htu,
            path: request.path,
            access_token: token,
            nonce: if needs_nonce { NonceCheck::Required(&check) } else { NonceCheck::NotRequired },
            now,
            window: self.window,
        };
        let verified = Proof::parse_with(text, |jwk| self.key(jwk)).and_then(|proof| proof.verify(&expected));
        if let Err(DpopError::Url { expected, got }) = &verified {
            tracing::warn!(expected = %expected, got = %got, "DPoP htu mismatch");
        }
        let verified = verified?;
        if self.may_predate_us(&verified, now) {
            return Err(DpopError::UseNonce.into());
        }
        Ok(Some(PendingProof { jkt: verified.jkt, key: replay_key(&verified.jkt, &verified.jti) }))
    }

    /// The key in a proof. A client sends the same one each time: it is parsed once.
    fn key(&self, jwk: &str) -> Result<ProofKey, JwkError> {
        let name = sha256(jwk.as_bytes());
        if let Some(key) = self.keys.get(&name) {
            return Ok(key);
        }
        let key = ProofKey::from_json(jwk)?;
        self.keys.insert(name, key.clone());
        Ok(key)
    }

    /// Whether a proof may have been used before this process started, which we cannot remember: it was made before
    /// the start or dated ahead then, and does not show by its nonce that it was made later (design decision 12).
    fn may_predate_us(&self, proof: &VerifiedProof, now: Stamp) -> bool {
        let made_since = || proof.nonce.as_ref().is_some_and(|nonce| self.first_nonces.check(nonce, now));
        proof.iat <= self.started.plus(self.window.future) && !made_since()
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

#[cfg(test)]
mod tests {
    use mastio_core::{ManualClock, SeededRng, SystemRng};
    use mastio_jose::{SigningKey, jws};
    use serde_json::json;

    use super::*;

    const START: i64 = 1_790_000_000;

    /// A process that starts at `now`, with the nonce keys that all of them share.
    fn process(now: Stamp) -> (Proofs, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at(now));
        let htu = HtuSet::new(["https://mastio.test"]).unwrap();
        let ring = NonceRing { current: fresh_key(&SeededRng::new(1)), previous: None };
        let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        (Proofs::new(htu, Window::default(), (ring, now), shared, &SystemRng), clock)
    }

    fn proof(key: &SigningKey, iat: i64, nonce: Option<&str>) -> String {
        let header = json!({ "alg": "ES256", "typ": "dpop+jwt", "jwk": key.public_jwk().to_value() });
        let claims = json!({
            "jti": SystemRng.uuid().to_string(), "htm": "GET", "htu": "https://mastio.test/", "iat": iat, "nonce": nonce,
        });
        jws::sign(key, &header, &claims).unwrap()
    }

    fn present(proofs: &Proofs, proof: &str) -> Result<(), &'static str> {
        use crate::Refusal;
        let request = RequestLine { method: "GET", path: "/", proof: Some(proof) };
        let pending = proofs.verify(&request, None, false).map_err(|error| error.reason())?;
        pending.unwrap().consume(proofs).map(drop).map_err(|error| error.reason())
    }

    #[test]
    fn no_proof_is_taken_on_both_sides_of_a_restart() {
        let key = SigningKey::generate().unwrap();
        let millis = |millis: u64| Duration::from_millis(millis);
        for ahead in [-59, -1, 0, 1, 4, 5] {
            for fraction in [0, 500, 999] {
                let (before, clock) = process(Stamp::from_unix(START));
                clock.advance(Duration::from_secs(100) + millis(fraction));
                let used_at = clock.now();
                let text = proof(&key, used_at.unix() + ahead, Some(&before.nonce()));
                assert_eq!(present(&before, &text), Ok(()), "{ahead} s ahead at .{fraction}");
                for down in [0, 1, 1500, 4999, 5000, 30_000, 64_999, 65_000] {
                    let (after, clock) = process(used_at.plus(millis(down)));
                    for _ in 0..14 {
                        assert_ne!(present(&after, &text), Ok(()), "{ahead} s ahead, {down} ms down");
                        clock.advance(millis(5000));
                    }
                }
            }
        }
    }

    #[test]
    fn whoever_takes_a_nonce_of_this_run_gets_in_at_once() {
        let key = SigningKey::generate().unwrap();
        let (before, _) = process(Stamp::from_unix(START));
        let (after, clock) = process(Stamp::from_unix(START));
        // The client's clock may be slow or fast.
        for iat in [START - 60, START, START + 5] {
            assert_eq!(present(&after, &proof(&key, iat, None)), Err("dpop_nonce_required"));
            let older = before.nonce();
            assert_eq!(present(&after, &proof(&key, iat, Some(&older))), Err("dpop_nonce_required"));
            assert_eq!(present(&after, &proof(&key, iat, Some(&after.nonce()))), Ok(()));
        }
        clock.advance(Duration::from_secs(6));
        assert_eq!(present(&after, &proof(&key, START + 6, None)), Ok(()), "no nonce is needed any more");
    }

    #[test]
    fn nonces_outlive_a_restart_from_the_second_minute_on() {
        let (before, clock) = process(Stamp::from_unix(START));
        clock.advance(Duration::from_secs(66));
        let nonce = before.nonce();
        let (after, clock) = process(clock.now());
        clock.advance(Duration::from_secs(6));
        let text = proof(&SigningKey::generate().unwrap(), clock.now().unix(), Some(&nonce));
        let request = RequestLine { method: "GET", path: "/", proof: Some(&text) };
        assert!(after.verify(&request, None, true).is_ok());
    }
}
