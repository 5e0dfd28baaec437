//! `mastio audit accept-restore`, beside a running server or a stopped one.

use mastio_core::counted;
use std::{
    io::{self, IsTerminal},
    path::PathBuf,
};

use clap::Args;
use mastio_authority::trust::Trust;
use mastio_config::{Settings, Source};
use mastio_ledger::rewind::{Reason, accept::Loss};

use super::who;
use crate::{
    Ended,
    deployment::Deployment,
    out::{complain, say, say_part},
};

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
            complain!("{error}");
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
        complain!("nothing was changed");
        return Ok(false);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = deployment.store()?;
        let accepted = loss.accept(&store, custody, &trust, (clock.as_ref(), rng.as_ref()), &who()).await;
        store.close();
        accepted.map_err(Failure::from)
    })?;
    say!("accepted: checkpoints go on as {}", loss.new_origin);
    say!("a running server notices within seconds; witnesses and verifiers need the new key");
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
    say!("The database {how}.");
    say!("  log                    {}", loss.origin);
    let signed = known.at.map_or_else(String::new, |at| format!(", signed {at}"));
    say!(
        "  last known checkpoint  {} over {}{signed}",
        said.origin,
        counted(said.head.size, "entry", "entries")
    );
    if let Some(noticed) = &loss.noticed_at {
        say!("  noticed                {noticed}");
    }
    say!("  root                   {}", hex::encode(said.head.root));
    say!("  seen in                {}", loss.rewind.seen_in);
    say!("  tree of this database  {}", counted(loss.rewind.entries, "entry", "entries"));
    say!(
        "  lost                   entries {} to {}, and what came after that checkpoint",
        loss.first,
        loss.last
    );
    say!("Entries with these numbers that are in the database now were written after the restore.");
}

fn is_confirmed() -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err("run it again with --yes to accept this".into());
    }
    say_part!("Accept this loss and go on as a new log? Type yes: ");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}
