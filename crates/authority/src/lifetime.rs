//! How long the certificates of an agent live, and when the next one is due.

use std::time::Duration;

use mastio_core::Stamp;
use mastio_pki::{Certificate, profile};

/// How long an agent's certificates live: from one hour to 365 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "u64")]
pub struct Lifetime(Duration);

/// A number of seconds that no certificate may live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} seconds is no lifetime of a certificate: give 3600 (one hour) to 31536000 (365 days)")]
pub struct LifetimeError(u64);

impl Lifetime {
    /// One hour.
    pub const LEAST: Duration = Duration::from_secs(60 * 60);
    /// 365 days, which is also what nobody asked for.
    pub const MOST: Duration = profile::LEAF_LIFETIME;

    /// The lifetime itself.
    #[must_use]
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl TryFrom<u64> for Lifetime {
    type Error = LifetimeError;

    fn try_from(seconds: u64) -> Result<Self, LifetimeError> {
        let lifetime = Duration::from_secs(seconds);
        let fits = (Self::LEAST..=Self::MOST).contains(&lifetime);
        if fits { Ok(Self(lifetime)) } else { Err(LifetimeError(seconds)) }
    }
}

/// When two thirds of the life of `certificate` are over.
pub(crate) fn renewal_due_after(certificate: &Certificate) -> Stamp {
    let life = certificate.not_after().since(certificate.not_before());
    certificate.not_before().plus(life * 2 / 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_an_hour_to_a_year() {
        for (seconds, fits) in
            [(0, false), (3599, false), (3600, true), (31_536_000, true), (31_536_001, false)]
        {
            assert_eq!(Lifetime::try_from(seconds).is_ok(), fits, "{seconds}");
        }
        let error = serde_json::from_str::<Lifetime>("60").unwrap_err().to_string();
        assert!(error.starts_with("60 seconds is no lifetime"), "{error}");
    }
}
