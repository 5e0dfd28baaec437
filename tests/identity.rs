//! One organisation, one identity: what survives, what is made again, and what is never made over.

use std::{fs, path::Path, process::Command, sync::Arc};

use http::StatusCode;
use serde_json::Value;

use crate::harness::{Mastio, PATIENCE, Place, eventually, run};

/// All that clients know a deployment by.
#[derive(Debug, PartialEq)]
struct Identity {
    trust_file: Vec<u8>,
    org_id: Value,
    fingerprint: Value,
    jwks: Vec<u8>,
    files: Vec<Vec<u8>>,
}

async fn identity(place: &Place, server: &Mastio) -> Identity {
    let bootstrap: Value = server.get("/.well-known/cullis/connector-bootstrap").await.json().unwrap();
    let names = ["nginx-certs/org-ca.crt", "nginx-certs/mastio-server.crt", "nginx-certs/mastio-server.key"];
    Identity {
        trust_file: server.get("/pki/ca.crt").await.body.to_vec(),
        org_id: bootstrap["org_id"].clone(),
        fingerprint: bootstrap["ca_fingerprint_sha256"].clone(),
        jwks: server.get("/.well-known/jwks-local.json").await.body.to_vec(),
        files: names.iter().map(|name| fs::read(place.path(name)).unwrap()).collect(),
    }
}

#[tokio::test]
async fn a_restart_changes_nothing() {
    let place = Place::new();
    let server = place.serve().await;
    let before = identity(&place, &server).await;
    let alice = Arc::new(server.admin().create_agent("alice", "Alice", &[]).await.unwrap());
    assert_eq!(server.stop().await, 0);
    // The copies for operators are written at each start.
    fs::remove_file(place.path("certs/org-ca.pem")).unwrap();

    let server = place.serve().await;
    assert_eq!(identity(&place, &server).await, before);
    assert_eq!(place.text("certs/org-ca.pem").as_bytes(), before.trust_file);
    let mut agent = server.agent(&alice);
    agent.login().await.unwrap();
    assert_eq!(agent.whoami().await.unwrap().agent_id, *alice.agent_id());
    assert_eq!(server.stop().await, 0);
    place.verify_audit();
}

#[tokio::test]
async fn a_lost_database_beside_certificates_exits_3_with_the_ways_out() {
    let place = Place::new();
    assert_eq!(place.serve().await.stop().await, 0);
    let trust_file = place.text("nginx-certs/org-ca.crt");
    fs::remove_dir_all(place.path("data")).unwrap();

    let (code, log) = place.refused().await;
    assert_eq!(code, 3, "{log}");
    for way in ["restore the database", "MCP_PROXY_DATABASE_URL", "nginx-certs/org-ca.crt away"] {
        assert!(log.contains(way), "{way}: {log}");
    }
    assert_eq!(place.text("nginx-certs/org-ca.crt"), trust_file, "nothing is made over it");
    // The last of the ways out.
    fs::rename(place.path("nginx-certs"), place.path("old-certs")).unwrap();
    fs::remove_dir_all(place.path("data")).unwrap();
    place.serve().await;
    assert_ne!(place.text("nginx-certs/org-ca.crt"), trust_file);
}

/// The SHA-256 fingerprint of the certificate that is served, after `openssl` has verified it.
fn served(server: &Mastio, ca_file: &Path) -> String {
    let script = format!(
        "openssl s_client -connect 127.0.0.1:{} -servername localhost -verify_hostname localhost -CAfile '{}' \
         -x509_strict -verify_return_error </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256",
        server.tls,
        ca_file.display(),
    );
    run(Command::new("bash").args(["-o", "pipefail", "-c", &script]))
}

