//! `mastio audit verify`, and the room of the other commands around the audit log.

mod accept_restore;
mod against;
mod archive;
mod explain;
mod follow;
mod kind;
mod origins;
mod rebuild_tree;
mod restore_archive;
mod series;
mod verify;
mod witness_key;

use mastio_core::{counted, plural};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use mastio_audit::SetBack;
use mastio_config::{Database, Settings, Source};
use mastio_store::audit::{ChainFinding, verify_file};
use serde_json::{Value, json};

use crate::{Ended, out::say};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Verify a bundle, a receipt or a proof, or every chain in a database file, offline, and name what does not hold.
    /// Exit code 2 if something does not.
    Verify(Box<verify::Verify>),
    /// Say in plain words who did what an entry tells, by which credential, why, and what followed.
    Explain(explain::Explain),
    /// Accept that the database is an older copy: write down what is lost, and sign checkpoints under a new name.
    AcceptRestore(accept_restore::AcceptRestore),
    /// Compute the tree anew from the entries, after its stored hashes or its size were damaged. On a stopped server; the
    /// entries must have the root of the newest signed checkpoint.
    RebuildTree(rebuild_tree::Arguments),
    /// Print the key with which this Mastio cosigns the checkpoints of other logs, and make it if there is none.
    WitnessKey(witness_key::WitnessKey),
    /// Move old entries into a verified file, and delete them from the database. The log goes on behind them.
    Archive(archive::Arguments),
    /// Bring archived entries back for a search, beside the log.
    RestoreArchive(restore_archive::Arguments),
}

pub(crate) fn run(command: &Command) -> Ended {
    match command {
        Command::Verify(arguments) => verify::run(arguments),
        Command::Explain(arguments) => explain::run(arguments),
        Command::AcceptRestore(arguments) => accept_restore::run(arguments),
        Command::RebuildTree(arguments) => rebuild_tree::run(arguments),
        Command::WitnessKey(arguments) => witness_key::run(arguments),
        Command::Archive(arguments) => archive::run(arguments),
        Command::RestoreArchive(arguments) => restore_archive::run(arguments),
    }
}

/// Verifies every chain of a database, and before it the archives of its own chain in the folders `archives`.
/// Returns the names of the chains.
fn verify_database(path: &Path, archives: &[PathBuf], as_json: bool) -> Result<(Ended, Vec<String>), String> {
    let archives = (!archives.is_empty()).then(|| series::verify(archives, path, as_json)).transpose();
    let archives = match archives.map_err(|error| error.to_string())?.transpose() {
        Ok(archives) => archives,
        Err(broken) => {
            say!("BROKEN  {broken}");
            return Ok((Ended::Failed, Vec::new()));
        }
    };
    let bar = ProgressBar::new_spinner().with_style(style());
    let findings = verify_file(path, &mut |rows| bar.set_position(rows));
    bar.finish_and_clear();
    let findings = findings.map_err(|error| format!("{}: {error}", path.display()))?;
    report(&findings, archives.as_ref(), as_json);
    let intact = findings.iter().all(|finding| finding.result.is_ok());
    let chains = findings.into_iter().map(|finding| finding.chain).collect();
    Ok((if intact { Ended::Done } else { Ended::Failed }, chains))
}

/// The database that is named, else the configured one.
fn configured(db: Option<&Path>, dir: &Path) -> Result<PathBuf, String> {
    if let Some(path) = db {
        return if path.exists() {
            Ok(path.to_owned())
        } else {
            Err(format!("{}: there is no such file", path.display()))
        };
    }
    let loaded = Settings::load(&Source::from_process(dir), dir).map_err(|problems| {
        format!("{problems}\nname the database with --db FILE to read it without a configuration")
    })?;
    let Database::Sqlite(path) = loaded.settings.database;
    Ok(path)
}

/// Who runs the command, as the log names them.
pub(crate) fn who() -> String {
    format!("command line (uid {})", rustix::process::getuid().as_raw())
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {pos} entries verified ({per_sec})")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn report(findings: &[ChainFinding], archives: Option<&Value>, as_json: bool) {
    if as_json {
        let chains: Vec<_> = findings.iter().map(in_json).collect();
        say!("{}", json!({ "chains": chains, "archives": archives }));
        return;
    }
    if findings.is_empty() {
        say!("no chains: the audit log is empty");
    }
    for finding in findings {
        let unchained = match finding.unchained.rows {
            0 => String::new(),
            rows => format!(", {} outside the chain", counted(rows, "row", "rows")),
        };
        match &finding.result {
            Ok(report) => say!(
                "ok      {}: {}{}, last {}{unchained}{}{}",
                finding.chain,
                counted(report.rows, "entry", "entries"),
                behind_archive(report.first_seq),
                report.head.hash.map_or_else(|| "none".to_owned(), hex::encode),
                report.set_back.as_ref().map(clock_words).unwrap_or_default(),
                ambiguous_words(report.ambiguous),
            ),
            Err(broken) => say!("BROKEN  {}: {broken}{unchained}", finding.chain),
        }
    }
}

fn behind_archive(first_seq: Option<u64>) -> String {
    match first_seq.unwrap_or(1) {
        1 => String::new(),
        first => format!(" from {first} on, behind the newest archive"),
    }
}

fn clock_words(set_back: &SetBack) -> String {
    let SetBack { seq, entries, by } = set_back;
    format!(
        "\n        the clock was set back: {} from {seq} on {} dated up to {} s before an earlier one",
        counted(*entries, "entry", "entries"),
        plural(*entries, "is", "are"),
        by.as_secs()
    )
}

fn ambiguous_words(rows: u64) -> String {
    match rows {
        0 => String::new(),
        rows => format!(
            "\n        {} `|` or a control character outside the details: the columns can be cut elsewhere under the \
             same hash; Mastio writes none such",
            counted(rows, "entry holds", "entries hold")
        ),
    }
}

fn in_json(finding: &ChainFinding) -> serde_json::Value {
    let result = match &finding.result {
        Ok(report) => json!({
            "intact": true,
            "entries": report.rows,
            "first_seq": report.first_seq,
            "last_seq": report.head.seq,
            "last_hash": report.head.hash.map(hex::encode),
            "last_timestamp": report.last_timestamp,
            "ambiguous": report.ambiguous,
            "clock_set_back": report.set_back.map(|set_back| json!({
                "seq": set_back.seq,
                "entries": set_back.entries,
                "seconds": set_back.by.as_secs(),
            })),
        }),
        Err(broken) => json!({
            "intact": false,
            "seq": broken.seq,
            "row_id": broken.id,
            "problem": broken.problem.to_string(),
        }),
    };
    json!({ "chain": finding.chain, "result": result, "rows_outside_the_chain": finding.unchained.rows })
}

#[cfg(test)]
mod tests {
    use mastio_audit::{ChainReport, LocalVerifier, Unchained};

    use super::*;

    #[test]
    fn entries_that_can_be_cut_elsewhere_are_told() {
        let report = ChainReport { ambiguous: 2, ..LocalVerifier::new().finish() };
        assert!(ambiguous_words(report.ambiguous).contains("2 entries hold `|`"));
        assert_eq!(ambiguous_words(0), "");
        let unchained = Unchained::new().finish();
        let finding = ChainFinding { chain: "acme".to_owned(), result: Ok(report), unchained };
        assert_eq!(in_json(&finding)["result"]["ambiguous"], 2);
    }
}
