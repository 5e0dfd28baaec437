//! `mastio audit restore-archive`: archived entries come back for a search.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use indicatif::ProgressBar;
use mastio_config::{Database as DatabaseSetting, Settings, Source};
use mastio_core::{OrgId, SystemClock, SystemRng, counted};
use mastio_ledger::archive::{drop_restored, restore};
use mastio_store::{Store, config, sqlite::Database};
use serde_json::{Value, json};

use super::{style, who};
use crate::{
    Ended,
    out::{complain, say},
};

#[derive(Args)]
pub(crate) struct Arguments {
    /// The archives, as they were written.
    #[arg(required_unless_present = "drop", conflicts_with = "drop")]
    files: Vec<PathBuf>,
    /// Drop all that was brought back.
    #[arg(long)]
    drop: bool,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
    /// The folder with proxy.env and data.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

type Failure = Box<dyn std::error::Error>;

pub(crate) fn run(arguments: &Arguments) -> Ended {
    match work(arguments) {
        Ok(done) => {
            if arguments.json {
                say!("{done}");
            }
            Ended::Done
        }
        Err(error) => {
            complain!("{error}");
            Ended::Refused
        }
    }
}

fn work(arguments: &Arguments) -> Result<Value, Failure> {
    let settings = Settings::load(&Source::from_process(&arguments.dir), &arguments.dir)?.settings;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let DatabaseSetting::Sqlite(path) = &settings.database;
        let database = Database::open_for_tool(path)?;
        let org = config::get(&database, "org_id")?
            .ok_or("the database names no organisation; start the Mastio once")?;
        let org = OrgId::parse(&org)?;
        let store = Store::start(database, org.clone(), Arc::new(SystemClock::default()), &SystemRng)?;
        let done = match arguments.drop {
            true => dropped(&store, &org, arguments).await,
            false => restored(&store, &org, arguments).await,
        };
        store.close();
        done
    })
}

async fn restored(store: &Store, org: &OrgId, arguments: &Arguments) -> Result<Value, Failure> {
    let mut files = Vec::new();
    for file in &arguments.files {
        let bar = ProgressBar::new_spinner().with_style(style());
        let restored = restore(store, org, file, &who(), &mut |entries| bar.set_position(entries)).await;
        bar.finish_and_clear();
        let span = restored?.span;
        if !arguments.json {
            say!("{}: entries {} to {} can be searched", file.display(), span.first, span.last);
        }
        files.push(json!({ "file": file, "first_seq": span.first, "last_seq": span.last }));
    }
    Ok(json!({ "restored": files }))
}

async fn dropped(store: &Store, org: &OrgId, arguments: &Arguments) -> Result<Value, Failure> {
    let entries = drop_restored(store, org, &who()).await?;
    if !arguments.json {
        say!("dropped {}; what was dropped stays in its archive", counted(entries, "entry", "entries"));
    }
    Ok(json!({ "dropped": entries }))
}
