//! `mastio audit verify`: a database, a bundle, a receipt, a proof, or a log that is served.

use std::{
    fs::File,
    io::{Read, Seek},
    path::{Path, PathBuf},
};

use clap::Args;
use mastio_audit::note::{NoteKey, SignedCheckpoint};
use mastio_bundle::{Report, Trusted, receipt, verify};
use mastio_pki::pem;
use mastio_timestamp::Anchors;
use serde_json::json;

use super::{
    against::{self, Held},
    configured, follow, verify_database,
};
use crate::Ended;

/// Longest receipt or proof that is read, in bytes.
const MAX_TEXT: u64 = 4 << 20;

#[derive(Args)]
pub(crate) struct Verify {
    /// A bundle, a receipt, a tlog-proof or a database file. Without it the database that is configured.
    file: Option<PathBuf>,
    /// The database file; without it the one that the configuration names.
    #[arg(long, conflicts_with = "file")]
    db: Option<PathBuf>,
    /// The folder with proxy.env and data.
    #[arg(long, default_value = ".")]
    pub(super) dir: PathBuf,
    /// A folder with archives of a database, in it or below it: they are verified too, as one chain with it. May be
    /// repeated.
    #[arg(long, value_name = "DIR", conflicts_with = "follow")]
    archive: Vec<PathBuf>,
    /// Print one JSON document.
    #[arg(long)]
    pub(super) json: bool,
    /// The organisation's root, from elsewhere than the bundle.
    #[arg(long, value_name = "PEM")]
    pub(super) ca_root: Option<PathBuf>,
    /// The roots of time stamping authorities that you trust.
    #[arg(long, value_name = "PEM")]
    tsa_root: Option<PathBuf>,
    /// The key of the log, from elsewhere than the bundle. With --follow also those of later generations.
    #[arg(long, value_name = "VKEY")]
    pub(super) log_key: Vec<NoteKey>,
    /// The key of a witness that you trust; may be repeated.
    #[arg(long, value_name = "VKEY")]
    witness: Vec<NoteKey>,
    /// A checkpoint that you saved earlier: it must be the beginning of this one.
    #[arg(long, value_name = "CHECKPOINT")]
    against: Option<PathBuf>,
    /// Fail where there is no time stamp.
    #[arg(long)]
    require_timestamp: bool,
    /// The hash of the entry that a tlog-proof is for.
    #[arg(long, value_name = "HEX")]
    entry_hash: Option<String>,
    /// Watch the log of a running Mastio instead, and fail when its history is rewritten.
    #[arg(long, value_name = "URL", conflicts_with_all = ["file", "db"])]
    pub(super) follow: Option<String>,
    /// Seconds between two looks with --follow; 0 looks once.
    #[arg(long, default_value_t = 60)]
    pub(super) interval: u64,
    /// Where --follow keeps the last checkpoint that it saw.
    #[arg(long, value_name = "FILE", default_value = "audit-checkpoint.txt")]
    pub(super) state: PathBuf,
    /// A file with the admin secret: --follow then asks the admin API instead of the public log.
    #[arg(long, value_name = "FILE")]
    pub(super) admin_secret_file: Option<PathBuf>,
}

/// What a file is.
enum Kind {
    Bundle,
    Database,
    Proof,
    Receipt,
}

pub(super) fn run(arguments: &Verify) -> Ended {
    if let Some(url) = &arguments.follow {
        return follow::run(url, arguments);
    }
    match &arguments.file {
        None => database(arguments.db.as_deref(), arguments),
        Some(path) => file(path, arguments).unwrap_or_else(|problem| {
            eprintln!("{}: {problem}", path.display());
            Ended::Refused
        }),
    }
}

fn file(path: &Path, arguments: &Verify) -> Result<Ended, String> {
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    let report = match kind(&mut file).map_err(|error| error.to_string())? {
        Kind::Database => return Ok(database(Some(path), arguments)),
        Kind::Bundle => verify(file, &trusted(arguments)?).map_err(|error| error.to_string())?,
        Kind::Proof => {
            let hash = arguments.entry_hash.as_deref().map(digest).transpose()?;
            receipt::verify_proof(&text(file)?, hash, &trusted(arguments)?)
        }
        Kind::Receipt => receipt::verify_receipt(&text(file)?, &trusted(arguments)?),
    };
    Ok(show(&report, arguments.json))
}

/// Every chain of a database, and its entries against the checkpoint that was saved.
fn database(path: Option<&Path>, arguments: &Verify) -> Ended {
    let ended = verify_database(path, &arguments.dir, &arguments.archive, arguments.json);
    let (Ended::Done, Some(against)) = (ended, &arguments.against) else { return ended };
    let held = configured(path, &arguments.dir).and_then(|path| against::held(&path, &saved(against)?));
    match held {
        Ok(Held::Continues) if arguments.json => Ended::Done,
        Ok(Held::Continues) => {
            println!("ok      {}: these entries continue it", against.display());
            Ended::Done
        }
        Ok(Held::Contradicts(why)) => {
            eprintln!("BROKEN  {}: {why}", against.display());
            Ended::Failed
        }
        Err(problem) => {
            eprintln!("{problem}");
            Ended::Refused
        }
    }
}

fn saved(path: &Path) -> Result<SignedCheckpoint, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    SignedCheckpoint::parse(&text).map_err(|error| format!("--against: {error}"))
}

/// Judged by the first bytes; what is none of the others is taken for a bundle, and refused as one.
fn kind(file: &mut File) -> std::io::Result<Kind> {
    let mut start = Vec::new();
    file.by_ref().take(16).read_to_end(&mut start)?;
    file.rewind()?;
    Ok(match start.as_slice() {
        start if start.starts_with(b"SQLite format 3") => Kind::Database,
        start if start.starts_with(b"c2sp.org/tlog-pr") => Kind::Proof,
        start if start.trim_ascii_start().starts_with(b"{") => Kind::Receipt,
        _ => Kind::Bundle,
    })
}

fn text(file: File) -> Result<String, String> {
    let mut text = String::new();
    file.take(MAX_TEXT).read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok(text)
}

fn digest(text: &str) -> Result<[u8; 32], String> {
    let mut digest = [0; 32];
    let read = hex::decode_to_slice(text, &mut digest);
    read.map(|()| digest).map_err(|_| "--entry-hash is not 64 hex digits".to_owned())
}

/// What the auditor says to know.
fn trusted(arguments: &Verify) -> Result<Trusted, String> {
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let ca_roots = match &arguments.ca_root {
        Some(path) => pem::certificates(&read(path)?).map_err(|error| format!("--ca-root: {error}"))?,
        None => Vec::new(),
    };
    let tsa_roots = match &arguments.tsa_root {
        Some(path) => Some(Anchors::from_pem(&read(path)?).map_err(|error| format!("--tsa-root: {error}"))?),
        None => None,
    };
    let against = arguments.against.as_deref().map(saved).transpose()?;
    Ok(Trusted {
        ca_roots,
        tsa_roots,
        log_key: arguments.log_key.first().cloned(),
        witnesses: arguments.witness.clone(),
        against,
        require_timestamp: arguments.require_timestamp,
    })
}

fn show(report: &Report, as_json: bool) -> Ended {
    let failure = report.failure();
    if as_json {
        println!(
            "{}",
            json!({ "verified": failure.is_none(), "checks": report.checks, "span": report.span })
        );
    } else {
        print!("{report}");
    }
    match failure {
        None => Ended::Done,
        Some(check) => {
            eprintln!("does not verify: {}: {}", check.step, check.text);
            Ended::Failed
        }
    }
}
