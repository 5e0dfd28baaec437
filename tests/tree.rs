//! The tree over the audit log, from outside: checkpoints and proofs over HTTP, and what a restored database shows.

use std::{fs, path::Path, process::Command};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header::ACCEPT};
use mastio_audit::{
    checkpoint::SignedCheckpoint,
    note::NoteKey,
    proof::{ConsistencyProof, InclusionProof},
    tlog_proof::TlogProof,
};
use serde_json::{Value, json};

use crate::harness::{
    ADMIN_SECRET, Mastio, PATIENCE, Place, X_ADMIN_SECRET, both, eventually, mastio, repository, run,
};

fn place() -> Place {
    let mut place = Place::new();
    place.set("MCP_PROXY_ORG_ID", "acme").set("MCP_PROXY_AUDIT_CHECKPOINT_INTERVAL_SECONDS", "1");
    place.set("MCP_PROXY_AUDIT_ORIGIN", "acme.example/audit").set("MCP_PROXY_AUDIT_PUBLIC_LOG", "true");
    place
}

/// Makes agents: each writes entries.
async fn agents(server: &Mastio, names: &[&str]) {
    for name in names {
        let body = json!({ "agent_name": name });
        let made = server.operator(Method::POST, "/v1/admin/agents", &body).await;
        assert_eq!(made.status, StatusCode::CREATED);
    }
}

/// The newest checkpoint, once it has every entry that is there now.
async fn checkpoint(server: &Mastio, place: &Place) -> SignedCheckpoint {
    let entries: u64 = place.sql("SELECT max(chain_seq) FROM local_audit").trim().parse().unwrap();
    let newest = async || {
        let answer = server.operator(Method::GET, "/v1/admin/audit/log/checkpoint", &json!({})).await;
        let note = SignedCheckpoint::parse(std::str::from_utf8(&answer.body).unwrap()).ok()?;
        (note.unverified().head.size >= entries).then_some(note)
    };
    eventually("a checkpoint over every entry", PATIENCE, newest).await
}

fn vkey(place: &Place) -> NoteKey {
    place.sql("SELECT vkey FROM audit_origins ORDER BY generation DESC LIMIT 1").trim().parse().unwrap()
}

async fn warnings(server: &Mastio) -> Value {
    server.get("/healthz").await.json::<Value>().unwrap()["warnings"].clone()
}

