//! Measures floors and scenarios against the budgets of the design, through real TLS, on loopback only.
//!
//! `cargo run --release -p mastio-bench -- all` prints a table; `--json FILE` writes the same for machines. What counts
//! is the server's CPU per request over keep-alive, and its ratio to the **floor**: the request's cryptographic
//! operations at the cost measured in the same run (design §9). Read it from `scenario`, the list of what is measured:
//!
//! - `floors`: what a signature, a hash and an fsync cost here,
//! - `server`: the real binary as a child process, `organisation`: its CA and its agents, `process`: what it used,
//! - `caller` and `load`: who asks, and many of them for a while,
//! - `requests`, `audit`, `proofs`, `bundle`, `fleet`: the scenarios,
//! - `filled`: a folder with many entries, for those that hand them out,
//! - `report`: table and JSON.

mod audit;
mod bench;
mod bundle;
mod caller;
mod error;
mod filled;
mod fleet;
mod floors;
mod load;
mod organisation;
mod process;
mod proofs;
mod report;
mod requests;
mod scenario;
mod server;

use std::process::ExitCode;

use clap::Parser;

use crate::{
    bench::{Bench, Options},
    error::BenchError,
    floors::Floors,
    report::Report,
    scenario::chosen,
};

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mastio-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<(), BenchError> {
    let scenarios = chosen(&options.scenarios);
    let json = options.json.clone();
    let bench = Bench::new(options)?;
    eprintln!("floors …");
    let mut report = Report::new(Floors::measure(&bench)?, bench.cores);
    for scenario in scenarios {
        eprintln!("{} …", scenario.name);
        report.add(scenario, &(scenario.run)(&bench)?);
    }
    print!("{report}");
    if let Some(path) = json {
        let document = serde_json::to_string_pretty(&report).map_err(std::io::Error::from)?;
        std::fs::write(path, document + "\n")?;
    }
    Ok(())
}
