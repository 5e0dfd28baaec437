//! Two Mastios: one is the witness of the other's audit log.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, UdpSocket},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::Command,
};

use http::{Method, StatusCode};
use mastio_audit::{
    checkpoint::{Checkpoint, SignedCheckpoint},
    note::{KeyKind, Name, NoteKey, NoteSigner},
    tree::TreeHead,
};
use mastio_core::{Stamp, SystemRng};
use serde_json::{Value, json};

use crate::harness::{ADMIN_SECRET, Mastio, PATIENCE, Place, eventually, free_port, repository, run};

/// A log and its witness, which knows the log's key.
struct Pair {
    log: Place,
    witness: Place,
    /// The witness's plain port, the same at every start.
    port: u16,
    log_key: NoteKey,
    witness_key: NoteKey,
}

impl Pair {
    async fn new() -> Self {
        let (mut log, mut witness, port) = (Place::new(), Place::new(), free_port());
        log.set("MCP_PROXY_AUDIT_CHECKPOINT_INTERVAL_SECONDS", "1");
        log.set("MCP_PROXY_AUDIT_ORIGIN", "log.example/audit");
        let server = log.serve().await;
        let command = "sqlite3 -readonly data/mcp_proxy.db \"SELECT vkey";
        let vkey = async || Some(run(&mut documented(command, &log, ""))).filter(|key| !key.is_empty());
        let vkey = eventually("the log has a key", PATIENCE, vkey).await;
        server.stop().await;

        witness.set("MCP_PROXY_HTTP_LISTEN", &format!("127.0.0.1:{port}"));
        witness.set("MCP_PROXY_AUDIT_WITNESS_FOR", &vkey);
        witness.set("MCP_PROXY_AUDIT_WITNESS_NAME", "witness.example");
        witness.serve().await.stop().await;
        let printed = run(&mut witness.command(&["audit", "witness-key"]));
        let (log_key, witness_key) = (vkey.trim().parse().unwrap(), printed.trim().parse().unwrap());
        Self { log, witness, port, log_key, witness_key }
    }

    /// From the next start on the log has its witness at `base`, or none.
    fn witnessed_at(&mut self, base: Option<&str>) {
        let value = base.map(|base| format!("{base}/audit/witness {}", self.witness_key));
        self.log.set("MCP_PROXY_AUDIT_WITNESSES", &value.unwrap_or_default());
    }

    fn plain(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// How many entries the largest checkpoint has that was cosigned.
    fn cosigned(&self) -> u64 {
        let size = "SELECT coalesce(max(tree_size), 0) FROM audit_cosignatures";
        self.log.sql(size).trim().parse().unwrap()
    }

    /// Waits until every entry that is there now is cosigned.
    async fn catches_up(&self) {
        let entries: u64 = self.log.sql("SELECT max(chain_seq) FROM local_audit").trim().parse().unwrap();
        let cosigned = async || (self.cosigned() >= entries).then_some(());
        eventually("the newest checkpoint is cosigned", PATIENCE, cosigned).await;
    }

    /// A copy of the log's folder of data, as a backup would hold it.
    fn copy(&self) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let into = dir.path().join("data");
        copy_folder(&self.log.path("data"), &into);
        (dir, into)
    }

    fn restore(&self, copy: &Path) {
        fs::remove_dir_all(self.log.path("data")).unwrap();
        copy_folder(copy, &self.log.path("data"));
    }
}

/// The command in `docs/audit-checkpoints.md` that begins so, with this Mastio in place of the partner's.
fn documented(begins: &str, place: &Place, partner: &str) -> Command {
    let page = fs::read_to_string(repository("docs/audit-checkpoints.md")).unwrap();
    let lines: Vec<_> = page.lines().map(str::trim).collect();
    let first = lines.iter().position(|line| line.starts_with(begins)).expect(begins);
    let end = lines[first..].iter().position(|line| *line == "```").unwrap();
    let whole = lines[first..first + end].join("\n");
    // Two commands of one block are two commands.
    let command = whole.split_inclusive('\n').scan(true, |goes_on, line| {
        let this = *goes_on;
        *goes_on = this && line.trim_end().ends_with('\\');
        this.then_some(line)
    });
    let command = command.collect::<String>();
    let command = command.replace("https://mastio.partner.example:9443", partner);
    let command = command.replace("mastio.acme.example/audit", "log.example/audit");
    let mut shell = Command::new("sh");
    shell.args(["-c", &command]).current_dir(place.path("")).env("PARTNER_SECRET", ADMIN_SECRET);
    shell
}

