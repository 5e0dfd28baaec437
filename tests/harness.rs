//! A Mastio as its operator sees it: a folder, an environment, a process, a log and two ports.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use mastio_client::{Admin, Agent, Answer, Client, ClientBuilder, Identity};
use mastio_core::{Clock, SystemClock};
use mastio_jose::SigningKey;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// The admin secret of every server here.
pub(crate) const ADMIN_SECRET: &str = "a-secret-of-the-black-box-suite";
/// The longest wait for anything that should be quick. A busy machine with two cores is slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

const MASTIO: &str = env!("CARGO_BIN_EXE_mastio");
pub(crate) const X_ADMIN_SECRET: HeaderName = HeaderName::from_static("x-admin-secret");
const PAUSE: Duration = Duration::from_millis(20);

/// What every server here is told, unless a test says otherwise. With port 0 the system chooses one that is free.
const ENVIRONMENT: [(&str, &str); 6] = [
    ("MCP_PROXY_ADMIN_SECRET", ADMIN_SECRET),
    ("MCP_PROXY_HOST", "127.0.0.1"),
    ("MCP_PROXY_PORT", "0"),
    ("MCP_PROXY_HTTP_LISTEN", "127.0.0.1:0"),
    ("MCP_PROXY_NGINX_SAN", "localhost,127.0.0.1"),
    ("MCP_PROXY_RATE_LIMIT_PER_MINUTE", "100000"),
];

/// Looks until there is something to see.
pub(crate) async fn eventually<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let clock = SystemClock::default();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(clock.elapsed() < limit, "{what}: not within {limit:?}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// A port that was free a moment ago, for servers that cannot be told to choose.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// A file that the repository holds for tests.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(path)
}

/// `mastio` with these arguments in an environment of nothing else.
pub(crate) fn mastio(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(MASTIO);
    command.args(arguments).env_clear().envs(environment.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command that must succeed; its standard output.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", both(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Standard output, then standard error.
pub(crate) fn both(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// A process that is killed when the test is done with it, however the test ends.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    /// Waits for its end.
    pub(crate) async fn ended(&mut self, limit: Duration) -> ExitStatus {
        eventually("the process ends", limit, async || self.0.try_wait().unwrap()).await
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already cannot be killed, and need not be.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The data directory of a deployment, and what its environment says beside [`ENVIRONMENT`].
pub(crate) struct Place {
    dir: PathBuf,
    environment: Vec<(String, String)>,
    _temporary: Option<TempDir>,
}

impl Place {
    /// An empty folder that is gone after the test.
    pub(crate) fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        Self { dir: temporary.path().to_owned(), environment: Vec::new(), _temporary: Some(temporary) }
    }

    /// A folder of somebody else's.
    pub(crate) fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), environment: Vec::new(), _temporary: None }
    }

    /// Sets a variable from the next start on; an empty one is as good as none.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        let path = self.path(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path("data/mcp_proxy.db")
    }

    /// What the sqlite3 shell answers to a query.
    pub(crate) fn sql(&self, query: &str) -> String {
        run(self.sqlite3().arg(query))
    }

    /// The sqlite3 shell on the database. Like every careful operator it waits for a server that is writing, and it
    /// ends at the first error.
    pub(crate) fn sqlite3(&self) -> Command {
        let mut shell = Command::new("sqlite3");
        shell.args(["-bail", "-cmd", ".timeout 10000"]).arg(self.database());
        shell
    }

    /// `mastio` with these arguments, on this folder, in the environment of its server.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut environment = ENVIRONMENT.to_vec();
        environment.extend(self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let dir = self.dir.to_str().unwrap();
        mastio(&[arguments, &["--dir", dir]].concat(), &environment)
    }

    /// Verifies the audit log offline and returns how many entries it has.
    pub(crate) fn verify_audit(&self) -> u64 {
        let report = run(&mut self.command(&["audit", "verify", "--json"]));
        let report: Value = serde_json::from_str(&report).unwrap();
        let chains = report["chains"].as_array().unwrap();
        chains.iter().map(|chain| chain["result"]["entries"].as_u64().unwrap()).sum()
    }

    /// Starts a server that ends by itself; its exit code and all that it said.
    pub(crate) async fn refused(&self) -> (i32, String) {
        let mut server = self.spawn();
        let status = server.process.ended(PATIENCE).await;
        (status.code().expect("an exit code"), server.log.whole(PATIENCE).await)
    }

    /// Starts a server and waits until it is ready.
    pub(crate) async fn serve(&self) -> Mastio {
        let server = self.serve_unready().await;
        server.ready().await;
        server
    }

    /// Starts a server and waits until it listens, ready or not.
    pub(crate) async fn serve_unready(&self) -> Mastio {
        let mut server = self.spawn();
        let started = "Application startup complete.";
        let line = eventually(started, PATIENCE, async || {
            if let Some(status) = server.process.0.try_wait().unwrap() {
                panic!("the server ended with {status}: {}", server.log.text());
            }
            server.log.text().lines().find(|line| line.contains(started)).map(str::to_owned)
        })
        .await;
        Mastio {
            tls: port(&line, "tls=\"127.0.0.1:"),
            plain: port(&line, "plain=\"127.0.0.1:"),
            ca_pem: self.text("certs/org-ca.pem"),
            log: server.log,
            process: server.process,
        }
    }

    fn spawn(&self) -> Spawned {
        let mut child = self.command(&["serve"]).spawn().unwrap();
        let log = Log::of(child.stderr.take().unwrap());
        Spawned { process: Process(child), log }
    }
}

