//! What a process used, from `/proc` (proc(5)).

use std::time::Duration;

use crate::error::BenchError;

/// CPU time of all threads of a process, in user mode and in the kernel. It counts in ticks, 10 ms as a rule.
pub(crate) fn cpu(pid: u32) -> Result<Duration, BenchError> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = ticks(&stat).ok_or(BenchError::Proc("utime and stime"))?;
    Ok(Duration::from_secs(ticks).div_f64(rustix::param::clock_ticks_per_second() as f64))
}

/// Resident memory of a process in bytes: now, or the most it ever was.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Resident {
    Now,
    Peak,
}

impl Resident {
    pub(crate) fn of(self, pid: u32) -> Result<u64, BenchError> {
        let name = match self {
            Self::Now => "VmRSS",
            Self::Peak => "VmHWM",
        };
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        kibibytes(&status, name).map(|kibibytes| kibibytes * 1024).ok_or(BenchError::Proc(name))
    }
}

/// `utime` and `stime` are the fields 14 and 15; the second field, a name in parentheses, may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

fn kibibytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_spaces_and_parentheses_do_not_shift_fields() {
        let stat = "4242 (a ) (b) S 1 2 3 0 -1 4194560 5 6 7 8 150 25 0 0 20 0 3 0 99";
        assert_eq!(ticks(stat), Some(175));
        assert_eq!(ticks("4242 (x) S 1"), None);
    }

    #[test]
    fn memory_is_found_by_its_whole_name() {
        let status = "Name:\tmastio\nVmHWM:\t   30000 kB\nVmRSS:\t   20480 kB\n";
        assert_eq!(kibibytes(status, "VmRSS"), Some(20_480));
        assert_eq!(kibibytes(status, "VmR"), None);
    }

    #[test]
    fn this_process_uses_something() {
        let own = std::process::id();
        // Not compared: the two are read one after the other, and other tests free memory in between.
        assert!(Resident::Now.of(own).unwrap() > 0 && Resident::Peak.of(own).unwrap() > 0);
        assert!(cpu(own).is_ok());
    }
}
