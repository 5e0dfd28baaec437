//! Watching certificates grow old (contract `pki.md` §7): one event per certificate and threshold, and gauges.
//!
//! A certificate is told of when the setting's number of days is left, and again at 30, 7 and 1. Its notice and its
//! event are one unit, so neither is told twice, whatever happens in between.

use std::time::Duration;

use mastio_core::{Event, Stamp, Thumbprint, event::catalogue};
use mastio_pki::Certificate;
use mastio_store::{
    Unit,
    expiry::{self, Ending},
};

use crate::{Authority, Outage};

/// How often the gauges are counted anew.
const COUNT_EVERY: Duration = Duration::from_secs(60);

/// After the first threshold, the setting's.
const LATER_DAYS: [u32; 3] = [30, 7, 1];
/// How many agents one unit tells of.
const PORTION: u32 = 100;
/// How long it is remembered what was told of a certificate that is not pinned any more.
const MEMORY: Duration = Duration::from_secs(30 * 24 * 3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The gauge's buckets: a name and the days at which it ends.
const BUCKETS: [(&str, u32); 5] = [("expired", 0), ("1d", 1), ("7d", 7), ("30d", 30), ("90d", 90)];
/// Every status of an enrolment, so that a count that falls to 0 is shown.
const STATUSES: [&str; 4] = ["pending", "approved", "rejected", "expired"];

/// A certificate of ours whose end is watched.
struct Watched {
    tier: &'static str,
    warn_days: u32,
    certificate: Certificate,
    event: Telling,
}

/// Makes an event of a thumbprint, its end, the days left and the threshold.
type Telling = fn(Thumbprint, Stamp, i64, u32) -> Event;

/// How an event of one kind is made of the facts that all kinds share.
macro_rules! telling {
    ($details:ident) => {
        |cert_thumbprint, not_after, days_left, threshold_days| {
            let details = catalogue::$details { cert_thumbprint, not_after, days_left, threshold_days };
            Event::new(&details)
        }
    };
}

/// The thresholds for certificates that are told of `first` days before their end, longest first.
fn thresholds(first: u32) -> Vec<u32> {
    std::iter::once(first).chain(LATER_DAYS.into_iter().filter(|days| *days < first)).collect()
}

/// The shortest threshold that a certificate has crossed.
fn crossed(not_after: Stamp, first: u32, now: Stamp) -> Option<u32> {
    thresholds(first).into_iter().rev().find(|days| not_after <= now.plus(DAY * *days))
}

pub(crate) fn days_left(not_after: Stamp, now: Stamp) -> i64 {
    (not_after.unix() - now.unix()).div_euclid(24 * 3600)
}

impl Authority {
    /// Tells of what comes near its end and counts the gauges anew, each at its pace. Call it every second or so.
    pub async fn watch_expiry(&self) {
        let now = self.clock.elapsed();
        if let Some(period) = self.settings.expiry.watch_every
            && self.rounds.expiry.is_due(now, period)
            && let Err(error) = self.tell_expiries().await
        {
            tracing::warn!(%error, "the ends of certificates could not be told; it is tried again in the next round");
        }
        if self.rounds.counts.is_due(now, COUNT_EVERY)
            && let Err(error) = self.count_fleet().await
        {
            tracing::warn!(%error, "the fleet could not be counted");
        }
    }

    /// Tells of every certificate that crossed a threshold since the last time.
    ///
    /// # Errors
    /// When the database does not answer; what was told until then stays told.
    pub async fn tell_expiries(&self) -> Result<(), Outage> {
        for watched in self.watched() {
            self.tell_of(&watched).await?;
        }
        let thresholds = thresholds(self.settings.expiry.warn_days.agent);
        for (index, days) in thresholds.iter().enumerate() {
            let shorter = thresholds.get(index + 1).copied();
            self.tell_of_agents(*days, shorter).await?;
        }
        let watched: Vec<_> = self.watched().iter().map(|watched| watched.certificate.thumbprint()).collect();
        let forget = expiry::forget(&watched, self.clock.now().minus(MEMORY));
        self.commit(Unit::default().write(forget)).await?;
        Ok(())
    }

    fn watched(&self) -> Vec<Watched> {
        let (trust, days) = (self.trust(), self.settings.expiry.warn_days);
        let served = self.tls_files.serving().and_then(|material| material.chain.into_iter().next());
        let intermediate = trust.server_issuer.as_ref().map(|issuer| issuer.certificate().clone());
        let tiers: [(_, _, _, Telling); 4] = [
            ("org_root", days.root, Some(trust.root.clone()), telling!(RootExpiryWarning)),
            ("intermediate", days.intermediate, intermediate, telling!(IntermediateExpiryWarning)),
            ("mastio_leaf", days.signing, trust.signing_leaf.clone(), telling!(SigningLeafExpiryWarning)),
            ("nginx", days.server, served, telling!(ServerExpiryWarning)),
        ];
        let watched = |(tier, warn_days, certificate, event): (_, _, Option<Certificate>, _)| {
            certificate.map(|certificate| Watched { tier, warn_days, certificate, event })
        };
        tiers.into_iter().filter_map(watched).collect()
    }

    async fn tell_of(&self, watched: &Watched) -> Result<(), Outage> {
        let (now, not_after) = (self.clock.now(), watched.certificate.not_after());
        let thumbprint = watched.certificate.thumbprint();
        let Some(days) = crossed(not_after, watched.warn_days, now) else { return Ok(()) };
        if expiry::is_noted(&self.store, thumbprint, days).await? {
            return Ok(());
        }
        let event = (watched.event)(thumbprint, not_after, days_left(not_after, now), days);
        self.commit(Unit::of(event).write(expiry::note(thumbprint, days, now))).await?;
        Ok(())
    }

    /// Agents' certificates with at most `days` left and more than `shorter`, the next threshold.
    async fn tell_of_agents(&self, days: u32, shorter: Option<u32>) -> Result<(), Outage> {
        let now = self.clock.now();
        // Those that have ended belong to the shortest threshold.
        let from = shorter.map_or(Stamp::from_unix(0), |shorter| now.plus(DAY * shorter));
        let mut behind: Option<Ending> = None;
        loop {
            let span = (from, now.plus(DAY * days));
            let ending = expiry::ending(&self.store, span, days, behind.as_ref(), PORTION).await?;
            let unit =
                ending.iter().filter(|ending| is_old(ending, now)).fold(Unit::default(), |unit, ending| {
                    let event = catalogue::AgentExpiryWarning {
                        cert_thumbprint: ending.thumbprint,
                        not_after: ending.not_after,
                        days_left: days_left(ending.not_after, now),
                        threshold_days: days,
                    };
                    unit.write(expiry::note(ending.thumbprint, days, now))
                        .tell(Event::new(&event).about(ending.agent.as_str()))
                });
            if !unit.events.is_empty() {
                self.commit(unit).await?;
            }
            match ending.into_iter().last() {
                Some(last) => behind = Some(last),
                None => return Ok(()),
            }
        }
    }

    /// Counts the gauges anew.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn count_fleet(&self) -> Result<(), Outage> {
        let (gauges, now) = (&self.metrics.fleet, self.clock.now());
        for watched in self.watched() {
            let days = days_left(watched.certificate.not_after(), now);
            gauges.days_left.with_label_values(&[watched.tier]).set(days);
        }
        let mut from = Stamp::from_unix(0);
        for (name, days) in BUCKETS {
            let until = now.plus(DAY * days);
            let count = expiry::count(&self.store, from, until).await?;
            gauges.agent_certs.with_label_values(&[name]).set(count);
            from = until;
        }
        let counted = expiry::enrollments(&self.store).await?;
        for status in STATUSES {
            let count = counted.iter().find(|(counted, _)| counted == status).map_or(0, |(_, count)| *count);
            gauges.enrollments.with_label_values(&[status]).set(count);
        }
        Ok(())
    }
}

/// Whether less than a third of the certificate's life is left: a short-lived one is not old when it is new.
fn is_old(ending: &Ending, now: Stamp) -> bool {
    let Ok(leaf) = Certificate::from_pem(&ending.certificates) else { return true };
    let life = leaf.not_after().since(leaf.not_before());
    leaf.not_after().since(now) <= life / 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_shortest_crossed_threshold_is_told() {
        let now = Stamp::from_unix(1_790_000_000);
        let ends_in = |days: u32| crossed(now.plus(DAY * days), 90, now);
        assert_eq!(thresholds(90), [90, 30, 7, 1]);
        assert_eq!(thresholds(7), [7, 1]);
        for (left, told) in
            [(91, None), (90, Some(90)), (31, Some(90)), (30, Some(30)), (5, Some(7)), (0, Some(1))]
        {
            assert_eq!(ends_in(left), told, "{left} days left");
        }
        assert_eq!(crossed(now.minus(DAY), 90, now), Some(1), "one that has ended");
        assert_eq!((days_left(now.plus(DAY * 2), now), days_left(now.minus(DAY / 2), now)), (2, -1));
    }
}
