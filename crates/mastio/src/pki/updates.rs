//! `mastio pki updates`: framework updates of a running Mastio, by its API.

use std::{io::IsTerminal, thread, time::Duration};

use clap::{Args, Subcommand};
use http::Method;
use indicatif::ProgressBar;
use mastio_core::counted;
use serde_json::{Value, json};

use super::{
    Failure,
    rotations::{style, text},
    running::Running,
};
use crate::out::complain;

/// The longest wait for an answer: an update of many agents takes minutes.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// How often it looks how far an update is.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LIST: &str = "/proxy/updates/api";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Say which updates there are and where they are.
    List(List),
    /// Apply one.
    Apply(Apply),
    /// Take one back.
    Rollback(Order),
    /// Delete the snapshot of one: it cannot be taken back any more.
    Wipe(Order),
}

#[derive(Args)]
pub(crate) struct List {
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    running: Running,
}

/// What is to become of which.
#[derive(Args)]
pub(crate) struct Order {
    /// The migration.
    #[arg(value_parser = name)]
    id: String,
    /// Say what it would do, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do it; without this word it is a dry run that ends with exit code 1.
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    running: Running,
}

#[derive(Args)]
pub(crate) struct Apply {
    /// How, if there is more than one way.
    #[arg(long)]
    strategy: Option<String>,
    #[command(flatten)]
    order: Order,
}

/// The name of a migration, as it stands in paths, or what is shown of one that is no text, such as `X'FF'`.
fn name(text: &str) -> Result<String, &'static str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'\'');
    match !text.is_empty() && text.bytes().all(plain) {
        true => Ok(text.to_owned()),
        false => Err("is no name of a migration; mastio pki updates list names them"),
    }
}

/// What to print.
pub(crate) fn run(command: &Command) -> Result<String, Failure> {
    match command {
        Command::List(List { json, running }) => {
            let listed = running.ask(Method::GET, LIST, None)?;
            if *json {
                return Ok(listed.to_string());
            }
            Ok(listed.as_array().into_iter().flatten().map(line).collect::<Vec<_>>().join("\n"))
        }
        Command::Apply(Apply { strategy, order }) => order.give(Method::POST, "apply", strategy.as_deref()),
        Command::Rollback(order) => order.give(Method::POST, "rollback", None),
        Command::Wipe(order) => order.give(Method::DELETE, "snapshot", None),
    }
}

impl Order {
    fn give(&self, method: Method, what: &str, strategy: Option<&str>) -> Result<String, Failure> {
        let path = format!("/proxy/updates/{}/{what}", self.id);
        let mut body = json!({ "confirm": self.yes, "dry_run": !self.yes });
        if let Some(strategy) = strategy {
            body["strategy"] = strategy.into();
        }
        let answer = match self.yes {
            true => self.watched(method, &path, &body)?,
            false => self.running.ask(method, &path, Some(&body))?,
        };
        let said = if self.json { answer.to_string() } else { said(&self.id, &answer) };
        match self.yes || self.dry_run {
            true => Ok(said),
            false => Err(format!("{said}\nnothing was done; say --yes to do it").into()),
        }
    }

    /// Waits for the answer, and shows meanwhile how far it is.
    fn watched(&self, method: Method, path: &str, body: &Value) -> Result<Value, Failure> {
        let plain = !std::io::stderr().is_terminal();
        let bar = ProgressBar::new(0).with_style(style());
        let watcher = thread::current();
        thread::scope(|scope| {
            let asked = || {
                let answer = self.running.ask_for(PATIENCE, method, path, Some(body));
                watcher.unpark();
                answer.map_err(|error| error.to_string())
            };
            let asked = scope.spawn(asked);
            while !asked.is_finished() {
                thread::park_timeout(LOOK_EVERY);
                let Some((done, total)) = self.progress().filter(|_| !asked.is_finished()) else { continue };
                bar.set_length(total);
                bar.set_position(done);
                bar.set_message("certificates");
                if plain {
                    complain!("{done} of {}", counted(total, "certificate", "certificates"));
                }
            }
            bar.finish_and_clear();
            Ok(asked.join().map_err(|_| "the request was not carried out")??)
        })
    }

    fn progress(&self) -> Option<(u64, u64)> {
        let listed = self.running.ask(Method::GET, LIST, None).ok()?;
        let update = listed.as_array()?.iter().find(|update| update["migration_id"] == self.id.as_str())?;
        certificates(update)
    }
}

/// How many are done, of how many; nothing before there are any to do.
fn certificates(update: &Value) -> Option<(u64, u64)> {
    let (done, total) = (update["progress"]["done"].as_u64()?, update["progress"]["total"].as_u64()?);
    (total > 0).then_some((done, total))
}

fn said(id: &str, answer: &Value) -> String {
    let plan = &answer["plan"];
    if let Some(steps) = plan["steps"].as_array().or_else(|| plan["rollback"].as_array()) {
        let step = |step: &Value| step.as_str().map(|step| format!("- {step}"));
        return steps.iter().filter_map(step).collect::<Vec<_>>().join("\n");
    }
    if answer["snapshot"] == "wiped" {
        return format!("the snapshot of {id} is deleted; only a backup brings back what was before it");
    }
    match (answer["status"].as_str(), answer["strategy"].as_str()) {
        (Some("applied"), _) if answer["changed"] == false => {
            format!("nothing was changed: {id} is not needed any more, and counts as applied")
        }
        (Some("applied"), None) => format!("{id} is applied"),
        (Some("applied"), Some(strategy)) => format!(
            "{id} is applied ({strategy}), with {} of agents reissued\n\
             clients that keep a CA file need that of now: /pki/ca.crt",
            counted(answer["reissued_leaves"].as_u64().unwrap_or(0), "certificate", "certificates")
        ),
        _ => format!("{id} is rolled back: what was before is again, and it is not proposed any more"),
    }
}

/// An update, and below it what there is to know of it.
fn line(update: &Value) -> String {
    let mut lines = vec![format!(
        "{}  {}  {}  {}",
        text(update, "migration_id"),
        text(update, "criticality"),
        match update["status"].as_str() {
            Some(status) => status,
            None if update["proposed_at_next_start"] == true => "proposed at the next start",
            None => "not needed",
        },
        text(update, "description")
    )];
    if let Some((done, total)) = certificates(update) {
        lines.push(format!("being applied: {done} of {}", counted(total, "certificate", "certificates")));
    } else if update["progress"].is_object() {
        lines.push("being applied".to_owned());
    }
    if let Some(error) = update["error"].as_str() {
        lines.push(format!("error: {error}"));
    }
    let snapshot = &update["snapshot"];
    if snapshot.is_object() {
        let at = snapshot["created_at"].as_str().unwrap_or("an unknown time");
        lines.push(match snapshot["wiped_after"].as_str() {
            Some(after) => format!("snapshot of {at}, with a readable key, wiped after {after}"),
            None => format!("snapshot of {at}"),
        });
    }
    lines.join("\n    ")
}
