//! Another Org CA: the operators' document word for word, a legacy root, the command for a stopped Mastio, power cuts.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use mastio_client::Identity;
use serde_json::{Value, json};

use crate::{
    harness::{ADMIN_SECRET, Mastio, PATIENCE, Place, X_ADMIN_SECRET, both, eventually, repository, run},
    seeds::{agent, deployment, follow, snippet, token},
};

/// The CAs that the registry holds, the newest first: kind, state.
pub(crate) fn registry(place: &Place) -> String {
    place.sql("SELECT kind || ' ' || state FROM pki_cas ORDER BY rowid DESC")
}

/// A root as an operator makes it.
fn make_root(place: &Place, subject: &str) {
    let mut openssl = Command::new("openssl");
    openssl.args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650".split(' '));
    openssl.args(["-subj", subject, "-addext", "basicConstraints=critical,CA:TRUE,pathlen:1"]);
    openssl.args(["-addext", "keyUsage=critical,keyCertSign,cRLSign"]);
    run(openssl
        .args(["-keyout", "new-org-ca-key.pem", "-out", "new-org-ca.pem"])
        .current_dir(place.path("")));
}

/// What `mode=mint` and so on answer.
async fn rotate(server: &Mastio, query: &str) -> (StatusCode, Value) {
    let answer = server.operator(Method::POST, &format!("/pki/rotate-ca?{query}"), &Value::Null).await;
    (answer.status, answer.json().unwrap())
}

async fn warnings(server: &Mastio) -> Value {
    server.get("/healthz").await.json::<Value>().unwrap()["warnings"].take()
}

/// What a client says that trusts nothing but `ca_pem`.
fn curl(server: &Mastio, ca_pem: &str) -> bool {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), ca_pem).unwrap();
    let mut curl = Command::new("curl");
    curl.args(["-s", "--max-time", "30", "--cacert"])
        .arg(file.path())
        .arg(format!("{}/healthz", server.url()));
    curl.output().unwrap().status.success()
}

/// The first certificate of a text.
fn first(pem: &str) -> String {
    let end = "-----END CERTIFICATE-----\n";
    format!("{}{end}", pem.split_once(end).unwrap().0)
}