fn copy_folder(from: &Path, into: &Path) {
    fs::create_dir_all(into).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), into.join(file.file_name())).unwrap();
    }
}

/// Writes audit entries.
async fn makes_agents(server: &Mastio, names: &[&str]) {
    for name in names {
        let made = server.operator(Method::POST, "/v1/admin/agents", &json!({ "agent_name": name })).await;
        assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    }
}

async fn warns(server: &Mastio, warning: &str) -> bool {
    let body: Value = server.get("/healthz").await.json().unwrap();
    body["warnings"].as_array().is_some_and(|warnings| warnings.contains(&json!(warning)))
}

async fn comes_to_warn(server: &Mastio, warning: &str) {
    eventually(warning, PATIENCE, async || warns(server, warning).await.then_some(())).await;
}

async fn metric(server: &Mastio, name: &str) -> Option<f64> {
    let text = String::from_utf8(server.get("/metrics").await.body.to_vec()).unwrap();
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test]
async fn a_witness_cosigns_over_tls_and_goes_on_after_its_restart() {
    let mut pair = Pair::new().await;
    let tls = free_port();
    pair.witness.set("MCP_PROXY_PORT", &tls.to_string());
    let witness = pair.witness.serve().await;
    pair.witnessed_at(Some(&format!("https://localhost:{tls}")));
    let ca = pair.witness.path("certs/org-ca.pem");
    pair.log.set("MCP_PROXY_AUDIT_WITNESS_CA", ca.to_str().unwrap());
    let log = pair.log.serve().await;
    pair.catches_up().await;
    let newest = "FROM audit_cosignatures ORDER BY tree_size DESC LIMIT 1";
    let line = pair.log.sql(&format!("SELECT line {newest}"));
    let note = "SELECT note FROM audit_checkpoints ORDER BY tree_size DESC LIMIT 1 OFFSET";
    let notes: Vec<_> = (0..3).map(|back| pair.log.sql(&format!("{note} {back}"))).collect();
    let cosigned = |note: &String| {
        // The shell ends every answer with a newline of its own.
        let note = SignedCheckpoint::parse(note.strip_suffix('\n').unwrap()).ok()?;
        note.verify(&pair.log_key).ok()?;
        note.with_line(line.trim_end()).ok()?.cosigned_at(&pair.witness_key).ok()
    };
    assert!(notes.iter().any(|note| cosigned(note).is_some()), "{notes:?} {line}");
    let size = metric(&log, "cullis_audit_witness_size{witness=\"witness.example\"}").await;
    assert!(size.unwrap() > 0.0);

    let before = pair.cosigned();
    assert_eq!(witness.stop().await, 0);
    makes_agents(&log, &["alice"]).await;
    let failing =
        async || metric(&log, "cullis_audit_witness_failures_total").await.filter(|failures| *failures > 0.0);
    eventually("the witness is missed", PATIENCE, failing).await;
    assert!(!warns(&log, "audit_split_view").await, "a witness that is away is no contradiction");
    let witness = pair.witness.serve().await;
    pair.catches_up().await;
    assert!(pair.cosigned() > before);

    let command = "curl -sS --fail-with-body --cacert partner-org-ca.pem -H";
    let seen = run(&mut documented(command, &pair.witness, &witness.plain_url()));
    let seen: Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(seen[0]["vkeys"], json!([pair.log_key.to_string()]));
    assert!(seen[0]["size"].as_u64().unwrap() >= pair.cosigned());
    let command = "sqlite3 -box -readonly data/mcp_proxy.db \\";
    let shown = run(&mut documented(command, &pair.log, ""));
    assert!(shown.contains("witness.example"), "{shown}");
}

#[tokio::test]
async fn a_log_that_was_put_back_learns_it_from_its_witness() {
    let mut pair = Pair::new().await;
    let _witness = pair.witness.serve().await;
    pair.witnessed_at(Some(&pair.plain()));
    let log = pair.log.serve().await;
    pair.catches_up().await;
    log.stop().await;
    let (_copy, older) = pair.copy();

    let log = pair.log.serve().await;
    makes_agents(&log, &["a", "b", "c", "d", "e", "f", "g", "h"]).await;
    pair.catches_up().await;
    log.stop().await;
    // With the folder goes the file of checkpoints: nobody but the witness knows better.
    pair.restore(&older);
    let log = pair.log.serve().await;
    makes_agents(&log, &["another"]).await;
    comes_to_warn(&log, "audit_rolled_back").await;
    let told = "SELECT details FROM local_audit WHERE event_type = 'audit.rolled_back'";
    let written = async || serde_json::from_str::<Value>(&pair.log.sql(told)).ok();
    let told = eventually("the log tells of it, too", PATIENCE, written).await;
    assert_eq!((&told["reason"], &told["seen_in"]), (&json!("behind"), &json!("witness.example")));
    makes_agents(&log, &["served-all-the-same"]).await;
}

