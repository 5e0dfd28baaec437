//! `mastio pki rotations`, `rotation`, `pause`, `resume`, `abort` and `advance`: rotations of a running Mastio.

use mastio_core::counted;
use std::{io::IsTerminal, time::Duration};

use clap::Args;
use http::Method;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::{Failure, asking::agreed, running::Running, stopped};
use crate::out::{self, say};

/// How often it looks how far a rotation is.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After how many looks without an answer it gives up. A server may be restarted meanwhile.
const PATIENCE: u32 = 60;
/// How many of those that a forced step leaves behind are named.
const NAMED: usize = 10;

#[derive(Args)]
pub(crate) struct List {
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    running: Running,
}

#[derive(Args)]
pub(crate) struct One {
    /// Which; the one that is open, unless set.
    id: Option<String>,
    #[command(flatten)]
    running: Running,
}

#[derive(Args)]
pub(crate) struct Show {
    /// Stay until it is over, or waits for its grace only.
    #[arg(long)]
    watch: bool,
    /// Name the agents that are the operator's work (BYOCA, SPIFFE), not those that follow by themselves.
    #[arg(long)]
    operators: bool,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    one: One,
}

#[derive(Args)]
pub(crate) struct Abort {
    /// Of a Mastio that is stopped, in its folder.
    #[arg(long, conflicts_with = "url")]
    offline: bool,
    /// Do not ask. A script must say so.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    one: One,
}

#[derive(Args)]
pub(crate) struct Advance {
    /// Go on without those that have not followed, and before the grace is over.
    #[arg(long)]
    force: bool,
    /// The phase that it is to leave: it is refused if the rotation is in another one meanwhile. Whoever forces a step
    /// and does not name it is asked; a script must name it.
    #[arg(long, value_name = "PHASE", value_parser = ["distribute", "reissue", "activated"])]
    from: Option<String>,
    #[command(flatten)]
    one: One,
}

pub(crate) fn list(arguments: &List) -> Result<String, Failure> {
    let all = arguments.running.ask(Method::GET, "/pki/rotations", None)?;
    if arguments.json {
        return Ok(all.to_string());
    }
    let lines: Vec<String> = all.as_array().into_iter().flatten().map(line).collect();
    Ok(if lines.is_empty() { "the Org CA was never rotated".to_owned() } else { lines.join("\n") })
}

fn line(rotation: &Value) -> String {
    let (id, transition, phase) =
        (text(rotation, "id"), text(rotation, "transition"), text(rotation, "phase"));
    let paused = if rotation["paused"] == true && rotation["ended_at"].is_null() { ", paused" } else { "" };
    let more = if rotation["progress"].is_object() { text(rotation, "summary") } else { "" };
    let more = rotation["error"].as_str().map_or_else(|| more.to_owned(), out::one_line);
    let since = text(rotation, "changed_at");
    format!("{id}  {transition:<7}  {:<11}  since {since}  {more}", format!("{phase}{paused}"))
        .trim_end()
        .to_owned()
}

/// The id of the rotation that is open, if one is.
pub(super) fn open(running: &Running) -> Result<Option<String>, Failure> {
    let all = running.ask(Method::GET, "/pki/rotations", None)?;
    let mut all = all.as_array().into_iter().flatten();
    let open = all.find(|rotation| rotation["ended_at"].is_null());
    Ok(open.map(|rotation| text(rotation, "id").to_owned()))
}

impl One {
    /// The id that was given, or that of the rotation that is open.
    fn id(&self) -> Result<String, Failure> {
        if let Some(id) = &self.id {
            return Ok(id.clone());
        }
        let open = open(&self.running)?;
        Ok(open.ok_or("no rotation is open; mastio pki rotations lists those that are over")?)
    }

    /// How it stands, with the first few of those that are left.
    fn now(&self) -> Result<Value, Failure> {
        self.running.ask(Method::GET, &format!("/pki/rotations/{}?limit={NAMED}", self.id()?), None)
    }
}

pub(crate) fn show(arguments: &Show) -> Result<String, Failure> {
    let (id, running) = (arguments.one.id()?, &arguments.one.running);
    if arguments.watch {
        return watch(running, &id);
    }
    let who = if arguments.operators { "operators" } else { "agents" };
    let now = running.ask(Method::GET, &format!("/pki/rotations/{id}?who={who}"), None)?;
    if arguments.json {
        return Ok(now.to_string());
    }
    let left = now["left"].as_array().into_iter().flatten();
    let shut_out = |agent: &Value| if agent["shut_out"] == true { "  shut out" } else { "" };
    let left: String =
        left.map(|agent| format!("\n  {}{}", text(agent, "agent_id"), shut_out(agent))).collect();
    Ok(format!("{}{}{left}", line(&now), operators_work(&now)))
}

/// What the operator must see to, if there is anything.
fn operators_work(now: &Value) -> String {
    let work = &now["operators_work"];
    let number = |kind: &str, member: &str| work[kind][member].as_u64().unwrap_or(0);
    let byoca = number("byoca", "agents") - number("byoca", "moved");
    let spiffe = number("spiffe", "agents") - number("spiffe", "fetched");
    let told = [
        (
            byoca,
            "BYOCA agent needs a certificate of the new root",
            "BYOCA agents need certificates of the new root",
        ),
        (spiffe, "SPIFFE agent needs its trust file", "SPIFFE agents need its trust file"),
        (number("shut_out", "agents"), "agent is shut out", "agents are shut out"),
    ];
    let told = told.into_iter().filter(|(agents, ..)| *agents > 0);
    let told: Vec<_> = told.map(|(agents, one, many)| counted(agents, one, many)).collect();
    if told.is_empty() { String::new() } else { format!("\nyour work: {}", told.join(", ")) }
}

