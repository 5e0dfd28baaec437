//! The Connector as it is shipped: it enrolls by device code, checks its setup, and serves its tools over MCP.

use std::{fs, path::PathBuf, process::Command};

use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    clients::client,
    desk::Desk,
    harness::{Log, Mastio, PATIENCE, Place, Process, eventually, free_port, run},
    mcp::Mcp,
};

/// Somebody's machine with a Connector, which trusts the CA file that the operator handed out.
struct Connector {
    home: TempDir,
    site: String,
}

impl Connector {
    async fn new(server: &Mastio) -> Self {
        let connector = Self { home: tempfile::tempdir().unwrap(), site: server.url() };
        let identity = connector.folder().join("identity");
        fs::create_dir_all(&identity).unwrap();
        fs::write(identity.join("ca-chain.pem"), server.get("/pki/ca.crt").await.body).unwrap();
        connector
    }

    fn folder(&self) -> PathBuf {
        self.home.path().join("connector")
    }

    fn command(&self, subcommand: &str) -> Command {
        let mut command = client("cullis-connector", self.home.path());
        command.arg(subcommand).arg("--config-dir").arg(self.folder()).args(["--log-level", "warning"]);
        command
    }

    /// Asks to be let in, and waits until it says what to show to the operator.
    async fn enroll(&self, person: &str) -> Enrolling {
        let mut command = self.command("enroll");
        command.args(["--site-url", &self.site, "--reason", "end-to-end test"]);
        command.args(["--requester-name", person, "--requester-email", &format!("{person}@example.com")]);
        Enrolling::start(&mut command, &self.site).await
    }

    /// Lets it in through the JSON route.
    async fn enrolled(&self, desk: &mut Desk, name: &str, capabilities: &[&str]) -> String {
        let mut enrolling = self.enroll(name).await;
        let agent = desk.approve(&enrolling.session, name, capabilities).await;
        enrolling.is_let_in(&agent).await;
        agent
    }

    fn serve(&self) -> Mcp {
        Mcp::start(&mut self.command("serve"))
    }
}

/// A Connector that polls for the operator's decision.
struct Enrolling {
    process: Process,
    said: Log,
    session: String,
}

impl Enrolling {
    async fn start(command: &mut Command, site: &str) -> Self {
        let mut child = command.spawn().unwrap();
        let said = Log::of(child.stderr.take().unwrap());
        let process = Process(child);
        let page = format!("{site}/enroll?session=");
        let session = async || {
            let text = said.text();
            let session = text.split_once(&page)?.1.split_once('\n')?.0;
            Some(session.trim().to_owned())
        };
        let session = eventually("the Connector shows where to approve", PATIENCE, session).await;
        Self { process, said, session }
    }

    async fn is_let_in(&mut self, agent: &str) {
        let status = self.process.ended(PATIENCE).await;
        let said = self.said.whole(PATIENCE).await;
        assert!(status.success() && said.contains(agent), "{status}: {said}");
    }
}

#[tokio::test]
async fn connectors_enroll_and_talk_to_each_other() {
    let place = Place::new();
    let server = place.serve().await;
    let mut desk = Desk::open(&server).await;
    let (alices, bobs) = (Connector::new(&server).await, Connector::new(&server).await);
    let mut bob = bobs.enroll("bob").await;
    let alice = alices.enrolled(&mut desk, "alice", &["kyc.read"]).await;
    let shown = desk.page(&format!("/enroll?session={}", bob.session)).await;
    assert!(shown.contains("bob@example.com"), "what the Connector shows leads to the request: {shown}");
    desk.approve_by_form(&bob.session, "bob").await;
    let org = alice.strip_suffix("::alice").unwrap();
    bob.is_let_in(&format!("{org}::bob")).await;

    doctor_finds_nothing_wrong(&alices);
    let mut alices_tools = alices.serve();
    let offered = alices_tools.tools();
    for tool in
        ["hello_site", "discover_agents", "contact", "chat", "reply", "send_oneshot", "receive_oneshot"]
    {
        assert!(offered.iter().any(|name| name == tool), "{tool}: {offered:?}");
    }
    let hello: Value = serde_json::from_str(&alices_tools.call("hello_site", &json!({}))).unwrap();
    assert_eq!((&hello["site_status"], &hello["tls_verified"]), (&"ok".into(), &true.into()));
    let found = alices_tools.call("discover_agents", &json!({}));
    assert!(found.contains(&format!("{org}::bob")) && !found.contains(&alice), "{found}");
    assert!(alices_tools.call("contact", &json!({ "peer": "bob" })).contains(&format!("{org}::bob")));
    alices_tools.call("chat", &json!({ "text": "hello bob" }));

    let mut bobs_tools = bobs.serve();
    let found = bobs_tools.call("discover_agents", &json!({ "q": "alice" }));
    assert!(found.contains(&alice) && found.contains("kyc.read"), "{found}");
    let received = bobs_tools.call("receive_oneshot", &json!({}));
    assert!(received.contains("hello bob") && received.contains(&alice), "{received}");
    bobs_tools.call("reply", &json!({ "text": "hello alice" }));
    let received = alices_tools.call("receive_oneshot", &json!({}));
    assert!(received.contains("hello alice"), "{received}");

    // This tool alone sends no credential: what it asks for is told to whoever has one.
    let trail = alices_tools.call("get_audit_trail", &json!({ "session_id": "nothing" }));
    assert!(trail.contains("HTTP 401"), "{trail}");

    // A Connector that is open and served so far.
    let revoked =
        server.operator(Method::POST, &format!("/registry/agents/{alice}/revoke"), &json!({})).await;
    assert_eq!(revoked.status, 200, "{}", revoked.detail());
    let found = alices_tools.call("discover_agents", &json!({}));
    assert!(found.contains("401") && !found.contains(&format!("{org}::bob")), "{found}");
    place.verify_audit();
}

