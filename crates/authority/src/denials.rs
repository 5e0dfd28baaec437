//! Denials before authentication, counted instead of written one by one (design decision 16).

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use mastio_core::{Event, Stamp, event::catalogue};
use mastio_store::Unit;

use crate::Authority;

/// How many entries one minute may write before the rest is summed up.
const PER_MINUTE: usize = 60;

/// Denials of the current minute by reason and source network.
#[derive(Debug, Default)]
pub struct Denials(Mutex<Minute>);

#[derive(Debug, Default)]
struct Minute {
    number: i64,
    counts: HashMap<(Kind, &'static str, String), u64>,
    beyond: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Agent,
    Admin,
    Login,
}

impl Minute {
    fn count(&mut self, key: (Kind, &'static str, String)) {
        if let Some(count) = self.counts.get_mut(&key) {
            *count += 1;
        } else if self.counts.len() < PER_MINUTE {
            self.counts.insert(key, 1);
        } else {
            self.beyond += 1;
        }
    }

    fn into_events(self) -> Vec<Event> {
        let since = Stamp::from_unix(self.number * 60);
        let mut events: Vec<Event> = self
            .counts
            .into_iter()
            .map(|((kind, reason, source), count)| match kind {
                Kind::Agent => Event::new(&catalogue::AuthDenied { reason, source, count, since }),
                Kind::Admin => Event::new(&catalogue::AdminAuthDenied { reason, source, count, since }),
                Kind::Login => Event::new(&catalogue::LoginDenied { reason, source, count, since }),
            })
            .collect();
        if self.beyond > 0 {
            events.push(Event::new(&catalogue::AuthDeniedSummary { count: self.beyond, since }));
        }
        events
    }
}

impl Authority {
    /// Counts a refused credential of an agent.
    pub fn deny(&self, reason: &'static str, source: IpAddr) {
        self.metrics.auth_deny.with_label_values(&[reason]).inc();
        self.count_denial(Kind::Agent, reason, source);
    }

    /// Counts a refused admin secret.
    pub(crate) fn deny_admin(&self, reason: &'static str, source: IpAddr) {
        self.metrics.auth_deny.with_label_values(&[reason]).inc();
        self.count_denial(Kind::Admin, reason, source);
    }

    /// Counts a refused login at the dashboard.
    pub(crate) fn deny_login(&self, reason: &'static str, source: IpAddr) {
        self.metrics.auth_deny.with_label_values(&[reason]).inc();
        self.count_denial(Kind::Login, reason, source);
    }

    fn count_denial(&self, kind: Kind, reason: &'static str, source: IpAddr) {
        self.flush_denials(false);
        let mut minute = self.denials.0.lock().unwrap_or_else(PoisonError::into_inner);
        minute.count((kind, reason, network(source)));
    }

    /// Writes the denials of a minute that is over; with `now` also those of the current one, at the end of the process.
    pub fn flush_denials(&self, now: bool) {
        let number = self.clock.now().unix().div_euclid(60);
        let ended = {
            let mut minute = self.denials.0.lock().unwrap_or_else(PoisonError::into_inner);
            if minute.number == number && !now {
                return;
            }
            std::mem::replace(&mut *minute, Minute { number, ..Minute::default() })
        };
        let events = ended.into_events();
        if events.is_empty() {
            return;
        }
        if let Err(error) = self.post(Unit { events, ..Unit::default() }) {
            tracing::error!(%error, "the denials of the last minute could not be written to the audit log");
        }
    }
}

/// The /24 or /64 of an address.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(v6) => {
            let high = v6.to_bits() & !u128::from(u64::MAX);
            format!("{}/64", std::net::Ipv6Addr::from(high))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_becomes_sixty_entries_and_a_sum() {
        let mut minute = Minute::default();
        for source in 0..200 {
            minute.count((Kind::Agent, "client_cert_pin_mismatch", format!("10.0.{source}.0/24")));
            minute.count((Kind::Agent, "client_cert_pin_mismatch", "10.0.0.0/24".into()));
        }
        let events = minute.into_events();
        assert_eq!(events.len(), PER_MINUTE + 1);
        assert!(events.last().unwrap().details.as_ref().unwrap().contains("\"count\":140"));
    }

    #[test]
    fn sources_are_networks() {
        assert_eq!(network("203.0.113.7".parse().unwrap()), "203.0.113.0/24");
        assert_eq!(network("::ffff:203.0.113.7".parse().unwrap()), "203.0.113.0/24");
        assert_eq!(network("2001:db8:1:2:3:4:5:6".parse().unwrap()), "2001:db8:1:2::/64");
    }
}
