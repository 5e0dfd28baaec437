//! Evidence bundles of a running server, as an auditor gets and reads them: with our reader and with the Python one.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use http::{Method, StatusCode};
use mastio_audit::note::{KeyKind, Name, NoteSigner};
use mastio_core::{SystemRng, sha256};
use serde_json::{Value, json};

use crate::{
    clients::python,
    harness::{
        ADMIN_SECRET, Mastio, PATIENCE, Place, Process, both, eventually, free_port, mastio, repository, run,
    },
};

const BUNDLE: &str = "/v1/admin/audit/bundle";
/// More than the system holds of what nobody reads, in bytes.
const ENOUGH: usize = 32 << 20;

/// `mastio audit verify` with these arguments.
fn verify(arguments: &[&str]) -> Output {
    mastio(&[&["audit", "verify"], arguments].concat(), &[]).output().unwrap()
}

fn file(place: &Place, name: &str) -> String {
    place.path(name).to_str().unwrap().to_owned()
}

/// A bundle of everything so far, kept as a file.
async fn bundle(server: &Mastio, place: &Place, body: &Value) -> String {
    let answer = server.operator(Method::POST, BUNDLE, body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.detail());
    assert!(answer.header("content-disposition").unwrap().contains("audit-acme-"));
    place.write("bundle.tar.gz", &answer.body);
    file(place, "bundle.tar.gz")
}

async fn served() -> (Place, Mastio) {
    let mut place = Place::new();
    let server = place.set("MCP_PROXY_ORG_ID", "acme").serve().await;
    for name in ["alice", "bob", "carol"] {
        let made = server.operator(Method::POST, "/v1/admin/agents", &json!({ "agent_name": name })).await;
        assert_eq!(made.status, StatusCode::CREATED);
    }
    (place, server)
}

#[tokio::test]
async fn a_bundle_convinces_both_readers_without_the_server() {
    let (place, server) = served().await;
    let all = json!({ "start": "2026-01-01", "end": "2100-01-01" });
    let bundle = bundle(&server, &place, &all).await;
    let told = place.sql("SELECT details FROM local_audit WHERE event_type = 'audit.bundle_exported'");
    assert!(told.contains("\"first_seq\":1,"), "{told}");
    let last = told.split("\"last_seq\":").nth(1).unwrap().split(',').next().unwrap().to_owned();
    drop(server);

    let root = file(&place, "nginx-certs/org-ca.crt");
    let ours = verify(&[&bundle, "--ca-root", &root]);
    assert!(ours.status.success(), "{}", both(&ours));
    let text = String::from_utf8_lossy(&ours.stdout);
    assert!(text.contains(&format!("entries, 1 to {last}: every hash and every link holds")), "{text}");
    assert!(text.contains("– TSA signature: not checked: there is no time stamp"), "{text}");
    let script = repository("docs/verify.py");
    let theirs = python(&[script.to_str().unwrap(), &bundle, "--ca-root", &root], place.path("").as_path());
    assert!(theirs.status.success(), "{}", both(&theirs));

    let without = verify(&[&bundle, "--tsa-root", "tsa-root.pem"]);
    assert!(both(&without).starts_with("--tsa-root tsa-root.pem cannot be read: "), "{}", both(&without));
    let strict = verify(&[&bundle, "--require-timestamp"]);
    assert_eq!(strict.status.code(), Some(2), "{}", both(&strict));
    let mut bytes = std::fs::read(&bundle).unwrap();
    bytes.truncate(bytes.len() - 9);
    place.write("cut.tar.gz", &bytes);
    let cut = verify(&[&file(&place, "cut.tar.gz"), "--json"]);
    let report: Value = serde_json::from_slice(&cut.stdout).unwrap();
    assert_eq!((cut.status.code(), &report["checks"][0]["step"]), (Some(2), &json!("archive")));
    assert_eq!(verify(&[&file(&place, "no such file")]).status.code(), Some(1));
}

