//! What every scenario works with.

use std::{
    num::NonZeroUsize,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use clap::{Parser, builder::PossibleValuesParser};
use mastio_core::SystemClock;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{error::BenchError, filled::Filled, organisation::Organisation, scenario};

/// Measures a Mastio against the budgets of its design.
#[derive(Debug, Parser)]
#[command(name = "mastio-bench")]
pub(crate) struct Options {
    /// `all`, or the scenarios to run, in this order.
    #[arg(required = true, value_parser = PossibleValuesParser::new(scenario::names()))]
    pub(crate) scenarios: Vec<String>,
    /// How long each scenario is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) seconds: u64,
    /// Connections that ask at the same time.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) connections: u16,
    /// Agents for `boot`, `memory-agents` and `mint-fleet`.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
    pub(crate) agents: u64,
    /// Revoked certificates for `mint-fleet`.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    pub(crate) revoked: u64,
    /// Audit entries for `audit-verify`, `audit-proof`, `bundle-export`, `bundle-verify` and `export`.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) entries: u64,
    /// Audit entries that are stored before the server is measured: raise it tenfold to see how the cost grows.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=10_000_000))]
    pub(crate) stored: u64,
    /// Threads of the server; as many as it chooses by itself when not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) workers: Option<u16>,
    /// Write the figures as one JSON document.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Where databases are made and removed again: on the disk whose fsync counts. The folder of this program when not
    /// given.
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
}

/// The run: options, time, the machine and the organisation that is served.
pub(crate) struct Bench {
    pub(crate) options: Options,
    pub(crate) clock: SystemClock,
    pub(crate) cores: NonZeroUsize,
    pub(crate) runtime: Runtime,
    pub(crate) organisation: Arc<Organisation>,
    /// The server, beside this program.
    pub(crate) server: PathBuf,
    /// See [`Filled::of`].
    pub(crate) filled: OnceLock<Filled>,
    scratch: PathBuf,
}

impl Bench {
    pub(crate) fn new(options: Options) -> Result<Self, BenchError> {
        let clock = SystemClock::default();
        let program = std::env::current_exe()?;
        let scratch = options.dir.clone().or_else(|| program.parent().map(PathBuf::from)).unwrap_or_default();
        Ok(Self {
            organisation: Arc::new(Organisation::new(&clock)?),
            server: program.with_file_name("mastio"),
            cores: std::thread::available_parallelism()?,
            runtime: Runtime::new()?,
            filled: OnceLock::new(),
            options,
            clock,
            scratch,
        })
    }

    /// How long a scenario is measured.
    pub(crate) fn time(&self) -> Duration {
        Duration::from_secs(self.options.seconds)
    }

    /// A folder that is removed when dropped.
    pub(crate) fn folder(&self) -> Result<TempDir, BenchError> {
        Ok(tempfile::Builder::new().prefix("mastio-bench-").tempdir_in(&self.scratch)?)
    }
}
