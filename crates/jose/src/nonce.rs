//! DPoP nonces without memory (RFC 9449 §8; contract `auth.md` §18-4): a time bucket and a MAC over it, so that every
//! replica and every restart accepts what another one issued.

use std::fmt;

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use mastio_core::{Rng, Stamp};
use zeroize::Zeroizing;

use crate::base64url;

/// A nonce is accepted in the bucket that it was issued in and in the next one.
const BUCKET_SECONDS: i64 = 300;
const TAG_LEN: usize = 16;

/// The key that nonces are made with.
#[derive(Clone)]
pub struct NonceKey(Zeroizing<[u8; 32]>);

impl NonceKey {
    /// A fresh key.
    #[must_use]
    pub fn generate(rng: &impl Rng) -> Self {
        Self(Zeroizing::new(rng.bytes()))
    }

    /// The key with these bytes, as it was stored.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, to store sealed.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The nonce of this moment, 32 characters.
    #[must_use]
    pub fn issue(&self, now: Stamp) -> String {
        let bucket = bucket(now);
        base64url::encode(&[&bucket.to_be_bytes()[..], &self.tag(bucket)].concat())
    }

    /// Whether `nonce` was issued with this key in the current bucket of five minutes or the one before.
    #[must_use]
    pub fn check(&self, nonce: &str, now: Stamp) -> bool {
        let Some(raw) = base64url::decode(nonce) else { return false };
        let Some((presented, tag)) = raw.split_first_chunk() else { return false };
        let (presented, current) = (i64::from_be_bytes(*presented), bucket(now));
        let fresh = presented == current || presented == current - 1;
        fresh && verify_slices_are_equal(tag, &self.tag(presented)).is_ok()
    }

    fn tag(&self, bucket: i64) -> [u8; TAG_LEN] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*self.0);
        let mac = hmac::sign(&key, &[b"mastio-dpop-nonce", &bucket.to_be_bytes()[..]].concat());
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&mac.as_ref()[..TAG_LEN]);
        tag
    }
}

fn bucket(now: Stamp) -> i64 {
    now.unix().div_euclid(BUCKET_SECONDS)
}

impl fmt::Debug for NonceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NonceKey(..)")
    }
}

/// The key in use and the one before it, so that a rotation refuses nobody.
#[derive(Debug, Clone)]
pub struct NonceRing {
    /// Issues and checks.
    pub current: NonceKey,
    /// Checks only.
    pub previous: Option<NonceKey>,
}

impl NonceRing {
    /// The nonce of this moment, for `DPoP-Nonce`.
    #[must_use]
    pub fn issue(&self, now: Stamp) -> String {
        self.current.issue(now)
    }

    /// Whether `nonce` is one of ours and still fresh.
    #[must_use]
    pub fn check(&self, nonce: &str, now: Stamp) -> bool {
        self.current.check(nonce, now) || self.previous.as_ref().is_some_and(|key| key.check(nonce, now))
    }

    /// The ring after a rotation to `next`.
    #[must_use]
    pub fn rotated(self, next: NonceKey) -> Self {
        Self { current: next, previous: Some(self.current) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mastio_core::SeededRng;

    use super::*;

    const START: Stamp = Stamp::from_unix(300 * 5_000_000);

    #[test]
    fn nonces_live_for_five_to_ten_minutes() {
        let key = NonceKey::generate(&SeededRng::new(1));
        let late = START.plus(Duration::from_secs(299));
        for (issued, now, accepted) in [
            (START, START, true),
            (START, START.plus(Duration::from_secs(599)), true),
            (START, START.plus(Duration::from_secs(600)), false),
            (late, START.plus(Duration::from_secs(599)), true),
            (late, START.plus(Duration::from_secs(600)), false),
            (START, START.minus(Duration::from_secs(1)), false),
        ] {
            assert_eq!(key.check(&key.issue(issued), now), accepted, "{issued} {now}");
        }
    }

    #[test]
    fn nonces_cannot_be_made_up() {
        let key = NonceKey::generate(&SeededRng::new(1));
        let nonce = key.issue(START);
        assert_eq!(nonce.len(), 32);
        for at in 0..nonce.len() {
            let mut forged = nonce.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            assert!(!key.check(std::str::from_utf8(&forged).unwrap(), START), "{at}");
        }
        for forged in ["", "AAAA", &nonce[..31], &nonce[..12], &format!("{nonce}AAAA"), "é"] {
            assert!(!key.check(forged, START), "{forged}");
        }
        assert!(!NonceKey::generate(&SeededRng::new(2)).check(&nonce, START));
    }

    #[test]
    fn a_rotation_refuses_nobody() {
        let keys = [1, 2, 3].map(|seed| NonceKey::generate(&SeededRng::new(seed)));
        let [first, second, third] = keys;
        let ring = NonceRing { current: first, previous: None };
        let nonce = ring.issue(START);
        let ring = ring.rotated(second);
        assert!(ring.check(&nonce, START) && ring.check(&ring.issue(START), START));
        assert!(!ring.rotated(third).check(&nonce, START));
    }

    #[test]
    fn keys_survive_storage_and_stay_hidden() {
        let key = NonceKey::generate(&SeededRng::new(1));
        assert_eq!(NonceKey::from_bytes(*key.expose()).issue(START), key.issue(START));
        assert_eq!(format!("{key:?}"), "NonceKey(..)");
    }
}