/// Once an MCP client knows of the Connector, `doctor` has something to check.
fn doctor_finds_nothing_wrong(connector: &Connector) {
    let cursor = connector.home.path().join(".cursor");
    fs::create_dir(&cursor).unwrap();
    run(connector.command("install-mcp").args(["--ide", "cursor"]));
    assert!(fs::read_to_string(cursor.join("mcp.json")).unwrap().contains("cullis-connector"));
    let report = run(&mut connector.command("doctor"));
    assert!(report.contains("Cursor") && !report.contains("stale"), "{report}");
}

#[tokio::test]
async fn a_rejected_connector_says_why() {
    let place = Place::new();
    let server = place.serve().await;
    let connector = Connector::new(&server).await;
    let mut enrolling = connector.enroll("mallory").await;
    Desk::open(&server).await.reject(&enrolling.session, "we do not know you").await;
    let status = enrolling.process.ended(PATIENCE).await;
    let said = enrolling.said.whole(PATIENCE).await;
    assert!(status.code() == Some(1) && said.contains("we do not know you"), "{status}: {said}");
    assert!(!connector.folder().join("identity/agent.crt").exists());
}

#[tokio::test]
async fn the_command_that_the_dashboard_prints_is_understood() {
    let (port, mut place) = (free_port().to_string(), Place::new());
    let site = format!("https://localhost:{port}");
    let server = place.set("MCP_PROXY_PORT", &port).set("MCP_PROXY_PROXY_PUBLIC_URL", &site).serve().await;
    let mut desk = Desk::open(&server).await;
    for path in ["/proxy/enrollments", "/proxy/overview"] {
        let page = desk.page(path).await;
        let printed = page.split_once("<code>cullis-connector ").expect("the page prints the command").1;
        let printed = printed.split_once("</code>").unwrap().0;
        let home = tempfile::tempdir().unwrap();
        let mut command = client("cullis-connector", home.path());
        command.args(printed.split(' ')).env("SSL_CERT_FILE", place.path("certs/org-ca.pem"));
        let enrolling = Enrolling::start(&mut command, &site).await;
        desk.reject(&enrolling.session, "only a test").await;
    }
}

/// The Connector's own web page asks for less than its command line: no signature at the start and no DPoP key.
#[tokio::test]
async fn the_connectors_web_page_enrolls() {
    let place = Place::new();
    let server = place.serve().await;
    let connector = Connector::new(&server).await;
    fs::remove_file(connector.folder().join("identity/ca-chain.pem")).unwrap();
    let port = free_port().to_string();
    let mut page = connector.command("dashboard");
    let mut child = page.args(["--no-open-browser", "--port", &port]).spawn().unwrap();
    let _said = Log::of(child.stderr.take().unwrap());
    let _process = Process(child);
    let web = Web { address: format!("http://127.0.0.1:{port}") };
    eventually("the page is there", PATIENCE, async || web.get("/api/status")).await;

    // Trust on first use: what is shown is what the operator can compare, and it is pinned.
    let bootstrap: Value = server.get("/.well-known/cullis/connector-bootstrap").await.json().unwrap();
    let shown = web.post("/setup/preview-ca", &[("site_url", &connector.site)]);
    assert_eq!(shown["fingerprint_sha256"], bootstrap["ca_fingerprint_sha256"]);
    let expected = shown["fingerprint_sha256"].as_str().unwrap();
    let pinned = [("site_url", &*connector.site), ("fingerprint_expected", expected)];
    assert_eq!(web.post("/setup/pin-ca", &pinned)["pinned"], true);

    let fields =
        [("site_url", &*connector.site), ("requester_name", "Web"), ("requester_email", "web@example.com")];
    web.post("/setup", &fields);
    // The first poll shows that it holds the key.
    assert_eq!(web.get("/api/status").unwrap()["status"], "pending");
    let mut desk = Desk::open(&server).await;
    let waiting = desk.waiting().await;
    let session = waiting[0]["session_id"].as_str().unwrap();
    let agent = desk.approve(session, "web", &[]).await;
    let approved = web.get("/api/status").unwrap();
    assert_eq!((&approved["status"], &approved["agent_id"]), (&"approved".into(), &agent.as_str().into()));

    // From then on it looks for messages by itself, with a DPoP key that nobody has registered.
    let reads = format!("principal=\"{agent}\" route=\"/v1/egress/message/inbox\" status=200");
    let served = async || server.log().contains(&reads).then_some(());
    eventually("it reads its inbox", PATIENCE, served).await;
}

/// The Connector's web page, as its browser uses it.
struct Web {
    address: String,
}

impl Web {
    fn curl(&self, path: &str) -> Command {
        let mut curl = Command::new("curl");
        curl.args(["-s", "--max-time", "30", "-H", &format!("Origin: {}", self.address)]);
        curl.arg(format!("{}{path}", self.address));
        curl
    }

    fn get(&self, path: &str) -> Option<Value> {
        let answer = self.curl(path).output().unwrap();
        serde_json::from_slice(&answer.stdout).ok()
    }

    /// The JSON of the answer; null for a page.
    fn post(&self, path: &str, fields: &[(&str, &str)]) -> Value {
        let mut curl = self.curl(path);
        for (name, value) in fields {
            curl.args(["--data-urlencode", &format!("{name}={value}")]);
        }
        serde_json::from_str(&run(curl.arg("--fail-with-body"))).unwrap_or_default()
    }
}
