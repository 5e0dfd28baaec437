//! `mastio pki rotate-signing-key`, `rotate-intermediate` and `complete-staged`: asked of a running Mastio.

use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::{Failure, running::Running};

#[derive(Args)]
pub(crate) struct SigningKey {
    /// Print the answer as JSON, with the word of the old key for the new one.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    running: Running,
}

#[derive(Args)]
pub(crate) struct Intermediate {
    /// Let the Org CA sign, and keep nothing of it.
    #[arg(long)]
    dry_run: bool,
    /// For how many days tokens of the present signing key verify, 1 to 90.
    #[arg(long, default_value_t = 14)]
    grace_days: u32,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    running: Running,
}

#[derive(Args)]
#[group(id = "decision", required = true, multiple = false)]
pub(crate) struct Decision {
    /// Have the staged key sign.
    #[arg(long, group = "decision")]
    activate: bool,
    /// Throw the staged key away.
    #[arg(long, group = "decision")]
    drop: bool,
}

#[derive(Args)]
pub(crate) struct CompleteStaged {
    #[command(flatten)]
    decision: Decision,
    #[command(flatten)]
    running: Running,
}

/// What to print.
pub(crate) fn signing_key(arguments: &SigningKey) -> Result<String, Failure> {
    let done = arguments.running.ask(Method::POST, "/v1/admin/mastio-key/rotate", None)?;
    if arguments.json {
        return Ok(done.to_string());
    }
    Ok(format!(
        "{} signs tokens; its certificate ends {}\ntokens of {} verify until {}",
        text(&done, "new_kid"),
        text(&done, "cert_not_after"),
        text(&done, "old_kid"),
        text(&done, "grace_expires_at"),
    ))
}

pub(crate) fn intermediate(arguments: &Intermediate) -> Result<String, Failure> {
    let Intermediate { dry_run, grace_days, json, running } = arguments;
    let path = format!("/v1/admin/mastio-ca/rotate?dry_run={dry_run}&grace_days={grace_days}");
    let done = running.ask(Method::POST, &path, None)?;
    if *json {
        return Ok(done.to_string());
    }
    let (old, new) = (text(&done, "old_intermediate_cn"), text(&done, "new_intermediate_cn"));
    let ends = text(&done, "not_after");
    if *dry_run {
        return Ok(format!(
            "the Org CA can sign another intermediate, until {ends}; nothing was kept of it\nin use: {old}"
        ));
    }
    let kid = text(&done, "new_leaf_kid");
    Ok(format!("{new} certifies, until {ends}\n{kid} signs tokens\nwhat {old} certified works until it ends"))
}

pub(crate) fn complete_staged(arguments: &CompleteStaged) -> Result<String, Failure> {
    let decision = if arguments.decision.activate { "activate" } else { "drop" };
    let body = json!({ "decision": decision });
    let path = "/v1/admin/mastio-key/complete-staged";
    let done = arguments.running.ask(Method::POST, path, Some(&body))?;
    let kid = text(&done, "kid");
    Ok(match arguments.decision.activate {
        true => format!("{kid} signs tokens"),
        false => format!("{kid} was dropped; the key of before signs tokens"),
    })
}

fn text<'a>(answer: &'a Value, member: &str) -> &'a str {
    answer[member].as_str().unwrap_or("?")
}
