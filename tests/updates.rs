//! Framework updates as their document has operators apply and take them back, command for command.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use mastio_client::Identity;
use serde_json::{Value, json};

use crate::harness::{ADMIN_SECRET, Mastio, PATIENCE, Place, both, eventually, repository, run};

/// The address that the document prints.
const PRINTED: &str = "https://localhost:9443";
pub(crate) const PATH_LEN: &str = "2026-04-23-org-ca-pathlen-1";
const HALTED: &str = "signing halted — pending migration 2026-04-23-org-ca-pathlen-1";
/// `docker compose -p cullis-mastio exec mcp-proxy …` for a Mastio that is in no container. The shell waits for a server
/// that is writing.
const DOCKER: &str = r#"#!/bin/sh
[ "$1 $2 $4 $5" = "compose -p exec mcp-proxy" ] || exit 64
shift 5
command="$1"; shift
[ "$command" = sqlite3 ] && { shift; set -- -cmd '.timeout 10000' "$DATA/mcp_proxy.db" "$@"; }
exec "$command" "$@"
"#;

/// A deployment whose root was made by version 0.1, with an agent, and signing halted.
pub(crate) async fn legacy(settings: &[(&str, &str)]) -> (Place, Mastio, Arc<Identity>) {
    let mut place = Place::new();
    let vectors = fs::read_to_string(repository("fixtures/pki-vectors.json")).unwrap();
    let vectors: Value = serde_json::from_str(&vectors).unwrap();
    let root = |name: &str| vectors["legacy_pathlen_zero"][name].as_str().unwrap().to_owned();
    place.write("nginx-certs/org-ca.crt", root("root"));
    place.write("nginx-certs/org-ca.key", root("root_key"));
    place.write("proxy.env", format!("MCP_PROXY_ADMIN_SECRET={ADMIN_SECRET}\n"));
    for (name, value) in settings {
        place.set(name, value);
    }
    place.set("MCP_PROXY_ORG_ID", "acme");
    let server = place.serve().await;
    set_status(&place, "rolled_back");
    let alice = eventually("SQL lifts the halt", PATIENCE, async || {
        server.admin().create_agent("alice", "Alice", &[]).await.ok()
    })
    .await;
    let alice = Arc::new(alice);
    set_status(&place, "pending");
    is_halted(&server, true).await;
    (place, server, alice)
}

fn set_status(place: &Place, status: &str) {
    place.sql(&format!("UPDATE pending_updates SET status = '{status}'"));
}

async fn metric(server: &Mastio, line: &str) -> bool {
    let metrics = server.get("/metrics").await;
    String::from_utf8_lossy(&metrics.body).lines().any(|found| found == line)
}

async fn is_halted(server: &Mastio, halted: bool) {
    let line = format!("cullis_mastio_sign_halted {}", u8::from(halted));
    eventually(&line, PATIENCE, async || metric(server, &line).await.then_some(())).await;
}

async fn health(server: &Mastio) -> Value {
    server.get("/healthz").await.json().unwrap()
}

/// Runs blocks of the document one after the other in a shell; what they print.
fn follow(place: &Place, server: &Mastio, blocks: &[&str]) -> String {
    let text = |block: &&str| {
        fs::read_to_string(repository("tests/seeds").join(format!("apply-updates-{block}.sh"))).unwrap()
    };
    let script = blocks.iter().map(text).collect::<String>().replace(PRINTED, &server.url());
    shell(place, &script)
}

