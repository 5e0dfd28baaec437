//! SPIFFE agents and agents with a certificate of their own CA, as operators and workloads meet them: certificates by
//! openssl, requests by HTTP and curl.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use mastio_core::{Clock, SystemClock};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{ADMIN_SECRET, Mastio, PATIENCE, Place, X_ADMIN_SECRET, eventually, mastio, run};

const WORKLOAD: &str = "spiffe://prod.example/ns/billing/sa/walker";
const ENROLL: &str = "/v1/admin/agents/enroll/spiffe";
const BYOCA: &str = "/v1/admin/agents/enroll/byoca";
const BUNDLE: &str = "/v1/admin/spiffe/bundles/prod.example";

/// A folder in which openssl makes certificates.
struct Forge(TempDir);

/// A key, and a certificate with the CAs above it.
struct Pair {
    certificates: PathBuf,
    key: PathBuf,
}

impl Pair {
    fn pem(&self) -> String {
        fs::read_to_string(&self.certificates).unwrap()
    }

    fn key_pem(&self) -> String {
        fs::read_to_string(&self.key).unwrap()
    }
}

const CA: &str =
    "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectAltName=URI:";
const SVID: &str = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature,keyEncipherment\n\
    extendedKeyUsage=serverAuth,clientAuth\nauthorityKeyIdentifier=keyid\nsubjectAltName=";

impl Forge {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn openssl(&self, arguments: &str) {
        run(Command::new("openssl").args(arguments.split(' ')).current_dir(self.0.path()));
    }

    fn key(&self, name: &str, algorithm: &str) {
        self.openssl(&format!("genpkey {algorithm} -out {name}.key"));
    }

    /// A certificate by `issuer`, or by itself. The chain file is what is presented: without the self-signed CA.
    fn certificate(&self, name: &str, subject: &str, extensions: &str, issuer: Option<&str>) -> Pair {
        fs::write(self.path(&format!("{name}.ext")), extensions).unwrap();
        self.openssl(&format!("req -new -key {name}.key -subj {subject} -out {name}.csr"));
        let signer = match issuer {
            Some(issuer) => format!("-CA {issuer}.crt -CAkey {issuer}.key -CAcreateserial"),
            None => format!("-signkey {name}.key"),
        };
        self.openssl(&format!(
            "x509 -req -in {name}.csr {signer} -days 1 -extfile {name}.ext -out {name}.crt"
        ));
        let (certificates, key) = (self.path(&format!("{name}.crt")), self.path(&format!("{name}.key")));
        Pair { certificates, key }
    }

    /// The CA of a SPIRE server, self-signed or below another one.
    fn spire(&self, name: &str, issuer: Option<&str>) -> Pair {
        self.key(name, EC);
        self.certificate(
            name,
            &format!("/C=US/O=SPIFFE/CN={name}"),
            &format!("{CA}spiffe://prod.example"),
            issuer,
        )
    }

    /// An SVID of the workload; with `above` the CA is presented with it.
    fn svid(&self, name: &str, algorithm: &str, subject: &str, issuer: &str, above: bool) -> Pair {
        self.key(name, algorithm);
        // With an empty subject the name must be critical (RFC 5280 §4.2.1.6).
        let critical = if subject == "/" { "critical," } else { "" };
        let pair = self.certificate(name, subject, &format!("{SVID}{critical}URI:{WORKLOAD}"), Some(issuer));
        if above {
            let chain = pair.pem() + &fs::read_to_string(self.path(&format!("{issuer}.crt"))).unwrap();
            fs::write(&pair.certificates, chain).unwrap();
        }
        pair
    }
}

const EC: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";
const RSA: &str = "-algorithm RSA -pkeyopt rsa_keygen_bits:2048";

/// Asks for a token over mTLS; status and body.
fn token(server: &Mastio, ca: &Path, pair: &Pair) -> (u16, Value) {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "30", "-w", "\n%{http_code}", "-X", "POST", "-d", "{}"]);
    curl.arg("--cacert").arg(ca).arg("--cert").arg(&pair.certificates).arg("--key").arg(&pair.key);
    let said = run(curl.arg(format!("{}/v1/auth/token", server.url())));
    let (body, status) = said.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), serde_json::from_str(body).unwrap())
}

