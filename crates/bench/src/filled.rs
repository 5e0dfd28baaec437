//! A folder whose audit log has many entries, and what a server hands out of it.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use mastio_core::Clock;
use tempfile::TempDir;

use crate::{
    audit,
    bench::Bench,
    error::BenchError,
    process::Resident,
    scenario::Measured,
    server::{self, Server},
};

/// The folder of a server that does not run. It is filled once for all scenarios: that takes longer than they do.
pub(crate) struct Filled {
    folder: TempDir,
}

impl Filled {
    /// The folder of this run.
    pub(crate) fn of(bench: &Bench) -> Result<&Self, BenchError> {
        if let Some(filled) = bench.filled.get() {
            return Ok(filled);
        }
        let folder = bench.folder()?;
        bench.organisation.install(folder.path())?;
        drop(Server::start(bench, folder.path())?);
        audit::fill(bench, &server::database(folder.path()), bench.options.entries)?;
        Ok(bench.filled.get_or_init(|| Self { folder }))
    }

    /// Where the bundle of all entries is once it was written.
    pub(crate) fn bundle(&self) -> PathBuf {
        self.folder.path().join("bundle.tar.gz")
    }

    /// Has a fresh server answer one request, and measures what it takes from its start on: its peak of memory has the
    /// work on the entries that it finds as well.
    pub(crate) fn download(&self, bench: &Bench, request: Request) -> Result<Measured, BenchError> {
        let server = Server::start(bench, self.folder.path())?;
        let (cpu, begin) = (server.cpu()?, bench.clock.elapsed());
        request.send(bench, &server, self.folder.path())?;
        let wall = bench.clock.elapsed() - begin;
        let resident = server.resident(Resident::Peak)?;
        Ok(handed_out(bench, wall, server.cpu()? - cpu, resident))
    }
}

/// What all entries took together.
pub(crate) fn handed_out(bench: &Bench, wall: Duration, cpu: Duration, resident: u64) -> Measured {
    Measured { count: bench.options.entries, wall, cpu, took: None, resident: Some(resident) }
}

/// What an operator asks for.
pub(crate) struct Request {
    /// Path and query.
    pub(crate) path: String,
    /// What is sent, if anything.
    pub(crate) body: Option<String>,
    /// Where the answer goes.
    pub(crate) out: PathBuf,
}

impl Request {
    /// With curl, so that the answer goes to its file as it comes. The secret stands in a file as well.
    fn send(&self, bench: &Bench, server: &Server, dir: &Path) -> Result<(), BenchError> {
        let (ca, secret) = (dir.join("bench-ca.pem"), dir.join("bench-headers"));
        std::fs::write(&ca, bench.organisation.ca_pem())?;
        std::fs::write(&secret, server.admin_header())?;
        let mut curl = Command::new("curl");
        curl.args(["-fsS", "--cacert"]).arg(ca).arg("-H").arg(format!("@{}", secret.display()));
        if let Some(body) = &self.body {
            curl.args(["-H", "Content-Type: application/json", "-d", body]);
        }
        let status = curl.arg("-o").arg(&self.out).arg(server.url().to_owned() + &self.path).status()?;
        if status.success() { Ok(()) } else { Err(BenchError::Audit(format!("curl: {status}"))) }
    }
}