fn shell(place: &Place, script: &str) -> String {
    let bin = place.path("bin");
    fs::create_dir_all(&bin).unwrap();
    fs::write(bin.join("docker"), DOCKER).unwrap();
    fs::set_permissions(bin.join("docker"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display());
    let mut bash = Command::new("timeout");
    bash.args(["60", "bash", "-eu", "-o", "pipefail", "-c", script]);
    bash.current_dir(place.path("")).env("PATH", path).env("DATA", place.path("data"));
    run(bash.env("CULLIS_MASTIO_VERSION", "0.6.0"))
}

/// The variables that the later blocks take from the first.
fn variables(server: &Mastio) -> String {
    let apply = fs::read_to_string(repository("tests/seeds/apply-updates-apply.sh")).unwrap();
    apply.lines().take(3).map(|line| format!("{line}\n")).collect::<String>().replace(PRINTED, &server.url())
}

fn block(name: &str) -> String {
    fs::read_to_string(repository("tests/seeds").join(format!("apply-updates-{name}.sh"))).unwrap()
}

fn is_json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

async fn logs_in(server: &Mastio, identity: &Arc<Identity>) -> Result<(), String> {
    let mut agent = server.agent(identity);
    agent.login().await.map_err(|error| error.to_string())?;
    agent.whoami().await.map(drop).map_err(|error| error.to_string())
}

/// A strict TLS client that knows what `/pki/ca.crt` serves now, and nothing else.
async fn strict_clients_connect(server: &Mastio, folder: &Path) {
    let file = folder.join("trust.pem");
    let address = format!("localhost:{}", server.tls);
    eventually("strict clients believe the server", PATIENCE, async || {
        fs::write(&file, server.get("/pki/ca.crt").await.body).unwrap();
        let mut openssl = Command::new("openssl");
        openssl.args(["s_client", "-connect", &address, "-verify_return_error", "-x509_strict"]);
        openssl
            .args(["-verify_hostname", "localhost", "-CAfile"])
            .arg(&file)
            .stdin(std::process::Stdio::null());
        both(&openssl.output().unwrap()).contains("Verify return code: 0 (ok)").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_document_applies_an_update_and_takes_it_back() {
    let (place, server, alice) = legacy(&[]).await;
    assert_eq!(follow(&place, &server, &["version"]).trim(), "0.6.0");

    // Detect.
    let told = is_json(&follow(&place, &server, &["healthz"]));
    assert_eq!(
        told,
        json!({"status": "ok", "warnings": ["org_ca_legacy_pathlen_zero"], "pending_updates": 1})
    );
    for (status, count) in [("pending", 1), ("applied", 0), ("failed", 0), ("rolled_back", 0)] {
        let line = format!("cullis_pending_updates_total{{status=\"{status}\"}} {count}");
        assert!(metric(&server, &line).await, "{line}");
    }
    let listed = is_json(&follow(&place, &server, &["list"]));
    let update = &listed[0];
    let said = ["migration_id", "migration_type", "criticality", "status"]
        .map(|name| update[name].as_str().unwrap());
    assert_eq!(said, [PATH_LEN, "cert-schema", "critical", "pending"]);
    assert_eq!(update["affects_enrollments"], json!(["connector"]));
    assert!(update["detected_at"].is_string() && update["description"].is_string());

    // Sign halt: what is signed is refused in words, what is verified goes on.
    assert!(server.log().contains("cullis_proxy_sign_halt_pending_migration"), "{}", server.log());
    assert!(server.log().contains(PATH_LEN));
    let refused = server.agent(&alice).login().await.unwrap_err().to_string();
    assert!(refused.contains("503") && refused.contains(HALTED), "{refused}");
    assert_eq!(server.get("/healthz").await.status, StatusCode::OK);

    // Apply, without a restart.
    let applied = is_json(&follow(&place, &server, &["apply"]));
    assert_eq!((&applied["migration_id"], &applied["status"]), (&PATH_LEN.into(), &"applied".into()));
    assert!(applied["applied_at"].is_string(), "{applied}");
    assert_eq!(health(&server).await, json!({"status": "ok"}));
    is_halted(&server, false).await;
    assert!(metric(&server, "cullis_pending_updates_total{status=\"pending\"} 0").await);
    logs_in(&server, &alice).await.unwrap();
    strict_clients_connect(&server, &place.path("")).await;
    server.admin().create_agent("bob", "Bob", &[]).await.unwrap();
    let told = place.sql("SELECT count(*) FROM local_audit WHERE event_type = 'admin.update_applied'");
    assert_eq!(told.trim(), "1");
    let again = is_json(&follow(&place, &server, &["apply"]));
    assert_eq!(again, json!({"detail": "already applied"}));

    // Roll back.
    let back = variables(&server) + &block("roll-back");
    let rolled = is_json(&shell(&place, &back));
    assert_eq!((&rolled["migration_id"], &rolled["status"]), (&PATH_LEN.into(), &"rolled_back".into()));
    assert!(rolled["rolled_back_at"].is_string(), "{rolled}");
    let again = is_json(&shell(&place, &back));
    assert!(again["detail"].as_str().unwrap().starts_with("no snapshot"), "{again}");
    assert_eq!(health(&server).await["warnings"], json!(["org_ca_legacy_pathlen_zero"]));
    logs_in(&server, &alice).await.unwrap();
    assert_eq!(server.stop().await, 0);

    // It stays away until its row is gone, and then halts again.
    let server = place.serve().await;
    assert_eq!(health(&server).await.get("pending_updates"), None);
    shell(&place, &(variables(&server) + &block("propose")));
    assert_eq!(server.stop().await, 0);
    let server = place.serve().await;
    assert_eq!(health(&server).await["pending_updates"], 1);
    is_halted(&server, true).await;
    // The last resort.
    set_status(&place, "rolled_back");
    is_halted(&server, false).await;
    logs_in(&server, &alice).await.unwrap();
    assert_eq!(server.stop().await, 0);
    place.verify_audit();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_bundle_is_handed_out_that_no_verifier_accepts() {
    let (place, server, _alice) = legacy(&[]).await;
    let ask = async || {
        let entries = json!({"first_seq": 1, "last_seq": 3});
        server.operator(Method::POST, "/v1/admin/audit/bundle", &entries).await
    };
    let refused = ask().await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.detail().contains("mastio pki updates"), "{}", refused.detail());
    follow(&place, &server, &["apply"]);
    let answer = ask().await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.detail());
    place.write("bundle.tar.gz", &answer.body);
    place.write("root.pem", &server.get("/pki/ca.crt").await.body);
    let file = |name: &str| place.path(name).display().to_string();
    let (bundle, root) = (file("bundle.tar.gz"), file("root.pem"));
    run(&mut place.command(&["audit", "verify", &bundle, "--ca-root", &root]));
    assert_eq!(server.stop().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_needs_its_word_and_a_plan_changes_nothing() {
    let passphrase = ("MCP_PROXY_DB_ENCRYPTION_KEY", "a passphrase that is long enough for it");
    let (place, server, alice) = legacy(&[passphrase]).await;
    let path = |what: &str| format!("/proxy/updates/{PATH_LEN}/{what}");
    let ask = async |what: &str, body: Value| {
        let answer = server.operator(Method::POST, &path(what), &body).await;
        (answer.status.as_u16(), answer.json::<Value>().unwrap())
    };
    assert_eq!(ask("apply", json!({})).await.0, 400);
    assert_eq!(ask("apply?strategy=pray", json!({"confirm": true})).await.0, 400);
    assert_eq!(ask("apply", json!({"confirm": true, "dryrun": true})).await.0, 422, "a slip of the pen");
    assert_eq!(ask("rollback", json!({"confirm": true, "strategy": "rekey"})).await.0, 422);
    assert_eq!(ask("rollback", json!({"confirm": true})).await.0, 404);
    let unknown =
        server.operator(Method::POST, "/proxy/updates/nothing/apply", &json!({"confirm": true})).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    let root = server.get("/pki/ca.crt").await.body;
    let (status, planned) = ask("apply?dry_run=true", json!({})).await;
    assert_eq!((status, &planned["dry_run"]), (200, &true.into()), "{planned}");
    assert_eq!(planned["plan"]["facts"]["agents"]["managed"], 1);
    assert_eq!(server.get("/pki/ca.crt").await.body, root);

    let (status, applied) = ask("apply?strategy=reissue", json!({"confirm": true})).await;
    assert_eq!((status, &applied["strategy"]), (200, &"reissue".into()), "{applied}");
    logs_in(&server, &alice).await.unwrap();
    strict_clients_connect(&server, &place.path("")).await;
    let snapshot = place.sql("SELECT snapshot_json FROM migration_state_backups");
    assert!(snapshot.contains("enc:pki:v1:") && !snapshot.contains("PRIVATE KEY"), "{snapshot}");
    let listed = server.operator(Method::GET, "/proxy/updates/api?status=applied", &Value::Null).await;
    let listed: Value = listed.json().unwrap();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["snapshot"]["sealed"]), (1, &true.into()));
    let (status, way_back) = ask("rollback?dry_run=true", json!({})).await;
    assert_eq!(status, 200, "{way_back}");
    let wiped = server.operator(Method::DELETE, &path("snapshot"), &json!({"confirm": true})).await;
    assert_eq!(wiped.status, StatusCode::OK);
    assert_eq!(ask("rollback", json!({"confirm": true})).await.0, 404);
    assert_eq!(server.stop().await, 0);
    let server = place.serve().await;
    logs_in(&server, &alice).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dashboard_applies_and_rolls_back_by_forms() {
    let (_place, server, alice) = legacy(&[]).await;
    let (cookie, token) = crate::dashboard::log_in(&server).await;
    let cookie = || {
        HeaderMap::from_iter([(HeaderName::from_static("cookie"), HeaderValue::try_from(&cookie).unwrap())])
    };
    let page = async || {
        String::from_utf8(
            server.ask(Method::GET, "/proxy/updates", cookie(), String::new()).await.body.to_vec(),
        )
        .unwrap()
    };
    let submit = async |what: &str, fields: String| {
        let path = format!("/proxy/updates/{PATH_LEN}/{what}");
        server.ask(Method::POST, &path, cookie(), fields).await.status.as_u16()
    };
    let badge = server.ask(Method::GET, "/proxy/badge/updates", cookie(), String::new()).await;
    assert!(String::from_utf8_lossy(&badge.body).contains("badge revoked\">1<"));
    let shown = page().await;
    for said in ["Type APPLY", "What applying does by rekey", "What applying does by reissue"] {
        assert!(shown.contains(said), "{said}: {shown}");
    }
    assert_eq!(submit("apply", "confirm_text=APPLY".into()).await, 403, "no token");
    assert_eq!(submit("apply", format!("csrf_token={token}&confirm_text=yes")).await, 400);
    let confirmed = format!("csrf_token={token}&confirm_text=APPLY&strategy=reissue");
    assert_eq!(submit("apply", confirmed.clone()).await, 303);
    assert_eq!(submit("apply", confirmed).await, 409);
    logs_in(&server, &alice).await.unwrap();
    assert!(page().await.contains("View rollback plan"));
    assert_eq!(submit("rollback", format!("csrf_token={token}&confirm_text=APPLY")).await, 400);
    assert_eq!(submit("wipe", "confirm_text=WIPE".into()).await, 403, "no token");
    assert_eq!(submit("wipe", format!("csrf_token={token}&confirm_text=ROLLBACK")).await, 400);
    assert_eq!(submit("rollback", format!("csrf_token={token}&confirm_text=ROLLBACK")).await, 303);
    assert_eq!(submit("rollback", format!("csrf_token={token}&confirm_text=ROLLBACK")).await, 404);
    assert!(page().await.contains("delete its row in pending_updates and restart"), "what to do next");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_does_the_same() {
    let (place, server, alice) = legacy(&[]).await;
    let command = |words: &[&str]| {
        let url = server.url();
        let words = [&["pki", "updates"], words, &["--url", &url]].concat();
        let output = place.command(&words).output().unwrap();
        (output.status.code().unwrap(), both(&output))
    };
    let (code, listed) = command(&["list"]);
    assert!(code == 0 && listed.contains(PATH_LEN) && listed.contains("pending"), "{listed}");
    let path = |name: &str| place.path(name).to_str().unwrap().to_owned();
    let (key, csr, out) = (path("bob.key"), path("bob.csr"), path("bob.crt"));
    let request = ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    run(Command::new("openssl").args(request).args([
        "-subj",
        "/CN=acme::bob",
        "-keyout",
        &key,
        "-out",
        &csr,
    ]));
    let sign = ["pki", "sign-csr", "--agent", "acme::bob", "--csr", &csr, "--out", &out];
    let refused = place.command(&sign).output().unwrap();
    assert!(refused.status.code() == Some(1) && both(&refused).contains(HALTED), "{}", both(&refused));
    assert!(!Path::new(&out).exists(), "the next try finds its place free");
    let (code, planned) = command(&["apply", PATH_LEN, "--dry-run"]);
    assert!(code == 0 && planned.contains("path length 1"), "{planned}");
    let (code, asked) = command(&["apply", PATH_LEN]);
    assert!(code == 1 && asked.contains("path length 1") && asked.contains("--yes"), "{asked}");
    let (code, applied) = command(&["apply", PATH_LEN, "--strategy", "reissue", "--yes"]);
    assert_eq!(code, 0, "{applied}");
    logs_in(&server, &alice).await.unwrap();
    assert_eq!(command(&["apply", PATH_LEN, "--yes"]).0, 1, "applied already");
    let (_, listed) = command(&["list"]);
    assert!(listed.contains("with a readable key, wiped after"), "{listed}");
    let (code, asked) = command(&["wipe", PATH_LEN]);
    assert!(code == 1 && asked.contains("--yes"), "the one act that cannot be taken back: {asked}");
    assert_eq!(command(&["wipe", "a/../b", "--yes"]).0, 2, "no name");
    assert_eq!(command(&["rollback", PATH_LEN, "--yes"]).0, 0);
    assert_eq!(command(&["wipe", PATH_LEN, "--yes"]).0, 1, "nothing to wipe");
    place.sql(&format!("DELETE FROM pending_updates WHERE migration_id = '{PATH_LEN}'"));
    let (_, listed) = command(&["list"]);
    assert!(listed.contains("proposed at the next start"), "{listed}");
    place.sql("INSERT INTO migration_state_backups VALUES (x'ff', '2026-01-01T00:00:00Z', x'ff')");
    assert_eq!(command(&["wipe", "X'FF'", "--yes"]).0, 0, "what the doctor shows of an id that is no text");
}
