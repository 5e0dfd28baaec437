//! A real nginx in front of the plain listener, and what happens to those who pretend to be one.

use std::{fmt::Write as _, process::Command, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use mastio_client::{Agent, Client, Identity};
use mastio_jose::SigningKey;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Mastio, PATIENCE, Place, Process, eventually, free_port};

/// TLS in front, as operators run it: the client's certificate travels on in headers.
const CONFIGURATION: &str = r"
daemon off; master_process off; user root; pid @home@/pid; error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path @home@/body; proxy_temp_path @home@/proxy; fastcgi_temp_path @home@/fastcgi;
    uwsgi_temp_path @home@/uwsgi; scgi_temp_path @home@/scgi;
    server {
        listen 127.0.0.1:@port@ ssl;
        ssl_certificate @certs@/mastio-server.crt;
        ssl_certificate_key @certs@/mastio-server.key;
        ssl_client_certificate @certs@/org-ca.crt;
        ssl_verify_client optional;
        ssl_verify_depth 3;
        location / {
            proxy_pass http://127.0.0.1:@plain@;
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto https;
            proxy_set_header X-SSL-Client-Cert $ssl_client_escaped_cert;
            proxy_set_header X-SSL-Client-Verify $ssl_client_verify;
        }
    }
}
";

/// A running nginx.
struct Nginx {
    _process: Process,
    _home: TempDir,
}

impl Nginx {
    async fn start(place: &Place, server: &Mastio, port: u16) -> Self {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("nginx.conf");
        let filled = [
            ("@home@", home.path().to_str().unwrap()),
            ("@port@", &port.to_string()),
            ("@plain@", &server.plain.to_string()),
            ("@certs@", place.path("nginx-certs").to_str().unwrap()),
        ]
        .into_iter()
        .fold(CONFIGURATION.to_owned(), |text, (blank, value)| text.replace(blank, value));
        std::fs::write(&file, filled).unwrap();
        let process = Command::new("nginx").arg("-p").arg(home.path()).arg("-c").arg(file).spawn().unwrap();
        let listens = async || std::net::TcpStream::connect(("127.0.0.1", port)).ok();
        eventually("nginx listens", PATIENCE, listens).await;
        Self { _process: Process(process), _home: home }
    }
}

fn agent(base: &str, server: &Mastio, identity: &Arc<Identity>) -> Agent {
    let client = Client::builder(base).ca_pem(&server.ca_pem).identity(identity).build().unwrap();
    Agent::new(&client, Arc::clone(identity), SigningKey::generate().unwrap())
}

#[tokio::test]
async fn an_agent_logs_in_and_calls_through_nginx() {
    let port = free_port();
    let public = format!("https://localhost:{port}");
    let mut place = Place::new();
    place.set("MCP_PROXY_TRUSTED_PROXIES", "127.0.0.1/32").set("MCP_PROXY_PROXY_PUBLIC_URL", &public);
    let server = place.serve().await;
    let _nginx = Nginx::start(&place, &server, port).await;
    let alice = Arc::new(server.admin().create_agent("alice", "Alice", &[]).await.unwrap());

    let mut by_certificate = agent(&public, &server, &alice);
    let me = by_certificate.whoami().await.unwrap();
    assert_eq!((me.agent_id.as_str(), me.auth.as_str()), (alice.agent_id().as_str(), "mtls"));
    assert_eq!(me.cert_thumbprint, Some(alice.chain()[0].thumbprint().to_string()));

    let mut by_token = agent(&public, &server, &alice);
    by_token.login().await.unwrap();
    assert_eq!(by_token.whoami().await.unwrap().auth, "token");

    // A proof for an address that is not the public one.
    let mut misled = agent(&format!("https://127.0.0.1:{port}"), &server, &alice);
    let answer = misled.call_mtls(Method::GET, "/v1/auth/whoami", "").await.unwrap();
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.detail());
    assert_eq!(answer.header("x-cullis-hint"), Some("htu_mismatch_check_proxy_public_url"));
    for url in [format!("https://127.0.0.1:{port}"), public] {
        assert!(answer.detail().contains(&url), "both URLs are named: {}", answer.detail());
    }
}

/// What nginx would say of a client that showed this identity's certificate.
fn forged(identity: &Identity) -> HeaderMap {
    let pem = identity.chain()[0].pem();
    let escaped = pem.bytes().fold(String::new(), |mut text, byte| {
        write!(text, "%{byte:02X}").unwrap();
        text
    });
    let header = |name: &'static str, value: &str| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    };
    HeaderMap::from_iter([header("x-ssl-client-verify", "SUCCESS"), header("x-ssl-client-cert", &escaped)])
}

#[tokio::test]
async fn forwarded_certificates_are_believed_from_trusted_proxies_only() {
    let path = "/v1/auth/login-challenge";
    for (trusted, status) in [("", 401), ("10.0.0.0/8", 401), ("127.0.0.1/32", 200)] {
        let mut place = Place::new();
        let server = place.set("MCP_PROXY_TRUSTED_PROXIES", trusted).serve().await;
        let alice = server.admin().create_agent("alice", "Alice", &[]).await.unwrap();
        let answer = server.ask(Method::POST, path, forged(&alice), String::new()).await;
        assert_eq!(answer.status, status, "{trusted:?}: {}", answer.detail());
        if status == 401 {
            let body: Value = answer.json().unwrap();
            assert_eq!(body["detail"]["reason"], "client_cert_not_verified", "{trusted:?}");
        }

        // On the TLS listener nobody is a proxy.
        let client = server.client(None);
        let answer = client.connect().request(Method::POST, path, forged(&alice), "").await.unwrap();
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{trusted:?}: {}", answer.detail());
    }
}

#[tokio::test]
async fn a_proxy_without_the_edge_secret_is_not_believed() {
    let mut place = Place::new();
    place
        .set("MCP_PROXY_TRUSTED_PROXIES", "127.0.0.1/32")
        .set("MCP_PROXY_EDGE_SECRET", "an-edge-secret-0123456789");
    let server = place.serve().await;
    let alice = server.admin().create_agent("alice", "Alice", &[]).await.unwrap();
    for (secret, status) in
        [("", 401), ("another-edge-secret-01234", 401), ("an-edge-secret-0123456789", 200)]
    {
        let mut headers = forged(&alice);
        headers.insert("x-mastio-edge-secret", HeaderValue::from_static(secret));
        let answer = server.ask(Method::POST, "/v1/auth/login-challenge", headers, String::new()).await;
        assert_eq!(answer.status, status, "{secret:?}: {}", answer.detail());
    }
}