#[tokio::test]
async fn rotate_keys_replaces_the_org_ca() {
    let (place, mut server) = deployment().await;
    let (alice, before) = agent(&server, "alice").await;
    let old_root = first(&server.ca_pem);
    let mut in_flight = server.agent(&alice);
    in_flight.login().await.unwrap();
    let minted = place.sql("SELECT value FROM proxy_config WHERE key = 'org_ca_cert'");
    make_root(&place, "/O=orga/CN=Our own root");

    let answers = follow(&place, &snippet("rotate-keys-2.sh", &server));
    let [mint, upload] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((&mint["status"], &mint["mode"]), (&json!("rotated"), &json!("mint")), "{mint}");
    assert_eq!((&upload["status"], &upload["mode"]), (&json!("rotated"), &json!("upload")), "{upload}");
    assert_eq!(upload["previous_fingerprint_sha256"], mint["fingerprint_sha256"]);
    assert_eq!(upload["superseded"].as_array().unwrap().len(), 2);
    let fingerprint = run(Command::new("openssl")
        .args("x509 -noout -fingerprint -sha256 -in new-org-ca.pem".split(' '))
        .current_dir(place.path("")));
    let fingerprint = fingerprint.split_once('=').unwrap().1.trim().replace(':', "").to_lowercase();
    assert_eq!(upload["fingerprint_sha256"], fingerprint);
    assert_ne!(place.sql("SELECT value FROM proxy_config WHERE key = 'org_ca_cert'"), minted);

    // The old certificate is answered, not cut off, and says why; the old token is dead.
    let (status, detail) = token(&server, before.path());
    assert_eq!((status, &detail["reason"]), (401, &json!("ca_rotated")), "{detail}");
    assert!(in_flight.whoami().await.is_err());
    // One agent end to end under the new chain: no link leads to the operator's root, which has another name.
    server.ca_pem = place.text("certs/org-ca.pem");
    let headers = HeaderMap::from_iter([(X_ADMIN_SECRET, HeaderValue::from_static(ADMIN_SECRET))]);
    let path = "/registry/agents/orga::alice/rotate-cert";
    let rotated = server.ask(Method::POST, path, headers, String::new()).await.json::<Value>().unwrap();
    let again = tempfile::tempdir().unwrap();
    for (file, member) in [("cert.pem", "cert_pem"), ("agent-key.pem", "key_pem")] {
        fs::write(again.path().join(file), rotated[member].as_str().unwrap()).unwrap();
    }
    assert_eq!(token(&server, again.path()), (200, Value::Null));
    let now = Arc::new(Identity::from_dir(again.path()).unwrap());
    let mut agent = server.agent(&now);
    agent.login().await.unwrap();
    assert_eq!(agent.whoami().await.unwrap().agent_id.as_str(), "orga::alice");

    // The PKI page shows it, the audit log tells it, and the served chain is the new one.
    let (cookie, _) = crate::dashboard::log_in(&server).await;
    let headers = HeaderMap::from_iter([(http::header::COOKIE, cookie.parse().unwrap())]);
    let page = server.ask(Method::GET, "/proxy/pki", headers, String::new()).await;
    let page = String::from_utf8_lossy(&page.body).into_owned();
    assert!(
        page.contains(&fingerprint[..4]) && page.contains("superseded") && page.contains("current"),
        "{page}"
    );
    assert_eq!(place.sql("SELECT count(*) FROM local_audit WHERE event_type = 'org_ca.rotated'").trim(), "2");
    place.verify_audit();
    let trust_file = server.get("/pki/ca.crt").await;
    let trust_file = String::from_utf8_lossy(&trust_file.body).into_owned();
    assert_eq!(first(&trust_file), place.text("new-org-ca.pem"));
    assert!(curl(&server, &trust_file) && curl(&server, &first(&trust_file)));
    assert!(!curl(&server, &old_root), "no link is possible");

    // What fails says so where the document sends operators.
    let said = |text: &str| server.log().lines().any(|line| line.contains("ERROR") && line.contains(text));
    let says = async |text: &str| eventually(text, PATIENCE, async || said(text).then_some(())).await;
    assert!(!said("pki.rotate"), "{}", server.log());
    let again = follow(&place, &snippet("rotate-keys-2.sh", &server).replace("mode=mint", "mode=none"));
    assert_eq!(again[1]["detail"]["reason"], "key_reused", "{again:?}");
    says("pki.rotate: the Org CA was not rotated").await;
    let open = "UPDATE pki_rotations SET transition = 'overlap', phase = 'distribute', ended_at = NULL";
    place.sql(&format!("{open} WHERE rowid = (SELECT max(rowid) FROM pki_rotations)"));
    let (status, body) = rotate(&server, "mode=mint").await;
    assert_eq!(status, StatusCode::CONFLICT, "{body}");
    says("in progress").await;
    assert!(!server.log().contains("PRIVATE KEY"));
}

#[tokio::test]
async fn a_client_that_pinned_an_old_root_goes_on_over_two_rotations() {
    let place = Place::new();
    let server = place.serve().await;
    let mut roots = vec![first(&server.ca_pem)];
    for rotation in 1..=2 {
        let (status, body) = rotate(&server, "mode=mint").await;
        assert_eq!((status, &body["tls_continuity"]), (StatusCode::OK, &json!(true)), "{body}");
        roots.push(first(&place.text("certs/org-ca.pem")));
        for root in &roots {
            let served = async || curl(&server, root).then_some(());
            eventually(&format!("rotation {rotation}: every root is good"), PATIENCE, served).await;
        }
    }
    let (_, body) = rotate(&server, "mode=mint&reason=compromise").await;
    assert_eq!((&body["status"], &body["tls_continuity"]), (&json!("rotated"), &json!(false)), "{body}");
    let new = place.text("certs/org-ca.pem");
    eventually("the new root alone is good", PATIENCE, async || curl(&server, &new).then_some(())).await;
    assert!(roots.iter().all(|root| !curl(&server, root) && !new.contains(root.as_str())));
}

