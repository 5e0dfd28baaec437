//! `mastio audit rebuild-tree`, on a stopped server.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use mastio_config::{Database as DatabaseSetting, Settings, Source};
use mastio_core::{OrgId, SystemClock, SystemRng, counted};
use mastio_ledger::rebuild::{Rebuilt, rebuild_tree};
use mastio_store::{Store, config, sqlite::Database};

use super::who;
use crate::{
    Ended,
    out::{complain, say},
};

#[derive(Args)]
pub(crate) struct Arguments {
    /// The folder with proxy.env and data.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

type Failure = Box<dyn std::error::Error>;

pub(crate) fn run(arguments: &Arguments) -> Ended {
    match rebuild(arguments) {
        Ok(Some(rebuilt)) => {
            report(rebuilt);
            Ended::Done
        }
        Ok(None) => {
            say!("the tree is that of the entries: nothing was changed");
            Ended::Done
        }
        Err(error) => {
            complain!("{error}");
            Ended::Refused
        }
    }
}

fn rebuild(arguments: &Arguments) -> Result<Option<Rebuilt>, Failure> {
    let settings = Settings::load(&Source::from_process(&arguments.dir), &arguments.dir)?.settings;
    let DatabaseSetting::Sqlite(path) = &settings.database;
    let database = Database::open_alone(path)?;
    let org = config::get(&database, "org_id")?
        .ok_or("the database names no organisation; start the Mastio once")?;
    let org = OrgId::parse(&org)?;
    let bar = ProgressBar::new(0).with_style(style());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let rebuilt = runtime.block_on(async {
        let store = Store::start(database, org.clone(), Arc::new(SystemClock::default()), &SystemRng)?;
        let mut progress = |done, all| {
            bar.set_length(all);
            bar.set_position(done);
        };
        let rebuilt = rebuild_tree(&store, &org, &who(), &mut progress).await;
        store.close();
        rebuilt.map_err(Failure::from)
    });
    bar.finish_and_clear();
    rebuilt
}

fn report(rebuilt: Rebuilt) {
    let Rebuilt { size, checkpoint_size, replaced, removed, rewind_withdrawn } = rebuilt;
    say!("the entries verify, and have the root of the checkpoint over {checkpoint_size} of them");
    say!(
        "rebuilt: the tree has {}; {} written anew and {removed} removed",
        counted(size, "entry", "entries"),
        counted(replaced, "tile was", "tiles were")
    );
    if rewind_withdrawn {
        say!("the damage had been taken for a rewind (audit.rolled_back): that is withdrawn");
    }
    say!("start the server: it goes on with checkpoints under the same name and key");
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {bar:30} {percent} %")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}
