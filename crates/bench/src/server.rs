//! The real server as a child process.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use http::{HeaderMap, Method};
use mastio_client::{Admin, Client, ClientBuilder};
use mastio_core::Clock;
use secrecy::ExposeSecret;

use crate::{bench::Bench, error::BenchError, process, process::Resident};

/// How long a server may take to become ready.
const LIMIT: Duration = Duration::from_secs(60);
/// How often it is asked whether it is.
const POLL: Duration = Duration::from_millis(2);
/// How much of its log is shown when it is not.
const LAST_LINES: usize = 20;

/// Serves until it is dropped.
pub(crate) struct Server {
    child: Child,
    url: String,
    ca_pem: String,
    admin: secrecy::SecretString,
    /// From spawning it until `/readyz` said 200.
    pub(crate) ready_after: Duration,
}

impl Server {
    /// Starts a server on the folder `dir` and waits until it is ready. The first start makes what is missing there.
    pub(crate) fn start(bench: &Bench, dir: &Path) -> Result<Self, BenchError> {
        if !bench.server.is_file() {
            return Err(BenchError::NoServer(bench.server.clone()));
        }
        let port = free_port()?;
        let url = format!("https://localhost:{port}");
        let begin = bench.clock.elapsed();
        let child = command(bench, dir, port, &url)?.spawn()?;
        let (ca_pem, admin) = (bench.organisation.ca_pem(), bench.organisation.admin_secret.clone());
        let mut server = Self { child, url, ca_pem, admin, ready_after: Duration::ZERO };
        bench.runtime.block_on(server.ready(bench, dir, begin))?;
        server.ready_after = bench.clock.elapsed() - begin;
        Ok(server)
    }

    async fn ready(&mut self, bench: &Bench, dir: &Path, begin: Duration) -> Result<(), BenchError> {
        let client = self.client().build()?;
        while !is_ready(&client).await {
            if let Some(status) = self.child.try_wait()? {
                return Err(BenchError::Ended { status, log: last_lines(dir) });
            }
            if bench.clock.elapsed() - begin > LIMIT {
                return Err(BenchError::NotReady { limit: LIMIT.as_secs(), log: last_lines(dir) });
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// A client that trusts it.
    pub(crate) fn client(&self) -> ClientBuilder<'_> {
        Client::builder(&self.url).ca_pem(&self.ca_pem)
    }

    /// Its operator, on a connection of its own.
    pub(crate) fn admin(&self) -> Result<Admin, BenchError> {
        Ok(Admin::new(&self.client().build()?, self.admin.clone()))
    }

    /// Where it serves.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The header that lets its operator in.
    pub(crate) fn admin_header(&self) -> String {
        format!("X-Admin-Secret: {}", self.admin.expose_secret())
    }

    /// The CPU time that it has used.
    pub(crate) fn cpu(&self) -> Result<Duration, BenchError> {
        process::cpu(self.child.id())
    }

    /// The memory that it has.
    pub(crate) fn resident(&self, which: Resident) -> Result<u64, BenchError> {
        which.of(self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // What it acknowledged is durable, and its folder is ours: there is nothing to wait for. A child that is gone
        // cannot be killed again.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a server on the folder `dir` keeps its database.
pub(crate) fn database(dir: &Path) -> PathBuf {
    dir.join("data/mcp_proxy.db")
}

fn log(dir: &Path) -> PathBuf {
    dir.join("server.log")
}

/// `mastio serve` with an environment of its own: nothing of the caller's changes what is measured.
fn command(bench: &Bench, dir: &Path, port: u16, url: &str) -> Result<Command, BenchError> {
    let mut command = Command::new(&bench.server);
    command
        .args(["serve", "--dir"])
        .arg(dir)
        .env_clear()
        .env("MCP_PROXY_ADMIN_SECRET", bench.organisation.admin_secret.expose_secret())
        .env("MCP_PROXY_DASHBOARD_SIGNING_KEY", bench.organisation.admin_secret.expose_secret())
        .env("MCP_PROXY_ORG_ID", bench.organisation.id.as_str())
        .env("MCP_PROXY_HOST", "127.0.0.1")
        .env("MCP_PROXY_PORT", port.to_string())
        .env("MCP_PROXY_HTTP_LISTEN", "off")
        .env("MCP_PROXY_PROXY_PUBLIC_URL", url)
        .env("MCP_PROXY_RATE_LIMIT_PER_MINUTE", "100000000")
        .env("CULLIS_AUDIT_EXPORT_MAX", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(log(dir))?);
    if let Some(workers) = bench.options.workers {
        command.env("MASTIO_WORKERS", workers.to_string());
    }
    Ok(command)
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16, BenchError> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

async fn is_ready(client: &Client) -> bool {
    let answer = client.connect().request(Method::GET, "/readyz", HeaderMap::new(), "").await;
    answer.is_ok_and(|answer| answer.status.is_success())
}

fn last_lines(dir: &Path) -> String {
    let text = fs::read_to_string(log(dir)).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}
