//! What cannot be cheaper: one signature, one hash, one fsync, on this machine, now.

use std::{
    io::{Seek, SeekFrom, Write},
    time::Duration,
};

use mastio_core::{Clock, SystemClock, sha256};
use mastio_jose::{Algorithm, SigningKey};

use crate::{bench::Bench, error::BenchError, process};

/// About the length of the signed part of a DPoP proof, and of the hashed text of an audit entry.
const MESSAGE: [u8; 512] = [0x5a; 512];
/// Operations between two looks at the clock.
const BATCH: u32 = 100;
/// How long each operation is measured: CPU time counts in ticks of 10 ms.
const TIME: Duration = Duration::from_secs(1);

/// Costs in CPU time, `fsync` in time that passes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Floors {
    /// ECDSA P-256 with SHA-256 over 512 bytes.
    pub(crate) verify: Duration,
    /// The same.
    pub(crate) sign: Duration,
    /// SHA-256 over 512 bytes.
    pub(crate) hash: Duration,
    /// 4 KiB written and synced.
    pub(crate) fsync: Duration,
}

/// Operations of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) verify: u32,
    pub(crate) sign: u32,
    pub(crate) hash: u32,
}

impl Work {
    pub(crate) const NONE: Self = Self { verify: 0, sign: 0, hash: 0 };
}

impl Floors {
    pub(crate) fn measure(bench: &Bench) -> Result<Self, BenchError> {
        let key = SigningKey::generate()?;
        let (public, signature) = (key.verifying_key(), key.sign_jose(&MESSAGE)?);
        Ok(Self {
            verify: busy(bench, || Ok(public.verify(Algorithm::Es256, &MESSAGE, &signature)?))?,
            sign: busy(bench, || {
                key.sign_jose(&MESSAGE)?;
                Ok(())
            })?,
            hash: busy(bench, || {
                std::hint::black_box(sha256(std::hint::black_box(&MESSAGE)));
                Ok(())
            })?,
            fsync: fsync(bench)?,
        })
    }

    /// The floor of a request.
    pub(crate) fn of(&self, work: Work) -> Duration {
        self.verify * work.verify + self.sign * work.sign + self.hash * work.hash
    }
}

/// The CPU time of one `operation` while every core repeats it: scenarios keep the cores busy too, and two virtual
/// cores may share one that is real. What else runs on the machine takes time, but none of ours.
fn busy(
    bench: &Bench,
    operation: impl Fn() -> Result<(), BenchError> + Sync,
) -> Result<Duration, BenchError> {
    let end = bench.clock.elapsed() + TIME;
    let repeat = || {
        let mut times = 0;
        while bench.clock.elapsed() < end {
            for _ in 0..BATCH {
                operation()?;
            }
            times += BATCH;
        }
        Ok::<_, BenchError>(times)
    };
    let (own, mut times) = (std::process::id(), 0);
    let before = process::cpu(own)?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..bench.cores.get()).map(|_| scope.spawn(repeat)).collect();
        for thread in threads {
            times += thread.join().map_err(|_| BenchError::Thread)??;
        }
        Ok::<_, BenchError>(())
    })?;
    Ok((process::cpu(own)? - before).div_f64(f64::from(times)))
}

fn fsync(bench: &Bench) -> Result<Duration, BenchError> {
    let folder = bench.folder()?;
    let mut file = std::fs::File::create(folder.path().join("fsync"))?;
    timed(&bench.clock, || {
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&[0x5a; 4096])?;
        Ok(file.sync_data()?)
    })
}

fn timed(
    clock: &SystemClock,
    mut operation: impl FnMut() -> Result<(), BenchError>,
) -> Result<Duration, BenchError> {
    let mut taken = Vec::new();
    let end = clock.elapsed() + TIME;
    while clock.elapsed() < end {
        let begin = clock.elapsed();
        operation()?;
        taken.push(clock.elapsed() - begin);
    }
    Ok(median(taken))
}

fn median(mut taken: Vec<Duration>) -> Duration {
    taken.sort_unstable();
    taken.get(taken.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_is_the_sum_of_its_operations() {
        let micros = Duration::from_micros;
        let floors = Floors { verify: micros(50), sign: micros(20), hash: micros(1), fsync: micros(900) };
        assert_eq!(floors.of(Work { verify: 2, sign: 1, hash: 3 }), micros(123));
        assert_eq!(floors.of(Work::NONE), Duration::ZERO);
    }

    #[test]
    fn the_median_ignores_outliers() {
        let micros = Duration::from_micros;
        assert_eq!(median(vec![micros(900), micros(3), micros(2)]), micros(3));
        assert_eq!(median(vec![]), Duration::ZERO);
    }
}