#[tokio::test]
async fn the_same_range_gives_the_same_bytes_and_a_saved_checkpoint_is_held_against_it() {
    let (place, server) = served().await;
    let range = json!({ "first_seq": 2, "last_seq": 5, "timestamp": "none" });
    let first = std::fs::read(bundle(&server, &place, &range).await).unwrap();
    let again = std::fs::read(bundle(&server, &place, &range).await).unwrap();
    assert_eq!(first, again);

    let saved = inside(&file(&place, "bundle.tar.gz"), "checkpoint.txt");
    place.write("saved.txt", &saved);
    let size: u64 = saved.lines().nth(1).unwrap().parse().unwrap();
    let later = json!({ "first_seq": 2, "last_seq": 5, "against_size": size });
    let bundle = bundle(&server, &place, &later).await;
    let verified = verify(&[&bundle, "--against", &file(&place, "saved.txt")]);
    assert!(String::from_utf8_lossy(&verified.stdout).contains("✓ consistency"), "{}", both(&verified));
    let forged = saved.replacen(&format!("\n{size}\n"), &format!("\n{}\n", size + 1000), 1);
    place.write("forged.txt", forged);
    let refused = verify(&[&bundle, "--against", &file(&place, "forged.txt")]);
    assert_eq!(refused.status.code(), Some(2), "{}", both(&refused));

    // The entries of the database are held against both as well.
    let database = place.database();
    let database = database.to_str().unwrap();
    let verified = verify(&[database, "--against", &file(&place, "saved.txt")]);
    assert!(both(&verified).contains("these entries continue it"), "{}", both(&verified));
    let refused = verify(&["--db", database, "--against", &file(&place, "forged.txt")]);
    assert_eq!(refused.status.code(), Some(2), "{}", both(&refused));
}

#[tokio::test]
async fn what_cannot_be_verified_is_told_from_what_does_not_verify() {
    let (place, server) = served().await;
    let bundle = bundle(&server, &place, &json!({ "first_seq": 2, "last_seq": 5 })).await;
    let proof = server.operator(Method::GET, "/v1/admin/audit/proof?seq=2", &json!({})).await.body;
    place.write("proof.json", &proof);
    place.write("checkpoint.txt", inside(&bundle, "checkpoint.txt"));
    place.write("empty", "");
    place.write("words", "trust me");
    place.write("tlog-proof", "c2sp.org/tlog-proof@v1\n");
    for (name, why) in [
        ("proof.json", "Accept: text/plain"),
        ("checkpoint.txt", "--against"),
        ("empty", "it takes a bundle (.tar.gz), a database, a receipt, or a tlog-proof"),
        ("words", "it takes a bundle"),
        ("tlog-proof", "--entry-hash"),
    ] {
        let refused = verify(&[&file(&place, name)]);
        assert!(
            refused.status.code() == Some(1) && both(&refused).contains(why),
            "{name}: {}",
            both(&refused)
        );
    }
    // Any of the keys that are named may be the one.
    let key: Value = serde_json::from_str(&inside(&bundle, "log-key.json")).unwrap();
    let other = Name::parse("mastio.example/audit").unwrap();
    let other = NoteSigner::generate(KeyKind::Log, other, &SystemRng).unwrap().key().to_string();
    let refused = verify(&[&bundle, "--log-key", &other]);
    assert_eq!(refused.status.code(), Some(2), "{}", both(&refused));
    let held = verify(&[&bundle, "--log-key", &other, "--log-key", key["vkey"].as_str().unwrap()]);
    assert!(held.status.success(), "{}", both(&held));
}

