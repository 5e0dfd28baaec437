//! A rotation of the Org CA with overlap while agents call without pause: nobody is refused, whether it goes to its end or
//! is aborted.

use std::{
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header::IF_NONE_MATCH};
use mastio_client::{Agent, Client, Identity};
use mastio_core::{Clock, SystemClock};
use mastio_pki::pem;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    crowd::crowd,
    harness::{Mastio, PATIENCE, Place, both, eventually, run},
};

const HINT: &str = "x-cullis-trust-bundle";
/// How many agents go through a whole rotation. They and the server share the machine with the other tests.
const FLEET: usize = 500;
/// How many go through each abort.
const FEW: usize = 25;
/// How long a phase may take that all of a fleet must follow.
const PHASE: Duration = Duration::from_secs(150);

/// Agents that call until they are told to stop, and what became of it.
struct Fleet {
    agents: JoinSet<Agent>,
    calls: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Fleet {
    /// Every third one calls with a token, the others with their certificates alone. All have read the CA file of before
    /// and know nothing else.
    async fn start(place: &Place, server: &Mastio, size: usize) -> Self {
        let (calls, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let mut agents = JoinSet::new();
        for (number, identity) in crowd(server, size).await.iter().enumerate() {
            let agent = opened(place, &server.client(None), &format!("agent-{number}"), identity);
            let (calls, stop) = (Arc::clone(&calls), Arc::clone(&stop));
            agents.spawn(work(agent, number % 3 == 0, calls, stop));
        }
        let fleet = Self { agents, calls, stop };
        fleet.goes_on(size as u64).await;
        fleet
    }

    /// Waits for so many more calls: whoever was refused fails the test.
    async fn goes_on(&self, calls: u64) {
        let before = self.calls.load(Ordering::Relaxed);
        let more = async || (self.calls.load(Ordering::Relaxed) >= before + calls).then_some(());
        eventually("the fleet calls", PHASE, more).await;
    }

    /// Ends it; the agents, none of which was ever refused.
    async fn stop(mut self) -> (Vec<Agent>, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let mut agents = Vec::new();
        while let Some(ended) = self.agents.join_next().await {
            agents.push(ended.unwrap());
        }
        (agents, self.calls.load(Ordering::Relaxed))
    }
}

/// An agent that lives from a directory.
fn opened(place: &Place, client: &Client, name: &str, identity: &Identity) -> Agent {
    place.write(&format!("agents/{name}/cert.pem"), identity.certificates_pem());
    place.write(&format!("agents/{name}/agent-key.pem"), identity.key().to_pkcs8_pem().expose_secret());
    Agent::open(client, &place.path(&format!("agents/{name}"))).unwrap()
}

async fn work(mut agent: Agent, by_token: bool, calls: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> Agent {
    if by_token {
        agent.login_mtls().await.unwrap();
    }
    while !stop.load(Ordering::Relaxed) {
        const PATH: &str = "/v1/auth/whoami";
        let answer = match by_token {
            true => agent.call(Method::GET, PATH, "").await,
            false => agent.call_mtls(Method::GET, PATH, "").await,
        };
        let answer = answer.unwrap_or_else(|error| panic!("{}: {error}", agent.identity().agent_id()));
        assert_eq!(answer.status, StatusCode::OK, "{}: {}", agent.identity().agent_id(), answer.detail());
        calls.fetch_add(1, Ordering::Relaxed);
    }
    let troubles = [agent.renewal_trouble(), agent.following_trouble()];
    assert!(troubles.iter().all(Option::is_none), "{}: {troubles:?}", agent.identity().agent_id());
    agent
}

async fn operator(server: &Mastio, method: Method, path: &str) -> Value {
    let answer = server.operator(method, path, &json!({})).await;
    assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.detail());
    answer.json().unwrap()
}

/// Begins a rotation; its path.
async fn begin(server: &Mastio, grace_days: u32) -> String {
    let query = format!("mode=mint&transition=overlap&grace_days={grace_days}");
    let begun = operator(server, Method::POST, &format!("/pki/rotate-ca?{query}")).await;
    assert_eq!((&begun["status"], &begun["phase"]), (&json!("begun"), &json!("distribute")));
    format!("/pki/rotations/{}", begun["id"].as_str().unwrap())
}

/// Begins one that does not go on by itself; again if all agents were faster than the pause.
async fn begin_paused(server: &Mastio) -> String {
    eventually("a rotation is paused in its first phase", PHASE, async || {
        let rotation = begin(server, 14).await;
        let paused = operator(server, Method::POST, &format!("{rotation}/pause")).await;
        if paused["phase"] != "distribute" {
            operator(server, Method::POST, &format!("{rotation}/abort")).await;
            return None;
        }
        Some(rotation)
    })
    .await
}

/// Waits until the rotation looks like this.
async fn until(server: &Mastio, rotation: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let look = async || Some(operator(server, Method::GET, rotation).await).filter(|now| is(now));
    eventually(what, PHASE, look).await
}

/// The root that `/pki/ca.crt` begins with.
async fn root(server: &Mastio) -> String {
    let file = server.get("/pki/ca.crt").await;
    pem::first_certificate(std::str::from_utf8(&file.body).unwrap()).unwrap().thumbprint().to_string()
}

/// Whether the agent's certificate is of the intermediate that hangs under the active root.
async fn hangs_under_root(server: &Mastio, agent: &Agent) -> bool {
    let file = server.get("/pki/ca.crt").await;
    let root = pem::first_certificate(std::str::from_utf8(&file.body).unwrap()).unwrap();
    agent.identity().chain()[1].is_signed_by(&root)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_that_calls_without_pause_goes_through_a_whole_rotation() {
    let place = Place::new();
    let server = place.serve().await;
    let before = root(&server).await;
    let fleet = Fleet::start(&place, &server, FLEET).await;
    let clock = SystemClock::default();
    let rotation = begin(&server, 0).await;
    let done = until(&server, &rotation, "the rotation is over", |now| now["ended_at"].is_string()).await;
    let took = clock.elapsed();
    assert_eq!((&done["phase"], &done["error"]), (&json!("done"), &json!(null)));
    let after = root(&server).await;
    assert!(done["old_root"] == before.as_str() && done["new_root"] == after.as_str() && before != after);
    // Also afterwards, and on connections that are opened now.
    fleet.goes_on(FLEET as u64).await;
    let (mut agents, calls) = fleet.stop().await;
    println!("{FLEET} agents, {calls} calls, none refused; over after {took:?}");
    assert!(agents.len() == FLEET && hangs_under_root(&server, &agents[0]).await);
    // What each keeps on disk is enough to start again, although its operator's CA file is that of before.
    let again = Agent::open(&server.client(None), &place.path("agents/agent-1")).unwrap();
    agents.push(again);
    let whoami = agents.last_mut().unwrap().call_mtls(Method::GET, "/v1/auth/whoami", "").await.unwrap();
    assert_eq!(whoami.status, StatusCode::OK);
    let steps = "SELECT count(*) FROM local_audit WHERE event_type = 'org_ca.rotation_phase'";
    assert_eq!(place.sql(steps).trim(), "4");
    place.verify_audit();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_is_aborted_in_each_phase_and_the_fleet_works_on() {
    let place = Place::new();
    let server = place.serve().await;
    let before = root(&server).await;
    let fleet = Fleet::start(&place, &server, FEW).await;
    for phase in ["distribute", "reissue", "activated"] {
        let rotation = begin_paused(&server).await;
        let fetched = |now: &Value| now["progress"]["fetched"] == FEW;
        let mut now = until(&server, &rotation, "all have the trust file", fetched).await;
        while now["phase"] != phase {
            let next = operator(&server, Method::POST, &format!("{rotation}/advance")).await;
            let moved = |now: &Value| now["phase"] == next["phase"] && now["progress"]["moved"] == FEW;
            now = until(&server, &rotation, "all have moved", moved).await;
        }
        let aborted = operator(&server, Method::POST, &format!("{rotation}/abort")).await;
        assert_eq!(aborted["phase"], "aborted", "{phase}");
        assert_eq!(root(&server).await, before, "{phase}");
        fleet.goes_on(10 * FEW as u64).await;
    }
    let (agents, calls) = fleet.stop().await;
    println!("{FEW} agents, {calls} calls, none refused");
    for agent in &agents {
        assert!(hangs_under_root(&server, agent).await, "{} moved back", agent.identity().agent_id());
    }
    // A restart finds it all as it was left.
    assert_eq!(server.stop().await, 0);
    let server = place.serve().await;
    assert_eq!(root(&server).await, before);
    let mut agent = Agent::open(&server.client(None), &place.path("agents/agent-0")).unwrap();
    assert_eq!(agent.call_mtls(Method::GET, "/v1/auth/whoami", "").await.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn a_rotation_waits_for_those_who_are_left_and_says_who_they_are() {
    let place = Place::new();
    let server = place.serve().await;
    let mut admin = server.admin();
    let alice = admin.create_agent("alice", "", &[]).await.unwrap();
    for name in ["bob", "carol"] {
        admin.create_agent(name, "", &[]).await.unwrap();
    }
    const BUNDLE: &str = "/v1/agents/self/trust-bundle";
    let mut alice = server.client(Some(&alice)).connect();
    let mut get = async |headers| alice.request(Method::GET, BUNDLE, headers, "").await.unwrap();
    assert!(get(HeaderMap::new()).await.header(HINT).is_none());
    let rotation = begin(&server, 14).await;
    let refused = server.operator(Method::POST, &format!("{rotation}/advance"), &json!({})).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.detail().contains("3 of 3 agents have not fetched"), "{}", refused.detail());
    let page = server.operator(Method::GET, &format!("{rotation}?limit=2"), &json!({})).await;
    let link = page.header("link").unwrap().to_owned();
    let now: Value = page.json().unwrap();
    assert_eq!(
        (&now["summary"], now["left"].as_array().unwrap().len()),
        (&json!("0 of 3 have the trust file"), 2)
    );
    let next = link.trim_start_matches('<').split_once('>').unwrap().0;
    let rest = operator(&server, Method::GET, next).await;
    let names: Vec<_> = rest["left"].as_array().unwrap().iter().map(|left| &left["agent_id"]).collect();
    assert!(names.len() == 1 && names[0].as_str().unwrap().ends_with("::carol"), "{names:?}");
    let fetched = get(HeaderMap::new()).await;
    let tag = HeaderMap::from_iter([(
        IF_NONE_MATCH,
        HeaderValue::from_str(fetched.header("etag").unwrap()).unwrap(),
    )]);
    assert_eq!(get(tag).await.status, StatusCode::NOT_MODIFIED);
    let hint = fetched.header(HINT).unwrap().to_owned();
    let bundle: Value = fetched.json().unwrap();
    assert_eq!(bundle["sha256"], hint.as_str());
    assert_eq!(bundle["bundle_pem"].as_str().unwrap().as_bytes(), &server.get("/pki/ca.crt").await.body[..]);
    assert_eq!(rotation, format!("/pki/rotations/{}", bundle["rotation"]["id"].as_str().unwrap()));
    assert_eq!(operator(&server, Method::GET, &rotation).await["summary"], "1 of 3 have the trust file");
    for from in ["distribute", "reissue", "activated"] {
        operator(&server, Method::POST, &format!("{rotation}/advance?from={from}&force=true")).await;
    }
    assert!(get(HeaderMap::new()).await.status == StatusCode::UNAUTHORIZED, "alice never renewed");
    let list = operator(&server, Method::GET, "/pki/rotations").await;
    assert_eq!((&list[0]["phase"], &list[0]["summary"]), (&json!("done"), &json!("done")));
    let refused = server.operator(Method::POST, &format!("{rotation}/abort"), &json!({})).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    for (query, status) in [
        ("mode=mint&transition=overlap&reason=compromise", 422),
        ("mode=mint&transition=overlap&grace_days=366", 422),
        ("mode=mint&transition=cut&grace_days=3", 422),
    ] {
        let answer = server.operator(Method::POST, &format!("/pki/rotate-ca?{query}"), &json!({})).await;
        assert_eq!(answer.status.as_u16(), status, "{query}");
    }
    eventually("the list is that of now", PATIENCE, async || {
        Some(operator(&server, Method::GET, "/pki/rotations").await)
            .filter(|list| list[0]["ended_at"].is_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_begins_watches_and_steers_a_rotation() {
    let place = Place::new();
    let server = place.serve().await;
    let fleet = Fleet::start(&place, &server, 3).await;
    let url = server.url();
    let pki = |arguments: &[&str]| {
        place.command(&[&["pki"], arguments, &["--url", &url]].concat()).output().unwrap()
    };
    let said = |arguments: &[&str]| {
        let output = pki(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", both(&output));
        both(&output)
    };
    assert_eq!(said(&["rotations"]).trim(), "the Org CA was never rotated");
    let overlap = ["rotate", "--transition", "overlap"];
    assert!(said(&[&overlap[..], &["--dry-run"]].concat()).contains("nobody is refused meanwhile"));
    assert!(said(&overlap).contains("began"));
    assert!(said(&["pause"]).contains("paused"));
    assert!(said(&["rotation"]).contains("of 3 "));
    assert!(said(&["abort", "--yes"]).contains("aborted by"));
    assert!(said(&["rotations"]).contains("aborted by"));
    let none = pki(&["resume"]);
    assert!(none.status.code() == Some(1) && both(&none).contains("no rotation is open"), "{}", both(&none));

    // One that the operator brings.
    let (cert, key) = (place.path("new.pem"), place.path("new.key"));
    run(Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-noenc",
            "-days",
            "3650",
        ])
        .args(["-subj", "/O=acme/CN=acme CA", "-addext", "basicConstraints=critical,CA:TRUE,pathlen:1"])
        .args(["-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout"])
        .args([key.as_path(), Path::new("-out"), cert.as_path()]));
    let files = ["--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()];
    let watched = said(&[&overlap[..], &["--mode", "upload", "--watch"], &files].concat());
    assert!(watched.contains("activated: all agents have moved"), "{watched}");
    assert!(said(&["rotations"]).contains("3 of 3 moved"));
    let early = pki(&["advance"]);
    assert!(early.status.code() == Some(1) && both(&early).contains("the old root is believed until"));
    assert!(said(&["advance", "--force", "--from", "activated"]).contains("done"));
    fleet.goes_on(30).await;
    fleet.stop().await;
}

#[tokio::test]
async fn a_script_names_the_step_that_it_forces_and_agrees_to_an_abort() {
    let place = Place::new();
    let server = place.serve().await;
    let silent = server.admin().create_agent("silent", "silent", &[]).await.unwrap();
    let url = server.url();
    let pki = |arguments: &[&str]| {
        let output = place.command(&[&["pki"], arguments, &["--url", &url]].concat()).output().unwrap();
        (output.status.code(), both(&output))
    };
    assert_eq!(pki(&["rotate", "--transition", "overlap"]).0, Some(0));
    let (code, told) = pki(&["advance", "--force"]);
    let behind = format!("1 agent is left behind: {}", silent.agent_id());
    for part in ["leaves the phase distribute", &behind, "say --from distribute"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(code == Some(1) && pki(&["rotation"]).1.contains("distribute"), "{told}");

    let (code, told) = pki(&["advance", "--force", "--from", "foo"]);
    assert!(code == Some(2) && told.contains("distribute, reissue, activated"), "{told}");
    let (code, told) = pki(&["advance"]);
    assert!(code == Some(1) && told.contains("with mastio pki rotation, or go on"), "{told}");
    let named = ["advance", "--force", "--from", "distribute"];
    let (code, told) = pki(&named);
    assert!(code == Some(0) && told.contains("reissue"), "{told}");
    let (code, told) = pki(&named);
    assert!(code == Some(1) && told.contains("has changed meanwhile"), "{told}");

    let (code, told) = pki(&["abort"]);
    assert!(code == Some(1) && told.contains("reissue: 0 of 1 moved") && told.contains("--yes"), "{told}");
    assert!(pki(&["rotation"]).1.contains("reissue"));
    let (code, told) = pki(&["abort", "--yes"]);
    assert!(code == Some(0) && told.contains("aborted by"), "{told}");
}