/// Puts the legacy root of the vectors where a first start takes it over.
fn legacy(place: &Place) {
    let vectors = fs::read_to_string(repository("fixtures/pki-vectors.json")).unwrap();
    let vectors: Value = serde_json::from_str(&vectors).unwrap();
    let part = |name: &str| vectors["legacy_pathlen_zero"][name].as_str().unwrap().to_owned();
    place.write("nginx-certs/org-ca.crt", part("root"));
    place.write("nginx-certs/org-ca.key", part("root_key"));
    place.write("proxy.env", format!("MCP_PROXY_ADMIN_SECRET={ADMIN_SECRET}\n"));
}

/// What the document's snippet prints.
fn detected(place: &Place, server: &Mastio) -> Value {
    follow(place, &snippet("rotate-keys-3.sh", server)).remove(0)
}

#[tokio::test]
async fn rotate_keys_detects_and_remediates_a_legacy_root() {
    let place = Place::new();
    legacy(&place);
    let mut server = place.serve().await;
    assert_eq!(detected(&place, &server), json!(["org_ca_legacy_pathlen_zero"]));
    let gauge = async |server: &Mastio| {
        let metrics = server.get("/metrics").await;
        let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
        metrics
            .lines()
            .find(|line| line.starts_with("cullis_proxy_legacy_ca_pathlen_zero "))
            .unwrap()
            .to_owned()
    };
    assert!(gauge(&server).await.ends_with(" 1"));
    let (status, body) = rotate(&server, "mode=mint").await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(detected(&place, &server), json!([]), "without a restart");
    assert!(gauge(&server).await.ends_with(" 0"));
    server.ca_pem = place.text("certs/org-ca.pem");
    let (_, dir) = agent(&server, "alice").await;
    assert_eq!(token(&server, dir.path()), (200, Value::Null));
}

