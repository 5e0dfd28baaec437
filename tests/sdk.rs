//! The Python SDK as it is shipped: an agent with a certificate of its own, and one that an operator approves.

use std::{fs, path::Path, process::Command};

use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    clients::script,
    desk::Desk,
    harness::{ADMIN_SECRET, Mastio, PATIENCE, Place, Process, eventually, mastio, run},
};

/// A folder with a fresh key, a certificate for `agent` by the Org CA, and the CA file.
async fn own_certificate(place: &Place, server: &Mastio, agent: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let mut request = Command::new("openssl");
    request.args(["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
    run(request.args([
        "-subj",
        &format!("/CN={agent}"),
        "-keyout",
        &path("key.pem"),
        "-out",
        &path("csr.pem"),
    ]));
    let (request, certificate, dir) = (path("csr.pem"), path("cert.pem"), place.path(""));
    let arguments = ["pki", "sign-csr", "--agent", agent, "--csr", &request, "--out", &certificate, "--dir"];
    let environment = [("MCP_PROXY_ADMIN_SECRET", ADMIN_SECRET)];
    run(&mut mastio(&[&arguments[..], &[dir.to_str().unwrap()]].concat(), &environment));
    fs::write(path("ca.pem"), server.get("/pki/ca.crt").await.body).unwrap();
    folder
}

/// What `byoca.py` says came of it.
fn enroll_via_byoca(server: &Mastio, agent: &str, folder: &Path) -> Value {
    let arguments = [&*server.url(), ADMIN_SECRET, agent, folder.to_str().unwrap()];
    result(&run(&mut script("byoca.py", &arguments, folder)))
}

/// The last line of a script's output.
fn result(output: &str) -> Value {
    serde_json::from_str(output.lines().last().unwrap()).unwrap()
}

#[tokio::test]
async fn byoca_pins_once_and_does_not_undo_a_revocation() {
    let mut place = Place::new();
    let server = place.set("MCP_PROXY_ORG_ID", "acme").serve().await;
    server.admin().create_agent("bob", "Bob", &[]).await.unwrap();
    let agent = "acme::kyc";
    let first = own_certificate(&place, &server, agent).await;
    assert_eq!(enroll_via_byoca(&server, agent, first.path()), json!({ "peers": ["acme::bob"] }));

    // The pin is live: the same again is refused, and so is another certificate.
    let second = own_certificate(&place, &server, agent).await;
    for folder in [&first, &second] {
        let refused = enroll_via_byoca(&server, agent, folder.path());
        let text = refused["refused"].as_str().unwrap_or_else(|| panic!("{refused}"));
        assert!(text.contains("HTTP 409") && text.contains("already enrolled"), "{text}");
    }

    // Neither the revoked certificate nor a fresh one brings a revoked agent back by itself.
    let path = format!("/registry/agents/{agent}/revoke");
    assert_eq!(server.operator(Method::POST, &path, &json!({})).await.status, 200);
    for (folder, said) in [(&first, "revoked or superseded"), (&second, "update_existing")] {
        let refused = enroll_via_byoca(&server, agent, folder.path());
        let text = refused["refused"].as_str().unwrap_or_else(|| panic!("{refused}"));
        assert!(text.contains("HTTP 409") && text.contains(said), "{text}");
    }
    place.verify_audit();
}

#[tokio::test]
async fn byoca_replaces_a_live_pin_when_it_is_told_to() {
    let mut place = Place::new();
    let server = place.set("MCP_PROXY_ORG_ID", "acme").serve().await;
    let agent = "acme::kyc";
    let first = own_certificate(&place, &server, agent).await;
    assert_eq!(enroll_via_byoca(&server, agent, first.path()), json!({ "peers": [] }));

    // The SDK has no parameter for it.
    let second = own_certificate(&place, &server, agent).await;
    let read = |name: &str| fs::read_to_string(second.path().join(name)).unwrap();
    let (certificate, key) = (read("cert.pem"), read("key.pem"));
    let body = json!({
        "agent_name": "kyc", "display_name": "", "capabilities": [], "update_existing": true,
        "cert_pem": certificate, "private_key_pem": key,
    });
    let answer = server.operator(Method::POST, "/v1/admin/agents/enroll/byoca", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.detail());
    let refused = enroll_via_byoca(&server, agent, first.path());
    assert!(refused["refused"].as_str().is_some_and(|text| text.contains("HTTP 409")), "{refused}");
}

#[tokio::test]
async fn an_operator_approves_an_agent_of_the_sdk() {
    let mut place = Place::new();
    let server = place.set("MCP_PROXY_ORG_ID", "acme").serve().await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("ca.pem"), server.get("/pki/ca.crt").await.body).unwrap();
    let arguments = [&*server.url(), folder.path().to_str().unwrap()];
    let child = script("device.py", &arguments, folder.path()).spawn().unwrap();
    let mut process = Process(child);

    let mut desk = Desk::open(&server).await;
    let waits = async || desk.waiting().await.first().cloned();
    let waiting = eventually("it waits for a decision", PATIENCE, waits).await;
    assert_eq!(waiting["requester_name"], "Dora Device");
    desk.approve(waiting["session_id"].as_str().unwrap(), "dora", &[]).await;
    assert!(process.ended(PATIENCE).await.success());
    let mut output = String::new();
    std::io::Read::read_to_string(&mut process.0.stdout.take().unwrap(), &mut output).unwrap();
    assert_eq!(result(&output), json!({ "peers": [] }));
}
