//! Who guessed wrong too often: five failures in fifteen minutes close the door for fifteen, for the right one too.

use std::{net::IpAddr, time::Duration};

use crate::limits::network;

/// How many failures an address may have within [`WINDOW`].
const FAILURES: usize = 5;
const WINDOW: Duration = Duration::from_secs(15 * 60);
const LOCK: Duration = Duration::from_secs(15 * 60);

/// Times are those of [`mastio_core::Clock::elapsed`].
#[derive(Debug, Clone, Default)]
struct Attempts {
    at: Vec<Duration>,
    locked_until: Duration,
}

/// The attempts of every address; an IPv6 network counts as one.
#[derive(Debug)]
pub(crate) struct LockOut(moka::sync::Cache<IpAddr, Attempts>);

impl Default for LockOut {
    fn default() -> Self {
        // The cache's own time bounds memory only; our clock says what counts.
        Self(moka::sync::Cache::builder().max_capacity(100_000).time_to_idle(2 * LOCK).build())
    }
}

impl LockOut {
    /// Counts an attempt before it is judged, so that many at once are no more than one after the other.
    ///
    /// # Errors
    /// How long the address is locked out still.
    pub(crate) fn enter(&self, address: IpAddr, now: Duration) -> Result<(), Duration> {
        let mut verdict = Ok(());
        self.0.entry(network(address)).and_upsert_with(|known| {
            let mut attempts = known.map(moka::Entry::into_value).unwrap_or_default();
            if attempts.locked_until > now {
                verdict = Err(attempts.locked_until.saturating_sub(now));
                return attempts;
            }
            attempts.at.retain(|at| now.saturating_sub(*at) < WINDOW);
            attempts.at.push(now);
            if attempts.at.len() >= FAILURES {
                attempts = Attempts { at: Vec::new(), locked_until: now + LOCK };
            }
            attempts
        });
        verdict
    }

    /// The attempt was right: what was before is forgotten.
    pub(crate) fn succeeded(&self, address: IpAddr) {
        self.0.invalidate(&network(address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60;

    fn at(minutes: u64) -> Duration {
        Duration::from_secs(minutes * MINUTE)
    }

    #[test]
    fn five_failures_lock_for_fifteen_minutes() {
        let (lock_out, address) = (LockOut::default(), "203.0.113.7".parse().unwrap());
        for minute in 0..5 {
            assert_eq!(lock_out.enter(address, at(minute)), Ok(()));
        }
        assert_eq!(lock_out.enter(address, at(5)), Err(at(14)));
        assert_eq!(lock_out.enter("203.0.113.8".parse().unwrap(), at(5)), Ok(()));
        assert_eq!(lock_out.enter(address, at(19)), Ok(()), "the lock is over");
    }

    #[test]
    fn failures_that_are_far_apart_and_attempts_that_succeed_lock_nobody() {
        let (lock_out, address) = (LockOut::default(), "2001:db8::1".parse().unwrap());
        for minute in 0..40 {
            assert_eq!(lock_out.enter(address, at(4 * minute)), Ok(()), "{minute}");
        }
        for _ in 0..10 {
            assert_eq!(lock_out.enter(address, at(200)), Ok(()));
            lock_out.succeeded(address);
        }
        for neighbour in ["2001:db8::2", "2001:db8::3", "2001:db8::4", "2001:db8::5", "2001:db8::6"] {
            assert_eq!(lock_out.enter(neighbour.parse().unwrap(), at(300)), Ok(()));
        }
        assert!(lock_out.enter(address, at(300)).is_err(), "a whole /64 is one client");
    }
}