#[tokio::test]
async fn a_rewritten_history_is_a_split_view_at_the_witness_until_it_is_acknowledged() {
    let mut pair = Pair::new().await;
    let witness = pair.witness.serve().await;
    pair.witnessed_at(Some(&pair.plain()));
    let log = pair.log.serve().await;
    pair.catches_up().await;
    log.stop().await;
    let (_copy, older) = pair.copy();
    let log = pair.log.serve().await;
    makes_agents(&log, &["a", "b"]).await;
    pair.catches_up().await;
    let cosigned = pair.cosigned();
    log.stop().await;

    // Another history under the same key, longer than the one that was cosigned.
    pair.restore(&older);
    pair.witnessed_at(None);
    let log = pair.log.serve().await;
    let signed = format!("SELECT count(*) FROM audit_checkpoints WHERE tree_size > {cosigned}");
    for number in 0..12 {
        let before = pair.log.sql(&signed);
        makes_agents(&log, &[&format!("mallory-{number}")]).await;
        let more = async || (pair.log.sql(&signed) != before).then_some(());
        if number > 5 {
            eventually("the rewritten log is signed", PATIENCE, more).await;
        }
    }
    log.stop().await;
    pair.witnessed_at(Some(&pair.plain()));
    let log = pair.log.serve().await;
    comes_to_warn(&log, "audit_rolled_back").await;
    assert!(!warns(&witness, "audit_split_view").await, "one wrong proof may be anybody's");
    // A log that does not stop by itself.
    let client = mastio_client::Client::builder(&pair.plain()).build().unwrap();
    for back in 0..3 {
        let sql = format!("SELECT note FROM audit_checkpoints ORDER BY tree_size DESC LIMIT 1 OFFSET {back}");
        let note = pair.log.sql(&sql);
        let body = format!("old {cosigned}\n\n{}", note.strip_suffix('\n').unwrap());
        let path = "/audit/witness/add-checkpoint";
        let answer =
            client.connect().request(Method::POST, path, http::HeaderMap::new(), body.into_bytes()).await;
        assert_eq!(answer.unwrap().status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    comes_to_warn(&witness, "audit_split_view").await;
    assert_eq!(metric(&witness, "cullis_audit_split_views").await, Some(1.0));
    let told = "SELECT details FROM local_audit WHERE event_type = 'audit.split_view'";
    let told: Value = serde_json::from_str(&pair.witness.sql(told)).unwrap();
    for note in ["known", "other"] {
        let note = SignedCheckpoint::parse(told[note].as_str().unwrap()).unwrap();
        note.verify(&pair.log_key).unwrap();
    }

    assert_eq!(witness.stop().await, 0);
    let witness = pair.witness.serve().await;
    assert!(warns(&witness, "audit_split_view").await, "a restart does not forget");
    let command = "curl -sS --fail-with-body --cacert partner-org-ca.pem -d";
    let acknowledged = run(&mut documented(command, &pair.witness, &witness.plain_url()));
    assert_eq!(acknowledged, r#"{"acknowledged":1,"origin":"log.example/audit"}"#);
    assert!(!warns(&witness, "audit_split_view").await);
    pair.witness.verify_audit();
}

/// A witness that says what a test wants, to every request: what it answers to `add-checkpoint` and to `cosigned`.
fn pretended_witness(add: (&'static str, String), cosigned: (&'static str, String)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            // The request ends with the signature line of the note.
            while !(String::from_utf8_lossy(&request).contains("\n\n— ") && request.ends_with(b"\n")) {
                match stream.read(&mut buffer) {
                    Ok(length) if length > 0 => request.extend_from_slice(&buffer[..length]),
                    _ => break,
                }
            }
            let first = String::from_utf8_lossy(&request).lines().next().unwrap_or_default().to_owned();
            let (head, body) = if first.contains("/cosigned ") { &cosigned } else { &add };
            let length = body.len();
            let answer =
                format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
            drop(stream.write_all(answer.as_bytes()));
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn the_word_of_a_witness_alone_warns_but_stops_nothing() {
    let key = |kind| {
        let name = if kind == KeyKind::Log { "log.example/audit" } else { "witness.example" };
        NoteSigner::generate(kind, Name::parse(name).unwrap(), &SystemRng).unwrap()
    };
    let checkpoint = Checkpoint {
        origin: Name::parse("log.example/audit").unwrap(),
        head: TreeHead { size: 1_000_000, root: [7; 32] },
    };
    let forged = checkpoint.sign(&key(KeyKind::Log)).unwrap().to_string();
    let larger = ("409 Conflict\r\nContent-Type: text/x.tlog.size", "1000000\n".to_owned());
    let unproved = ("422 Unprocessable Entity", String::new());
    let line =
        checkpoint.sign(&key(KeyKind::Log)).unwrap().cosign(&key(KeyKind::Witness), Stamp::from_unix(1));
    for (add, cosigned, split_view) in [
        (larger.clone(), ("404 Not Found", String::new()), true),
        (larger, ("200 OK", forged.clone()), true),
        // It never said that it cosigned anything.
        (unproved, ("200 OK", forged), false),
        (("200 OK", format!("{}\n", line.unwrap())), ("404 Not Found", String::new()), false),
        (("404 Not Found", String::new()), ("404 Not Found", String::new()), false),
    ] {
        let base = pretended_witness(add.clone(), cosigned);
        let mut place = Place::new();
        place.set("MCP_PROXY_AUDIT_CHECKPOINT_INTERVAL_SECONDS", "1");
        place.set("MCP_PROXY_AUDIT_ORIGIN", "log.example/audit");
        place.set("MCP_PROXY_AUDIT_WITNESSES", &format!("{base} {}", key(KeyKind::Witness).key()));
        let server = place.serve().await;
        let failed = async || metric(&server, "cullis_audit_witness_failures_total").await;
        eventually("the witness fails", PATIENCE, failed).await;
        assert_eq!(warns(&server, "audit_split_view").await, split_view, "{add:?}");
        assert!(!warns(&server, "audit_rolled_back").await, "{add:?}");
        let size = async || metric(&server, "cullis_audit_checkpoint_size").await.unwrap();
        let before = size().await;
        makes_agents(&server, &["alice"]).await;
        let grown = async || (size().await > before).then_some(());
        eventually("checkpoints go on", PATIENCE, grown).await;
        assert_eq!(place.sql("SELECT count(*) FROM audit_cosignatures").trim(), "0");
        server.stop().await;
    }
}

/// The note that a line of a system log was made of.
fn note_of(line: &str) -> SignedCheckpoint {
    let value = |name: &str| line.split_once(&format!(" {name}=")).unwrap().1.split(' ').next().unwrap();
    let [origin, size, root, signature] = ["origin", "size", "root", "signature"].map(value);
    SignedCheckpoint::parse(&format!("{origin}\n{size}\n{root}\n\n— {origin} {signature}\n")).unwrap()
}

#[tokio::test]
async fn the_system_log_is_told_of_every_checkpoint() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_read_timeout(Some(PATIENCE)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let unix = UnixDatagram::bind(&path).unwrap();
    unix.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 4096];
    for place_of_log in [format!("udp://{}", udp.local_addr().unwrap()), format!("unix://{}", path.display())]
    {
        let mut place = Place::new();
        place.set("MCP_PROXY_AUDIT_SYSLOG", &place_of_log);
        place.set("MCP_PROXY_AUDIT_CHECKPOINT_INTERVAL_SECONDS", "1");
        let server = place.serve().await;
        let mut receive = || {
            let length =
                if place_of_log.starts_with("udp") { udp.recv(&mut buffer) } else { unix.recv(&mut buffer) };
            String::from_utf8(buffer[..length.unwrap()].to_vec()).unwrap()
        };
        let first = receive();
        assert!(
            first.starts_with("<85>1 20")
                && first.contains(" mastio ")
                && first.contains(" audit-checkpoint - "),
            "{first}"
        );
        let key: NoteKey = place.sql("SELECT vkey FROM audit_origins").trim().parse().unwrap();
        let size = note_of(&first).verify(&key).unwrap().head.size;
        makes_agents(&server, &["alice"]).await;
        let second = note_of(&receive());
        assert!(second.verify(&key).unwrap().head.size > size);
        server.stop().await;
    }
}
