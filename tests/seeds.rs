//! The snippets of the operators' documents, run word for word but for host and port, and what they tell to verify.

use std::{fs, path::Path, process::Command, sync::Arc};

use http::StatusCode;
use mastio_client::{ClientError, Identity};
use secrecy::ExposeSecret;
use serde_json::{Deserializer, Value};
use tempfile::TempDir;

use crate::harness::{ADMIN_SECRET, Mastio, Place, repository, run};

/// The address that the documents print.
const PRINTED: &str = "https://localhost:9443";
/// The organisation of the agents that the documents name.
const ORG: &str = "orga";

#[tokio::test]
async fn the_runbook_revokes_a_compromised_agent() {
    let (place, server) = deployment().await;
    let (agent, stolen) = agent(&server, "compromised-agent").await;
    let snippet = snippet("runbook-6.sh", &server);
    let (revoke, _) = snippet.split_once("# 2. (Optional)").unwrap();
    assert_eq!(token(&server, stolen.path()), (200, Value::Null));
    let mut in_flight = server.agent(&agent);
    in_flight.login().await.unwrap();

    let answer = &follow(&place, revoke)[0];
    assert_eq!((&answer["status"], &answer["already_revoked"]), (&"revoked".into(), &false.into()));
    assert_eq!(token(&server, stolen.path()), (401, "Certificate has been revoked".into()));
    // Sooner than the runbook promises: tokens do not live on.
    let error = in_flight.whoami().await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { status: StatusCode::UNAUTHORIZED, .. }), "{error}");
    assert_eq!(audited(&place, "agent.revoked", "orga::compromised-agent"), 1);

    // The whole block, on an agent that is revoked already.
    let answers = follow(&place, &snippet);
    assert_eq!(answers[0]["already_revoked"], true);
    let legitimate = tempfile::tempdir().unwrap();
    save(
        legitimate.path(),
        answers[1]["cert_pem"].as_str().unwrap(),
        answers[1]["key_pem"].as_str().unwrap(),
    );
    assert_eq!(token(&server, legitimate.path()), (200, Value::Null));
    assert_eq!(token(&server, stolen.path()), (401, "Certificate has been revoked".into()));
    assert_eq!(audited(&place, "agent.revoked", "orga::compromised-agent"), 1);
    assert_eq!(audited(&place, "agent.cert_rotated", "orga::compromised-agent"), 1);
    place.verify_audit();
}

#[tokio::test]
async fn rotate_keys_replaces_the_certificate_of_an_agent() {
    let (place, server) = deployment().await;
    let (_, before) = agent(&server, "kyc-screener").await;
    assert_eq!(token(&server, before.path()), (200, Value::Null));

    follow(&place, &snippet("rotate-keys-1.sh", &server));
    let dir = place.path("");
    assert_eq!(token(&server, before.path()), (401, "Certificate has been revoked".into()));
    assert_eq!(token(&server, &dir), (200, Value::Null));
    assert_eq!(audited(&place, "agent.cert_rotated", "orga::kyc-screener"), 1);
    place.verify_audit();

    // An agent that starts from the directory as the snippet left it.
    let rotated = Arc::new(Identity::from_dir(&dir).unwrap());
    let mut restarted = server.agent(&rotated);
    restarted.login().await.unwrap();
    assert_eq!(restarted.whoami().await.unwrap().agent_id.as_str(), "orga::kyc-screener");
    // What the response shares with the one of the enrolment.
    let response: Value = serde_json::from_str(&place.text("rotated-cert.json")).unwrap();
    assert!(["cert_pem", "key_pem", "dpop_jwk"].iter().all(|name| response.get(name).is_some()));
}

/// A server whose admin secret stands in `proxy.env`, where the snippets read it.
pub(crate) async fn deployment() -> (Place, Mastio) {
    let mut place = Place::new();
    place.write("proxy.env", format!("MCP_PROXY_ADMIN_SECRET={ADMIN_SECRET}\n"));
    let server = place.set("MCP_PROXY_ORG_ID", ORG).serve().await;
    (place, server)
}

/// An agent, and a folder with its certificate and key.
pub(crate) async fn agent(server: &Mastio, name: &str) -> (Arc<Identity>, TempDir) {
    let agent = Arc::new(server.admin().create_agent(name, name, &[]).await.unwrap());
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), &agent.certificates_pem(), agent.key().to_pkcs8_pem().expose_secret());
    (agent, dir)
}

fn save(dir: &Path, certificates: &str, key: &str) {
    fs::write(dir.join("cert.pem"), certificates).unwrap();
    fs::write(dir.join("agent-key.pem"), key).unwrap();
}

/// The text of a document, with our host and port.
pub(crate) fn snippet(name: &str, server: &Mastio) -> String {
    let text = fs::read_to_string(repository("tests/seeds").join(name)).unwrap();
    assert!(text.contains(PRINTED), "{name} lost its address");
    text.replace(PRINTED, &server.url())
}

/// Runs a snippet in the folder of the deployment; the JSON that it prints.
pub(crate) fn follow(place: &Place, snippet: &str) -> Vec<Value> {
    let mut shell = Command::new("timeout");
    shell.args(["30", "bash", "-eu", "-o", "pipefail", "-c", snippet]).current_dir(place.path(""));
    let printed = run(&mut shell);
    Deserializer::from_str(&printed).into_iter().map(Result::unwrap).collect()
}

/// `curl … /v1/auth/token` with the certificate and key in `dir`: the status and, of a refusal, the detail.
pub(crate) fn token(server: &Mastio, dir: &Path) -> (u16, Value) {
    let mut curl = Command::new("curl");
    curl.args([
        "-sk",
        "--max-time",
        "30",
        "--cert",
        "cert.pem",
        "--key",
        "agent-key.pem",
        "-w",
        " %{http_code}",
    ]);
    let answer = run(curl.args(["-X", "POST", &format!("{}/v1/auth/token", server.url())]).current_dir(dir));
    let (body, status) = answer.rsplit_once(' ').unwrap();
    let mut body: Value = serde_json::from_str(body).unwrap();
    (status.parse().unwrap(), body["detail"].take())
}

/// How often the audit log says `event` of `agent`.
fn audited(place: &Place, event: &str, agent: &str) -> usize {
    let query = format!("SELECT ts FROM local_audit WHERE event_type = '{event}' AND agent_id = '{agent}'");
    place.sql(&query).lines().count()
}
