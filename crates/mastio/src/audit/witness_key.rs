//! `mastio audit witness-key`.

use std::path::PathBuf;

use clap::Args;
use mastio_audit::note::NoteKey;
use mastio_config::{Settings, Source};
use mastio_ledger::witness::key;

use crate::{
    Ended,
    deployment::Deployment,
    out::{complain, say},
};

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
            say!("{key}");
            Ended::Done
        }
        Err(error) => {
            complain!("{error}");
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
    let deployment = Deployment::open(settings)?;
    let Deployment { database, org, custody, rng, .. } = &deployment;
    if let Some(signer) = key::find(database, custody, settings)? {
        return Ok(signer.key().clone());
    }
    let (fresh, unit) = key::fresh(custody, rng.as_ref(), settings, org)?;
    let store = deployment.store()?;
    let written = store.submit(unit).await;
    store.close();
    match written {
        Ok(_) => Ok(fresh.key().clone()),
        // The server was faster, or the reason is told.
        Err(error) => Ok(key::find(database, custody, settings)?.ok_or(error)?.key().clone()),
    }
}
