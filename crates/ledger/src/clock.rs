//! Tells the log when the clock was set back: entries are dated by it, and their dates are only as good.

use std::time::Duration;

use mastio_audit::CLOCK_TOLERANCE;
use mastio_authority::Outage;
use mastio_core::{Clock, Event, Stamp, event::catalogue};
use mastio_store::{Unit, audit};

use crate::Ledger;

/// Two clocks read together: one that people set and one that only goes on.
#[derive(Debug, Clone, Copy)]
pub struct ClockWatch {
    wall: Stamp,
    steady: Duration,
}

impl ClockWatch {
    /// Reads both.
    #[must_use]
    pub fn start(clock: &dyn Clock) -> Self {
        Self { wall: clock.now(), steady: clock.elapsed() }
    }

    /// What the wall clock should show by now, if it shows less by more than is tolerated. Watches on from here.
    fn set_back(&mut self, clock: &dyn Clock) -> Option<Stamp> {
        let before = std::mem::replace(self, Self::start(clock));
        let expected = before.wall.plus(self.steady.saturating_sub(before.steady));
        (expected.since(self.wall) > CLOCK_TOLERANCE).then_some(expected)
    }
}

impl Ledger {
    /// Looks whether the clock was set back since the last look.
    ///
    /// # Errors
    /// When that cannot be told; the next look does not see it again.
    pub async fn watch_clock(&self, watch: &mut ClockWatch) -> Result<(), Outage> {
        match watch.set_back(self.authority.clock().as_ref()) {
            Some(expected) => self.tell_set_back(expected, "running").await,
            None => Ok(()),
        }
    }

    /// Looks whether the clock is behind the newest entry, which was dated by this clock before the start.
    ///
    /// # Errors
    /// When the log cannot be read or written.
    pub async fn check_clock_at_start(&self) -> Result<(), Outage> {
        let org = &self.authority.trust().org;
        let newest = audit::newest_time(self.authority.store(), org).await.map_err(Outage::from)?;
        match newest {
            Some(newest) if newest.since(self.authority.clock().now()) > CLOCK_TOLERANCE => {
                self.tell_set_back(newest, "start").await
            }
            _ => Ok(()),
        }
    }

    async fn tell_set_back(&self, expected: Stamp, noticed: &'static str) -> Result<(), Outage> {
        let now = self.authority.clock().now();
        let seconds = expected.since(now).as_secs();
        let event = catalogue::ClockSetBack { expected, now, seconds, noticed };
        self.authority.commit(Unit::of(Event::new(&event))).await.map_err(Outage::from)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use mastio_core::ManualClock;

    use super::*;

    #[test]
    fn only_a_clock_that_was_set_back_is_noticed() {
        let clock = ManualClock::at(Stamp::from_unix(1_790_000_000));
        let mut watch = ClockWatch::start(&clock);
        clock.advance(Duration::from_secs(3600));
        assert_eq!(watch.set_back(&clock), None);
        clock.set_back(Duration::from_secs(59));
        assert_eq!(watch.set_back(&clock), None, "small steps are how clocks are kept");
        clock.advance(Duration::from_secs(1));
        let expected = clock.now();
        clock.set_back(Duration::from_secs(61));
        assert_eq!(watch.set_back(&clock), Some(expected));
        assert_eq!(watch.set_back(&clock), None, "once");
    }
}
