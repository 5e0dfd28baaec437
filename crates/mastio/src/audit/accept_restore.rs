//! `mastio audit accept-restore`, beside a running server or a stopped one.

use mastio_core::counted;
use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
};

use clap::Args;
use mastio_authority::trust::Trust;
use mastio_config::{Settings, Source};
use mastio_ledger::rewind::{Reason, accept::Loss};

use super::who;
use crate::{Ended, deployment::Deployment};

#[derive(Args)]
pub(crate) struct AcceptRestore {
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// The folder with proxy.env and data.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

type Failure = Box<dyn std::error::Error>;

pub(crate) fn run(arguments: &AcceptRestore) -> Ended {
    match accept(arguments) {
        Ok(true) => Ended::Done,
        Ok(false) => Ended::Refused,
        Err(error) => {
            eprintln!("{error}");
            Ended::Refused
        }
    }
}

/// Whether it was accepted.
fn accept(arguments: &AcceptRestore) -> Result<bool, Failure> {
    let settings = Settings::load(&Source::from_process(&arguments.dir), &arguments.dir)?.settings;
    let deployment = Deployment::open(&settings)?;
    let Deployment { database, org, custody, clock, rng } = &deployment;
    let trust = Trust::load(database, custody, org, &settings.trust_domain, 1, clock.now())?
        .ok_or("there is no Org CA yet; start the Mastio once")?;
    let loss = Loss::examine(database, custody, &trust)?;
    explain(&loss);
    if !arguments.yes && !is_confirmed()? {
        eprintln!("nothing was changed");
        return Ok(false);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = deployment.store()?;
        let accepted = loss.accept(&store, custody, &trust, (clock.as_ref(), rng.as_ref()), &who()).await;
        store.close();
        accepted.map_err(Failure::from)
    })?;
    println!("accepted: checkpoints go on as {}", loss.new_origin);
    println!("a running server notices within seconds; witnesses and verifiers need the new key");
    Ok(true)
}

fn explain(loss: &Loss) {
    let known = &loss.rewind.known;
    let said = known.note.unverified();
    let how = match loss.rewind.reason {
        Reason::Behind => "is an older copy: it does not have all entries of a checkpoint that was published",
        Reason::Rewritten => "has other entries than a checkpoint that was published",
        Reason::UnknownKey => "does not know the key of a checkpoint that was published",
    };
    println!("The database {how}.");
    println!("  log                    {}", loss.origin);
    let signed = known.at.map_or_else(String::new, |at| format!(", signed {at}"));
    println!(
        "  last known checkpoint  {} over {}{signed}",
        said.origin,
        counted(said.head.size, "entry", "entries")
    );
    if let Some(noticed) = &loss.noticed_at {
        println!("  noticed                {noticed}");
    }
    println!("  root                   {}", hex::encode(said.head.root));
    println!("  seen in                {}", loss.rewind.seen_in);
    println!("  tree of this database  {}", counted(loss.rewind.entries, "entry", "entries"));
    println!(
        "  lost                   entries {} to {}, and what came after that checkpoint",
        loss.first, loss.last
    );
    println!("Entries with these numbers that are in the database now were written after the restore.");
}

fn is_confirmed() -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err("run it again with --yes to accept this".into());
    }
    print!("Accept this loss and go on as a new log? Type yes: ");
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}
