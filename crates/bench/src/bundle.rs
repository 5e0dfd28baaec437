//! Evidence bundles of many entries: what the server needs to write one, and what it takes to verify it.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use mastio_core::Clock;
use tempfile::TempDir;

use crate::{
    audit,
    bench::Bench,
    error::BenchError,
    process::{self, Resident},
    scenario::Measured,
    server::{self, Server},
};

/// How often a child is looked at: its peak counts, so that a look before its end is enough.
const LOOK: Duration = Duration::from_millis(20);

/// A bundle of all entries, written by the server: its peak of memory.
pub(crate) fn export(bench: &Bench) -> Result<Measured, BenchError> {
    let made = Made::new(bench)?;
    Ok(Measured { resident: Some(made.server.resident(Resident::Peak)?), ..made.written })
}

/// The same bundle, verified by the command: its peak of memory.
pub(crate) fn verify(bench: &Bench) -> Result<Measured, BenchError> {
    let Made { folder: _folder, file, server, .. } = Made::new(bench)?;
    drop(server);
    let begin = bench.clock.elapsed();
    let mut command = Command::new(&bench.server);
    command.args(["audit", "verify"]).arg(&file).stdin(Stdio::null()).stdout(Stdio::null());
    let (resident, cpu) = watched(command.spawn()?)?;
    Ok(measured(bench, bench.clock.elapsed() - begin, cpu, resident))
}

fn measured(bench: &Bench, wall: Duration, cpu: Duration, resident: u64) -> Measured {
    Measured { count: bench.options.entries, wall, cpu, took: None, resident: Some(resident) }
}

/// Waits for `child`, and tells its peak of memory and the CPU time that it used.
fn watched(mut child: Child) -> Result<(u64, Duration), BenchError> {
    let (mut resident, mut cpu) = (0, Duration::ZERO);
    loop {
        // One that has just ended has no memory to tell of.
        resident = Resident::Peak.of(child.id()).map_or(resident, |peak| peak.max(resident));
        cpu = process::cpu(child.id()).map_or(cpu, |used| used.max(cpu));
        match child.try_wait()? {
            Some(status) if status.success() => return Ok((resident, cpu)),
            Some(status) => return Err(BenchError::Audit(status.to_string())),
            None => std::thread::sleep(LOOK),
        }
    }
}

/// A server with many entries, and a bundle of them.
struct Made {
    folder: TempDir,
    file: PathBuf,
    server: Server,
    written: Measured,
}

impl Made {
    fn new(bench: &Bench) -> Result<Self, BenchError> {
        let folder = bench.folder()?;
        bench.organisation.install(folder.path())?;
        drop(Server::start(bench, folder.path())?);
        audit::fill(bench, &server::database(folder.path()), bench.options.entries)?;
        let server = Server::start(bench, folder.path())?;
        let (file, before, begin) =
            (folder.path().join("bundle.tar.gz"), server.cpu()?, bench.clock.elapsed());
        download(bench, &server, folder.path(), &file)?;
        let wall = bench.clock.elapsed() - begin;
        let written = measured(bench, wall, server.cpu()? - before, 0);
        Ok(Self { folder, file, server, written })
    }
}

/// With curl, so that the body goes to a file as it comes. The secret stands in a file as well.
fn download(bench: &Bench, server: &Server, dir: &Path, file: &Path) -> Result<(), BenchError> {
    let (ca, secret) = (dir.join("bench-ca.pem"), dir.join("bench-headers"));
    std::fs::write(&ca, bench.organisation.ca_pem())?;
    std::fs::write(&secret, server.admin_header())?;
    let range = format!(r#"{{"first_seq":1,"last_seq":{},"timestamp":"none"}}"#, bench.options.entries);
    let mut curl = Command::new("curl");
    curl.args(["-fsS", "-X", "POST", "-H", "Content-Type: application/json", "-d", &range, "--cacert"]);
    curl.arg(ca).arg("-H").arg(format!("@{}", secret.display())).arg("-o").arg(file);
    let status = curl.arg(format!("{}/v1/admin/audit/bundle", server.url())).status()?;
    if status.success() { Ok(()) } else { Err(BenchError::Audit(format!("curl: {status}"))) }
}