/// The number after `label` in a line of the log.
fn port(line: &str, label: &str) -> u16 {
    let rest = line.split_once(label).unwrap_or_else(|| panic!("{label} is not in {line}")).1;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

struct Spawned {
    process: Process,
    log: Log,
}

/// What a process has written to its standard error so far.
#[derive(Clone)]
pub(crate) struct Log(Arc<Mutex<Lines>>);

#[derive(Default)]
struct Lines {
    text: String,
    ended: bool,
}

impl Log {
    pub(crate) fn of(stream: impl std::io::Read + Send + 'static) -> Self {
        let log = Self(Arc::default());
        let lines = Arc::clone(&log.0);
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let mut lines = lines.lock().unwrap();
                lines.text.push_str(&line);
                lines.text.push('\n');
            }
            lines.lock().unwrap().ended = true;
        });
        log
    }

    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap().text.clone()
    }

    pub(crate) async fn whole(&self, limit: Duration) -> String {
        eventually("the log ends", limit, async || self.0.lock().unwrap().ended.then_some(())).await;
        self.text()
    }
}

/// A running server.
pub(crate) struct Mastio {
    pub(crate) process: Process,
    pub(crate) tls: u16,
    pub(crate) plain: u16,
    pub(crate) ca_pem: String,
    log: Log,
}

impl Mastio {
    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    /// `https://localhost:<port>`.
    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.tls)
    }

    /// `http://127.0.0.1:<port>` of the plain listener.
    pub(crate) fn plain_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.plain)
    }

    /// A client over TLS, with or without a certificate.
    pub(crate) fn client(&self, identity: Option<&Identity>) -> Client {
        let url = self.url();
        let builder = Client::builder(&url).ca_pem(&self.ca_pem).timeout(PATIENCE);
        let builder = identity.into_iter().fold(builder, ClientBuilder::identity);
        builder.build().unwrap()
    }

    /// An operator.
    pub(crate) fn admin(&self) -> Admin {
        Admin::new(&self.client(None), ADMIN_SECRET.into())
    }

    /// An agent with a DPoP key of its own, not logged in yet.
    pub(crate) fn agent(&self, identity: &Arc<Identity>) -> Agent {
        Agent::new(&self.client(Some(identity)), Arc::clone(identity), SigningKey::generate().unwrap())
    }

    /// A request to the plain listener, on a connection of its own.
    pub(crate) async fn ask(&self, method: Method, path: &str, headers: HeaderMap, body: String) -> Answer {
        let client = Client::builder(&self.plain_url()).timeout(PATIENCE).build().unwrap();
        client.connect().request(method, path, headers, body).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, HeaderMap::new(), String::new()).await
    }

    /// A request with the admin secret, and the answer whatever it is.
    pub(crate) async fn operator(&self, method: Method, path: &str, body: &Value) -> Answer {
        let secret = HeaderMap::from_iter([(X_ADMIN_SECRET, HeaderValue::from_static(ADMIN_SECRET))]);
        self.ask(method, path, secret, body.to_string()).await
    }

    /// `/readyz`: its status and its checks.
    pub(crate) async fn readyz(&self) -> (StatusCode, Value) {
        let answer = self.get("/readyz").await;
        let mut body: Value = answer.json().unwrap();
        (answer.status, body["checks"].take())
    }

    pub(crate) async fn ready(&self) {
        let ready = async || (self.readyz().await.0 == StatusCode::OK).then_some(());
        eventually("the server is ready", PATIENCE, ready).await;
    }

    /// Waits until the first revocation list is published, some time after the start.
    pub(crate) async fn publishes(&self) {
        let told = async || self.log().contains("pki.crl_published").then_some(());
        eventually("a revocation list is published", PATIENCE, told).await;
    }

    /// Ends it as an operator does; its exit code.
    pub(crate) async fn stop(mut self) -> i32 {
        self.process.signal(Signal::TERM);
        self.process.ended(PATIENCE).await.code().expect("an exit code")
    }

    /// Ends it as a power cut does.
    pub(crate) async fn kill(mut self) {
        self.process.signal(Signal::KILL);
        self.process.ended(PATIENCE).await;
    }
}
