//! Scenarios over HTTP: a server of its own each, callers on kept-alive TLS connections.

use std::{path::Path, time::Duration};

use crate::{
    audit,
    bench::Bench,
    caller::{Caller, Kind},
    error::BenchError,
    load::{Load, Taken},
    scenario::Measured,
    server::{self, Server},
};

/// Proofs are dated in whole seconds, and one dated before the start asks for another (design decision 12).
const FIRST_SECOND: Duration = Duration::from_millis(1100);

/// As fast as answers come.
pub(crate) fn measure(bench: &Bench, kind: Kind) -> Result<Measured, BenchError> {
    let folder = bench.folder()?;
    let server = serve(bench, folder.path())?;
    let callers = warmed_up(bench, &server, kind)?;
    drive(bench, &server, callers, Load::full(bench.time())).map(|(_, measured)| measured)
}

/// At half the rate that the server reached just before.
pub(crate) fn at_half_load(bench: &Bench, kind: Kind) -> Result<Measured, BenchError> {
    let folder = bench.folder()?;
    let server = serve(bench, folder.path())?;
    let callers = warmed_up(bench, &server, kind)?;
    let (callers, full) = drive(bench, &server, callers, Load::full(bench.time() / 2))?;
    let each = f64::from(bench.options.connections) / full.rate();
    let half = Load { every: Some(Duration::from_secs_f64(each * 2.0)), ..Load::full(bench.time()) };
    drive(bench, &server, callers, half).map(|(_, measured)| measured)
}

/// Connected, and past the first answer, which asks for a nonce.
pub(crate) fn warmed_up(bench: &Bench, server: &Server, kind: Kind) -> Result<Vec<Caller>, BenchError> {
    bench.runtime.block_on(async {
        tokio::time::sleep(FIRST_SECOND).await;
        let callers = Caller::all(bench, server, kind).await?;
        let once = Load { most: 1, ..Load::full(bench.time()) };
        Ok(once.drive(callers, &bench.clock).await?.0)
    })
}

/// Has `callers` ask `server`, and reads what that cost it.
pub(crate) fn drive(
    bench: &Bench,
    server: &Server,
    callers: Vec<Caller>,
    load: Load,
) -> Result<(Vec<Caller>, Measured), BenchError> {
    let before = server.cpu()?;
    let (callers, taken) = bench.runtime.block_on(load.drive(callers, &bench.clock))?;
    let measured = Measured::new(&taken, server.cpu()? - before);
    Ok((callers, measured))
}

/// A server on a folder of its own, with as many audit entries stored as the options say.
fn serve(bench: &Bench, dir: &Path) -> Result<Server, BenchError> {
    prepare(bench, dir)?;
    Server::start(bench, dir)
}

/// Makes a database by a first start, with as many audit entries stored as the options say.
pub(crate) fn prepare(bench: &Bench, dir: &Path) -> Result<(), BenchError> {
    bench.organisation.install(dir)?;
    drop(Server::start(bench, dir)?);
    audit::fill(bench, &server::database(dir), bench.options.stored)
}

impl Measured {
    /// What `taken` says, at the cost of `cpu`.
    pub(crate) fn new(taken: &Taken, cpu: Duration) -> Self {
        Self { count: taken.count(), wall: taken.wall, cpu, took: taken.quantiles(), resident: None }
    }
}
