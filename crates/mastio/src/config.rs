//! `mastio config check|show`.

use mastio_core::counted;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use mastio_config::{Settings, Source, show};

use crate::{
    Ended,
    out::{complain, say, say_part},
};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Report every problem of the environment and proxy.env.
    Check(Place),
    /// Print the effective configuration, secrets masked.
    Show(Place),
}

#[derive(Args)]
pub(crate) struct Place {
    /// The folder with proxy.env and data.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

pub(crate) fn run(command: &Command) -> Ended {
    match command {
        Command::Show(place) => {
            say_part!("{}", show(&Source::from_process(&place.dir)));
            Ended::Done
        }
        Command::Check(place) => match Settings::load(&Source::from_process(&place.dir), &place.dir) {
            Ok(loaded) => {
                loaded.warnings.iter().for_each(|warning| say!("warning: {warning}"));
                let warnings = counted(loaded.warnings.len(), "warning", "warnings");
                say!("configuration ok ({warnings})");
                Ended::Done
            }
            Err(problems) => {
                complain!("{problems}");
                Ended::Refused
            }
        },
    }
}
