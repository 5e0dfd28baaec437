use std::{fs, path::Path};

use http::Method;
use mastio_client::{Admin, Agent, Client, Identity};
use mastio_config::Source;
use mastio_core::{ManualClock, SystemClock, SystemRng};
use mastio_jose::SigningKey;
use serde_json::{Value, json};

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const MINUTE: Duration = Duration::from_secs(60);
const HINT: &str = "x-cullis-cert-renew-after";

/// A server whose clock the test moves. It begins now, since TLS asks the machine's.
async fn serve(dir: &Path) -> (Server, Client, Arc<ManualClock>) {
    let environment = [
        ("MCP_PROXY_ADMIN_SECRET", SECRET),
        ("MCP_PROXY_HOST", "127.0.0.1"),
        ("MCP_PROXY_PORT", "0"),
        ("MCP_PROXY_HTTP_LISTEN", "off"),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let settings = Settings::load(&Source::new(environment, ""), dir).unwrap().settings;
    let clock = Arc::new(ManualClock::at(SystemClock::default().now()));
    let server =
        Server::start(settings, Arc::<ManualClock>::clone(&clock), Arc::new(SystemRng)).await.unwrap();
    let ca_pem = fs::read_to_string(dir.join("certs/org-ca.pem")).unwrap();
    let base = format!("https://localhost:{}", server.tls.port());
    (server, Client::builder(&base).ca_pem(&ca_pem).build().unwrap(), clock)
}

/// What an operator hands to an agent's host: the files of the seeds.
async fn enrol(admin: &mut Admin, dir: &Path) {
    let body = json!({ "agent_name": "alice", "cert_lifetime_seconds": 3600 });
    let made: Value =
        admin.send(Method::POST, "/v1/admin/agents", Some(&body)).await.unwrap().json().unwrap();
    fs::write(dir.join("cert.pem"), made["cert_pem"].as_str().unwrap()).unwrap();
    fs::write(dir.join("agent-key.pem"), made["key_pem"].as_str().unwrap()).unwrap();
}

#[tokio::test]
async fn an_agent_with_certificates_of_an_hour_works_through_a_day_without_a_failed_call() {
    let (place, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (server, client, clock) = serve(place.path()).await;
    let mut admin = Admin::new(&client, SECRET.to_owned().into());
    enrol(&mut admin, home.path()).await;
    let open = || {
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        Agent::open_with(&client, home.path(), clock, Arc::new(SystemRng)).unwrap()
    };
    let mut agent = open();
    agent.login_mtls().await.unwrap();
    let mut seen = Vec::new();
    for quarter in 0..4 * 24 {
        clock.advance(15 * MINUTE);
        if quarter % 20 == 19 {
            // The host restarts.
            agent = open();
            agent.login_mtls().await.unwrap();
        }
        let with_token = agent.call(Method::GET, "/v1/auth/whoami", "").await.unwrap();
        let with_certificate = agent.call_mtls(Method::GET, "/v1/egress/peers", "").await.unwrap();
        assert!(with_token.status.is_success() && with_certificate.status.is_success(), "quarter {quarter}");
        assert!(agent.renewal_trouble().is_none());
        seen.push(agent.identity().chain()[0].thumbprint());
    }
    seen.dedup();
    assert!((24..48).contains(&seen.len()), "{} certificates in a day", seen.len());
    let listed: Value = admin.send(Method::GET, "/proxy/admin/agents", None).await.unwrap().json().unwrap();
    assert_eq!(listed[0]["cert_lifetime_seconds"], 3600);
    assert_eq!(listed[0]["cert_thumbprint"], json!(seen.last().unwrap()));
    server.stop().await;
}

#[tokio::test]
async fn answers_hint_when_the_certificate_is_due_and_a_request_says_how_long_the_next_lives() {
    let (place, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (server, client, clock) = serve(place.path()).await;
    enrol(&mut Admin::new(&client, SECRET.to_owned().into()), home.path()).await;
    let identity = Arc::new(Identity::from_dir(home.path()).unwrap());
    let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let showing = client.with_identity(&identity).unwrap();
    let key = SigningKey::generate().unwrap();
    let mut agent = Agent::with(&showing, Arc::clone(&identity), key, shared, Arc::new(SystemRng));
    let mut mint = showing.connect();
    for (after, hinted) in [(38, false), (1, true)] {
        clock.advance(after * MINUTE);
        let called = agent.call_mtls(Method::GET, "/v1/egress/peers", "").await.unwrap();
        let minted = mint.request(Method::POST, "/v1/auth/token", http::HeaderMap::new(), "").await.unwrap();
        let not_found = agent.call_mtls(Method::POST, "/v1/egress/message/none/ack", "").await.unwrap();
        assert_eq!(not_found.status.as_u16(), 404);
        for answer in [called, minted, not_found] {
            assert_eq!(answer.header(HINT).is_some(), hinted, "{answer:?}");
            if let Some(since) = answer.header(HINT) {
                let since = mastio_core::Stamp::parse(since).unwrap();
                assert!(since <= clock.now() && clock.now().since(since) < 2 * MINUTE);
            }
        }
    }
    let old = identity.chain()[0].clone();
    agent.renew(Some(120 * MINUTE)).await.unwrap();
    let new = &agent.identity().chain()[0];
    assert_eq!(new.not_after().unix(), clock.now().plus(120 * MINUTE).unix());
    assert!(new.spki_der() != old.spki_der());
    let after = agent.call_mtls(Method::GET, "/v1/egress/peers", "").await.unwrap();
    assert_eq!((after.status.as_u16(), after.header(HINT)), (200, None));
    let short = agent.renew(Some(MINUTE)).await.unwrap_err().to_string();
    assert!(short.contains("422") && short.contains("lifetime"), "{short}");
    server.stop().await;
}
