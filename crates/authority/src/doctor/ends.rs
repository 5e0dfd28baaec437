//! What ends when.

use std::{collections::BTreeSet, time::Duration};

use mastio_core::{Stamp, counted};
use mastio_pki::Certificate;

use super::{Kind, Notes};

/// How many agents are named: those that end first.
const AGENTS: usize = 10;
const DAY: i64 = 24 * 3600;

/// A certificate that counts, and its end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct End {
    /// Its last second.
    pub not_after: Stamp,
    /// Whole days until then; negative when it is over.
    pub days_left: i64,
    /// `root`, `intermediate`, `signing key`, `server` or `agent`.
    pub what: &'static str,
    /// Its subject, or the agent's id.
    pub subject: String,
}

#[derive(Debug, Default)]
pub(super) struct Ends {
    own: BTreeSet<End>,
    agents: BTreeSet<End>,
}

impl Ends {
    pub(super) fn agent(&mut self, id: &str, not_after: Stamp, now: Stamp) {
        if self.agents.len() == AGENTS && self.agents.last().is_some_and(|last| last.not_after <= not_after) {
            return;
        }
        self.agents.insert(End::of("agent", id.to_owned(), not_after, now));
        if self.agents.len() > AGENTS {
            self.agents.pop_last();
        }
    }

    pub(super) fn finish(self) -> Vec<End> {
        self.own.into_iter().chain(self.agents).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

impl End {
    fn of(what: &'static str, subject: String, not_after: Stamp, now: Stamp) -> Self {
        Self { not_after, days_left: (not_after.unix() - now.unix()).div_euclid(DAY), what, subject }
    }
}

impl Notes {
    /// A certificate of the Mastio itself that is in use; it is told of `warn_days` before its end.
    pub(super) fn ends(&mut self, what: &'static str, certificate: &Certificate, warn_days: u32, now: Stamp) {
        let end = End::of(what, certificate.subject().to_owned(), certificate.not_after(), now);
        let told = format!("{what} {}: {}", end.subject, end.not_after);
        if end.not_after.unix() < now.unix() {
            self.find(Kind::Expired, told);
        } else if end.not_after <= now.plus(Duration::from_secs(u64::from(warn_days) * DAY.unsigned_abs())) {
            self.find(Kind::EndsSoon, format!("{told} ({} left)", counted(end.days_left, "day", "days")));
        }
        self.ends.own.insert(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_agents_that_end_first_are_kept() {
        let now = Stamp::from_unix(1_800_000_000);
        let mut ends = Ends::default();
        for number in (0..1000).rev() {
            let end = now.plus(Duration::from_secs(number * 86_400));
            ends.agent(&format!("acme::{number}"), end, now);
        }
        let kept: Vec<_> = ends.finish().into_iter().map(|end| (end.subject, end.days_left)).collect();
        let first = (0..10).map(|number| (format!("acme::{number}"), number)).collect::<Vec<_>>();
        assert_eq!(kept, first);
    }
}