async fn post(server: &Mastio, path: &str, body: &Value) -> (StatusCode, Value) {
    let answer = server.operator(Method::POST, path, body).await;
    (answer.status, answer.json().unwrap())
}

#[tokio::test]
async fn an_svid_rotates_without_a_call_by_the_operator() {
    let (place, forge) = (Place::new(), Forge::new());
    let server = place.serve().await;
    let ca = place.path("certs/org-ca.pem");
    let root = forge.spire("root", None);
    let first = forge.svid("first", EC, "/C=US/O=SPIRE", "root", false);
    let mut body = json!({
        "agent_name": "walker", "display_name": "Walker", "capabilities": ["order.read"],
        "svid_pem": first.pem(), "svid_key_pem": first.key_pem(),
    });
    let (status, refused) = post(&server, ENROLL, &body).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        refused["detail"].as_str().unwrap().starts_with("SPIRE trust bundle not configured — "),
        "{refused}"
    );
    body["trust_bundle_pem"] = root.pem().into();
    let (status, enrolled) = post(&server, ENROLL, &body).await;
    assert_eq!(status, StatusCode::CREATED, "{enrolled}");
    assert_eq!((&enrolled["spiffe_id"], &enrolled["key_pem"]), (&WORKLOAD.into(), &Value::Null));
    assert_eq!(enrolled["display_name"], "Walker");
    let id = enrolled["agent_id"].as_str().unwrap().to_owned();
    assert_eq!(token(&server, &ca, &first).0, 200);
    assert_eq!(post(&server, ENROLL, &body).await.0, StatusCode::CONFLICT);

    // What SPIRE issues next: of another kind, without a subject, by an intermediate that is sent along.
    forge.spire("intermediate", Some("root"));
    let clock = SystemClock::default();
    let enrolled_at = clock.now().unix();
    // Which of two SVIDs is newer is told by whole seconds.
    eventually("the next second", PATIENCE, async || (clock.now().unix() > enrolled_at).then_some(())).await;
    let second = forge.svid("second", RSA, "/", "intermediate", true);
    assert_eq!(token(&server, &ca, &second).0, 200);
    let shown = server.get(&format!("/v1/federation/agents/{id}/public-key")).await.json::<Value>().unwrap();
    assert!(second.pem().starts_with(shown["cert_pem"].as_str().unwrap()), "{shown}");

    let (status, _) = post(&server, &format!("/registry/agents/{id}/rotate-cert"), &json!({})).await;
    assert_eq!(status, StatusCode::CONFLICT);
    let (status, _) = post(&server, &format!("/registry/agents/{id}/revoke"), &json!({})).await;
    assert_eq!(status, StatusCode::OK);
    let third = forge.svid("third", EC, "/C=US/O=SPIRE", "root", false);
    for svid in [&first, &second, &third] {
        assert_eq!(token(&server, &ca, svid), (401, json!({ "detail": "Certificate has been revoked" })));
    }
    assert_eq!(server.stop().await, 0);
    let tokens = "SELECT count(*) FROM local_audit WHERE event_type = 'auth.token_issued' AND agent_id = ";
    assert_eq!(place.sql(&format!("{tokens}'{id}'")), "2\n");
    let told = place.sql("SELECT event_type FROM local_audit WHERE event_type LIKE '%spiffe%' OR event_type LIKE '%svid%' ORDER BY chain_seq");
    assert_eq!(told, "admin.agent_enroll_spiffe\nspiffe.bundle_set\nagent.svid_rotated\n");
    place.verify_audit();
}

