//! The audit log without HTTP: the log, its tree and the verifier in this process, on a real file.

use std::{path::Path, sync::Arc, time::Duration};

use mastio_authority::boot;
use mastio_config::{Settings, Source};
use mastio_core::{Clock, Event, Jkt, Kid, Rng, SystemRng, event::catalogue, sha256};
use mastio_ledger::Ledger;
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

/// Entries that are durable when they are acknowledged, by many writers, while the tree grows over them and is signed.
pub(crate) fn append(bench: &Bench) -> Result<Measured, BenchError> {
    let folder = bench.folder()?;
    let ledger = bench.runtime.block_on(begin_log(bench, folder.path()))?;
    let store = ledger.authority().store();
    let writers = (0..WRITERS).map(|_| Caller::Append(Arc::clone(store), entry(bench))).collect();
    let keeping = bench.runtime.spawn(keep(ledger.clone()));
    let before = own_cpu()?;
    let load = Load::full(bench.time());
    let driven = bench.runtime.block_on(load.drive(writers, &bench.clock));
    keeping.abort();
    Ok(Measured::new(&driven?.1, own_cpu()? - before))
}

/// A whole chain read from a file and verified against its newest checkpoint, on one core; again and again, at least
/// once.
pub(crate) fn verify(bench: &Bench) -> Result<Measured, BenchError> {
    let folder = bench.folder()?;
    let ledger = bench.runtime.block_on(begin_log(bench, folder.path()))?;
    let file = ledger.authority().store().database().path().to_owned();
    bench.runtime.block_on(async {
        for unit in units(bench, bench.options.entries) {
            ledger.authority().store().submit(unit).await?;
        }
        ledger.checkpoint_now().await.map_err(|error| BenchError::Audit(error.to_string()))
    })?;
    let (before, end) = (own_cpu()?, bench.clock.elapsed() + bench.time());
    let (mut runs, mut rows) = (Vec::new(), 0);
    while runs.is_empty() || bench.clock.elapsed() < end {
        let begin = bench.clock.elapsed();
        let verified = verified(&file)?;
        runs.push(bench.clock.elapsed() - begin);
        if verified < bench.options.entries {
            return Err(BenchError::Audit(format!("{verified} of {} entries found", bench.options.entries)));
        }
        rows += verified;
    }
    let taken: Taken = runs.into_iter().collect();
    Ok(Measured { count: rows, took: None, ..Measured::new(&taken, own_cpu()? - before) })
}

/// An authority with its log, in this process and served to nobody.
async fn begin_log(bench: &Bench, dir: &Path) -> Result<Ledger, BenchError> {
    let secret = ("MCP_PROXY_ADMIN_SECRET".to_owned(), SystemRng.uuid().to_string());
    let settings = Settings::load(&Source::new([secret], ""), dir)
        .map_err(|problems| BenchError::Audit(problems.to_string()))?
        .settings;
    let clock: Arc<dyn Clock> = Arc::new(bench.clock);
    let authority = boot::start(settings, clock, Arc::new(SystemRng))
        .await
        .map_err(|error| BenchError::Audit(error.to_string()))?;
    Ok(Ledger::new(authority))
}

/// Looks after tree and checkpoints as often as the server does.
async fn keep(ledger: Ledger) {
    loop {
        ledger.keep_log().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
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
    submit_all(bench, file, units(bench, entries))
}

fn units(bench: &Bench, entries: u64) -> impl Iterator<Item = Unit> {
    (0..entries).step_by(PER_UNIT as usize).map(move |first| {
        let count = PER_UNIT.min(entries - first);
        Unit { events: (0..count).map(|_| entry(bench)).collect(), ..Unit::default() }
    })
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