pub(crate) fn act(arguments: &One, action: &str) -> Result<String, Failure> {
    let path = format!("/pki/rotations/{}/{action}", arguments.id()?);
    Ok(line(&arguments.running.ask(Method::POST, &path, None)?))
}

pub(crate) fn abort(arguments: &Abort) -> Result<String, Failure> {
    let Abort { offline, yes, one } = arguments;
    let what = match *offline {
        true => "This gives up the rotation that is open: what was before it is again.".to_owned(),
        false => {
            let now = one.now()?;
            let (id, old) = (text(&now, "id"), text(&now, "old_root"));
            format!("This gives up {id} ({}); {old} is the Org CA then.", said(&now))
        }
    };
    if !yes && !agreed(&what, &format!("{what} Nothing was done; say --yes to do it"))? {
        return Err("nothing was given up".into());
    }
    if *offline { stopped::abort(one.running.dir(), one.id.as_deref()) } else { act(one, "abort") }
}

pub(crate) fn advance(arguments: &Advance) -> Result<String, Failure> {
    let now = arguments.one.now()?;
    let (id, phase) = (text(&now, "id"), text(&now, "phase"));
    if arguments.force && arguments.from.is_none() {
        let back = match phase {
            "activated" => "which cannot be taken back",
            _ => "and mastio pki abort leads back",
        };
        let what = format!("This leaves the phase {phase}, {back}. {}.", left_behind(&now));
        let in_a_script = format!("{what} Nothing was done; say --from {phase} to do it");
        if !agreed(&what, &in_a_script)? {
            return Err("the rotation is where it was".into());
        }
    }
    // The step that was meant: another one is refused.
    let from = arguments.from.as_deref().unwrap_or(phase);
    let path = format!("/pki/rotations/{id}/advance?from={from}&force={}", arguments.force);
    Ok(line(&arguments.one.running.ask(Method::POST, &path, None)?))
}

/// Who has not followed and would not be waited for: their number, and the first of them by name.
fn left_behind(now: &Value) -> String {
    let (left, named) = (now["progress"]["left"].as_u64().unwrap_or(0), now["left"].as_array());
    let named: Vec<&str> = named.into_iter().flatten().map(|agent| text(agent, "agent_id")).collect();
    let more = if left > named.len() as u64 { ", …" } else { "" };
    let names = if named.is_empty() { String::new() } else { format!(": {}{more}", named.join(", ")) };
    let left = counted(left, "agent is left behind", "agents are left behind");
    format!("{left}{names}{}", operators_work(now).replace('\n', "; "))
}

/// Shows a rotation until there is nothing more to see: it is over, or waits for its grace only. What to print then.
pub(crate) fn watch(running: &Running, id: &str) -> Result<String, Failure> {
    let plain = !std::io::stderr().is_terminal();
    let (bar, mut last, mut silent) = (ProgressBar::new(0).with_style(style()), String::new(), 0);
    loop {
        match running.ask(Method::GET, &format!("/pki/rotations/{id}?limit=1"), None) {
            Ok(now) => {
                silent = 0;
                if let Some(end) = end(&now) {
                    bar.finish_and_clear();
                    return end;
                }
                let said = said(&now);
                let progress = &now["progress"];
                let done = if now["phase"] == "distribute" { "fetched" } else { "moved" };
                bar.set_length(progress["agents"].as_u64().unwrap_or(0));
                bar.set_position(progress[done].as_u64().unwrap_or(0));
                bar.set_message(said.clone());
                if plain && said != last {
                    say!("{said}");
                }
                last = said;
            }
            Err(error) => {
                silent += 1;
                if silent >= PATIENCE {
                    return Err(error);
                }
                bar.set_message(out::one_line(&format!("no answer: {error}")));
            }
        }
        if out::is_closed() {
            return Ok(String::new());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn said(now: &Value) -> String {
    let paused = if now["paused"] == true { ", paused" } else { "" };
    format!("{}{paused}: {}", text(now, "phase"), text(now, "summary"))
}

/// How the watch ends, if it does now.
fn end(now: &Value) -> Option<Result<String, Failure>> {
    let grace = text(now, "grace_until");
    match text(now, "phase") {
        "done" => Some(Ok(format!("done: {} is the Org CA", text(now, "new_root")))),
        "aborted" => Some(Err(format!("aborted: {}", text(now, "error")).into())),
        "activated" if now["progress"]["left"] == 0 && now["grace_days"] != 0 => Some(Ok(format!(
            "activated: all agents have moved; the old root is believed until {grace}{}",
            operators_work(now)
        ))),
        _ => None,
    }
}

pub(super) fn text<'a>(answer: &'a Value, member: &str) -> &'a str {
    answer[member].as_str().unwrap_or("?")
}

pub(super) fn style() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {msg} {bar:30} {pos}/{len}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}