#[tokio::test]
async fn a_served_log_is_followed_by_whoever_may() {
    let (place, server) = served().await;
    let range = json!({ "first_seq": 2, "last_seq": 5 });
    let key: Value =
        serde_json::from_str(&inside(&bundle(&server, &place, &range).await, "log-key.json")).unwrap();
    place.write("secret", ADMIN_SECRET);
    let (secret, state) = (file(&place, "secret"), file(&place, "seen.txt"));
    let url = server.plain_url();
    let follow = ["--follow", &url, "--interval", "0", "--log-key", key["vkey"].as_str().unwrap(), "--state"];
    let refused = verify(&[&follow[..], &[&state]].concat());
    assert!(
        refused.status.code() == Some(1) && both(&refused).contains("MCP_PROXY_AUDIT_PUBLIC_LOG"),
        "{}",
        both(&refused)
    );
    let admin = ["--admin-secret-file", secret.as_str()];
    let nowhere = verify(&[&follow[..], &["/no/such/folder/seen.txt"], &admin].concat());
    let told = both(&nowhere);
    assert!(
        nowhere.status.code() == Some(1) && told.contains("--state /no/such") && !told.contains("ok  "),
        "{told}"
    );
    let seen = verify(&[&follow[..], &[&state], &admin].concat());
    assert!(seen.status.success(), "{}", both(&seen));
    assert!(place.text("seen.txt").contains(key["origin"].as_str().unwrap()));
}

/// Adds an entry to the chain of an adopted database, as the Python implementation wrote it.
fn python_wrote(place: &Place, timestamp: &str, session: &str) {
    let head = place.sql(
        "SELECT org_id, chain_seq, entry_hash FROM local_audit WHERE org_id <> '__system__' ORDER BY chain_seq DESC LIMIT 1",
    );
    let [org, seq, previous]: [&str; 3] =
        head.trim().split('|').collect::<Vec<_>>().try_into().expect("three columns");
    let seq = seq.parse::<u64>().unwrap() + 1;
    let text =
        format!("v2|{timestamp}|session_closed|{org}::alice|{session}|{org}|ok||{previous}|seq={seq}|peer=");
    let hash = hex::encode(sha256(text.as_bytes()));
    place.sql(&format!(
        "INSERT INTO local_audit (timestamp, event_type, agent_id, session_id, org_id, result, previous_hash, entry_hash, \
         chain_seq, hash_format) VALUES ('{timestamp}', 'session_closed', '{org}::alice', '{session}', '{org}', 'ok', \
         '{previous}', '{hash}', {seq}, 'v2')"
    ));
}

#[tokio::test]
async fn an_adopted_entry_with_more_than_one_reading_is_bundled_and_told_unless_it_is_too_new() {
    let place = Place::new();
    let fixture = std::fs::read(repository("fixtures/adopted-plain.db")).unwrap();
    place.write("data/mcp_proxy.db", &fixture);
    python_wrote(&place, "2026-11-22T01:56:48.000001+00:00", "s|3");
    let server = place.serve().await;
    let answer = server.operator(Method::POST, BUNDLE, &json!({ "first_seq": 1, "last_seq": 7 })).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.detail());
    place.write("bundle.tar.gz", &answer.body);
    let (bundle, root) = (file(&place, "bundle.tar.gz"), file(&place, "nginx-certs/org-ca.crt"));
    let ours = verify(&[&bundle, "--ca-root", &root]);
    let script = repository("docs/verify.py");
    let theirs = python(&[script.to_str().unwrap(), &bundle, "--ca-root", &root], place.path("").as_path());
    for verified in [ours, theirs] {
        let text = both(&verified);
        assert!(
            verified.status.success() && text.contains("– chain walk: 1 entry from 5 on holds `|`"),
            "{text}"
        );
    }
    drop(server);

    // A clock that runs ahead.
    let place = Place::new();
    place.write("data/mcp_proxy.db", &fixture);
    python_wrote(&place, "2099-01-01T00:00:00.000001+00:00", "s|3");
    let server = place.serve().await;
    for (body, status) in [
        (json!({ "first_seq": 1, "last_seq": 7 }), StatusCode::CONFLICT),
        (json!({ "first_seq": 1, "last_seq": 4 }), StatusCode::OK),
        (json!({ "first_seq": 6, "last_seq": 7 }), StatusCode::OK),
    ] {
        let answer = server.operator(Method::POST, BUNDLE, &body).await;
        assert_eq!(answer.status, status, "{body}");
        let named = status == StatusCode::OK || answer.detail().contains("entry 5 holds `|`");
        assert!(named, "{}", answer.detail());
    }
}