#[tokio::test]
async fn deleted_server_files_are_made_again_and_served_within_seconds() {
    let place = Place::new();
    let server = place.serve().await;
    let ca_file = place.path("certs/org-ca.pem");
    let (trust_file, before) = (place.text("nginx-certs/org-ca.crt"), served(&server, &ca_file));
    for name in ["nginx-certs/mastio-server.crt", "nginx-certs/mastio-server.key"] {
        fs::remove_file(place.path(name)).unwrap();
    }
    let limit = std::time::Duration::from_secs(5);
    let after = eventually("another certificate is served", limit, async || {
        Some(served(&server, &ca_file)).filter(|now| *now != before)
    })
    .await;
    let file = place.path("nginx-certs/mastio-server.crt");
    let written =
        run(Command::new("openssl").args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]).arg(file));
    assert_eq!(written, after, "what is served is what lies there");
    assert_eq!(place.text("nginx-certs/org-ca.crt"), trust_file, "the CA stays");
}

#[tokio::test]
async fn sealed_keys_open_with_their_passphrase_only() {
    let passphrase = "a passphrase of more than thirty-two characters";
    let mut place = Place::new();
    let server = place.set("MCP_PROXY_DB_ENCRYPTION_KEY", passphrase).serve().await;
    let before = identity(&place, &server).await;
    assert_eq!(server.stop().await, 0);
    let sealed = place.sql("SELECT value FROM proxy_config WHERE key = 'org_ca_key'");
    assert!(sealed.starts_with("enc:pki:v1:"), "{sealed}");

    for wrong in ["another passphrase of more than thirty-two characters", ""] {
        let (code, log) = place.set("MCP_PROXY_DB_ENCRYPTION_KEY", wrong).refused().await;
        assert_eq!(code, 3, "{wrong:?}: {log}");
        assert!(log.contains("MCP_PROXY_DB_ENCRYPTION_KEY"), "{wrong:?}: {log}");
        assert!(!log.contains(passphrase) && (wrong.is_empty() || !log.contains(wrong)), "{log}");
    }
    let server = place.set("MCP_PROXY_DB_ENCRYPTION_KEY", passphrase).serve().await;
    assert_eq!(identity(&place, &server).await, before);
}

#[tokio::test]
async fn a_key_pair_beside_an_empty_database_becomes_the_root() {
    let mut place = Place::new();
    fs::create_dir(place.path("nginx-certs")).unwrap();
    let (key, certificate) = (place.path("nginx-certs/org-ca.key"), place.path("nginx-certs/org-ca.crt"));
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
        .arg(&key)
        .arg("-out")
        .arg(&certificate));
    let (key_pem, root_pem) = (fs::read(&key).unwrap(), fs::read_to_string(&certificate).unwrap());
    let fingerprint = run(Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
        .arg(&certificate));

    let server = place.set("MCP_PROXY_ORG_ID", "acme").serve().await;
    let after = identity(&place, &server).await;
    let hex = fingerprint.trim().split_once('=').unwrap().1.replace(':', "").to_ascii_lowercase();
    assert_eq!((after.org_id.as_str(), after.fingerprint.as_str()), (Some("acme"), Some(&*hex)));
    assert!(String::from_utf8(after.trust_file).unwrap().starts_with(&root_pem));
    assert_eq!(fs::read(&key).unwrap(), key_pem, "the key file is the operator's");
    let alice = Arc::new(server.admin().create_agent("alice", "Alice", &[]).await.unwrap());
    let mut agent = server.agent(&alice);
    agent.login().await.unwrap();
    assert_eq!(agent.whoami().await.unwrap().agent_id.as_str(), "acme::alice");
    assert_eq!(place.sql("SELECT count(*) FROM local_audit WHERE event_type = 'ca.import'").trim(), "1");
}

#[tokio::test]
async fn a_database_taken_away_is_noticed_and_nothing_is_written_into_the_dark() {
    let place = Place::new();
    let server = place.serve().await;
    let mut admin = server.admin();
    admin.create_agent("before", "", &[]).await.unwrap();
    fs::rename(place.database(), place.path("data/aside.db")).unwrap();
    eventually("readiness notices", PATIENCE, async || {
        let (status, checks) = server.readyz().await;
        let database = checks["database"].to_string();
        (status == StatusCode::SERVICE_UNAVAILABLE && database.contains("unable to open database file"))
            .then_some(())
    })
    .await;
    let refused = admin.create_agent("after", "", &[]).await.unwrap_err().to_string();
    assert!(refused.contains("503"), "{refused}");
}
