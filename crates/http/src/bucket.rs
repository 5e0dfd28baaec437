//! A token bucket: so many requests a second, with a burst.

use std::{
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// How fast a bucket fills, and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Requests a second, more than 0.
    pub per_second: f64,
    /// Requests at once.
    pub burst: NonZeroU32,
}

/// One bucket, full at first.
#[derive(Debug)]
pub(crate) struct Bucket {
    rate: Rate,
    level: Mutex<Level>,
}

#[derive(Debug)]
struct Level {
    tokens: f64,
    at: Duration,
}

impl Bucket {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, level: Mutex::new(Level { tokens: rate.burst.get().into(), at: Duration::ZERO }) }
    }

    /// Takes a token if there is one; `now` is monotonic.
    pub(crate) fn take(&self, now: Duration) -> bool {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = now.saturating_sub(level.at).as_secs_f64() * self.rate.per_second;
        level.tokens = (level.tokens + fresh).min(self.rate.burst.get().into());
        level.at = level.at.max(now);
        let taken = level.tokens >= 1.0;
        if taken {
            level.tokens -= 1.0;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let rate = Rate { per_second: 10.0, burst: NonZeroU32::new(2).unwrap() };
        let bucket = Bucket::new(rate);
        let taken = |millis| bucket.take(Duration::from_millis(millis));
        assert_eq!([0, 0, 0, 100, 100, 100].map(taken), [true, true, false, true, false, false]);
        assert_eq!([10_000, 10_000, 10_000].map(taken), [true, true, false]);
        assert!(!taken(5_000), "time that goes back fills nothing");
    }
}
