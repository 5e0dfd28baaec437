//! The audit log handed out, all of it: as an export, as an evidence bundle, and that bundle verified.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use mastio_core::Clock;

use crate::{
    bench::Bench,
    error::BenchError,
    filled::{Filled, Request, handed_out},
    process::{self, Resident},
    scenario::Measured,
};

/// How often a child is looked at: its peak counts, so that a look before its end is enough.
const LOOK: Duration = Duration::from_millis(20);

/// A bundle of all entries, written by the server: its peak of memory.
pub(crate) fn export(bench: &Bench) -> Result<Measured, BenchError> {
    let filled = Filled::of(bench)?;
    let range = format!(r#"{{"first_seq":1,"last_seq":{},"timestamp":"none"}}"#, bench.options.entries);
    let path = "/v1/admin/audit/bundle".to_owned();
    filled.download(bench, Request { path, body: Some(range), out: filled.bundle() })
}

/// The same bundle, verified by the command: its peak of memory.
pub(crate) fn verify(bench: &Bench) -> Result<Measured, BenchError> {
    let file = Filled::of(bench)?.bundle();
    if !file.exists() {
        export(bench)?;
    }
    let begin = bench.clock.elapsed();
    let mut command = Command::new(&bench.server);
    command.args(["audit", "verify"]).arg(&file).stdin(Stdio::null()).stdout(Stdio::null());
    let (resident, cpu) = watched(command.spawn()?)?;
    Ok(handed_out(bench, bench.clock.elapsed() - begin, cpu, resident))
}

/// An export of all entries, a line each: the server's peak of memory.
pub(crate) fn lines(bench: &Bench) -> Result<Measured, BenchError> {
    // There are a few more: those that the server wrote itself.
    let path = format!("/v1/admin/audit/export?limit={}", 2 * bench.options.entries + 1000);
    let request = Request { path, body: None, out: PathBuf::from("/dev/null") };
    Filled::of(bench)?.download(bench, request)
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
