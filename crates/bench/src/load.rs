//! Many callers at the same time, for a while.

use std::time::Duration;

use mastio_core::{Clock, SystemClock};
use tokio::task::JoinSet;

use crate::{caller::Caller, error::BenchError, scenario::Quantiles};

/// When callers stop, and how fast they ask.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// For so long.
    pub(crate) time: Duration,
    /// But so many times at most, each.
    pub(crate) most: u64,
    /// One request of each caller in so much time; `None`: the next one when the last was answered.
    pub(crate) every: Option<Duration>,
}

/// How long each request took, shortest first.
#[derive(Debug)]
pub(crate) struct Taken {
    sorted: Vec<Duration>,
    /// From the first request to the last answer.
    pub(crate) wall: Duration,
}

/// More than any caller does in the longest time that may be asked for.
const MOST: u64 = 50_000_000;

impl Load {
    /// As fast as answers come.
    pub(crate) fn full(time: Duration) -> Self {
        Self { time, most: MOST, every: None }
    }

    /// Has `callers` ask; gives them back for more.
    pub(crate) async fn drive(
        self,
        callers: Vec<Caller>,
        clock: &SystemClock,
    ) -> Result<(Vec<Caller>, Taken), BenchError> {
        let begin = clock.elapsed();
        let mut tasks = JoinSet::new();
        let count = callers.len() as f64;
        for (index, caller) in callers.into_iter().enumerate() {
            // With a pace they ask one after the other, not all at once.
            let offset = self.every.map(|every| every.mul_f64(index as f64 / count));
            tasks.spawn(self.repeat(caller, *clock, offset.unwrap_or_default()));
        }
        let (mut callers, mut sorted) = (Vec::new(), Vec::new());
        while let Some(ended) = tasks.join_next().await {
            let (caller, taken) = ended??;
            callers.push(caller);
            sorted.extend(taken);
        }
        sorted.sort_unstable();
        Ok((callers, Taken { sorted, wall: clock.elapsed() - begin }))
    }

    async fn repeat(
        self,
        mut caller: Caller,
        clock: SystemClock,
        offset: Duration,
    ) -> Result<(Caller, Vec<Duration>), BenchError> {
        tokio::time::sleep(offset).await;
        let mut pace = self.every.map(tokio::time::interval);
        let end = clock.elapsed() + self.time;
        let mut taken = Vec::new();
        while (taken.len() as u64) < self.most && clock.elapsed() < end {
            if let Some(pace) = &mut pace {
                pace.tick().await;
            }
            let begin = clock.elapsed();
            caller.ask().await?;
            taken.push(clock.elapsed() - begin);
        }
        Ok((caller, taken))
    }
}

impl Taken {
    pub(crate) fn count(&self) -> u64 {
        self.sorted.len() as u64
    }

    /// `None` when nothing was asked.
    pub(crate) fn quantiles(&self) -> Option<Quantiles> {
        let at =
            |percent: usize| self.sorted.get((self.sorted.len() * percent / 100).min(self.sorted.len() - 1));
        if self.sorted.is_empty() {
            return None;
        }
        Some(Quantiles { p50: *at(50)?, p99: *at(99)? })
    }
}

/// Statistics of what was timed otherwise.
impl FromIterator<Duration> for Taken {
    fn from_iter<I: IntoIterator<Item = Duration>>(taken: I) -> Self {
        let mut sorted: Vec<_> = taken.into_iter().collect();
        sorted.sort_unstable();
        let wall = sorted.iter().sum();
        Self { sorted, wall }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_sorted_times() {
        let taken: Taken = (1..=100).rev().map(Duration::from_millis).collect();
        let quantiles = taken.quantiles().unwrap();
        assert_eq!((quantiles.p50, quantiles.p99), (Duration::from_millis(51), Duration::from_millis(100)));
        assert_eq!((taken.count(), taken.wall), (100, Duration::from_millis(5050)));
        assert!(Taken::from_iter([]).quantiles().is_none());
    }
}
