//! `mastio audit explain`.

use std::path::PathBuf;

use clap::Args;
use mastio_ledger::explain::{Explained, Reference, explain};
use mastio_store::sqlite::Database;

use super::configured;
use crate::Ended;

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
        Ok(explained) if arguments.json => println!("{}", serde_json::json!(explained)),
        Ok(explained) => print(&explained),
        Err(problem) => {
            eprintln!("{problem}");
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
    println!(
        "{}:{seq}  {}  {} ({})",
        entry.org_id.as_deref().unwrap_or("?"),
        entry.timestamp,
        entry.event_type,
        entry.result
    );
    println!("  {}", told.sentence);
    println!("who         {}: {}", who.name.as_deref().unwrap_or("nobody is named"), who.meaning);
    who.login.iter().for_each(|login| line("", login));
    credentials.iter().enumerate().for_each(|(place, entry)| line(label(place, "credential"), entry));
    rule.iter().for_each(|rule| println!("reason      {rule}"));
    followed.iter().enumerate().for_each(|(place, entry)| line(label(place, "followed"), entry));
    if followed.is_empty() {
        println!("followed    nothing yet");
    }
    println!("verifies    {}: {}", if verdict.holds { "yes" } else { "NO" }, verdict.words);
    println!("archived    {}", archive.as_deref().unwrap_or("no"));
    println!("details     {}", entry.details.as_deref().unwrap_or("none"));
}

/// Only the first of several lines has the label.
fn label(place: usize, label: &'static str) -> &'static str {
    if place == 0 { label } else { "" }
}

fn line(label: &str, entry: &Reference) {
    let seq = entry.chain_seq.map_or_else(String::new, |seq| seq.to_string());
    println!("{label:<12}{seq}  {}  {}", entry.timestamp, entry.sentence);
}