#[tokio::test]
async fn what_cannot_be_bundled_is_refused() {
    let (_place, server) = served().await;
    for (body, status) in [
        (json!({ "start": "2020-01-01", "end": "2020-01-02" }), StatusCode::NOT_FOUND),
        (json!({ "first_seq": 1, "last_seq": 100_000 }), StatusCode::NOT_FOUND),
        (json!({ "start": "yesterday", "end": "2020-01-02" }), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({ "start": "2020-01-01" }), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({ "first_seq": 1, "last_seq": 2, "timestamp": "require" }), StatusCode::CONFLICT),
    ] {
        let answer = server.operator(Method::POST, BUNDLE, &body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.detail());
    }
}

#[tokio::test]
async fn a_follower_sees_a_log_grow_and_a_history_that_was_rewritten() {
    let (place, server) = served().await;
    let (state, log) = (file(&place, "seen.txt"), Published::of(&place).await);
    let key = log.publish(&server, &place).await;
    let look = || verify(&["--follow", &log.url, "--interval", "0", "--state", &state, "--log-key", &key]);
    let seen = look();
    assert!(seen.status.success(), "{}", both(&seen));
    let first = std::fs::read_to_string(&state).unwrap();

    let made = server.operator(Method::POST, "/v1/admin/agents", &json!({ "agent_name": "dave" })).await;
    assert_eq!(made.status, StatusCode::CREATED);
    log.publish(&server, &place).await;
    let seen = look();
    assert!(seen.status.success(), "{}", both(&seen));
    let second = std::fs::read_to_string(&state).unwrap();
    assert_ne!(first, second);

    // What was seen before had another root.
    let root = second.lines().nth(2).unwrap();
    std::fs::write(&state, first.replace(first.lines().nth(2).unwrap(), root)).unwrap();
    let seen = look();
    assert_eq!(seen.status.code(), Some(2), "{}", both(&seen));
    assert!(both(&seen).contains("contradicts what it signed before"), "{}", both(&seen));
    assert_eq!(place.text("seen.contradicts"), second);
}

#[tokio::test]
async fn a_follower_waits_for_the_proof_of_a_checkpoint_and_not_for_ever() {
    let (place, server) = served().await;
    let (state, log) = (file(&place, "seen.txt"), Published::of(&place).await);
    let key = log.publish(&server, &place).await;
    let follow = |interval| {
        ["--follow", &log.url, "--interval", interval, "--state", &state, "--log-key", &key]
            .map(str::to_owned)
    };
    let run = |interval| verify(&follow(interval).each_ref().map(String::as_str));
    assert!(run("0").status.success());
    let first = std::fs::read_to_string(&state).unwrap();
    let made = server.operator(Method::POST, "/v1/admin/agents", &json!({ "agent_name": "dave" })).await;
    assert_eq!(made.status, StatusCode::CREATED);
    log.publish(&server, &place).await;
    std::fs::remove_dir_all(place.path("static/audit/log/tile")).unwrap();
    assert_eq!(run("0").status.code(), Some(1), "a single look says that it could not");
    let seen = run("1");
    assert_eq!(seen.status.code(), Some(2), "{}", both(&seen));
    assert!(both(&seen).contains("look 9 of 10") && both(&seen).contains("not proved"), "{}", both(&seen));
    assert_eq!(std::fs::read_to_string(&state).unwrap(), first, "what is not proved takes no place");
}

