//! `mastio audit verify`: a database, a bundle, a receipt, a proof, or a log that is served.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use clap::Args;
use mastio_audit::{checkpoint::SignedCheckpoint, note::NoteKey};
use mastio_bundle::{Report, Trusted, receipt, verify};
use mastio_core::hash_from_hex;
use mastio_ledger::checkpoint_file;
use mastio_pki::pem;
use mastio_timestamp::Anchors;
use serde_json::json;

use super::{
    against::{self, Held},
    configured, follow,
    kind::{self, Kind},
    origins, verify_database,
};
use crate::{
    Ended,
    out::{complain, say, say_part},
};

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
    pub(super) archive: Vec<PathBuf>,
    /// Print one JSON document.
    #[arg(long)]
    pub(super) json: bool,
    /// The organisation's root, from elsewhere than the bundle.
    #[arg(long, value_name = "PEM")]
    pub(super) ca_root: Option<PathBuf>,
    /// The roots of time stamping authorities that you trust.
    #[arg(long, value_name = "PEM")]
    pub(super) tsa_root: Option<PathBuf>,
    /// The key of the log, from elsewhere than what is verified; may be repeated, for other generations of it.
    #[arg(long, value_name = "VKEY")]
    pub(super) log_key: Vec<NoteKey>,
    /// The key of a witness that you trust; may be repeated.
    #[arg(long, value_name = "VKEY")]
    pub(super) witness: Vec<NoteKey>,
    /// A checkpoint that you saved earlier: it must be the beginning of this one.
    #[arg(long, value_name = "CHECKPOINT")]
    pub(super) against: Option<PathBuf>,
    /// Fail where there is no time stamp.
    #[arg(long)]
    pub(super) require_timestamp: bool,
    /// The hash of the entry that a tlog-proof is for.
    #[arg(long, value_name = "HEX")]
    pub(super) entry_hash: Option<String>,
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

pub(super) fn run(arguments: &Verify) -> Ended {
    let ended = match (&arguments.follow, &arguments.file) {
        (Some(url), _) => Kind::Log.takes(arguments).map(|()| follow::run(url, arguments)),
        (None, None) => Kind::Database
            .takes(arguments)
            .and_then(|()| trusted(arguments))
            .and_then(|trusted| database(arguments.db.as_deref(), arguments, &trusted)),
        (None, Some(path)) => file(path, arguments),
    };
    ended.unwrap_or_else(|problem| {
        complain!("{problem}");
        Ended::Refused
    })
}

fn file(path: &Path, arguments: &Verify) -> Result<Ended, String> {
    let about = |problem: String| format!("{}: {problem}", path.display());
    let (kind, mut file) = opened(path, arguments).map_err(about)?;
    // A file that an option names is told by that option.
    let trusted = trusted(arguments)?;
    let judged = match kind {
        Kind::Database | Kind::Log => return database(Some(path), arguments, &trusted).map_err(about),
        Kind::Bundle => verify(file, &trusted).map_err(|error| error.to_string()),
        Kind::Proof => proof(&mut file, arguments, &trusted),
        Kind::Receipt => kind::text(&mut file).map(|text| receipt::verify_receipt(&text, &trusted)),
    };
    Ok(show(&judged.map_err(about)?, arguments.json))
}

fn opened(path: &Path, arguments: &Verify) -> Result<(Kind, File), String> {
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    let kind = Kind::of(&mut file)?;
    kind.takes(arguments)?;
    Ok((kind, file))
}

fn proof(file: &mut File, arguments: &Verify, trusted: &Trusted) -> Result<Report, String> {
    let (Some(hash), false) = (&arguments.entry_hash, arguments.log_key.is_empty()) else {
        return Err(
            "a tlog-proof names neither its entry nor the log's key: pass --entry-hash and --log-key"
                .to_owned(),
        );
    };
    Ok(receipt::verify_proof(&kind::text(file)?, Some(digest(hash)?), trusted))
}

/// Every chain of a database, and then its entries and its keys against what is known from elsewhere.
fn database(path: Option<&Path>, arguments: &Verify, trusted: &Trusted) -> Result<Ended, String> {
    let configured_one = path.is_none();
    let path = configured(path, &arguments.dir)?;
    let (ended, chains) = verify_database(&path, &arguments.archive, arguments.json)?;
    if ended != Ended::Done {
        return Ok(ended);
    }
    let tell = |line: String| {
        if !arguments.json {
            say!("{line}");
        }
    };
    let broken = |line: String| {
        complain!("BROKEN  {line}");
        Ok(Ended::Failed)
    };
    if !trusted.log_keys.is_empty() || !trusted.ca_roots.is_empty() {
        match origins::held(&path, &chains, trusted)? {
            Ok(known) => known.into_iter().for_each(|known| tell(format!("ok      {known}"))),
            Err(why) => return broken(format!("log key: {why}")),
        }
    }
    // Beside a copy there may be the file of another database.
    if configured_one && let Some(Held::Contradicts(why)) = against::beside(&path)? {
        return broken(format!("{}: {why}", checkpoint_file::FILE_NAME));
    }
    if let (Some(file), Some(saved)) = (&arguments.against, &trusted.against) {
        match against::held(&path, saved)? {
            Held::Continues => tell(format!("ok      {}: these entries continue it", file.display())),
            Held::Contradicts(why) => return broken(format!("{}: {why}", file.display())),
        }
    }
    Ok(Ended::Done)
}

fn saved(path: &Path) -> Result<SignedCheckpoint, String> {
    SignedCheckpoint::parse(&read("--against", path)?).map_err(|error| format!("--against: {error}"))
}

/// The file that `option` names.
fn read(option: &str, path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path);
    text.map_err(|error| format!("{option} {} cannot be read: {error}", path.display()))
}

fn digest(text: &str) -> Result<[u8; 32], String> {
    hash_from_hex(text).map_err(|error| format!("--entry-hash: {error}"))
}

/// What the auditor says to know.
fn trusted(arguments: &Verify) -> Result<Trusted, String> {
    let ca_roots = match &arguments.ca_root {
        Some(path) => {
            pem::certificates(&read("--ca-root", path)?).map_err(|error| format!("--ca-root: {error}"))?
        }
        None => Vec::new(),
    };
    let anchors = |path: &PathBuf| {
        Anchors::from_pem(&read("--tsa-root", path)?).map_err(|error| format!("--tsa-root: {error}"))
    };
    let tsa_roots = arguments.tsa_root.as_ref().map(anchors).transpose()?;
    let against = arguments.against.as_deref().map(saved).transpose()?;
    Ok(Trusted {
        ca_roots,
        tsa_roots,
        log_keys: arguments.log_key.clone(),
        witnesses: arguments.witness.clone(),
        against,
        require_timestamp: arguments.require_timestamp,
    })
}

fn show(report: &Report, as_json: bool) -> Ended {
    let failure = report.failure();
    if as_json {
        say!("{}", json!({ "verified": failure.is_none(), "checks": report.checks, "span": report.span }));
    } else {
        say_part!("{report}");
    }
    match failure {
        None => Ended::Done,
        Some(check) => {
            complain!("does not verify: {}: {}", check.step, check.text);
            Ended::Failed
        }
    }
}
