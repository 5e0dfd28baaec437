//! Remembering what was used: each proof and each assertion counts once.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use mastio_core::Clock;

const SHARDS: usize = 16;

/// What `ReplayCache::consume` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Never seen within the life of the cache's entries.
    First,
    /// Seen before.
    Again,
    /// No room to remember it: the request must be refused, nothing is evicted (design decision 12).
    Full,
}

/// Keys of 128 bits that live for at least one and at most two lifetimes: two generations, the older of which is
/// dropped whole, so that no call ever sweeps.
#[derive(Debug)]
pub(crate) struct ReplayCache {
    shards: [Mutex<Generations>; SHARDS],
    lifetime: Duration,
    capacity_per_shard: usize,
}

#[derive(Debug, Default)]
struct Generations {
    current: HashSet<[u8; 16]>,
    previous: HashSet<[u8; 16]>,
    turn: u64,
}

impl ReplayCache {
    /// A cache whose entries live at least `lifetime`, `capacity` of them in each generation.
    #[must_use]
    pub(crate) fn new(lifetime: Duration, capacity: usize) -> Self {
        Self { shards: Default::default(), lifetime, capacity_per_shard: capacity.div_ceil(SHARDS) }
    }

    /// Uses `key` up.
    pub(crate) fn consume(&self, key: [u8; 16], clock: &dyn Clock) -> Use {
        let turn =
            u64::try_from(clock.elapsed().as_micros() / self.lifetime.as_micros().max(1)).unwrap_or(u64::MAX);
        let mut shard =
            self.shards[usize::from(key[0]) % SHARDS].lock().unwrap_or_else(PoisonError::into_inner);
        if shard.turn != turn {
            let ended = std::mem::take(&mut shard.current);
            shard.previous = if shard.turn + 1 == turn { ended } else { HashSet::new() };
            shard.turn = turn;
        }
        if shard.previous.contains(&key) || shard.current.contains(&key) {
            Use::Again
        } else if shard.current.len() >= self.capacity_per_shard {
            Use::Full
        } else {
            shard.current.insert(key);
            Use::First
        }
    }
}

#[cfg(test)]
mod tests {
    use mastio_core::{ManualClock, Stamp};

    use super::*;

    fn key(n: u8) -> [u8; 16] {
        [n; 16]
    }

    #[test]
    fn a_key_counts_once_for_its_whole_lifetime() {
        let clock = ManualClock::at(Stamp::from_unix(0));
        let cache = ReplayCache::new(Duration::from_secs(65), 1000);
        for _ in 0..5 {
            assert_eq!(cache.consume(key(1), &clock), Use::First);
            clock.advance(Duration::from_secs(65));
            assert_eq!(cache.consume(key(1), &clock), Use::Again);
            clock.advance(Duration::from_secs(130));
        }
    }

    #[test]
    fn a_full_cache_refuses_and_forgets_nothing() {
        let clock = ManualClock::at(Stamp::from_unix(0));
        let cache = ReplayCache::new(Duration::from_secs(65), SHARDS);
        assert_eq!(cache.consume([0; 16], &clock), Use::First);
        let mut same_shard = [0; 16];
        same_shard[1] = 1;
        assert_eq!(cache.consume(same_shard, &clock), Use::Full);
        assert_eq!(cache.consume([0; 16], &clock), Use::Again);
    }
}
