//! What is measured, as data.

use std::time::Duration;

use crate::{
    audit,
    bench::Bench,
    bundle,
    caller::Kind,
    error::BenchError,
    fleet,
    floors::{Floors, Work},
    proofs, requests,
};

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// The cryptographic operations that one request cannot do without.
    pub(crate) work: Work,
    pub(crate) budget: Budget,
    pub(crate) run: fn(&Bench) -> Result<Measured, BenchError>,
}

/// What the design promises (§9).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Budget {
    /// Nothing: the figure is for comparison.
    None,
    /// CPU per request, at most so many times the floor.
    TimesFloor(f64),
    /// At least so many per second.
    PerSecond(f64),
    /// 99 of 100 are answered faster.
    P99(Duration),
    /// The median is faster.
    Median(Duration),
    /// Resident memory stays below so many bytes.
    Resident(u64),
}

/// What a scenario found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Measured {
    /// Requests, entries or starts.
    pub(crate) count: u64,
    /// How long they took together.
    pub(crate) wall: Duration,
    /// What the measured process spent on them, all threads together.
    pub(crate) cpu: Duration,
    /// How long single ones took as the caller saw it, its own signing included; none where that means nothing.
    pub(crate) took: Option<Quantiles>,
    /// Resident memory of the process in bytes, where it was looked at.
    pub(crate) resident: Option<u64>,
}

/// Median and 99th percentile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quantiles {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

const TWICE: Budget = Budget::TimesFloor(2.0);

/// Everything that can be measured, in the order of `all`.
const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "healthz",
        work: Work::NONE,
        budget: Budget::None,
        run: |bench| requests::measure(bench, Kind::Healthz),
    },
    Scenario {
        name: "mint",
        work: Work { verify: 2, sign: 1, hash: 0 },
        budget: TWICE,
        run: |bench| requests::measure(bench, Kind::Mint),
    },
    Scenario {
        name: "mint-mtls",
        work: Work { verify: 1, sign: 1, hash: 0 },
        budget: TWICE,
        run: |bench| requests::measure(bench, Kind::MintMtls),
    },
    Scenario {
        name: "mint-fleet",
        work: Work { verify: 2, sign: 1, hash: 0 },
        budget: TWICE,
        run: fleet::mint,
    },
    Scenario {
        name: "call",
        work: Work { verify: 1, sign: 0, hash: 0 },
        budget: TWICE,
        run: |bench| requests::measure(bench, Kind::Call),
    },
    Scenario {
        name: "call-half-load",
        work: Work { verify: 1, sign: 0, hash: 0 },
        budget: Budget::P99(Duration::from_millis(5)),
        run: |bench| requests::at_half_load(bench, Kind::Call),
    },
    Scenario {
        name: "message",
        work: Work { verify: 2, sign: 0, hash: 0 },
        budget: TWICE,
        run: |bench| requests::measure(bench, Kind::Message),
    },
    Scenario {
        name: "audit-append",
        work: Work { verify: 0, sign: 0, hash: 1 },
        budget: Budget::PerSecond(20_000.0),
        run: audit::append,
    },
    Scenario {
        name: "audit-verify",
        work: Work { verify: 0, sign: 0, hash: 1 },
        budget: Budget::PerSecond(500_000.0),
        run: audit::verify,
    },
    Scenario {
        name: "audit-proof",
        work: Work { verify: 0, sign: 0, hash: 0 },
        budget: Budget::P99(Duration::from_millis(1)),
        run: proofs::inclusion,
    },
    Scenario {
        name: "bundle-export",
        work: Work::NONE,
        budget: Budget::Resident(64_000_000),
        run: bundle::export,
    },
    Scenario {
        name: "bundle-verify",
        work: Work { verify: 0, sign: 0, hash: 1 },
        budget: Budget::Resident(64_000_000),
        run: bundle::verify,
    },
    Scenario { name: "export", work: Work::NONE, budget: Budget::Resident(64_000_000), run: bundle::lines },
    Scenario {
        name: "enroll-create",
        work: Work { verify: 0, sign: 1, hash: 0 },
        budget: Budget::None,
        run: |bench| requests::measure(bench, Kind::Create),
    },
    Scenario {
        name: "enroll-byoca",
        work: Work { verify: 1, sign: 0, hash: 0 },
        budget: Budget::None,
        run: |bench| requests::measure(bench, Kind::Byoca),
    },
    Scenario {
        name: "boot",
        work: Work::NONE,
        budget: Budget::Median(Duration::from_secs(1)),
        run: fleet::boot,
    },
    Scenario {
        name: "memory-idle",
        work: Work::NONE,
        budget: Budget::Resident(40_000_000),
        run: fleet::memory_idle,
    },
    Scenario {
        name: "memory-agents",
        work: Work { verify: 1, sign: 0, hash: 0 },
        budget: Budget::Resident(150_000_000),
        run: fleet::memory_with_agents,
    },
];

