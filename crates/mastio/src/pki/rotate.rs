//! `mastio pki rotate`: asks a running Mastio for another Org CA.

use mastio_core::counted;
use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use http::Method;
use secrecy::SecretString;
use serde_json::Value;

use super::{
    Failure,
    asking::agreed,
    rotations::{self, text},
    running::{Form, Running},
};
use crate::out::say;

const QUESTION: &str = "This ends every agent's certificate at once; --dry-run shows how many there are.";
const COMPROMISE: &str = "This is a cut for a compromise: it ends every agent's certificate at once, nothing that the old \
     root signed counts any more, and clients do not believe this server before they have the new trust file; --dry-run \
     shows how many agents there are.";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// The Mastio makes it.
    Mint,
    /// You bring it, with --cert and --key.
    Upload,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Transition {
    /// Every certificate of before ends at once.
    Cut,
    /// Agents move one after the other, and nobody is refused.
    Overlap,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Reason {
    /// The old key may be known to others.
    Compromise,
}

#[derive(Args)]
pub(crate) struct Rotate {
    /// Where the new Org CA comes from: made by the Mastio, unless --cert and --key are there.
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Your own: its certificate in PEM.
    #[arg(long, requires = "key", required_if_eq("mode", "upload"))]
    cert: Option<PathBuf>,
    /// Its private key in PEM, unencrypted.
    #[arg(long, requires = "cert", required_if_eq("mode", "upload"))]
    key: Option<PathBuf>,
    /// How agents get to it: by a cut, unless set.
    #[arg(long, value_enum)]
    transition: Option<Transition>,
    /// With --transition overlap: for how many days the old root is believed after the new one became the active one, 14
    /// unless set.
    #[arg(long, requires = "transition")]
    grace_days: Option<u32>,
    /// Why, if nothing that the old key signed may count any more.
    #[arg(long, value_enum)]
    reason: Option<Reason>,
    /// Say what would happen, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// With --transition overlap: stay, and show how far it is.
    #[arg(long, requires = "transition")]
    watch: bool,
    /// Do not ask before a cut. A script must say so.
    #[arg(long)]
    yes: bool,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    running: Running,
}

impl Rotate {
    /// What says two things at once.
    fn contradiction(&self) -> Option<&'static str> {
        if self.mode == Some(Mode::Mint) && self.cert.is_some() {
            Some("--cert and --key bring a CA, and --mode mint makes another one: leave out either")
        } else if self.is_cut() && (self.watch || self.grace_days.is_some()) {
            Some("--watch and --grace-days go with --transition overlap only: a cut is over at once")
        } else {
            None
        }
    }

    fn is_cut(&self) -> bool {
        self.transition != Some(Transition::Overlap)
    }

    /// What is asked before a cut.
    fn question(&self) -> Result<String, Failure> {
        if self.reason.is_none() {
            return Ok(QUESTION.to_owned());
        }
        Ok(match rotations::open(&self.running)? {
            Some(id) => format!("{COMPROMISE} The rotation with overlap {id} is open, and ends with it."),
            None => COMPROMISE.to_owned(),
        })
    }

    /// Whether the operator wants the cut.
    fn is_agreed(&self) -> Result<bool, Failure> {
        let question = self.question()?;
        let instead = match self.reason {
            None => "; or let agents move one after the other with --transition overlap",
            Some(Reason::Compromise) => "",
        };
        let in_a_script =
            format!("{question} Nothing was done: look at it with --dry-run, then say --yes{instead}");
        agreed(&question, &in_a_script)
    }

    /// The root that is brought, if it is.
    fn form(&self) -> Result<Option<Form>, Failure> {
        Ok(match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Some(Form::of([("ca_cert", read(cert)?), ("ca_key", read(key)?)])),
            _ => None,
        })
    }

    fn path(&self) -> String {
        let mode = if self.cert.is_some() { "upload" } else { "mint" };
        let transition = if self.is_cut() { "cut" } else { "overlap" };
        let mut path = format!("/pki/rotate-ca?mode={mode}&transition={transition}");
        if let Some(days) = self.grace_days {
            path += &format!("&grace_days={days}");
        }
        if self.reason.is_some() {
            path += "&reason=compromise";
        }
        if self.dry_run {
            path += "&dry_run=true";
        }
        path
    }
}

/// What to print.
pub(crate) fn run(arguments: &Rotate) -> Result<String, Failure> {
    if let Some(contradiction) = arguments.contradiction() {
        return Err(contradiction.into());
    }
    let form = arguments.form()?;
    let asks = arguments.is_cut() && !arguments.dry_run && !arguments.yes;
    if asks && !arguments.is_agreed()? {
        return Err("nothing was rotated".into());
    }
    let path = arguments.path();
    let done = match &form {
        Some(form) => arguments.running.upload(&path, form)?,
        None => arguments.running.ask(Method::POST, &path, None)?,
    };
    if arguments.json {
        return Ok(done.to_string());
    }
    let said = told(&done);
    if arguments.watch && done["status"] == "begun" {
        say!("{said}");
        return rotations::watch(&arguments.running, text(&done, "rotation_id"));
    }
    Ok(said)
}

fn read(path: &Path) -> Result<SecretString, Failure> {
    let text =
        fs::read_to_string(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    Ok(text.into())
}

fn told(done: &Value) -> String {
    let new = text(done, "fingerprint_sha256");
    match text(done, "status") {
        "dry_run" => {
            let consequences =
                done["consequences"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let consequences: String = consequences.map(|told| format!("\n- {told}")).collect();
            format!(
                "this would be the Org CA, until {}: {new}{consequences}\nnothing was changed",
                text(done, "not_after")
            )
        }
        "begun" => format!(
            "rotation {} began: {new} will be the Org CA\nagents that follow by themselves fetch the new trust file now; who is left: mastio pki rotation",
            text(done, "rotation_id")
        ),
        _ => cut(done),
    }
}

fn cut(done: &Value) -> String {
    let (new, until) = (text(done, "fingerprint_sha256"), text(done, "not_after"));
    let mut lines = vec![format!("{new} is the Org CA, until {until}")];
    if done["in_force"] == false {
        lines.push("it is not in force yet, and nobody is let in until it is: /readyz says why".to_owned());
    }
    lines.push(counted(
        done["agents_invalidated"].as_u64().unwrap_or(0),
        "agent needs a new certificate",
        "agents need new certificates",
    ));
    lines.extend(done["no_tls_continuity_because"].as_str().map(without_link));
    lines.extend(done["ended_rotation_id"].as_str().map(overlap_ended));
    lines.join("\n")
}

/// What a cut without a link certificate means for clients.
pub(super) fn without_link(why: &str) -> String {
    format!("clients do not believe this server before they have the new trust file, /pki/ca.crt: {why}")
}

/// What a cut for a compromise did to the rotation `id`.
pub(super) fn overlap_ended(id: &str) -> String {
    format!("the rotation with overlap {id} was open, and ended with it")
}