#[tokio::test]
async fn an_entry_is_proved_to_whoever_has_the_key_of_the_log() {
    let place = place();
    let server = place.serve().await;
    agents(&server, &["alice", "bob"]).await;
    let newest = checkpoint(&server, &place).await;
    let head = newest.verify(&vkey(&place)).unwrap().head;

    let proof: Value =
        server.operator(Method::GET, "/v1/admin/audit/proof?seq=3", &json!({})).await.json().unwrap();
    let stored = place.sql("SELECT entry_hash FROM local_audit WHERE chain_seq = 3");
    assert_eq!(proof["entry_hash"], stored.trim());
    let hash = |text: &Value| <[u8; 32]>::try_from(hex::decode(text.as_str().unwrap()).unwrap()).unwrap();
    let path = proof["path"].as_array().unwrap().iter().map(hash).collect();
    let inclusion = InclusionProof {
        index: proof["index"].as_u64().unwrap(),
        size: proof["size"].as_u64().unwrap(),
        path,
    };
    let leads_to = SignedCheckpoint::parse(proof["checkpoint"].as_str().unwrap()).unwrap();
    let entry = hash(&proof["entry_hash"]);
    inclusion.verify(&entry, &leads_to.verify(&vkey(&place)).unwrap().head).unwrap();

    let mut headers = HeaderMap::new();
    headers.insert(X_ADMIN_SECRET, HeaderValue::from_static(ADMIN_SECRET));
    headers.insert(ACCEPT, HeaderValue::from_static("text/plain"));
    let text = server.ask(Method::GET, "/v1/admin/audit/proof?seq=3", headers, String::new()).await;
    let proof: TlogProof = std::str::from_utf8(&text.body).unwrap().parse().unwrap();
    proof.inclusion.verify(&entry, &proof.checkpoint.verify(&vkey(&place)).unwrap().head).unwrap();

    let path = format!("/v1/admin/audit/proof?from=1&to={}", head.size);
    let connection: Value = server.operator(Method::GET, &path, &json!({})).await.json().unwrap();
    assert_eq!(connection["root_hash"], hex::encode(head.root));
    for bad in ["", "?seq=1&from=1", "?seq=x", "?to=3"] {
        let answer = server.operator(Method::GET, &format!("/v1/admin/audit/proof{bad}"), &json!({})).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
    }
    for missing in ["tile/0/000", "tile/0/000.p/255", "tile/1/000", "tile/0/001", "tile/x", "nothing"] {
        let answer = server.get(&format!("/audit/log/{missing}")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{missing}");
    }
}

#[tokio::test]
async fn a_killed_server_goes_on_with_its_tree_and_another_reader_finds_the_same_root() {
    let place = place();
    let server = place.serve().await;
    let before = checkpoint(&server, &place).await;
    let names: Vec<String> = (0..150).map(|number| format!("agent-{number}")).collect();
    agents(&server, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    server.kill().await;
    let server = place.serve().await;
    let names: Vec<String> = (150..300).map(|number| format!("agent-{number}")).collect();
    agents(&server, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let after = checkpoint(&server, &place).await;
    assert!(after.unverified().head.size > 256 && before.unverified().head.size < 256);
    let from = before.unverified().head.size;
    let path = format!("/v1/admin/audit/proof?from={from}");
    let connection: Value = server.operator(Method::GET, &path, &json!({})).await.json().unwrap();
    assert_eq!(connection["from_root_hash"], hex::encode(before.unverified().head.root));

    let prefix = format!("{}/audit/log", server.plain_url());
    let key = vkey(&place).to_string();
    let read = run(Command::new(python()).arg(repository("tests/clients/tlog.py")).args([&prefix, &key]));
    assert!(read.trim().parse::<u64>().unwrap() >= after.unverified().head.size, "{read}");
    assert_eq!(server.stop().await, 0);
    let newest = place.sql("SELECT max(tree_size) FROM audit_checkpoints");
    assert_eq!(newest, place.sql("SELECT max(chain_seq) FROM local_audit"), "the end is in a checkpoint");
}

/// The interpreter that `scripts/test` installs the clients for.
fn python() -> std::path::PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients/bin/python")
}

#[tokio::test]
async fn an_older_database_is_noticed_and_accepted_under_another_name() {
    let place = place();
    let server = place.serve().await;
    let before = checkpoint(&server, &place).await.unverified().head.size;
    place.sql(&format!("VACUUM INTO '{}'", place.path("copy.db").display()));
    agents(&server, &["alice", "bob"]).await;
    let lost = checkpoint(&server, &place).await;
    assert_eq!(server.stop().await, 0);
    let dir = place.path("").display().to_string();
    let accept = || {
        mastio(
            &["audit", "accept-restore", "--yes", "--dir", &dir],
            &[("MCP_PROXY_ADMIN_SECRET", ADMIN_SECRET)],
        )
        .output()
        .unwrap()
    };
    let refused = accept();
    assert_eq!(refused.status.code(), Some(1), "{}", both(&refused));
    assert!(both(&refused).contains("nothing to accept"), "{}", both(&refused));

    for suffix in ["-wal", "-shm"] {
        drop(fs::remove_file(place.path(&format!("data/mcp_proxy.db{suffix}"))));
    }
    fs::copy(place.path("copy.db"), place.database()).unwrap();
    let server = place.serve().await;
    let warned = async || (warnings(&server).await == json!(["audit_rolled_back"])).then_some(());
    eventually("the rewind is noticed", PATIENCE, warned).await;
    agents(&server, &["carol"]).await;
    assert_eq!(
        place.sql("SELECT count(*) FROM local_audit WHERE event_type = 'audit.rolled_back'").trim(),
        "1"
    );

    let accepted = accept();
    assert_eq!(accepted.status.code(), Some(0), "{}", both(&accepted));
    let said = both(&accepted);
    let size = lost.unverified().head.size;
    for line in [
        "The database is an older copy: it does not have all entries of a checkpoint that was published."
            .to_owned(),
        "  log                    acme.example/audit".to_owned(),
        format!("  last known checkpoint  acme.example/audit over {size} entries, signed "),
        "  noticed                ".to_owned(),
        format!("  root                   {}", hex::encode(lost.unverified().head.root)),
        "  seen in                audit-checkpoints.log".to_owned(),
        "  tree of this database  ".to_owned(),
        format!(
            "  lost                   entries {} to {size}, and what came after that checkpoint",
            before + 1
        ),
        "Entries with these numbers that are in the database now were written after the restore.".to_owned(),
        "accepted: checkpoints go on as acme.example/audit/2".to_owned(),
        "a running server notices within seconds; witnesses and verifiers need the new key".to_owned(),
    ] {
        assert!(said.lines().any(|said| said.starts_with(&line)), "{line:?} is not in {said}");
    }
    let clear = async || (warnings(&server).await == Value::Null).then_some(());
    eventually("the server goes on", PATIENCE, clear).await;
    let next = checkpoint(&server, &place).await;
    next.verify(&vkey(&place)).unwrap();
    assert_eq!(next.unverified().origin.as_str(), "acme.example/audit/2");
    let details: Value = serde_json::from_str(
        &place.sql("SELECT details FROM local_audit WHERE event_type = 'audit.restored'"),
    )
    .unwrap();
    assert_eq!(details["last_checkpoint"].as_str().unwrap().lines().nth(2), lost.as_str().lines().nth(2));
    place.verify_audit();

    place.write("lost.txt", lost.as_str());
    let saved = place.path("lost.txt").display().to_string();
    let held = place.command(&["audit", "verify", "--against", &saved]).output().unwrap();
    let successor = "this log, acme.example/audit/2, is its successor after a restore";
    assert!(held.status.code() == Some(2) && both(&held).contains(successor), "{}", both(&held));
    let range = json!({ "start": "2020-01-01", "end": "2100-01-01" });
    let bundle = server.operator(Method::POST, "/v1/admin/audit/bundle", &range).await;
    place.write("bundle.tar.gz", &bundle.body);
    let bundle = place.path("bundle.tar.gz").display().to_string();
    let gap = format!("entries {} to {} of it are lost", details["lost_first"], details["lost_last"]);
    let said = run(&mut place.command(&["audit", "verify", &bundle]));
    assert!(said.contains(&gap), "{said}");
    let held = place.command(&["audit", "verify", &bundle, "--against", &saved]).output().unwrap();
    assert!(held.status.code() == Some(2) && both(&held).contains(successor), "{}", both(&held));
}

/// `mastio audit rebuild-tree`: whether it did so, and what it said.
fn rebuild(place: &Place) -> (bool, String) {
    let rebuilt = place.command(&["audit", "rebuild-tree"]).output().unwrap();
    assert!(matches!(rebuilt.status.code(), Some(0 | 1)), "{}", both(&rebuilt));
    (rebuilt.status.success(), both(&rebuilt))
}

#[tokio::test]
async fn a_damaged_tree_is_rebuilt_and_continues_what_was_published() {
    let place = place();
    let server = place.serve().await;
    agents(&server, &["alice", "bob"]).await;
    let saved = checkpoint(&server, &place).await.verify(&vkey(&place)).unwrap().head;
    let (done, said) = rebuild(&place);
    assert!(!done && said.contains("is serving") && said.contains("stop it first"), "{said}");
    assert_eq!(server.stop().await, 0);
    let (done, said) = rebuild(&place);
    assert!(done && said.contains("nothing was changed"), "{said}");

    for (damage, agent) in [
        ("UPDATE audit_tree SET size = size + 1000", "carol"),
        ("UPDATE audit_tree SET size = size - 3", "dave"),
        ("UPDATE audit_tiles SET hashes = zeroblob(length(hashes)) WHERE level = 0 AND tile = 0", "erin"),
    ] {
        place.sql(damage);
        let server = place.serve().await;
        agents(&server, &[agent]).await;
        let named = async || server.log().contains("mastio audit rebuild-tree").then_some(());
        eventually(&format!("{damage}: the server says what to do"), PATIENCE, named).await;
        assert_eq!(server.stop().await, 0);
        assert!(!place.sql("SELECT event_type FROM local_audit").contains("rolled_back"), "{damage}");

        let (done, said) = rebuild(&place);
        assert!(done && said.contains("rebuilt: the tree has"), "{damage}: {said}");
        let server = place.serve().await;
        let next = checkpoint(&server, &place).await.verify(&vkey(&place)).unwrap().head;
        let path = format!("/v1/admin/audit/proof?from={}&to={}", saved.size, next.size);
        let told: Value = server.operator(Method::GET, &path, &json!({})).await.json().unwrap();
        let hash = |text: &Value| hex::decode(text.as_str().unwrap()).unwrap().try_into().unwrap();
        let path = told["path"].as_array().unwrap().iter().map(hash).collect();
        ConsistencyProof { from: saved.size, to: next.size, path }.verify(&saved, &next).unwrap();
        assert_eq!(server.stop().await, 0);
    }
    assert_eq!(
        place.sql("SELECT count(*) FROM local_audit WHERE event_type = 'audit.tree_rebuilt'").trim(),
        "3"
    );
    place.verify_audit();
}

#[tokio::test]
async fn no_tree_is_built_over_entries_that_were_changed() {
    let place = place();
    let server = place.serve().await;
    checkpoint(&server, &place).await;
    assert_eq!(server.stop().await, 0);
    let script = repository("tests/attacks/rebuild.py");
    run(Command::new("python3").arg(script).arg(place.database()).arg("3"));
    let tiles = "SELECT level, tile, hex(hashes) FROM audit_tiles";
    let before = place.sql(tiles);
    let (done, said) = rebuild(&place);
    assert!(!done && said.contains("they were changed, and not the tree"), "{said}");
    assert_eq!(place.sql(tiles), before);
}

#[tokio::test]
async fn an_adopted_log_has_a_tree_from_its_first_row() {
    let place = {
        let mut place = Place::new();
        place
            .set("MCP_PROXY_AUDIT_CHECKPOINT_INTERVAL_SECONDS", "1")
            .set("MCP_PROXY_AUDIT_PUBLIC_LOG", "true");
        place
    };
    place.write("data/mcp_proxy.db", fs::read(repository("fixtures/adopted-plain.db")).unwrap());
    let server = place.serve().await;
    let org = server.get("/.well-known/cullis/connector-bootstrap").await.json::<Value>().unwrap();
    let org = org["org_id"].as_str().unwrap().to_owned();
    let count = format!("SELECT count(*) FROM local_audit WHERE org_id = '{org}' AND chain_seq IS NOT NULL");
    let whole = async || {
        let answer = server.operator(Method::GET, "/v1/admin/audit/log/checkpoint", &json!({})).await;
        let note = SignedCheckpoint::parse(std::str::from_utf8(&answer.body).unwrap()).ok()?;
        (note.unverified().head.size.to_string() == place.sql(&count).trim()).then_some(())
    };
    eventually("the tree has every entry", PATIENCE, whole).await;
    assert_eq!(place.sql("SELECT base_seq FROM audit_tree").trim(), "1");
}
