//! `mastio demo`: boots a Mastio and walks two agents through its public interface, proving each step.

mod walk;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use mastio_config::{Settings, Source, proxy_env};
use mastio_core::{SystemClock, SystemRng};
use mastio_http::telemetry::{self, Format};

use crate::{
    Ended,
    out::{complain, say},
    serve,
    server::Server,
};

#[derive(Args)]
pub(crate) struct Arguments {
    /// The folder that the demo's Mastio lives in.
    #[arg(long, default_value = "./mastio-demo")]
    dir: PathBuf,
    /// Take free ports, walk, and leave: exit code 0 only if all was as promised.
    #[arg(long)]
    once: bool,
}

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

pub(crate) fn run(arguments: &Arguments) -> Ended {
    match demo(arguments) {
        Ok(()) => Ended::Done,
        Err(error) => {
            complain!("\nthe demo stopped: {error}");
            Ended::Refused
        }
    }
}

fn demo(arguments: &Arguments) -> Result<(), Failure> {
    let settings = settings(arguments)?;
    let quiet = "warn,mastio_http=error,mastio::event=error";
    telemetry::init(Format::Text, quiet, Arc::new(SystemClock::default()))?;
    serve::runtime(&settings)?.block_on(walk_and_serve(settings, arguments))
}

/// The demo's own configuration: it never reads the environment, so that it does not touch a real deployment.
fn settings(arguments: &Arguments) -> Result<Settings, Failure> {
    let dir = &arguments.dir;
    std::fs::create_dir_all(dir)?;
    let (port, plain) =
        if arguments.once { (free_port()?, "off".to_owned()) } else { (9443, "127.0.0.1:9100".into()) };
    let environment = || {
        [
            ("MCP_PROXY_HOST", "127.0.0.1".to_owned()),
            ("MCP_PROXY_PORT", port.to_string()),
            ("MCP_PROXY_HTTP_LISTEN", plain.clone()),
            ("MCP_PROXY_PROXY_PUBLIC_URL", format!("https://localhost:{port}")),
            ("MCP_PROXY_NGINX_SAN", "localhost,127.0.0.1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
    };
    let proxy_env = dir.join(proxy_env::FILE_NAME);
    if !proxy_env.exists() {
        proxy_env::write_fresh(dir, &SystemRng)?;
    }
    let source = Source::new(environment(), &std::fs::read_to_string(&proxy_env)?);
    Ok(Settings::load(&source, dir)?.settings)
}

fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

async fn walk_and_serve(settings: Settings, arguments: &Arguments) -> Result<(), Failure> {
    let mut steps = walk::Steps::new(SystemClock::default());
    let server =
        Server::start(settings.clone(), Arc::new(SystemClock::default()), Arc::new(SystemRng)).await?;
    let trust = server.authority.trust();
    steps.done(
        "boot",
        &format!("organisation {}, root {}, TLS on {}", trust.org, trust.root.subject(), server.tls),
    );
    // The agents are another task: they know the address, the CA file and the admin secret, nothing else.
    let base = format!("https://localhost:{}", server.tls.port());
    let walked = tokio::spawn(walk::walk(base.clone(), settings.clone(), steps)).await?;
    if arguments.once || walked.is_err() {
        server.stop().await;
        return walked;
    }
    say!("\nserver        {base}");
    say!("CA file       {}", settings.certs_dir.join("org-ca.pem").display());
    say!("admin secret  grep ^MCP_PROXY_ADMIN_SECRET {}", arguments.dir.join(proxy_env::FILE_NAME).display());
    say!("audit         mastio audit verify --db {}", database(&settings).display());
    say!("\nserving until Ctrl-C");
    tokio::signal::ctrl_c().await?;
    server.stop().await;
    Ok(())
}

pub(crate) fn database(settings: &Settings) -> &Path {
    let mastio_config::Database::Sqlite(path) = &settings.database;
    path
}
