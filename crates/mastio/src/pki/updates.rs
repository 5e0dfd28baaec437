//! `mastio pki updates`: framework updates of a running Mastio, by its API.

use mastio_core::counted;
use std::{fs, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use http::Method;
use mastio_client::{Admin, Client};
use mastio_config::{Settings, Source};
use serde_json::{Value, json};

use crate::Ended;

/// The longest wait for an answer: an update of many agents takes minutes.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Say which updates there are and where they are.
    List(Server),
    /// Apply one.
    Apply(Apply),
    /// Take one back.
    Rollback(Rollback),
    /// Delete the snapshot of one: it cannot be taken back any more.
    Wipe(Wipe),
}

#[derive(Args)]
pub(crate) struct Server {
    /// Where the Mastio answers.
    #[arg(long, default_value = "https://localhost:9443")]
    url: String,
    /// The Org CA; certs/org-ca.pem of --dir if not given.
    #[arg(long)]
    ca: Option<PathBuf>,
    /// The folder with proxy.env, where the admin secret stands.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

#[derive(Args)]
pub(crate) struct Apply {
    /// The migration.
    id: String,
    /// How, if there is more than one way.
    #[arg(long)]
    strategy: Option<String>,
    /// Say what it would do, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do it; without this word nothing is done.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Args)]
pub(crate) struct Rollback {
    /// The migration.
    id: String,
    /// Say what it would do, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do it; without this word nothing is done.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Args)]
pub(crate) struct Wipe {
    /// The migration.
    id: String,
    #[command(flatten)]
    server: Server,
}

type Failure = Box<dyn std::error::Error>;

pub(crate) fn run(command: &Command) -> Ended {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(ask(command)));
    match done {
        Ok(lines) => {
            lines.iter().for_each(|line| println!("{line}"));
            Ended::Done
        }
        Err(error) => {
            eprintln!("{error}");
            Ended::Refused
        }
    }
}

async fn ask(command: &Command) -> Result<Vec<String>, Failure> {
    match command {
        Command::List(server) => {
            let listed: Vec<Value> =
                server.admin()?.send(Method::GET, "/proxy/updates/api", None).await?.json()?;
            Ok(listed.iter().map(line).collect())
        }
        Command::Apply(Apply { id, strategy, dry_run, yes, server }) => {
            let body = json!({ "confirm": yes, "dry_run": dry_run, "strategy": strategy });
            post(server, id, "apply", &body).await
        }
        Command::Rollback(Rollback { id, dry_run, yes, server }) => {
            post(server, id, "rollback", &json!({ "confirm": yes, "dry_run": dry_run })).await
        }
        Command::Wipe(Wipe { id, server }) => {
            let path = format!("/proxy/updates/{id}/snapshot");
            server.admin()?.send(Method::DELETE, &path, None).await?;
            Ok(vec![format!("the snapshot of {id} is deleted")])
        }
    }
}

async fn post(server: &Server, id: &str, what: &str, body: &Value) -> Result<Vec<String>, Failure> {
    let path = format!("/proxy/updates/{id}/{what}");
    let answer: Value = server.admin()?.send(Method::POST, &path, Some(body)).await?.json()?;
    let plan = |name: &str| answer["plan"][name].as_array();
    let steps = plan("steps").or_else(|| plan("rollback"));
    Ok(match steps {
        Some(steps) => steps.iter().filter_map(Value::as_str).map(|step| format!("- {step}")).collect(),
        None => vec![format!("{id} {}", answer["status"].as_str().unwrap_or("done"))],
    })
}

fn line(update: &Value) -> String {
    let text = |name: &str| update[name].as_str().unwrap_or("-").to_owned();
    let progress = match (&update["progress"]["done"], &update["progress"]["total"]) {
        (Value::Number(done), Value::Number(total)) => {
            let total = total.as_u64().unwrap_or(0);
            format!(" ({done} of {})", counted(total, "certificate", "certificates"))
        }
        _ => String::new(),
    };
    format!(
        "{}  {}  {}{progress}  {}",
        text("migration_id"),
        text("criticality"),
        update["status"].as_str().unwrap_or("not needed"),
        text("description")
    )
}

impl Server {
    fn admin(&self) -> Result<Admin, Failure> {
        let settings = Settings::load(&Source::from_process(&self.dir), &self.dir)?.settings;
        let ca = self.ca.clone().unwrap_or_else(|| settings.certs_dir.join("org-ca.pem"));
        let pem =
            fs::read_to_string(&ca).map_err(|error| format!("{} cannot be read: {error}", ca.display()))?;
        let client = Client::builder(&self.url).ca_pem(&pem).timeout(PATIENCE).build()?;
        Ok(Admin::new(&client, settings.admin_secret))
    }
}
