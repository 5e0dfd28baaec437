//! `mastio pki lineage`: the line of roots, shown, exported, and verified by somebody who has nothing but a file.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use clap::Args;
use mastio_authority::lineage;
use mastio_config::{Settings, Source};
use mastio_pki::{
    Certificate,
    lineage::{Line, Step, StepError},
};
use serde_json::{Value, json};

use super::Failure;
use crate::{
    Ended,
    deployment::Deployment,
    out::{complain, say},
};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Write certificates and statements into this file, for somebody else to verify.
    #[arg(long, value_name = "FILE", conflicts_with = "verify")]
    export: Option<PathBuf>,
    /// Verify such a file. Needs no data directory.
    #[arg(long, value_name = "FILE", requires = "root")]
    verify: Option<PathBuf>,
    /// The root that you trust, in PEM: one of those in the file.
    #[arg(long, value_name = "PEM", requires = "verify")]
    root: Option<PathBuf>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
    /// The folder with proxy.env and data.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Ended {
    let ended = match (&arguments.verify, &arguments.root) {
        (Some(file), Some(root)) => verify(file, root, arguments.json),
        _ => show(arguments),
    };
    ended.unwrap_or_else(|error| {
        complain!("{error}");
        Ended::Refused
    })
}

fn show(arguments: &Arguments) -> Result<Ended, Failure> {
    let settings = Settings::load(&Source::from_process(&arguments.dir), &arguments.dir)?.settings;
    let line = lineage::line(&Deployment::open(&settings)?.database)?;
    let line = line.ok_or("there is no active Org CA yet; start the Mastio once")?;
    let steps: Vec<_> = line.steps().collect();
    if let Some(file) = &arguments.export {
        fs::File::create_new(file)
            .and_then(|mut out| out.write_all(line.to_string().as_bytes()))
            .map_err(|error| format!("{} cannot be made: {error}", file.display()))?;
    }
    if arguments.json {
        say!("{}", json!({ "roots": roots(&line), "steps": in_json(&steps) }));
    } else {
        print(&line, &steps);
        arguments.export.iter().for_each(|file| say!("written to {}", file.display()));
    }
    // A break is told and true; a statement that does not hold is neither.
    let forged = steps.iter().any(|step| matches!(step.vouched, Err(StepError::Statement(_))));
    Ok(if forged { Ended::Failed } else { Ended::Done })
}

fn verify(file: &Path, root: &Path, as_json: bool) -> Result<Ended, Failure> {
    let read = |path: &Path| {
        fs::read_to_string(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
    };
    let line = Line::parse(&read(file)?).map_err(|error| format!("{}: {error}", file.display()))?;
    let trusted =
        Certificate::from_pem(&read(root)?).map_err(|error| format!("{}: {error}", root.display()))?;
    let steps: Vec<_> = line
        .steps_from(&trusted)
        .ok_or_else(|| format!("the root in {} is not in {}", root.display(), file.display()))?
        .collect();
    let broken = steps.iter().find(|step| step.vouched.is_err());
    let newest = line.newest().thumbprint();
    if as_json {
        say!("{}", json!({ "verified": broken.is_none(), "newest": newest, "steps": in_json(&steps) }));
    } else {
        steps.iter().for_each(|step| say!("{}", in_words(step)));
        match broken {
            None if steps.is_empty() => {
                say!(
                    "verified: {newest} is the newest root in it; whether there is a newer one it does not say"
                );
            }
            None => say!("verified: who trusts {} can trust {newest}", trusted.thumbprint()),
            Some(step) => say!(
                "NOT verified behind {}: compare the fingerprint of {} by another way",
                step.from.thumbprint(),
                step.to.thumbprint()
            ),
        }
    }
    Ok(if broken.is_none() { Ended::Done } else { Ended::Failed })
}

fn print(line: &Line, steps: &[Step<'_>]) {
    let oldest = line.roots().next();
    oldest.into_iter().for_each(|root| say!("{}", root_in_words(root)));
    for step in steps {
        say!("{}\n{}", in_words(step), root_in_words(step.to));
    }
    say!("the last one is the Org CA of today");
}

fn root_in_words(root: &Certificate) -> String {
    format!("{} {}, until {}", root.thumbprint(), root.subject(), root.not_after())
}

fn in_words(step: &Step<'_>) -> String {
    match &step.vouched {
        Ok(at) => format!("  ok      vouched for its successor {} at {at}", step.to.thumbprint()),
        Err(StepError::Break(why)) => format!("  BREAK   before {}: {why}", step.to.thumbprint()),
        Err(StepError::Statement(error)) => format!("  BROKEN  before {}: {error}", step.to.thumbprint()),
    }
}

fn roots(line: &Line) -> Vec<Value> {
    let root = |root: &Certificate| {
        json!({
            "thumbprint": root.thumbprint(),
            "subject": root.subject(),
            "not_before": root.not_before(),
            "not_after": root.not_after(),
        })
    };
    line.roots().map(root).collect()
}

fn in_json(steps: &[Step<'_>]) -> Vec<Value> {
    let step = |step: &Step<'_>| {
        let (at, broken, problem) = match &step.vouched {
            Ok(at) => (Some(*at), None, None),
            Err(StepError::Break(why)) => (None, Some(why.as_str()), Some(why.to_string())),
            Err(StepError::Statement(error)) => (None, None, Some(error.to_string())),
        };
        json!({
            "from": step.from.thumbprint(),
            "to": step.to.thumbprint(),
            "vouched_at": at,
            "break": broken,
            "problem": problem,
        })
    };
    steps.iter().map(step).collect()
}
