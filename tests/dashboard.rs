//! The dashboard in a real browser, and as scripts use it.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method, StatusCode};
use mastio_client::{Answer, Identity};

use crate::{
    harness::{ADMIN_SECRET, Mastio, Place},
    webdriver::Browser,
};

const ALICE: &str = "/proxy/agents/acme::alice";

/// A request of a script that keeps the session's cookie.
async fn script(server: &Mastio, method: Method, path: &str, cookie: &str, form: &str) -> Answer {
    let headers = [("cookie", cookie), ("content-type", "application/x-www-form-urlencoded")];
    let headers = headers.map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
    server.ask(method, path, HeaderMap::from_iter(headers), form.to_owned()).await
}

/// The cookie of a login, as it would be sent back, and the CSRF token that scripts read out of it.
pub(crate) async fn log_in(server: &Mastio) -> (String, String) {
    let form = format!("password={ADMIN_SECRET}");
    let answer = script(server, Method::POST, "/proxy/login", "", &form).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.detail());
    let cookie = answer.header("set-cookie").unwrap().split("; ").next().unwrap().to_owned();
    let token = cookie.split_once("\\\"csrf_token\\\": \\\"").unwrap().1[..32].to_owned();
    (cookie, token)
}

async fn browser_at_overview(server: &Mastio) -> Browser {
    let browser = Browser::start().await;
    browser.open(&format!("{}{ALICE}", server.url())).await;
    enter(&browser).await;
    browser
}

/// Logs in where the browser was sent to because it has no session.
pub(crate) async fn enter(browser: &Browser) {
    browser.is_at("/proxy/login").await;
    browser.enter("#password", ADMIN_SECRET).await;
    browser.click("button").await;
    browser.is_at("/proxy/overview").await;
}

async fn token_of(server: &Mastio, identity: &Arc<Identity>) -> Result<(), String> {
    server.agent(identity).login_mtls().await.map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_rotates_and_revokes_in_the_browser_and_it_bites_at_once() {
    let mut place = Place::new();
    let server = place.set("MCP_PROXY_ORG_ID", "acme").serve().await;
    let old = Arc::new(server.admin().create_agent("alice", "Alice", &[]).await.unwrap());
    server.admin().create_agent("bob", "Bob", &[]).await.unwrap();
    token_of(&server, &old).await.unwrap();
    let browser = browser_at_overview(&server).await;
    browser.reads(".tile.active", "2").await;

    browser.click("a[href='/proxy/agents']").await;
    browser.reads("#list", "acme::bob").await;
    browser.enter("#q", "alic").await;
    browser.reads(".pages", "1 agent").await;
    assert_eq!(browser.count("#list tbody tr").await, 1, "the list follows what is typed");
    browser.click("#list tbody a").await;
    browser.is_at(ALICE).await;
    assert_eq!(browser.complaints().await, [""; 0], "the policy forbids nothing that the pages do");

    browser.click(".action:nth-of-type(1) summary").await;
    browser.click(".action[open] button").await;
    browser.reads("h1", "Certificate rotated").await;
    browser.download("a[download='cert.pem']", "cert.pem").await;
    browser.download("a[download='agent-key.pem']", "agent-key.pem").await;
    let new = Arc::new(Identity::from_dir(browser.downloads()).unwrap());
    assert_eq!(new.agent_id().as_str(), "acme::alice");
    token_of(&server, &new).await.unwrap();
    let refused = token_of(&server, &old).await.unwrap_err();
    assert!(refused.contains("Certificate has been revoked"), "{refused}");

    browser.open(&format!("{}{ALICE}", server.url())).await;
    browser.reads(".history", "agent.cert_rotated").await;
    browser.click(".action:nth-of-type(2) summary").await;
    browser.enter("#reason", "laptop lost").await;
    browser.click(".action[open] button").await;
    browser.reads(".notice.bad", "laptop lost").await;
    let refused = token_of(&server, &new).await.unwrap_err();
    assert!(refused.contains("Certificate has been revoked"), "{refused}");

    let (cookie, _) = log_in(&server).await;
    let before = script(&server, Method::GET, "/proxy/overview", &cookie, "").await;
    assert_eq!(before.status, StatusCode::OK);
    browser.click("a[href='/proxy/sessions']").await;
    browser.reads("tbody", "this one").await;
    browser.click("tbody form button").await;
    browser.reads(".notice.good", "The session was ended.").await;
    let after = script(&server, Method::GET, "/proxy/overview", &cookie, "").await;
    assert_eq!((after.status, after.header("location")), (StatusCode::SEE_OTHER, Some("/proxy/login")));

    browser.click("form[action='/proxy/logout'] button").await;
    browser.is_at("/proxy/login").await;
    browser.open(&format!("{}/proxy/agents", server.url())).await;
    enter(&browser).await;
    browser.click("a[href='/proxy/agents']").await;
    browser.reads("#list", "acme::bob").await;
    let (cookie, token) = log_in(&server).await;
    let form = format!("csrf_token={token}");
    script(&server, Method::POST, "/proxy/sessions/end-others", &cookie, &form).await;
    browser.enter("#q", "bob").await;
    browser.is_at("/proxy/login").await;
    assert_eq!(server.stop().await, 0);
    place.verify_audit();
}

#[tokio::test]
async fn a_script_that_reads_the_csrf_token_out_of_the_cookie_goes_on_to_work() {
    let mut place = Place::new();
    let server = place.set("MCP_PROXY_ORG_ID", "acme").serve().await;
    let (cookie, token) = log_in(&server).await;
    let create = async |token: &str| {
        let form = format!("csrf_token={token}&agent_name=carol&capabilities=a,b");
        script(&server, Method::POST, "/proxy/agents/create", &cookie, &form).await
    };
    assert_eq!(create("").await.status, StatusCode::FORBIDDEN);
    assert_eq!(server.admin().agents().await.unwrap().len(), 0);
    assert_eq!(create(&token).await.status, StatusCode::OK);
    let again = create(&token).await;
    assert_eq!(again.status, StatusCode::SEE_OTHER, "a page that is sent again makes nothing");
    assert!(again.header("location").unwrap().starts_with("/proxy/agents?error="), "{again:?}");
    let environment =
        script(&server, Method::GET, "/proxy/agents/acme::carol/env-download", &cookie, "").await;
    let text = String::from_utf8(environment.body.to_vec()).unwrap();
    assert!(text.contains("CULLIS_AGENT_ID=acme::carol\nCULLIS_ORG_ID=acme\n"), "{text}");
}
