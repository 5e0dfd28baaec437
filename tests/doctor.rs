//! `mastio pki doctor`: every finding that its page names is provoked, on a copy of a deployment that has none.

mod damage;

use std::{collections::BTreeSet, fs, path::Path, process::Command, time::Duration};

use http::Method;
use mastio_core::{AgentId, Clock, OrgId, SpiffeId, Stamp, SystemClock, SystemRng};
use mastio_pki::{Certificate, Issuer, KeyPair, profile};
use serde_json::{Value, json};
use tempfile::TempDir;

use self::damage::{AGENTS, CAS, FILES, KEYS};
use crate::harness::{Place, both, repository, run};

const DAY: Duration = Duration::from_secs(86_400);

/// A stopped deployment with two agents and nothing wrong with it.
struct Healthy {
    place: Place,
    root: Issuer<KeyPair>,
    intermediate: Issuer<KeyPair>,
}

impl Healthy {
    async fn new() -> Self {
        let mut place = Place::new();
        let server = place.set("MCP_PROXY_ORG_ID", "acme").serve().await;
        for name in ["alice", "bob"] {
            let made = json!({ "agent_name": name });
            assert!(server.operator(Method::POST, "/v1/admin/agents", &made).await.status.is_success());
        }
        assert_eq!(server.stop().await, 0);
        let [root, intermediate] = [("org_ca_key", "org_ca_cert"), ("mastio_ca_key", "mastio_ca_cert")]
            .map(|(key, certificate)| issuer(&config(&place, certificate), &config(&place, key)));
        Self { place, root, intermediate }
    }

    /// A copy that may be damaged.
    fn copy(&self) -> Sick<'_> {
        let folder = tempfile::tempdir().unwrap();
        run(Command::new("cp").arg("-a").arg(self.place.path(".")).arg(folder.path()));
        let mut place = Place::at(folder.path());
        place.set("MCP_PROXY_ORG_ID", "acme");
        Sick { place, healthy: self, _folder: folder }
    }
}

/// A copy of a healthy deployment.
struct Sick<'a> {
    place: Place,
    healthy: &'a Healthy,
    _folder: TempDir,
}

impl Sick<'_> {
    /// Changes rows, with triggers and constraints of the schema in force.
    fn sql(&self, statement: &str) {
        self.place.sql(statement);
    }

    /// A further CA in the registry, with more columns set.
    fn ca(&self, certificate: &Certificate, kind: &str, state: &str, more: &[(&str, &str)]) {
        let (mut names, mut values) = (String::new(), String::new());
        for (name, value) in more {
            names += &format!(", {name}");
            values += &format!(", '{value}'");
        }
        let (thumbprint, pem) = (certificate.thumbprint(), certificate.pem());
        self.sql(&format!(
            "INSERT INTO pki_cas (thumbprint, spki_sha256, kind, state, cert_pem, created_at, activated_at, superseded_at{names}) \
             VALUES ('{thumbprint}', '{}', '{kind}', '{state}', '{pem}', '2026-01-01T00:00:00+00:00', \
             '2026-01-01T00:00:00+00:00', '2026-01-02T00:00:00+00:00'{values})",
            hex::encode(certificate.spki_sha256())
        ));
    }

    /// The certificate of alice is this one, and what is noted of it fits.
    fn pin(&self, leaf: &Certificate) {
        self.sql(&format!(
            "UPDATE internal_agents SET cert_pem = '{}' WHERE agent_id = 'acme::alice'; \
             UPDATE agent_certs SET thumbprint = '{}', spki_sha256 = '{}', not_after = '{}' WHERE agent_id = 'acme::alice'",
            leaf.pem(),
            leaf.thumbprint(),
            hex::encode(leaf.spki_sha256()),
            leaf.not_after()
        ));
    }

    fn snapshot(&self, json: &Value) {
        self.sql(&format!(
            "INSERT INTO migration_state_backups VALUES ('2026-04-23-org-ca-pathlen-1', '2026-01-01T00:00:00+00:00', '{json}')"
        ));
    }

    fn rotation(&self, transition: &str, phase: &str, more: &str) {
        let thumbprint = self.healthy.root.certificate().thumbprint();
        let ended = if phase == "aborted" { "'2026-11-01T00:00:00+00:00'" } else { "NULL" };
        self.sql(&format!(
            "INSERT INTO pki_rotations (id, mode, transition, phase, old_root, new_root, started_by, started_at, changed_at, \
             ended_at, error) VALUES ('r1', 'mint', '{transition}', '{phase}', '{thumbprint}', '{thumbprint}', 'test', \
             '2026-11-01T00:00:00+00:00', '2026-11-01T00:00:00+00:00', {ended}, {more})"
        ));
    }
}