const ALL: &str = "all";

/// What may stand on the command line.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    std::iter::once(ALL).chain(SCENARIOS.iter().map(|scenario| scenario.name))
}

/// The scenarios with these names, each once, in the order of the list.
pub(crate) fn chosen(names: &[String]) -> Vec<&'static Scenario> {
    let wanted = |scenario: &&Scenario| names.iter().any(|name| name == ALL || name == scenario.name);
    SCENARIOS.iter().filter(wanted).collect()
}

impl Measured {
    /// CPU of one request.
    pub(crate) fn cpu_each(&self) -> Duration {
        self.cpu.div_f64(self.count.max(1) as f64)
    }

    /// Requests per second; 0 if no time was measured.
    pub(crate) fn rate(&self) -> f64 {
        if self.wall.is_zero() { 0.0 } else { self.count as f64 / self.wall.as_secs_f64() }
    }

    /// CPU of one request in floors; `None` without a floor.
    pub(crate) fn ratio(&self, floor: Duration) -> Option<f64> {
        (!floor.is_zero()).then(|| self.cpu_each().as_secs_f64() / floor.as_secs_f64())
    }
}

impl Scenario {
    /// Whether the budget is met; `None` without a budget, or without the figure that it is about.
    pub(crate) fn is_met(&self, measured: &Measured, floors: &Floors) -> Option<bool> {
        match self.budget {
            Budget::None => None,
            Budget::TimesFloor(most) => measured.ratio(floors.of(self.work)).map(|ratio| ratio <= most),
            Budget::PerSecond(least) => Some(measured.rate() >= least),
            Budget::P99(most) => measured.took.map(|took| took.p99 < most),
            Budget::Median(most) => measured.took.map(|took| took.p50 < most),
            Budget::Resident(most) => measured.resident.map(|resident| resident < most),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_choose() {
        let names: Vec<_> = names().collect();
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
        assert_eq!(chosen(&["all".into()]).len(), names.len() - 1);
        let two = chosen(&["message".into(), "mint".into(), "mint".into()]);
        assert_eq!(two.iter().map(|scenario| scenario.name).collect::<Vec<_>>(), ["mint", "message"]);
    }

    #[test]
    fn budgets_are_judged_by_their_own_figure() {
        let micros = Duration::from_micros;
        let floors = Floors { verify: micros(50), sign: micros(20), hash: micros(1), fsync: micros(900) };
        let quantiles = Quantiles { p50: micros(400), p99: micros(6000) };
        let measured = Measured {
            count: 1000,
            wall: Duration::from_millis(100),
            cpu: Duration::from_millis(250),
            took: Some(quantiles),
            resident: Some(1 << 20),
        };
        let judge = |budget| {
            let work = Work { verify: 2, sign: 1, hash: 0 };
            let run = |_: &Bench| Ok(Measured::default());
            Scenario { name: "x", work, budget, run }.is_met(&measured, &floors)
        };
        assert_eq!(
            measured.ratio(floors.of(Work { verify: 2, sign: 1, hash: 0 })).map(f64::round),
            Some(2.0)
        );
        assert_eq!(judge(Budget::TimesFloor(2.0)), Some(false));
        assert_eq!(judge(Budget::TimesFloor(2.1)), Some(true));
        assert_eq!(judge(Budget::PerSecond(10_000.0)), Some(true));
        assert_eq!(judge(Budget::PerSecond(10_001.0)), Some(false));
        assert_eq!(judge(Budget::P99(micros(5000))), Some(false));
        assert_eq!(judge(Budget::Median(micros(5000))), Some(true));
        assert_eq!(judge(Budget::Resident(1 << 20)), Some(false));
        assert_eq!(judge(Budget::None), None);
    }
}