/// A log that answers with files without end, but for a checkpoint, if there is one; how much of them it got rid of.
fn endless(checkpoint: Option<String>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (url, sent) = (format!("http://{}", listener.local_addr().unwrap()), Arc::<AtomicUsize>::default());
    let counted = Arc::clone(&sent);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map(Result::unwrap) {
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap();
            let asks_for_it = String::from_utf8_lossy(&request[..length]).contains("/checkpoint");
            let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
            stream.write_all(head.as_bytes()).unwrap();
            match checkpoint.as_ref().filter(|_| asks_for_it) {
                Some(text) => stream.write_all(text.as_bytes()).unwrap(),
                None => {
                    while counted.load(Ordering::Relaxed) < ENOUGH && stream.write_all(&[b'x'; 4096]).is_ok()
                    {
                        counted.fetch_add(4096, Ordering::Relaxed);
                    }
                }
            }
        }
    });
    (url, sent)
}

#[tokio::test]
async fn a_follower_reads_no_more_than_a_file_of_a_log_can_be() {
    let (place, server) = served().await;
    let (state, log) = (file(&place, "seen.txt"), Published::of(&place).await);
    let key = log.publish(&server, &place).await;
    let look =
        |url: &str| verify(&["--follow", url, "--interval", "0", "--state", &state, "--log-key", &key]);
    assert!(look(&log.url).status.success());
    let made = server.operator(Method::POST, "/v1/admin/agents", &json!({ "agent_name": "dave" })).await;
    assert_eq!(made.status, StatusCode::CREATED);
    log.publish(&server, &place).await;
    let newest = place.text("static/audit/log/checkpoint");
    for (checkpoint, told) in [
        (None, "the answer to GET /audit/log/checkpoint is larger than 65536 bytes"),
        (Some(newest), "is larger than 8192 bytes"),
    ] {
        let (url, sent) = endless(checkpoint);
        let seen = look(&url);
        assert!(seen.status.code() == Some(1) && both(&seen).contains(told), "{}", both(&seen));
        // The rest is what the system holds between the two.
        assert!(sent.load(Ordering::Relaxed) < ENOUGH);
    }
}

/// The log as static files (C2SP tlog-tiles), served by somebody else.
pub(crate) struct Published {
    pub(crate) url: String,
    _server: Process,
}

impl Published {
    pub(crate) async fn of(place: &Place) -> Self {
        place.write("static/audit/log/empty", "");
        let port = free_port();
        let mut python = Command::new("python3");
        python.args(["-m", "http.server", "--bind", "127.0.0.1", "--directory"]).arg(place.path("static"));
        let child = python.arg(port.to_string()).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let listens = async || TcpStream::connect(("127.0.0.1", port)).ok().map(drop);
        eventually("the files are served", PATIENCE, listens).await;
        Self { url: format!("http://127.0.0.1:{port}"), _server: Process(child) }
    }

    /// Publishes a checkpoint over everything so far with its tile; the key that signed it.
    async fn publish(&self, server: &Mastio, place: &Place) -> String {
        let last: u64 = place.sql("SELECT max(chain_seq) FROM local_audit").trim().parse().unwrap();
        let file = bundle(server, place, &json!({ "first_seq": last, "last_seq": last })).await;
        let checkpoint = inside(&file, "checkpoint.txt");
        let size: usize = checkpoint.lines().nth(1).unwrap().parse().unwrap();
        let tile = place.sql("SELECT hex(hashes) FROM audit_tiles WHERE level = 0 AND tile = 0");
        let tile = hex::decode(tile.trim()).unwrap();
        place.write(&format!("static/audit/log/tile/0/000.p/{size}"), &tile[..size * 32]);
        place.write("static/audit/log/checkpoint", checkpoint);
        let key: Value = serde_json::from_str(&inside(&file, "log-key.json")).unwrap();
        key["vkey"].as_str().unwrap().to_owned()
    }
}

/// A file of a bundle.
fn inside(bundle: &str, name: &str) -> String {
    run(Command::new("tar").args(["-xzOf", bundle, name]))
}
