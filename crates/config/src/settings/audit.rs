//! How the audit log is made provable to others, and what becomes of old entries (design decisions 17 to 19).

use std::{num::NonZeroU64, path::PathBuf, time::Duration};

use super::{
    tsa::{Tsa, tsa},
    witnessing::{Witnessing, witnessing},
};
use crate::{reader::Reader, variable::variable};

const DAY: u64 = 24 * 3600;

/// How the audit log is made provable to others, and what becomes of old entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// The name of a log that has none yet; `None`: one of the public address, or of the organisation.
    pub origin: Option<String>,
    /// How often a checkpoint is signed, if there are new entries.
    pub checkpoint_every: Duration,
    /// Whether everybody may read checkpoints and hashes.
    pub public_log: bool,
    /// Who stamps the log with the time; `None`: nobody.
    pub tsa: Option<Tsa>,
    /// How often all of it is verified in the background; `None`: never.
    pub self_check_every: Option<Duration>,
    /// How many entries one export may hold; `None`: any number.
    pub export_max: Option<NonZeroU64>,
    /// Whose checkpoints are cosigned, and who cosigns ours.
    pub witnessing: Witnessing,
    /// Where archives go that are asked for over HTTP, or made because the disk fills up.
    pub archive_dir: PathBuf,
    /// How old entries must be to be archived when the disk fills up; `None`: they stay until an operator decides.
    pub auto_archive: Option<Duration>,
    /// How full the disk of the database may get before that is told, in percent.
    pub disk_warn_percent: u8,
}

pub(super) fn audit(read: &mut Reader<'_>) -> Option<Audit> {
    let origin = read.parse(variable!("MCP_PROXY_AUDIT_ORIGIN"), origin);
    let checkpoint_every = read.duration(variable!("MCP_PROXY_AUDIT_CHECKPOINT_INTERVAL_SECONDS"), 1);
    let public_log = read.boolean(variable!("MCP_PROXY_AUDIT_PUBLIC_LOG"));
    let tsa = tsa(read);
    let witnessing = witnessing(read);
    let self_check_every = read.duration(variable!("MCP_PROXY_AUDIT_SELF_CHECK_INTERVAL_SECONDS"), 1);
    let export_max = read.integer(variable!("CULLIS_AUDIT_EXPORT_MAX"));
    let archive_dir = read.path(variable!("MCP_PROXY_AUDIT_ARCHIVE_DIR"));
    let auto_archive = read.duration(variable!("MCP_PROXY_AUDIT_AUTO_ARCHIVE_DAYS"), DAY);
    let disk_warn_percent = read.integer(variable!("MCP_PROXY_AUDIT_DISK_WARN_PERCENT"));
    Some(Audit {
        origin,
        checkpoint_every: checkpoint_every?,
        public_log: public_log?,
        tsa: tsa?,
        self_check_every: Some(self_check_every?).filter(|every| !every.is_zero()),
        export_max: NonZeroU64::new(export_max?),
        witnessing,
        archive_dir: archive_dir?,
        auto_archive,
        disk_warn_percent: disk_warn_percent?,
    })
}

/// What C2SP signed-note permits as the name of a key, with room for the number of a generation.
fn origin(text: &str) -> Option<String> {
    let fits = |unit: char| !unit.is_whitespace() && !unit.is_control() && unit != '+';
    ((1..=200).contains(&text.len()) && text.chars().all(fits)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_fits_a_checkpoint() {
        for (text, fits) in [("mastio.example.com/audit", true), ("a b", false), ("a+b", false), ("", false)]
        {
            assert_eq!(origin(text).is_some(), fits, "{text}");
        }
        assert!(origin(&"a".repeat(201)).is_none());
    }
}
