//! The table for people, and the same as JSON.

use std::{fmt, num::NonZeroUsize, time::Duration};

use serde::Serialize;

use crate::{
    floors::Floors,
    scenario::{Budget, Measured, Scenario},
};

/// Everything that was measured. Times are in microseconds, memory in bytes; what was not looked at is null.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    cores: NonZeroUsize,
    floors: FloorFigures,
    scenarios: Vec<Line>,
    #[serde(skip)]
    measured_floors: Floors,
}

#[derive(Debug, Serialize)]
struct FloorFigures {
    verify_us: f64,
    sign_us: f64,
    sha256_us: f64,
    fsync_us: f64,
}

#[derive(Debug, Serialize)]
struct Line {
    name: &'static str,
    requests: u64,
    per_second: Option<f64>,
    p50_us: Option<f64>,
    p99_us: Option<f64>,
    cpu_us: Option<f64>,
    floor_us: Option<f64>,
    ratio: Option<f64>,
    resident_bytes: Option<u64>,
    budget: Option<String>,
    met: Option<bool>,
}

impl Report {
    pub(crate) fn new(floors: Floors, cores: NonZeroUsize) -> Self {
        let figures = FloorFigures {
            verify_us: micros(floors.verify),
            sign_us: micros(floors.sign),
            sha256_us: micros(floors.hash),
            fsync_us: micros(floors.fsync),
        };
        Self { cores, floors: figures, scenarios: Vec::new(), measured_floors: floors }
    }

    pub(crate) fn add(&mut self, scenario: &Scenario, measured: &Measured) {
        let floor = self.measured_floors.of(scenario.work);
        let counted = measured.count > 0;
        self.scenarios.push(Line {
            name: scenario.name,
            requests: measured.count,
            per_second: counted.then(|| measured.rate()),
            p50_us: measured.took.map(|took| micros(took.p50)),
            p99_us: measured.took.map(|took| micros(took.p99)),
            cpu_us: counted.then(|| micros(measured.cpu_each())),
            floor_us: (!floor.is_zero()).then(|| micros(floor)),
            ratio: measured.ratio(floor),
            resident_bytes: measured.resident,
            budget: (scenario.budget != Budget::None).then(|| scenario.budget.to_string()),
            met: scenario.is_met(measured, &self.measured_floors),
        });
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::TimesFloor(most) => write!(f, "≤ {most} × floor"),
            Self::PerSecond(least) => write!(f, "≥ {least}/s"),
            Self::P99(most) => write!(f, "p99 < {} ms", most.as_millis()),
            Self::Median(most) => write!(f, "p50 < {} ms", most.as_millis()),
            Self::Resident(most) => write!(f, "< {} MB", most / 1_000_000),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FloorFigures { verify_us, sign_us, sha256_us, fsync_us } = self.floors;
        writeln!(f, "floors with {} cores busy, in µs:", self.cores)?;
        writeln!(
            f,
            "P-256 verify {verify_us:.1}, sign {sign_us:.1}, SHA-256 {sha256_us:.2}, fsync {fsync_us:.0}\n"
        )?;
        writeln!(
            f,
            "{:<15} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>6} {:>8}  budget",
            "scenario", "requests", "per s", "p50 µs", "p99 µs", "CPU µs", "floor µs", "ratio", "RSS MB"
        )?;
        self.scenarios.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |figure: Option<f64>, digits: usize| {
            figure.map_or_else(|| "–".to_owned(), |figure| format!("{figure:.digits$}"))
        };
        let verdict = match self.met {
            None => "",
            Some(true) => "  met",
            Some(false) => "  NOT MET",
        };
        write!(
            f,
            "{:<15} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>6} {:>8}  {}{verdict}",
            self.name,
            self.requests,
            show(self.per_second, 0),
            show(self.p50_us, 0),
            show(self.p99_us, 0),
            show(self.cpu_us, 1),
            show(self.floor_us, 1),
            show(self.ratio, 2),
            show(self.resident_bytes.map(|bytes| bytes as f64 / 1e6), 1),
            self.budget.as_deref().unwrap_or_default(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bench::Bench, error::BenchError, floors::Work, scenario::Quantiles};

    fn report() -> Report {
        let micros = Duration::from_micros;
        let floors = Floors { verify: micros(50), sign: micros(20), hash: micros(1), fsync: micros(900) };
        let run = |_: &Bench| -> Result<Measured, BenchError> { Ok(Measured::default()) };
        let work = Work { verify: 1, sign: 0, hash: 0 };
        let call = Scenario { name: "call", work, budget: Budget::TimesFloor(2.0), run };
        let idle = Scenario { name: "idle", work: Work::NONE, budget: Budget::Resident(40_000_000), run };
        let mut report = Report::new(floors, NonZeroUsize::MIN);
        report.add(
            &call,
            &Measured {
                count: 10_000,
                wall: Duration::from_secs(1),
                cpu: Duration::from_secs(2),
                took: Some(Quantiles { p50: micros(300), p99: micros(900) }),
                resident: None,
            },
        );
        report.add(&idle, &Measured { resident: Some(39_999_999), ..Measured::default() });
        report
    }

    #[test]
    fn the_table_shows_figures_and_verdicts() {
        let table = report().to_string();
        let words = |name: &str| {
            let line = table.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(words("call"), "call 10000 10000 300 900 200.0 50.0 4.00 – ≤ 2 × floor NOT MET");
        assert_eq!(words("idle"), "idle 0 – – – – – – 40.0 < 40 MB met");
    }

    #[test]
    fn the_document_says_the_same_with_nulls() {
        let document = serde_json::to_value(report()).unwrap();
        assert_eq!(document["floors"]["verify_us"], 50.0);
        let [call, idle] = document["scenarios"].as_array().unwrap().as_slice() else { panic!("two lines") };
        assert_eq!((&call["ratio"], &call["met"]), (&4.0.into(), &false.into()));
        assert_eq!(
            (&idle["cpu_us"], &idle["resident_bytes"]),
            (&serde_json::Value::Null, &39_999_999.into())
        );
    }
}
