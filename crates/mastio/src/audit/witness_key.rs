//! `mastio audit witness-key`.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use mastio_audit::note::NoteKey;
use mastio_config::{Database as DatabaseSetting, Settings, Source};
use mastio_core::{Clock, OrgId, Rng, SystemClock, SystemRng};
use mastio_custody::Local;
use mastio_ledger::witness::key;
use mastio_store::{Store, config, sqlite::Database};

use crate::Ended;

#[derive(Args)]
pub(crate) struct WitnessKey {
    /// The folder with proxy.env and data.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

type Failure = Box<dyn std::error::Error>;

pub(crate) fn run(arguments: &WitnessKey) -> Ended {
    match vkey(arguments) {
        Ok(key) => {
            println!("{key}");
            Ended::Done
        }
        Err(error) => {
            eprintln!("{error}");
            Ended::Refused
        }
    }
}

fn vkey(arguments: &WitnessKey) -> Result<NoteKey, Failure> {
    let settings = Settings::load(&Source::from_process(&arguments.dir), &arguments.dir)?.settings;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(load(&settings))
}

/// The key in the deployment that `settings` describe, whether or not a server is running on it.
async fn load(settings: &Settings) -> Result<NoteKey, Failure> {
    let DatabaseSetting::Sqlite(path) = &settings.database;
    let database = Database::open_for_tool(path)?;
    let org = config::get(&database, "org_id")?
        .ok_or("the database names no organisation; start the Mastio once")?;
    let (clock, rng): (Arc<dyn Clock>, Arc<dyn Rng>) =
        (Arc::new(SystemClock::default()), Arc::new(SystemRng));
    let passphrase = settings.at_rest_passphrase.as_ref();
    let custody = Local::new(Arc::clone(&database), passphrase, Arc::clone(&clock), Arc::clone(&rng));
    let org = OrgId::parse(&org)?;
    if let Some(signer) = key::find(&database, &custody, settings)? {
        return Ok(signer.key().clone());
    }
    let (fresh, unit) = key::fresh(&custody, rng.as_ref(), settings, &org)?;
    let store = Store::start(Arc::clone(&database), org, clock, rng.as_ref())?;
    let written = store.submit(unit).await;
    store.close();
    match written {
        Ok(_) => Ok(fresh.key().clone()),
        // The server was faster, or the reason is told.
        Err(error) => Ok(key::find(&database, &custody, settings)?.ok_or(error)?.key().clone()),
    }
}
