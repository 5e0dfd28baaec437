//! The audit log without HTTP: the store and the verifier in this process, on a real file.

use std::{path::Path, sync::Arc, time::Duration};

use mastio_core::{Clock, Event, Jkt, Kid, Rng, SystemRng, event::catalogue, sha256};
use mastio_store::{OpenOptions, Store, Unit, audit::verify_file, sqlite::Database};

use crate::{
    bench::Bench,
    caller::Caller,
    error::BenchError,
    load::{Load, Taken},
    process,
    scenario::Measured,
};

/// Writers that wait for their entry at the same time: as many as a busy server has.
const WRITERS: usize = 512;
/// Entries of one unit when a file is filled.
const PER_UNIT: u64 = 1000;

/// Entries that are durable when they are acknowledged, by many writers.
pub(crate) fn append(bench: &Bench) -> Result<Measured, BenchError> {
    let folder = bench.folder()?;
    let store = Arc::new(open(bench, &folder.path().join("audit.db"))?);
    let writers = (0..WRITERS).map(|_| Caller::Append(Arc::clone(&store), entry(bench))).collect();
    let before = own_cpu()?;
    let load = Load::full(bench.time());
    let (_, taken) = bench.runtime.block_on(load.drive(writers, &bench.clock))?;
    Ok(Measured::new(&taken, own_cpu()? - before))
}

/// A whole chain read from a file and verified, on one core; again and again, at least once.
pub(crate) fn verify(bench: &Bench) -> Result<Measured, BenchError> {
    let folder = bench.folder()?;
    let file = folder.path().join("audit.db");
    open(bench, &file)?.close();
    fill(bench, &file, bench.options.entries)?;
    let (before, end) = (own_cpu()?, bench.clock.elapsed() + bench.time());
    let mut runs = Vec::new();
    while runs.is_empty() || bench.clock.elapsed() < end {
        let begin = bench.clock.elapsed();
        let rows = verified(&file)?;
        runs.push(bench.clock.elapsed() - begin);
        if rows != bench.options.entries {
            return Err(BenchError::Audit(format!("{rows} of {} entries found", bench.options.entries)));
        }
    }
    let (cpu, count) = (own_cpu()? - before, bench.options.entries * runs.len() as u64);
    let taken: Taken = runs.into_iter().collect();
    Ok(Measured { count, took: None, ..Measured::new(&taken, cpu) })
}

fn verified(file: &Path) -> Result<u64, BenchError> {
    let mut rows = 0;
    for finding in verify_file(file, &mut |_| {})? {
        rows += finding.result.map_err(|broken| BenchError::Audit(broken.to_string()))?.rows;
    }
    Ok(rows)
}

/// Appends `entries` entries to a database that nobody serves.
pub(crate) fn fill(bench: &Bench, file: &Path, entries: u64) -> Result<(), BenchError> {
    let units = (0..entries).step_by(PER_UNIT as usize).map(|first| {
        let count = PER_UNIT.min(entries - first);
        Unit { events: (0..count).map(|_| entry(bench)).collect(), ..Unit::default() }
    });
    submit_all(bench, file, units)
}

/// Writes units into a database that nobody serves.
pub(crate) fn submit_all(
    bench: &Bench,
    file: &Path,
    units: impl Iterator<Item = Unit>,
) -> Result<(), BenchError> {
    let store = open(bench, file)?;
    for unit in units {
        bench.runtime.block_on(store.submit(unit))?;
    }
    store.close();
    Ok(())
}

/// A fresh or stored database in this process.
pub(crate) fn open(bench: &Bench, file: &Path) -> Result<Store, BenchError> {
    let backups = file.with_extension("backups");
    let options = OpenOptions { path: file, backups: &backups, now: bench.clock.now() };
    let (database, _) = Database::open(&options)?;
    let clock = Arc::new(bench.clock);
    Ok(Store::start(database, bench.organisation.id.clone(), clock, &SystemRng)?)
}

/// An entry as minting writes it: the most frequent one, of usual length.
fn entry(bench: &Bench) -> Event {
    let random: [u8; 32] = SystemRng.bytes();
    let details = catalogue::TokenIssued {
        jti: SystemRng.uuid().to_string(),
        kid: Kid::from_text("bench"),
        cnf_jkt: Some(Jkt::new(sha256(&random))),
        cnf_x5t: None,
        method: "assertion",
        expires_at: bench.clock.now().plus(Duration::from_secs(300)),
        request_id: SystemRng.uuid().to_string(),
    };
    Event::new(&details).about(format!("{}::caller-0", bench.organisation.id))
}

fn own_cpu() -> Result<Duration, BenchError> {
    process::cpu(std::process::id())
}
