//! The admin secret: one comparison for every route, with a lock-out (contract `auth.md` §10, §18-9).

use std::{net::IpAddr, time::Duration};

use argon2::{Argon2, PasswordHash, PasswordHasher, PasswordVerifier, password_hash::SaltString};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use mastio_core::{Rng, sha256};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    Authority, Refusal,
    limits::{OverLimit, network},
    refusal::seconds_up,
};

/// How many wrong secrets an address may try.
const ATTEMPTS: u32 = 10;
/// Over which time, and for how long it is locked out then.
const LOCK: Duration = Duration::from_secs(15 * 60);

/// An operator who was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// With the admin secret `operator:` and 12 hex digits (contract `auth.md` §10) of the SHA-256 of its stored hash,
    /// at the dashboard `dashboard:` and 8 of the session's.
    pub fingerprint: String,
}

/// Why an operator is not let in.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AdminError {
    /// No header.
    #[error("invalid admin secret")]
    Missing,
    /// Another value.
    #[error("invalid admin secret")]
    Wrong,
    /// Too many wrong ones from this address, for so long still.
    #[error("too many wrong admin secrets from this address; wait {} s, or restart the Mastio to clear it", seconds_up(*.0))]
    LockedOut(Duration),
    /// Too many requests.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
}

impl Refusal for AdminError {
    fn status(&self) -> u16 {
        match self {
            Self::OverLimit(_) => 429,
            _ => 403,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "admin_secret_missing",
            Self::Wrong => "admin_secret_wrong",
            Self::LockedOut(_) => "admin_locked_out",
            Self::OverLimit(_) => "rate_limited",
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Missing | Self::Wrong => None,
            Self::LockedOut(left) => Some(*left),
            Self::OverLimit(over) => Some(over.retry_after),
        }
    }
}

/// The wrong secrets of an address.
#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    /// When they are forgotten, in the time of [`Clock::elapsed`].
    until: Duration,
}

/// The secret as it is compared, and who guessed wrong.
pub(crate) struct AdminSecret {
    digest: [u8; 32],
    fingerprint: String,
    failures: moka::sync::Cache<IpAddr, Failures>,
}

impl std::fmt::Debug for AdminSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AdminSecret(..)")
    }
}

impl AdminSecret {
    /// `stored` is what [`hash`] made of `secret`.
    pub(crate) fn new(secret: &SecretString, stored: &str) -> Self {
        Self {
            // Audit entries are handed out. A digest of the secret itself would let whoever reads them try secrets at
            // leisure; that of the stored hash is stable as well, and nobody can compute it without the salt.
            fingerprint: format!("operator:{}", &hex::encode(sha256(stored.as_bytes()))[..12]),
            digest: sha256(secret.expose_secret().as_bytes()),
            // The cache's own time bounds memory only; our clock says what counts.
            failures: moka::sync::Cache::builder().max_capacity(100_000).time_to_live(2 * LOCK).build(),
        }
    }

    /// How long `address` is locked out still, if it is.
    fn locked_for(&self, address: IpAddr, now: Duration) -> Option<Duration> {
        let failures = self.failures.get(&network(address)).filter(|failures| failures.count >= ATTEMPTS)?;
        failures.until.checked_sub(now).filter(|left| !left.is_zero())
    }

    fn count_failure(&self, address: IpAddr, now: Duration) {
        self.failures.entry(network(address)).and_upsert_with(|before| {
            let before = before.map(moka::Entry::into_value).filter(|failures| failures.until > now);
            Failures { count: before.map_or(1, |failures| failures.count + 1), until: now + LOCK }
        });
    }

    /// Whether `presented` is it, in constant time.
    pub(crate) fn is(&self, presented: &[u8]) -> bool {
        verify_slices_are_equal(&sha256(presented), &self.digest).is_ok()
    }
}

impl Authority {
    /// Lets in whoever presents the admin secret. Missing and wrong look the same.
    ///
    /// # Errors
    /// When it is missing or wrong, or the address is locked out.
    pub fn operator(&self, presented: Option<&[u8]>, address: IpAddr) -> Result<Operator, AdminError> {
        self.limits.by_address(crate::limits::Class::Admin, address)?;
        let (secret, now) = (&self.admin_secret, self.clock.elapsed());
        if let Some(left) = secret.locked_for(address, now) {
            self.deny_admin("admin_locked_out", address);
            return Err(AdminError::LockedOut(left));
        }
        if secret.is(presented.unwrap_or_default()) {
            secret.failures.invalidate(&network(address));
            return Ok(Operator { fingerprint: secret.fingerprint.clone() });
        }
        let error = if presented.is_some() { AdminError::Wrong } else { AdminError::Missing };
        if presented.is_some() {
            secret.count_failure(address, now);
        }
        self.deny_admin(error.reason(), address);
        Err(error)
    }
}

/// Whether `hash` is the argon2id hash of `secret`.
pub(crate) fn matches(secret: &SecretString, hash: &str) -> bool {
    PasswordHash::new(hash)
        .is_ok_and(|hash| Argon2::default().verify_password(secret.expose_secret().as_bytes(), &hash).is_ok())
}

/// The argon2id hash of `secret` under a fresh salt, by which a changed secret is noticed and operators are named.
pub(crate) fn hash(secret: &SecretString, rng: &dyn Rng) -> Result<String, argon2::password_hash::Error> {
    let mut salt = [0; 16];
    rng.fill(&mut salt);
    let salt = SaltString::encode_b64(&salt)?;
    Ok(Argon2::default().hash_password(secret.expose_secret().as_bytes(), &salt)?.to_string())
}
