//! `mastio audit explain`.

use std::path::PathBuf;

use clap::Args;
use mastio_ledger::explain::{Explained, Reference, explain};
use mastio_store::sqlite::Database;

use super::configured;
use crate::{
    Ended,
    out::{complain, one_line, say},
};

#[derive(Args)]
pub(crate) struct Explain {
    /// The entry: its number in the chain, or <org>:<number>.
    seq: String,
    /// The database file; without it the one that the configuration names.
    #[arg(long)]
    db: Option<PathBuf>,
    /// The folder with proxy.env and data.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Explain) -> Ended {
    match explained(arguments) {
        Ok(explained) if arguments.json => say!("{}", explained.document()),
        Ok(explained) => print(&explained),
        Err(problem) => {
            complain!("{problem}");
            return Ended::Refused;
        }
    }
    Ended::Done
}

fn explained(arguments: &Explain) -> Result<Explained, String> {
    let (org, seq) = match arguments.seq.rsplit_once(':') {
        Some((org, seq)) => (Some(org), seq),
        None => (None, arguments.seq.as_str()),
    };
    let seq = seq.parse().ok().filter(|seq: &i64| *seq > 0);
    let seq = seq.ok_or("not an entry: use its number in the chain, or <org>:<number>")?;
    let path = configured(arguments.db.as_deref(), &arguments.dir)?;
    let database = Database::open_for_tool(&path).map_err(|error| error.to_string())?;
    explain(&database, org, seq).map_err(|error| error.to_string())
}

fn print(explained: &Explained) {
    let Explained { told, who, credentials, rule, followed, verdict, archive } = explained;
    let entry = &told.entry;
    let seq = entry.chain_seq.unwrap_or_default();
    say!(
        "{}:{seq}  {}  {} ({})",
        entry.org_id.as_deref().unwrap_or("?"),
        entry.timestamp,
        entry.event_type,
        entry.result
    );
    say!("  {}", one_line(&told.sentence));
    let name = who.name.as_deref().map_or_else(|| "nobody is named".to_owned(), one_line);
    say!("who         {name}: {}", one_line(&who.meaning));
    who.login.iter().for_each(|login| line("", login));
    credentials.iter().enumerate().for_each(|(place, entry)| line(label(place, "credential"), entry));
    rule.iter().for_each(|rule| say!("reason      {}", one_line(rule)));
    followed.iter().enumerate().for_each(|(place, entry)| line(label(place, "followed"), entry));
    if followed.is_empty() {
        say!("followed    nothing yet");
    }
    say!("verifies    {}: {}", if verdict.holds { "yes" } else { "NO" }, verdict.words);
    say!("archived    {}", archive.as_deref().unwrap_or("no"));
    say!("details     {}", entry.details.as_deref().map_or_else(|| "none".to_owned(), one_line));
}

/// Only the first of several lines has the label.
fn label(place: usize, label: &'static str) -> &'static str {
    if place == 0 { label } else { "" }
}

fn line(label: &str, entry: &Reference) {
    let seq = entry.chain_seq.map_or_else(String::new, |seq| seq.to_string());
    say!("{label:<12}{seq}  {}  {}", entry.timestamp, one_line(&entry.sentence));
}