fn config(place: &Place, key: &str) -> String {
    place.sql(&format!("SELECT value FROM proxy_config WHERE \"key\" = '{key}'"))
}

fn issuer(certificate: &str, key: &str) -> Issuer<KeyPair> {
    Issuer::new(Certificate::from_pem(certificate).unwrap(), KeyPair::from_pem(key).unwrap()).unwrap()
}

fn now() -> Stamp {
    SystemClock::default().now()
}

fn acme() -> OrgId {
    OrgId::parse("acme").unwrap()
}

fn key() -> KeyPair {
    KeyPair::generate_p256().unwrap()
}

fn another_root() -> Issuer<KeyPair> {
    let key = key();
    Issuer::new(profile::root(&acme(), &key, now(), &SystemRng).unwrap(), key).unwrap()
}

fn intermediate_of(root: &Issuer<KeyPair>) -> Issuer<KeyPair> {
    let key = key();
    let certificate = profile::intermediate(root, &acme(), key.spki_der(), now(), &SystemRng).unwrap();
    Issuer::new(certificate, key).unwrap()
}

/// A certificate for alice, made at `at` for ninety days.
fn alice(issuer: &Issuer<KeyPair>, at: Stamp) -> Certificate {
    let id = AgentId::parse("acme::alice").unwrap();
    let spiffe = SpiffeId::parse("spiffe://cullis.local/acme/alice").unwrap();
    profile::agent(issuer, &id, &spiffe, key().spki_der(), DAY * 90, at, &SystemRng).unwrap()
}

fn vector(pointer: &str) -> Certificate {
    let text = fs::read_to_string(repository("fixtures/pki-vectors.json")).unwrap();
    let vectors: Value = serde_json::from_str(&text).unwrap();
    Certificate::from_pem(vectors.pointer(pointer).unwrap().as_str().unwrap()).unwrap()
}

/// What the doctor says, and its exit code.
fn doctor(place: &Place) -> (i32, Value) {
    let output = place.command(&["pki", "doctor", "--json"]).output().unwrap();
    let said = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", both(&output)));
    (output.status.code().unwrap(), said)
}

fn codes(said: &Value) -> BTreeSet<&str> {
    said["findings"].as_array().unwrap().iter().map(|found| found["code"].as_str().unwrap()).collect()
}

fn append(path: &Path) {
    let text = fs::read_to_string(path).unwrap();
    fs::write(path, format!("{text}\n")).unwrap();
}

#[tokio::test]
async fn every_finding_of_its_page_is_provoked() {
    let healthy = Healthy::new().await;
    let (code, said) = doctor(&healthy.place);
    assert_eq!((code, codes(&said)), (0, BTreeSet::from(["keys_readable"])), "{said:#}");

    let mut provoked = BTreeSet::new();
    for (expected, damage) in [CAS, KEYS, FILES, AGENTS].into_iter().flatten() {
        let mut sick = healthy.copy();
        damage(&mut sick);
        let (code, said) = doctor(&sick.place);
        let found = said["findings"].as_array().unwrap().iter().find(|found| found["code"] == *expected);
        let found = found.unwrap_or_else(|| panic!("{expected} was not found: {said:#}"));
        let problems = said["findings"].as_array().unwrap().iter().any(|found| found["level"] == "problem");
        assert_eq!(code, if problems { 2 } else { 0 }, "{expected}: {said:#}");
        assert!(
            found["count"].as_u64() >= Some(1) && !found["examples"][0].as_str().unwrap().is_empty(),
            "{found}"
        );
        provoked.insert(*expected);
    }
    let page = fs::read_to_string(repository("docs/pki-doctor.md")).unwrap();
    let named: BTreeSet<_> = page
        .lines()
        .filter(|line| line.contains("` | problem | ") || line.contains("` | advice | "))
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    assert_eq!(provoked, named);
}