#[tokio::test]
async fn bundles_are_set_shown_and_removed() {
    let (place, forge) = (Place::new(), Forge::new());
    let server = place.serve().await;
    let secret = |method, path: &'static str, body: String| {
        let header = HeaderMap::from_iter([(X_ADMIN_SECRET, HeaderValue::from_static(ADMIN_SECRET))]);
        server.ask(method, path, header, body)
    };
    let root = forge.spire("root", None);
    assert_eq!(server.operator(Method::GET, BUNDLE, &json!({})).await.status, StatusCode::NOT_FOUND);
    for body in [root.pem(), json!({ "bundle_pem": root.pem() }).to_string()] {
        let set = secret(Method::PUT, BUNDLE, body).await;
        assert_eq!(set.status, StatusCode::OK);
        let set: Value = set.json().unwrap();
        assert_eq!((&set["trust_domain"], &set["bundle_pem"]), (&"prod.example".into(), &root.pem().into()));
    }
    let listed: Value =
        server.operator(Method::GET, "/v1/admin/spiffe/bundles", &json!({})).await.json().unwrap();
    assert_eq!(listed["bundles"][0]["certificates"].as_array().unwrap().len(), 1);
    for nonsense in ["", "nonsense", "{}", r#"{"keys":[]}"#, r#"{"bundle_pem":"x"}"#] {
        let refused = secret(Method::PUT, BUNDLE, nonsense.to_owned()).await;
        assert!(refused.status.is_client_error(), "{nonsense}: {}", refused.status);
    }
    let elsewhere = secret(Method::PUT, "/v1/admin/spiffe/bundles/other.example", root.pem()).await;
    assert_eq!(elsewhere.status, StatusCode::BAD_REQUEST);
    let nowhere = secret(Method::PUT, "/v1/admin/spiffe/bundles/Not_A_Domain", root.pem()).await;
    assert_eq!(nowhere.status, StatusCode::BAD_REQUEST);
    assert_eq!(secret(Method::DELETE, BUNDLE, String::new()).await.status, StatusCode::NO_CONTENT);
    assert_eq!(secret(Method::DELETE, BUNDLE, String::new()).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn byoca_without_the_key_and_over_what_is_there() {
    let (place, forge) = (Place::new(), Forge::new());
    let server = place.serve().await;
    let ca = place.path("certs/org-ca.pem");
    let org = server.admin().create_agent("other", "Other", &[]).await.unwrap().agent_id().org().to_owned();
    // The agent's key never leaves its folder: a request, signed from the command line.
    let signed = |name: &str| {
        forge.key(name, EC);
        forge.openssl(&format!("req -new -key {name}.key -subj /CN={org}::walker -out {name}.csr"));
        let [csr, crt, key] = ["csr", "crt", "key"].map(|kind| forge.path(&format!("{name}.{kind}")));
        let agent = format!("{org}::walker");
        let dir = place.path("");
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let (csr_text, crt_text, dir_text) = (text(&csr), text(&crt), text(&dir));
        let arguments = [
            "pki", "sign-csr", "--agent", &agent, "--csr", &csr_text, "--out", &crt_text, "--dir", &dir_text,
        ];
        run(&mut mastio(&arguments, &[("MCP_PROXY_ADMIN_SECRET", ADMIN_SECRET)]));
        let pair = Pair { certificates: crt, key };
        (pair, fs::read_to_string(csr).unwrap())
    };
    let (first, csr) = signed("first");
    let bare = json!({ "agent_name": "walker", "cert_pem": first.pem() });
    assert_eq!(post(&server, BYOCA, &bare).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    let both =
        json!({ "agent_name": "walker", "cert_pem": first.pem(), "csr_pem": csr, "pop_signature": "AA" });
    assert_eq!(post(&server, BYOCA, &both).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    let body = json!({ "agent_name": "walker", "cert_pem": first.pem(), "csr_pem": csr });
    let (status, enrolled) = post(&server, BYOCA, &body).await;
    assert_eq!(status, StatusCode::CREATED, "{enrolled}");
    assert_eq!((&enrolled["key_pem"], &enrolled["dpop_jwk"]), (&Value::Null, &Value::Null));
    assert!(enrolled["cert_pem"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    assert_eq!(token(&server, &ca, &first).0, 200);
    let (status, taken) = post(&server, BYOCA, &body).await;
    assert_eq!(
        (status, &taken["detail"]),
        (StatusCode::CONFLICT, &format!("agent {org}::walker already enrolled").into())
    );

    let (second, csr) = signed("second");
    let update =
        json!({ "agent_name": "walker", "cert_pem": second.pem(), "csr_pem": csr, "update_existing": true });
    let (status, updated) = post(&server, BYOCA, &update).await;
    assert_eq!(status, StatusCode::OK, "{updated}");
    assert_eq!(token(&server, &ca, &first), (401, json!({ "detail": "Certificate has been revoked" })));
    assert_eq!(token(&server, &ca, &second).0, 200);
}
