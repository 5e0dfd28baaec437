//! An operator at the page of the CAs, in a real browser: a cut, a whole rotation with overlap and one that is aborted,
//! and another intermediate.

use http::{Method, StatusCode};
use mastio_client::Agent;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::{
    dashboard::enter,
    harness::{Mastio, PATIENCE, Place, eventually},
    rotation::registry,
    webdriver::Browser,
};

/// An agent that lives from a directory, and so follows by itself.
async fn agent(place: &Place, server: &Mastio, name: &str) -> Agent {
    let identity = server.admin().create_agent(name, "", &[]).await.unwrap();
    place.write(&format!("agents/{name}/cert.pem"), identity.certificates_pem());
    place.write(&format!("agents/{name}/agent-key.pem"), identity.key().to_pkcs8_pem().expose_secret());
    Agent::open(&server.client(None), &place.path(&format!("agents/{name}"))).unwrap()
}

async fn call(agent: &mut Agent) -> StatusCode {
    agent.call_mtls(Method::GET, "/v1/auth/whoami", "").await.unwrap().status
}

/// Has `agent` call until it has `followed`, as the newest rotation tells.
async fn follows(server: &Mastio, agent: &mut Agent, followed: &str) {
    eventually(followed, PATIENCE, async || {
        assert_eq!(call(agent).await, StatusCode::OK);
        let rotations = server.operator(Method::GET, "/pki/rotations", &json!({})).await;
        (rotations.json::<Value>().unwrap()[0]["progress"][followed] == 1).then_some(())
    })
    .await;
}

/// Begins a rotation with overlap, and pauses it.
async fn begin(browser: &Browser) {
    browser.click("a[href='/proxy/pki/rotate-ca']").await;
    browser.click("section:nth-of-type(2) input[value='overlap']").await;
    browser.click("section:nth-of-type(2) button").await;
    browser.reads("h1", "Rotate to this CA?").await;
    browser.click("button.danger").await;
    browser.reads(".notice.good", "The rotation with overlap began.").await;
    browser.click("#pause").await;
    browser.reads(".progress", "paused").await;
}

/// Goes on without those who are left, who are named.
async fn force(browser: &Browser, left: &str) {
    browser.click("#force").await;
    browser.reads("h1", "without 1 agent?").await;
    browser.reads("#left", left).await;
    browser.enter("#confirm-force", "FORCE").await;
    browser.click("button.main.danger").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_runs_both_rotations_in_the_browser() {
    let mut place = Place::new();
    let server = place.set("MCP_PROXY_ORG_ID", "acme").serve().await;
    let mut alice = agent(&place, &server, "alice").await;
    let mut bob = agent(&place, &server, "bob").await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/proxy/pki", server.url())).await;
    enter(&browser).await;
    browser.click("nav a[href='/proxy/pki']").await;

    begin(&browser).await;
    browser.reads(".progress", "0 of 2 have the trust file").await;
    follows(&server, &mut alice, "fetched").await;
    browser.reads(".progress", "1 of 2 have the trust file").await;
    browser.reads("#left", "acme::bob").await;
    force(&browser, "acme::bob").await;
    browser.reads(".notice.good", "The rotation went on: reissue.").await;
    follows(&server, &mut alice, "moved").await;
    browser.reads(".progress", "1 of 2 moved").await;
    browser.reads("tbody", "certifies agents already").await;
    assert_eq!(browser.complaints().await, [""; 0], "the policy forbids nothing that the pages do");
    force(&browser, "acme::bob").await;
    browser.reads(".notice.good", "The rotation went on: activated.").await;
    browser.click("#left .small").await;
    browser.reads("tbody", "acme::bob").await;
    browser.click(".crumbs a").await;
    force(&browser, "acme::bob").await;
    browser.reads(".notice.good", "The rotation went on: done.").await;
    assert_eq!(browser.count("#rotation").await, 0);
    assert_eq!(call(&mut alice).await, StatusCode::OK);
    assert_eq!(call(&mut bob).await, StatusCode::UNAUTHORIZED, "who was left behind");

    browser.click("a[href='/proxy/pki/rotate-intermediate']").await;
    browser.click("main button").await;
    browser.reads("h1", "Rotate the intermediate?").await;
    browser.enter("#confirm-rotate", "ROTATE").await;
    browser.click("button.main").await;
    browser.reads(".notice.good", "certifies from now on").await;
    browser.reads("tbody", "what it certified works until it ends").await;
    assert_eq!(call(&mut alice).await, StatusCode::OK);

    begin(&browser).await;
    browser.click("#abort").await;
    browser.reads("h1", "Abort the rotation?").await;
    browser.enter("#confirm-abort", "ABORT").await;
    browser.click("button.main.danger").await;
    browser.reads(".notice.good", "Aborted.").await;
    assert_eq!(browser.complaints().await, [""; 0]);
    assert_eq!(call(&mut alice).await, StatusCode::OK);
    place.verify_audit();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_rotates_in_the_browser_and_sees_it_before() {
    let place = Place::new();
    let server = place.serve().await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/proxy/pki", server.url())).await;
    enter(&browser).await;
    browser.click("nav a[href='/proxy/pki']").await;
    browser.reads("tbody", "current").await;
    let before = registry(&place);
    browser.click("a[href='/proxy/pki/rotate-ca']").await;
    browser.click("section:nth-of-type(2) button").await;
    browser.reads("h1", "Rotate to this CA?").await;
    browser.reads("dl", "go on to believe this server").await;
    assert_eq!(browser.complaints().await, [""; 0], "the policy forbids nothing that the pages do");
    assert_eq!(registry(&place), before);
    browser.click("button.danger").await;
    browser.reads(".notice", "The Org CA was rotated to").await;
    browser.reads("tbody", "has a link certificate to its successor").await;
    assert!(registry(&place).contains("org_ca superseded"));
}