#[tokio::test]
async fn it_reads_beside_a_running_server_and_says_what_it_cannot_open() {
    let mut place = Place::new();
    place.set("MCP_PROXY_ORG_ID", "acme");
    place.set("MCP_PROXY_DB_ENCRYPTION_KEY", "a passphrase of the black-box suite");
    let server = place.serve().await;
    let (code, said) = doctor(&place);
    assert_eq!((code, codes(&said), &said["served"]), (0, BTreeSet::new(), &json!(true)), "{said:#}");
    assert_eq!(said["not_checked"], json!([]));
    assert_eq!(said["rotations"][0]["tls_continuity"], json!(true));

    place.set("MCP_PROXY_DB_ENCRYPTION_KEY", "");
    let (code, said) = doctor(&place);
    assert_eq!((code, codes(&said)), (0, BTreeSet::new()), "{said:#}");
    assert!(said["not_checked"][0].as_str().unwrap().contains("MCP_PROXY_DB_ENCRYPTION_KEY"), "{said:#}");
    assert_eq!(said["rotations"][0]["tls_continuity"], Value::Null);

    place.set("MCP_PROXY_DB_ENCRYPTION_KEY", "another passphrase of the suite");
    let (code, said) = doctor(&place);
    assert!(code == 2 && codes(&said).contains("ca_key"), "{said:#}");
    let text = both(&place.command(&["pki", "doctor"]).output().unwrap());
    assert!(text.contains("PROBLEM  ca_key") && !text.contains("suite"), "{text}");

    assert_eq!(server.stop().await, 0);
    let before = fs::read(place.database()).unwrap();
    assert_eq!(doctor(&place).1["served"], json!(false));
    assert!(fs::read(place.database()).unwrap() == before, "it wrote something");

    let empty = Place::new();
    let refused = empty.command(&["pki", "doctor"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", both(&refused));
}

#[tokio::test]
async fn an_auditor_follows_the_roots_with_a_file_and_openssl() {
    let healthy = Healthy::new().await;
    let sick = healthy.copy();
    let (lost, old) = (another_root(), another_root());
    let said = mastio_pki::lineage::vouch(&old, healthy.root.certificate(), now()).unwrap();
    sick.ca(old.certificate(), "org_ca", "retired", &[("lineage", &said)]);
    sick.ca(lost.certificate(), "org_ca", "superseded", &[("compromised", "1"), ("cut", "1")]);
    let at = now();
    let (lost_id, old_id) = (lost.certificate().thumbprint(), old.certificate().thumbprint());
    sick.sql(&format!(
        "INSERT INTO pki_rotations (id, mode, transition, phase, compromise, old_root, new_root, started_by, started_at, \
         changed_at, ended_at) VALUES ('r0', 'mint', 'cut', 'done', 1, '{lost_id}', '{old_id}', 'test', '{at}', '{at}', '{at}')"
    ));
    let file = sick.place.path("roots.txt");
    let lineage = |arguments: &[&str]| {
        let output = sick.place.command(&[&["pki", "lineage"], arguments].concat()).output().unwrap();
        (output.status.code().unwrap(), both(&output))
    };
    let (code, text) = lineage(&["--export", file.to_str().unwrap()]);
    assert!(
        code == 0 && text.contains("BREAK") && text.contains("compromised") && text.contains("vouched"),
        "{text}"
    );

    for (root, expected, word) in
        [(&old, 0, "verified: "), (&lost, 2, "NOT verified"), (&healthy.root, 0, "verified: ")]
    {
        sick.place.write("trusted.pem", root.certificate().pem());
        let (trusted, file) = (sick.place.path("trusted.pem"), file.to_str().unwrap());
        let (code, text) = lineage(&["--verify", file, "--root", trusted.to_str().unwrap()]);
        assert!(code == expected && text.contains(word), "{code} {text}");
    }
    sick.place.write("trusted.pem", another_root().certificate().pem());
    let trusted = sick.place.path("trusted.pem");
    let (code, text) = lineage(&["--verify", file.to_str().unwrap(), "--root", trusted.to_str().unwrap()]);
    assert!(code == 1 && text.contains("is not in"), "{code} {text}");

    // As the page says: with openssl and sed alone.
    let statement = fs::read_to_string(&file).unwrap();
    let from = statement.find("mastio root lineage v1").unwrap();
    let statement = &statement[from..from + statement[from..].find("\n\n").unwrap() + 1];
    sick.place.write("statement.txt", statement);
    sick.place.write("old-root.pem", old.certificate().pem());
    sick.place.write("new-root.pem", healthy.root.certificate().pem());
    let page = fs::read_to_string(repository("docs/pki-doctor.md")).unwrap();
    let (_, commands) = page.rsplit_once("```sh\n").unwrap();
    let script = commands.split("```").next().unwrap();
    let folder = file.parent().unwrap();
    let said = run(Command::new("sh").args(["-euc", script]).current_dir(folder));
    assert!(said.contains("Verified OK"), "{said}");
    assert!(said.contains(&healthy.root.certificate().thumbprint().to_string()), "{said}");

    let forged = fs::read_to_string(&file).unwrap().replace("signed-at: 20", "signed-at: 21");
    fs::write(&file, forged).unwrap();
    sick.place.write("trusted.pem", old.certificate().pem());
    let (code, text) = lineage(&["--verify", file.to_str().unwrap(), "--root", trusted.to_str().unwrap()]);
    assert!(code == 2 && text.contains("BROKEN"), "{code} {text}");
}
