//! Work that comes round, each piece at its own pace.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// How often enrolments that ran out are looked for.
pub(crate) const TIDY_EVERY: Duration = Duration::from_secs(60);

/// Says when something is due again; the first time at once.
#[derive(Debug, Default)]
pub(crate) struct Round(Mutex<Option<Duration>>);

impl Round {
    /// Whether `period` has passed at `now` since this last said so.
    pub(crate) fn is_due(&self, now: Duration, period: Duration) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| now.saturating_sub(last) >= period);
        if due {
            *last = Some(now);
        }
        due
    }
}

/// The pieces that have a pace of their own.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    pub(crate) enrollments: Round,
    pub(crate) grace: Round,
    pub(crate) used_keys: Round,
    pub(crate) expiry: Round,
    pub(crate) counts: Round,
    pub(crate) updates: Round,
    pub(crate) rotation: Round,
    pub(crate) rotation_trouble: Round,
    pub(crate) given_up: Round,
    pub(crate) keys: Round,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_due_at_once_and_then_after_its_period() {
        let (round, minute) = (Round::default(), Duration::from_secs(60));
        let due = |seconds| round.is_due(Duration::from_secs(seconds), minute);
        assert_eq!([5, 6, 64, 65, 66].map(due), [true, false, false, true, false]);
    }
}
