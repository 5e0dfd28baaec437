//! Who may do what: every route with every credential, compared with `authorization.txt`.

use std::{fmt::Write as _, fs, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use mastio_client::{Agent, Answer};
use mastio_jose::SigningKey;

use crate::harness::{ADMIN_SECRET, Mastio, PATIENCE, Place, X_ADMIN_SECRET, eventually, repository};

const GOLDEN: &str = "tests/authorization.txt";

/// Nobody is called `nobody`: a request that is let in changes nothing.
static ROUTES: &[(Method, &str)] = &[
    (Method::GET, "/health"),
    (Method::GET, "/healthz"),
    (Method::GET, "/readyz"),
    (Method::GET, "/metrics"),
    (Method::GET, "/pki/ca.crt"),
    (Method::GET, "/pki/crl.pem"),
    (Method::GET, "/pki/revoked.json"),
    (Method::GET, "/pki/rotations"),
    (Method::GET, "/pki/rotations/nothing"),
    (Method::POST, "/pki/rotations/nothing/advance"),
    (Method::POST, "/pki/rotations/nothing/pause"),
    (Method::POST, "/pki/rotations/nothing/resume"),
    (Method::POST, "/pki/rotations/nothing/abort"),
    (Method::POST, "/pki/rotate-ca"),
    (Method::GET, "/.well-known/cullis/connector-bootstrap"),
    (Method::GET, "/.well-known/jwks-local.json"),
    (Method::GET, "/v1/federation/agents/acme::nobody/public-key"),
    (Method::POST, "/v1/enrollment/start"),
    (Method::GET, "/v1/enrollment/nothing/status"),
    (Method::GET, "/v1/admin/enrollments"),
    (Method::POST, "/v1/admin/enrollments/nothing/approve"),
    (Method::POST, "/v1/admin/enrollments/nothing/reject"),
    (Method::GET, "/enroll"),
    (Method::POST, "/v1/auth/login-challenge"),
    (Method::POST, "/v1/auth/sign-challenged-assertion"),
    (Method::POST, "/v1/auth/sign-assertion"),
    (Method::POST, "/v1/auth/token"),
    (Method::GET, "/v1/auth/token"),
    (Method::GET, "/v1/auth/whoami"),
    (Method::POST, "/v1/admin/agents"),
    (Method::GET, "/v1/admin/agents"),
    (Method::POST, "/v1/admin/agents/enroll/byoca"),
    (Method::POST, "/v1/admin/agents/enroll/spiffe"),
    (Method::GET, "/v1/admin/spiffe/bundles"),
    (Method::GET, "/v1/admin/spiffe/bundles/nowhere.example"),
    (Method::PUT, "/v1/admin/spiffe/bundles/nowhere.example"),
    (Method::DELETE, "/v1/admin/spiffe/bundles/nowhere.example"),
    (Method::DELETE, "/v1/admin/agents/acme::nobody"),
    (Method::GET, "/v1/admin/agents/acme::nobody"),
    (Method::POST, "/v1/admin/agents/acme::nobody/dpop-jwk"),
    (Method::POST, "/v1/admin/agents/acme::nobody/revoke"),
    (Method::POST, "/v1/admin/agents/acme::nobody/rotate-cert"),
    (Method::POST, "/v1/admin/agents/acme::nobody/reactivate"),
    (Method::POST, "/v1/admin/agents/acme::nobody/decommission"),
    (Method::GET, "/v1/admin/agents/acme::nobody/receipt"),
    (Method::PATCH, "/v1/admin/agents/acme::nobody/federated"),
    (Method::POST, "/v1/admin/agents/acme::nobody/revoke-all-sessions"),
    (Method::POST, "/v1/admin/incidents/contain"),
    (Method::POST, "/registry/agents/acme::nobody/revoke"),
    (Method::POST, "/registry/agents/acme::nobody/rotate-cert"),
    (Method::GET, "/v1/admin/agents/acme::nobody/timeline"),
    (Method::GET, "/v1/admin/audit/entries"),
    (Method::GET, "/v1/admin/audit/entries/1"),
    (Method::GET, "/v1/admin/audit/head"),
    (Method::GET, "/v1/admin/audit/export"),
    (Method::POST, "/v1/admin/audit/bundle"),
    (Method::POST, "/v1/admin/audit/archive"),
    (Method::GET, "/v1/admin/audit/archive"),
    (Method::GET, "/v1/admin/mastio-pubkey"),
    (Method::GET, "/v1/admin/mastio-key"),
    (Method::POST, "/v1/admin/mastio-key/rotate"),
    (Method::POST, "/v1/admin/mastio-key/grace-days"),
    (Method::POST, "/v1/admin/mastio-key/complete-staged"),
    (Method::POST, "/v1/admin/mastio-ca/rotate?dry_run=true"),
    (Method::GET, "/v1/admin/audit/checkpoint"),
    (Method::GET, "/v1/admin/audit/proof?seq=1"),
    (Method::GET, "/v1/admin/audit/log/checkpoint"),
    (Method::GET, "/audit/log/checkpoint"),
    (Method::GET, "/v1/admin/audit/witness"),
    (Method::POST, "/v1/admin/audit/witness/acknowledge"),
    (Method::POST, "/audit/witness/add-checkpoint"),
    (Method::POST, "/audit/witness/cosigned"),
    (Method::GET, "/proxy/admin/agents"),
    (Method::GET, "/proxy/updates/api"),
    (Method::POST, "/proxy/updates/nothing/apply"),
    (Method::POST, "/proxy/updates/nothing/rollback"),
    (Method::DELETE, "/proxy/updates/nothing/snapshot"),
    (Method::POST, "/proxy/updates/nothing/wipe"),
    (Method::GET, "/v1/audit/session/nothing"),
    (Method::GET, "/v1/agents/search"),
    (Method::POST, "/v1/agents/self/renew"),
    (Method::GET, "/v1/agents/self/trust-bundle"),
    (Method::GET, "/v1/egress/peers"),
    (Method::POST, "/v1/egress/resolve"),
    (Method::GET, "/v1/egress/agents/acme::nobody/public-key"),
    (Method::POST, "/v1/egress/message/send"),
    (Method::GET, "/v1/egress/message/inbox"),
    (Method::POST, "/v1/egress/message/nothing/ack"),
    (Method::GET, "/v1/broker/anything"),
    (Method::GET, "/v1/registry/anything"),
    (Method::GET, "/v1/auth/anything"),
    (Method::GET, "/v1/federation/anything"),
];

/// The dashboard. Logging out comes last: it ends the session of the last column.
static PAGES: &[(Method, &str)] = &[
    (Method::GET, "/proxy"),
    (Method::GET, "/proxy/"),
    (Method::GET, "/proxy/login"),
    (Method::POST, "/proxy/login"),
    (Method::GET, "/proxy/overview"),
    (Method::GET, "/proxy/enrollments"),
    (Method::POST, "/proxy/enrollments/nothing/approve"),
    (Method::POST, "/proxy/enrollments/nothing/reject"),
    (Method::GET, "/proxy/agents"),
    (Method::POST, "/proxy/agents/create"),
    (Method::GET, "/proxy/agents/acme::nobody"),
    (Method::POST, "/proxy/agents/acme::nobody/rotate-cert"),
    (Method::POST, "/proxy/agents/acme::nobody/revoke"),
    (Method::POST, "/proxy/agents/acme::nobody/deactivate"),
    (Method::POST, "/proxy/agents/acme::nobody/reactivate"),
    (Method::POST, "/proxy/agents/acme::nobody/delete"),
    (Method::GET, "/proxy/agents/acme::nobody/receipt"),
    (Method::GET, "/proxy/agents/acme::nobody/env-download"),
    (Method::GET, "/proxy/audit"),
    (Method::GET, "/proxy/audit/1"),
    (Method::GET, "/proxy/audit/export"),
    (Method::GET, "/proxy/badge/audit"),
    (Method::GET, "/proxy/pki"),
    (Method::GET, "/proxy/pki/rotate-ca"),
    (Method::POST, "/proxy/pki/rotate-ca"),
    (Method::POST, "/proxy/pki/export-ca"),
    (Method::GET, "/proxy/pki/rotate-intermediate"),
    (Method::POST, "/proxy/pki/rotate-intermediate"),
    (Method::GET, "/proxy/pki/rotations/nothing"),
    (Method::POST, "/proxy/pki/rotations/nothing/advance"),
    (Method::POST, "/proxy/pki/rotations/nothing/pause"),
    (Method::POST, "/proxy/pki/rotations/nothing/resume"),
    (Method::POST, "/proxy/pki/rotations/nothing/abort"),
    (Method::GET, "/proxy/mastio-key"),
    (Method::POST, "/proxy/mastio-key/grace-days"),
    (Method::POST, "/proxy/mastio-key/rotate"),
    (Method::POST, "/proxy/mastio-key/complete-staged"),
    (Method::GET, "/proxy/updates"),
    (Method::GET, "/proxy/badge/updates"),
    (Method::GET, "/proxy/sessions"),
    (Method::POST, "/proxy/sessions/end"),
    (Method::POST, "/proxy/sessions/end-others"),
    (Method::GET, "/static/mastio.css"),
    (Method::POST, "/proxy/logout"),
];

const HEADER: &str = "\
# The status of every route for every credential, on the TLS listener: none, a wrong and the right admin secret, an
# agent's certificate, an agent's token with a proof of its key, an operator's session at the dashboard with its CSRF
# token. Bodies are {}, and acme::nobody does not exist.
# Rebuild with UPDATE=1 and read what changed.
#
# none  wrong  admin  cert  token  session
";

#[tokio::test]
async fn every_route_lets_in_whom_it_should() {
    let mut place = Place::new();
    place.set("MCP_PROXY_ORG_ID", "acme");
    let server = place.set("CULLIS_MASTIO_ROTATION_MIN_INTERVAL_SECONDS", "0").serve().await;
    server.publishes().await;
    let found = matrix(&server).await;
    let golden = repository(GOLDEN);
    if wants_update() {
        fs::write(&golden, &found).unwrap();
    }
    let expected = fs::read_to_string(&golden).unwrap_or_default();
    let changed: Vec<_> =
        found.lines().filter(|line| !expected.lines().any(|known| known == *line)).collect();
    assert!(found == expected, "{GOLDEN} says otherwise; found now:\n{}", changed.join("\n"));
}

#[expect(clippy::disallowed_methods, reason = "a switch of this suite, not a setting of a Mastio")]
fn wants_update() -> bool {
    std::env::var("UPDATE").is_ok_and(|value| value == "1")
}

/// The answer once the limit on public documents permits one.
async fn let_through(mut ask: impl AsyncFnMut() -> Answer) -> Answer {
    let permitted =
        async || Some(ask().await).filter(|answer| answer.status != StatusCode::TOO_MANY_REQUESTS);
    eventually("the limit lets it through", PATIENCE, permitted).await
}

async fn matrix(server: &Mastio) -> String {
    let alice = Arc::new(server.admin().create_agent("alice", "Alice", &[]).await.unwrap());
    let mut anybody = server.client(None).connect();
    let mut certified = server.client(Some(&alice)).connect();
    let key = SigningKey::generate().unwrap();
    let mut tokened = Agent::new(&server.client(None), Arc::clone(&alice), key);
    tokened.login_direct().await.unwrap();
    let secret = |text| HeaderMap::from_iter([(X_ADMIN_SECRET, HeaderValue::from_static(text))]);
    let mut text = HEADER.to_owned();
    // Of its own, because some routes are limited by address.
    let place = Place::new();
    let dashboard = place.serve().await;
    dashboard.publishes().await;
    let (session, mut browser) = (session(&dashboard).await, dashboard.client(None).connect());
    for (method, path) in ROUTES.iter().chain(PAGES) {
        let body = if *method == Method::POST || *method == Method::PATCH { "{}" } else { "" };
        let mut row = Vec::new();
        for headers in [HeaderMap::new(), secret("a-secret-of-somebody-else"), secret(ADMIN_SECRET)] {
            let ask = async || anybody.request(method.clone(), path, headers.clone(), body).await.unwrap();
            row.push(let_through(ask).await);
        }
        let ask = async || certified.request(method.clone(), path, HeaderMap::new(), body).await.unwrap();
        row.push(let_through(ask).await);
        row.push(let_through(async || tokened.call(method.clone(), path, body).await.unwrap()).await);
        row.push(browser.request(method.clone(), path, session.clone(), body).await.unwrap());
        for answer in row {
            write!(text, "  {}  ", answer.status.as_u16()).unwrap();
        }
        writeln!(text, " {method:<6} {path}").unwrap();
    }
    text
}

/// What an operator's browser sends after logging in.
async fn session(server: &Mastio) -> HeaderMap {
    let (cookie, token) = crate::dashboard::log_in(server).await;
    [("cookie", cookie), ("x-csrf-token", token)]
        .into_iter()
        .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
        .collect()
}

/// Reads the places where routes are made: a route that the matrix lacks would go unnoticed.
#[test]
fn no_route_is_left_out() {
    let source = ["routes/mod.rs", "routes/audit.rs", "dashboard/mod.rs"]
        .map(|file| format!("crates/http/src/{file}"))
        .map(|path| fs::read_to_string(repository(&path)).unwrap())
        .concat();
    let templates: Vec<_> =
        source.split(".route(\"").skip(1).map(|rest| rest.split_once('"').unwrap().0).collect();
    assert!(templates.len() > 40, "the routes have moved: {templates:?}");
    for template in templates {
        assert!(
            ROUTES.iter().chain(PAGES).any(|(_, path)| fits(path.split('?').next().unwrap(), template)),
            "{template} is not in the matrix"
        );
    }
}

fn fits(path: &str, template: &str) -> bool {
    let (mut path, mut template) = (path.split('/'), template.split('/'));
    loop {
        match (path.next(), template.next()) {
            (None, None) => return true,
            (Some(_), Some(rest)) if rest.starts_with("{*") => return true,
            (Some(_), Some(name)) if name.starts_with('{') => {}
            (Some(found), Some(expected)) if found == expected => {}
            _ => return false,
        }
    }
}
