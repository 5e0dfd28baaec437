//! `mastio pki rotate-org-ca`, as `cullis-proxy rotate-org-ca` too: another Org CA for a Mastio that is stopped, or
//! refuses to start because of the one that it has.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
};

use clap::{ArgGroup, Args};
use mastio_authority::{
    evidence,
    rotation::{Cut, Preflight, Rotated, Source as NewRoot, Upload},
};
use mastio_config::{Database as DatabaseSetting, Settings};
use mastio_core::counted;
use mastio_store::{Unit, sqlite::Database};
use tempfile::TempDir;

use super::{
    rotate::{Reason, overlap_ended, without_link},
    stopped,
};
use crate::{
    Ended,
    out::{complain, say},
    serve::runtime,
};

#[derive(Args)]
#[command(group(ArgGroup::new("root").args(["mint", "cert"]).required(true)))]
pub(crate) struct RotateOrgCa {
    /// Make the new Org CA here: P-256, with the name of the present one.
    #[arg(long)]
    mint: bool,
    /// Your own: its certificate in PEM.
    #[arg(long, requires = "key")]
    cert: Option<PathBuf>,
    /// Its private key in PEM, unencrypted.
    #[arg(long, requires = "cert")]
    key: Option<PathBuf>,
    /// Why, if nothing that the old key signed may count any more. A rotation with overlap that is open ends, too.
    #[arg(long, value_enum)]
    reason: Option<Reason>,
    /// The same as --reason compromise.
    #[arg(long)]
    compromise: bool,
    /// Say what would happen, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// What scripts may say: nothing is asked, with or without it.
    #[arg(long)]
    yes: bool,
    /// The folder with proxy.env and data.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

type Failure = Box<dyn std::error::Error>;

pub(crate) fn run(arguments: &RotateOrgCa) -> Ended {
    match rotate(arguments) {
        Ok(()) => Ended::Done,
        Err(error) => {
            complain!("{error}");
            Ended::Refused
        }
    }
}

fn rotate(arguments: &RotateOrgCa) -> Result<(), Failure> {
    let instead = "rotate with mastio pki rotate or at the dashboard's PKI page";
    let mut settings = stopped::settings(&arguments.dir, instead)?;
    let source = source(arguments)?;
    let compromise = arguments.compromise || arguments.reason == Some(Reason::Compromise);
    let cut = Cut { compromise };
    // What the server refuses to start on is what is replaced here.
    settings.strict_pki = false;
    let _copy = arguments.dry_run.then(|| work_on_copy(&mut settings)).transpose()?;
    let runtime = runtime(&settings)?;
    runtime.block_on(async {
        let authority = stopped::start(settings).await?;
        let candidate = authority.candidate(&source)?;
        let preflight = authority.preflight(&candidate, cut.into()).await?;
        show(&preflight);
        if arguments.dry_run {
            say!("nothing was changed");
            return Ok(());
        }
        let prepared = NewRoot::Prepared(authority.prepare(candidate, cut.into(), preflight.previous));
        let rotated = authority.rotate_root(prepared, cut, &stopped::operator()).await?;
        authority.store().submit(Unit::default()).await?;
        tell(&rotated);
        Ok(())
    })
}

/// A start writes much, from sealed keys to the copies for operators: a dry run does it to a copy of the database, in a
/// folder that goes when it is dropped.
fn work_on_copy(settings: &mut Settings) -> Result<TempDir, Failure> {
    let folder = tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir()?;
    let DatabaseSetting::Sqlite(path) = &settings.database;
    let copy = folder.path().join("mcp_proxy.db");
    Database::copy(path, &copy)?;
    let identity = evidence::file(path);
    if identity.exists() {
        fs::copy(&identity, evidence::file(&copy))?;
    }
    settings.database = DatabaseSetting::Sqlite(copy);
    settings.dir = folder.path().to_owned();
    settings.certs_dir = folder.path().join("certs");
    settings.dashboard.signing_key_path = folder.path().join("dashboard-key");
    Ok(folder)
}

fn source(arguments: &RotateOrgCa) -> Result<NewRoot, Failure> {
    let read = |path: &PathBuf| {
        fs::read_to_string(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
    };
    match (&arguments.cert, &arguments.key) {
        (Some(cert), Some(key)) => {
            Ok(NewRoot::Upload(Upload { certificates: read(cert)?, key: read(key)?.into() }))
        }
        _ => Ok(NewRoot::Mint),
    }
}

fn show(preflight: &Preflight) {
    say!("the new Org CA: {}", preflight.subject);
    say!("  SHA-256   {}", preflight.fingerprint);
    say!("  until     {}", preflight.not_after);
    say!("  replaces  {}", preflight.previous);
    for told in &preflight.consequences {
        say!("- {told}");
    }
}

fn tell(rotated: &Rotated) {
    say!("rotated: {} is the Org CA now", rotated.fingerprint);
    say!(
        "start the Mastio, then give {} (rotate-cert)",
        counted(rotated.agents.total(), "agent a new certificate", "agents new certificates")
    );
    if let Err(why) = &rotated.continuity {
        say!("{}", without_link(&why.to_string()));
    }
    if let Some(id) = &rotated.ended {
        say!("{}", overlap_ended(id));
    }
}