#[tokio::test]
async fn a_strict_mastio_refuses_a_legacy_root_until_the_command_has_replaced_it() {
    let place = Place::new();
    legacy(&place);
    assert_eq!(place.serve().await.stop().await, 0);
    // What deploy.sh does is its own matter; that it starts the Mastio again is ours.
    place.write("deploy.sh", "#!/bin/sh\ntest \"$1\" = --pull\n");
    fs::set_permissions(place.path("deploy.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    let block = fs::read_to_string(repository("tests/seeds/rotate-keys-3-strict.sh")).unwrap();
    assert_eq!(follow(&place, &block), [] as [Value; 0]);
    let (code, log) = place.refused().await;
    assert_eq!(code, 3, "{log}");
    for words in [
        "MCP_PROXY_STRICT_PKI=1 refuses boot on legacy Org CA",
        "POST /pki/rotate-ca",
        "rotate-org-ca --mint",
    ] {
        assert!(log.contains(words), "{words}: {log}");
    }

    let look = run(&mut place.command(&["rotate-org-ca", "--mint", "--dry-run"]));
    assert!(look.contains("nothing was changed"), "{look}");
    assert_eq!(place.refused().await.0, 3);
    let done = run(&mut place.command(&["rotate-org-ca", "--mint"]));
    assert!(done.contains("is the Org CA now"), "{done}");
    let server = place.serve().await;
    assert_eq!(warnings(&server).await, Value::Null);
    let (_, dir) = agent(&server, "alice").await;
    assert_eq!(token(&server, dir.path()), (200, Value::Null));
    place.verify_audit();
}

#[tokio::test]
async fn an_adopted_database_with_a_legacy_root_gets_well() {
    let place = Place::new();
    place.write("data/mcp_proxy.db", fs::read(repository("fixtures/adopted-plain.db")).unwrap());
    let vectors = fs::read_to_string(repository("fixtures/pki-vectors.json")).unwrap();
    let vectors: Value = serde_json::from_str(&vectors).unwrap();
    for (key, name) in [("org_ca_cert", "root"), ("org_ca_key", "root_key")] {
        let pem = vectors["legacy_pathlen_zero"][name].as_str().unwrap();
        place.sql(&format!("UPDATE proxy_config SET value = '{pem}' WHERE key = '{key}'"));
    }
    // Such a Mastio had no intermediate.
    place.sql("DELETE FROM proxy_config WHERE key LIKE 'mastio_ca%'");
    let server = place.serve().await;
    assert_eq!(warnings(&server).await, json!(["org_ca_legacy_pathlen_zero"]));
    let (status, body) = rotate(&server, "mode=mint").await;
    assert_eq!((status, &body["agents"]["managed"]), (StatusCode::OK, &json!(2)), "{body}");
    assert_eq!(warnings(&server).await, Value::Null);
    let id = place.sql("SELECT agent_id FROM internal_agents WHERE agent_id LIKE '%alice'");
    let path = format!("/registry/agents/{}/rotate-cert", id.trim());
    let rotated = server.operator(Method::POST, &path, &json!({})).await.json::<Value>().unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("cert.pem"), rotated["cert_pem"].as_str().unwrap()).unwrap();
    fs::write(dir.path().join("agent-key.pem"), rotated["key_pem"].as_str().unwrap()).unwrap();
    assert_eq!(token(&server, dir.path()), (200, Value::Null));
    assert_eq!(server.stop().await, 0);
    place.verify_audit();
    assert_eq!(place.serve().await.stop().await, 0);
}

#[tokio::test]
async fn the_command_is_for_a_mastio_that_is_stopped() {
    let place = Place::new();
    let nothing = place.command(&["rotate-org-ca", "--mint"]).output().unwrap();
    assert_eq!(nothing.status.code(), Some(1), "{}", both(&nothing));
    assert!(both(&nothing).contains("there is no database"), "{}", both(&nothing));
    assert!(!place.path("data").exists(), "nothing was minted");

    let server = place.serve().await;
    let before = registry(&place);
    let refused = place.command(&["pki", "rotate-org-ca", "--mint"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", both(&refused));
    assert!(both(&refused).contains("mastio pki rotate "), "{}", both(&refused));
    assert_eq!(server.stop().await, 0);
    assert_eq!(registry(&place), before);

    make_root(&place, "/O=acme/CN=Our own root");
    let own = ["--cert", "new-org-ca.pem", "--key", "new-org-ca-key.pem"].map(str::to_owned);
    let own =
        own.map(|word| if word.ends_with(".pem") { place.path(&word).display().to_string() } else { word });
    let mut command = vec!["pki", "rotate-org-ca"];
    command.extend(own.iter().map(String::as_str));
    command.push("--yes");
    let told = run(&mut place.command(&command));
    assert!(told.contains("before they have the new trust file, /pki/ca.crt: the old root"), "{told}");
    let again = place.command(&command).output().unwrap();
    assert_eq!(again.status.code(), Some(1), "{}", both(&again));
    assert!(both(&again).contains("the key of a CA that was here before"), "{}", both(&again));
    let server = place.serve().await;
    assert_eq!(first(&server.ca_pem), place.text("new-org-ca.pem"));
    let usage = place.command(&["pki", "rotate-org-ca"]).output().unwrap();
    assert_eq!(usage.status.code(), Some(2), "{}", both(&usage));
    assert!(both(&usage).contains("<--mint|--cert"), "{}", both(&usage));
}

#[tokio::test]
async fn the_command_for_a_running_mastio_cuts_only_what_it_was_told_to() {
    let place = Place::new();
    let server = place.serve().await;
    let before = registry(&place);
    make_root(&place, "/O=acme/CN=Our own root");
    let (cert, key, url) = (place.path("new-org-ca.pem"), place.path("new-org-ca-key.pem"), server.url());
    let own = ["--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()];
    let rotate = |arguments: &[&str]| {
        place.command(&[&["pki", "rotate", "--url", &url], arguments].concat()).output().unwrap()
    };
    let own_minted = [&own[..], &["--mode", "mint", "--yes"]].concat();
    for (arguments, code, words) in [
        (&[][..], 1, "--yes"),
        (&own, 1, "--yes"),
        (&["--cert", "nope.pem", "--key", "nope.key"], 1, "nope.pem cannot be read"),
        (&["--grace-days", "366", "--transition", "overlap"], 1, "Entity: grace_days: must be"),
        (&own_minted, 1, "leave out either"),
        (&["--watch", "--yes"], 2, "--transition"),
        (&["--grace-days", "3", "--yes"], 2, "--transition"),
        (&["--transition", "cut", "--watch", "--yes"], 1, "with --transition overlap only"),
    ] {
        let refused = rotate(arguments);
        assert_eq!(refused.status.code(), Some(code), "{arguments:?}: {}", both(&refused));
        assert!(both(&refused).contains(words), "{arguments:?}: {}", both(&refused));
    }
    assert_eq!(registry(&place), before);
    let done = rotate(&[&own[..], &["--yes"]].concat());
    assert!(done.status.success(), "{}", both(&done));
    assert!(both(&done).contains("/pki/ca.crt: the old root's path length"), "{}", both(&done));
    assert_eq!(first(&place.text("certs/org-ca.pem")), place.text("new-org-ca.pem"));
}

/// Every file below `folder`, with what it holds; without what SQLite puts beside a database to read it.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => drop(found.insert(path.clone(), fs::read(&path).unwrap())),
        }
    }
    let reads = |path: &Path, held: &[u8]| {
        let name = path.to_string_lossy();
        name.ends_with("-shm") || name.ends_with("-wal") && held.is_empty()
    };
    found.retain(|path, held| !reads(path, held));
    found
}

#[tokio::test]
async fn a_dry_run_of_the_command_changes_no_file() {
    let mut place = Place::new();
    assert_eq!(place.serve().await.stop().await, 0);
    // What a start would do: it seals the keys that lie readable, and writes the copies for operators.
    place.set("MCP_PROXY_DB_ENCRYPTION_KEY", "fixture-passphrase-0123456789abcdef");
    fs::remove_file(place.path("certs/org-ca.pem")).unwrap();
    let before = files(&place.path(""));
    let look = run(&mut place.command(&["rotate-org-ca", "--mint", "--dry-run"]));
    assert!(look.contains("nothing was changed"), "{look}");
    let after = files(&place.path(""));
    let changed = |path: &&PathBuf| before.get(*path) != after.get(*path);
    let changed: Vec<_> = before.keys().chain(after.keys()).filter(changed).collect();
    assert!(changed.is_empty(), "{changed:?}");

    // An empty database: nothing is minted in it.
    let empty = Place::new();
    fs::create_dir_all(empty.path("data")).unwrap();
    fs::write(empty.path("data/mcp_proxy.db"), "").unwrap();
    let before = files(&empty.path(""));
    run(&mut empty.command(&["rotate-org-ca", "--mint", "--dry-run"]));
    assert!(files(&empty.path("")) == before);
}

#[tokio::test]
async fn a_power_cut_in_the_middle_leaves_the_state_of_before_or_of_after() {
    // The log tells of both transactions, in this order; the cut comes some time after the line.
    for line in ["org_ca.rotation_started", "org_ca.rotated", "server certificate is served"] {
        let mut place = Place::new();
        let server = place.set("MCP_PROXY_ORG_ID", "orga").serve().await;
        let (_, old) = agent(&server, "alice").await;
        let client = server.client(None);
        let headers = HeaderMap::from_iter([(X_ADMIN_SECRET, HeaderValue::from_static(ADMIN_SECRET))]);
        let asked = tokio::spawn(async move {
            client.connect().request(Method::POST, "/pki/rotate-ca?mode=mint", headers, String::new()).await
        });
        eventually(line, PATIENCE, async || server.log().contains(line).then_some(())).await;
        server.kill().await;
        drop(asked.await);

        let server = place.serve().await;
        let states = registry(&place);
        let count = |state: &str| states.lines().filter(|line| line.ends_with(state)).count();
        assert_eq!((count("active"), count("staged")), (2, 0), "{line}: {states}");
        assert_eq!(place.sql("SELECT count(*) FROM pki_rotations WHERE ended_at IS NULL").trim(), "0");
        let (status, detail) = token(&server, old.path());
        match count("superseded") {
            0 => assert_eq!(status, 200, "{line}: {detail}"),
            _ => assert_eq!((status, &detail["reason"]), (401, &json!("ca_rotated")), "{line}"),
        }
        let (status, body) = rotate(&server, "mode=mint").await;
        assert_eq!(status, StatusCode::OK, "{line}: {body}");
        place.verify_audit();
    }
}
