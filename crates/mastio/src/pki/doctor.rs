//! `mastio pki doctor`: the diagnosis, in words or as JSON.

use std::{
    io::{IsTerminal, stderr},
    path::PathBuf,
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use mastio_authority::doctor::{self, CaOutlook, Diagnosis, Finding, Level, Patient};
use mastio_config::{Settings, Source};
use mastio_core::{Stamp, counted};
use mastio_store::sqlite::Database;

use super::Failure;
use crate::{
    Ended,
    deployment::Deployment,
    out::{complain, say},
};

/// Without a terminal, progress is a line for so many agents.
const LINE_EVERY: u64 = 10_000;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
    /// The folder with proxy.env and data.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Ended {
    let said = diagnose(arguments).and_then(|diagnosis| {
        let text = if arguments.json { serde_json::to_string(&diagnosis)? } else { in_words(&diagnosis) };
        Ok((diagnosis.has_problems(), text))
    });
    match said {
        Ok((problems, text)) => {
            say!("{text}");
            if problems { Ended::Failed } else { Ended::Done }
        }
        Err(error) => {
            complain!("{error}");
            Ended::Refused
        }
    }
}

fn diagnose(arguments: &Arguments) -> Result<Diagnosis, Failure> {
    let settings = Settings::load(&Source::from_process(&arguments.dir), &arguments.dir)?.settings;
    let deployment = Deployment::open(&settings)?;
    let patient = Patient {
        settings: &settings,
        database: &deployment.database,
        custody: &deployment.custody,
        org: &deployment.org,
        served: Database::is_served(deployment.database.path())?,
        now: deployment.clock.now(),
    };
    let bar = ProgressBar::no_length().with_style(style());
    let lines = !arguments.json && !stderr().is_terminal();
    let diagnosis = doctor::examine(&patient, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
        if lines && done > 0 && done.is_multiple_of(LINE_EVERY) {
            complain!("looked at {done} of {}", counted(total, "agent", "agents"));
        }
    });
    bar.finish_and_clear();
    Ok(diagnosis?)
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:30} {pos} of {len} agents ({eta} left)")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn in_words(diagnosis: &Diagnosis) -> String {
    let running = if diagnosis.served { "a server is running" } else { "no server is running" };
    let mut lines = vec![format!("{}, looked at {}; {running}", diagnosis.org_id, diagnosis.checked_at)];
    let mut section = |title: &str, body: Vec<String>| {
        if !body.is_empty() {
            lines.push(format!("\n{title}"));
            lines.extend(body);
        }
    };
    section("Findings", diagnosis.findings.iter().map(finding).collect());
    section("Not looked at", diagnosis.not_checked.iter().map(|why| format!("  {why}")).collect());
    section("CAs", diagnosis.outlook.cas.iter().map(ca).collect());
    section("What ends first", diagnosis.ends.iter().map(end).collect());
    section("Agents", vec![agents(diagnosis)]);
    let rotations = &diagnosis.outlook.rotations;
    let open = rotations.iter().any(|rotation| rotation.waits_for.is_some());
    section(
        if open { "What the open rotation still needs" } else { "What a rotation would mean today" },
        rotations.iter().map(|of| format!("  {}: {}", of.of, of.means)).collect(),
    );
    let count = |level| diagnosis.findings.iter().filter(|finding| finding.level == level).count();
    let (problems, advice) = (count(Level::Problem), count(Level::Advice));
    lines.push(format!(
        "\n{}, {}",
        counted(problems, "kind of problem", "kinds of problems"),
        counted(advice, "piece of advice", "pieces of advice")
    ));
    lines.join("\n")
}

fn finding(finding: &Finding) -> String {
    let level = match finding.level {
        Level::Problem => "PROBLEM",
        Level::Advice => "advice ",
    };
    let mut lines = vec![format!("  {level}  {}: {}", finding.code, finding.text)];
    lines.extend(finding.examples.iter().map(|example| format!("             {example}")));
    let more = finding.count - finding.examples.len() as u64;
    if more > 0 {
        lines.push(format!("             and {more} more"));
    }
    lines.push(format!("           > {}", finding.remedy));
    lines.join("\n")
}

fn ca(ca: &CaOutlook) -> String {
    let connects = match ca.connects {
        Some(true) => ", clients that trust only it connect",
        Some(false) => ", clients that trust only it are refused by TLS",
        None => "",
    };
    let lost = if ca.compromised { ", compromised" } else { "" };
    let cut = if ca.cut { ", its certificates log in no more" } else { "" };
    format!(
        "  {} {} {}, until {}\n      {}; {}{connects}{cut}{lost}",
        ca.state.as_str(),
        ca.kind,
        ca.subject,
        day(ca.not_after),
        ca.thumbprint,
        counted(ca.agents, "active agent", "active agents")
    )
}

fn end(end: &doctor::End) -> String {
    format!("  {}  {:>5} days  {} {}", day(end.not_after), end.days_left, end.what, end.subject)
}

fn day(at: Stamp) -> String {
    at.to_string().chars().take(10).collect()
}

fn agents(diagnosis: &Diagnosis) -> String {
    let fleet = &diagnosis.agents;
    let by: Vec<_> = fleet.by_enrollment.iter().map(|(method, count)| format!("{count} {method}")).collect();
    let by = if by.is_empty() { String::new() } else { format!(": {}", by.join(", ")) };
    format!("  {} in all, {} active{by}", fleet.total, fleet.active)
}
