//! The dashboard as a browser and as a script see it.

use std::time::Duration;

use axum::body::Body;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Method, Request, StatusCode};
use mastio_authority::possession::possession_message;
use mastio_core::sha256;
use mastio_jose::SigningKey;
use mastio_pki::{KeyPair, pem};
use mastio_store::agents::fleet::Filter;
use serde_json::json;

use crate::world::{Answer, SECRET, World, nobody};

pub(crate) const PAGE: &str = "text/html,application/xhtml+xml";

/// An operator's browser.
pub(crate) struct Operator<'a> {
    world: &'a World,
    cookie: String,
    pub(crate) token: String,
}

impl<'a> Operator<'a> {
    pub(crate) async fn log_in(world: &'a World) -> Self {
        let answer = log_in(world, SECRET).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{answer:?}");
        let set = answer.header("set-cookie").unwrap();
        assert!(set.ends_with("; SameSite=Strict; Secure"), "the public address is https: {set}");
        let cookie = set.split("; ").next().unwrap().to_owned();
        let token = cookie.split_once("csrf_token\\\": \\\"").unwrap().1[..32].to_owned();
        Self { world, cookie, token }
    }

    pub(crate) fn world(&self) -> &'a World {
        self.world
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> http::request::Builder {
        Request::builder().method(method).uri(path).header("cookie", &self.cookie)
    }

    pub(crate) async fn ask(&self, request: http::request::Builder, body: String) -> Answer {
        self.world.ask(nobody(), request.body(Body::from(body)).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(self.request(Method::GET, path), String::new()).await
    }

    /// Sends a form with its token.
    pub(crate) async fn submit(&self, path: &str, fields: &str) -> Answer {
        let request = self.request(Method::POST, path).header("accept", PAGE);
        self.ask(request, format!("csrf_token={}&{fields}", self.token)).await
    }

    /// Where a form leads.
    pub(crate) async fn is_sent_to(&self, path: &str, fields: &str) -> String {
        let answer = self.submit(path, fields).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{answer:?}");
        answer.header("location").unwrap().to_owned()
    }
}

async fn log_in(world: &World, secret: &str) -> Answer {
    let request = Request::post("/proxy/login").body(Body::from(format!("password={secret}"))).unwrap();
    world.ask(nobody(), request).await
}

/// Begins an enrolment by `name` and returns its session.
async fn enrolment(world: &World, name: &str) -> String {
    let key = KeyPair::generate_p256().unwrap();
    let signer = SigningKey::from_pkcs8_der(&key.to_pkcs8_der()).unwrap();
    let message = possession_message(&hex::encode(sha256(key.spki_der())));
    let body = json!({
        "pubkey_pem": pem::encode("PUBLIC KEY", key.spki_der()),
        "requester_name": name,
        "requester_email": "mario@example.com",
        "reason": "screening",
        "pop_signature": URL_SAFE_NO_PAD.encode(signer.sign_der(message.as_bytes()).unwrap()),
    });
    let request = Request::post("/v1/enrollment/start").body(Body::from(body.to_string())).unwrap();
    let answer = world.ask(nobody(), request).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    answer.body["session_id"].as_str().unwrap().to_owned()
}

/// Connectors give up at the first answer that is not a 200.
#[tokio::test]
async fn a_known_session_is_answered_whatever_it_says_of_waiting() {
    let world = World::new().await;
    let session = enrolment(&world, "Mario").await;
    for query in ["", "?wait=abc", "?wait=-1", "?wait=99999999999999999999", "?wait=0&wait=0", "?wait=%FF"] {
        let answer = world.get(&format!("/v1/enrollment/{session}/status{query}")).await;
        assert_eq!((answer.status, &answer.body["status"]), (StatusCode::OK, &json!("pending")), "{query}");
    }
}

#[tokio::test]
async fn nobody_sees_a_page_or_changes_anything_without_a_session() {
    let world = World::new().await;
    for path in
        ["overview", "agents", "agents/acme::x", "agents/acme::x/env-download", "sessions", "enrollments"]
    {
        let answer = world.get(&format!("/proxy/{path}")).await;
        assert_eq!((answer.status, answer.header("location")), (StatusCode::SEE_OTHER, Some("/proxy/login")));
    }
    for path in ["logout", "agents/create", "agents/acme::x/revoke", "sessions/end", "enrollments/x/approve"]
    {
        let request = Request::post(format!("/proxy/{path}")).body(Body::from("csrf_token=x")).unwrap();
        let answer = world.ask(nobody(), request).await;
        assert_eq!((answer.status, answer.header("location")), (StatusCode::SEE_OTHER, Some("/proxy/login")));
    }
    let json = world.get("/v1/admin/enrollments").await;
    assert_eq!(
        (json.status, &json.body["detail"]),
        (StatusCode::UNAUTHORIZED, &json!("Authentication required"))
    );
    let part = Request::get("/proxy/agents").header("hx-request", "true").body(Body::empty()).unwrap();
    let part = world.ask(nobody(), part).await;
    assert_eq!((part.status, part.header("hx-redirect")), (StatusCode::UNAUTHORIZED, Some("/proxy/login")));
    for cookie in ["mcp_proxy_session=", "mcp_proxy_session=\"{}.00\"", "mcp_proxy_session=\"\\377\\"] {
        let request = Request::get("/proxy/overview").header("cookie", cookie).body(Body::empty()).unwrap();
        assert_eq!(world.ask(nobody(), request).await.status, StatusCode::SEE_OTHER, "{cookie}");
    }
}

#[tokio::test]
async fn a_change_needs_the_csrf_token_and_comes_from_our_own_pages() {
    let world = World::new().await;
    let operator = Operator::log_in(&world).await;
    let (path, form) = ("/proxy/agents/create", "agent_name=mallory");
    let token = format!("csrf_token={}&{form}", operator.token);
    let post = |path| operator.request(Method::POST, path);
    for (request, body, says) in [
        (post(path), form.to_owned(), "CSRF token missing"),
        (post(path), format!("csrf_token=&{form}"), "CSRF token invalid"),
        (post(path).header("x-csrf-token", "0"), form.to_owned(), "CSRF token invalid"),
        (post(path).header("sec-fetch-site", "cross-site"), token.clone(), "another site"),
        (post(path).header("origin", "https://evil.test"), token.clone(), "another site"),
    ] {
        let answer = operator.ask(request, body).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert!(answer.text.contains(says), "{says}: {}", answer.text);
    }
    let (path, body) = ("/v1/admin/enrollments/x/approve", r#"{"agent_id": "mallory"}"#.to_owned());
    for (request, status, says) in [
        (post(path), 403, "CSRF token missing"),
        (post(path).header("x-csrf-token", "0"), 403, "CSRF token invalid"),
        (post(path).header("x-csrf-token", &operator.token), 404, "Enrollment session not found"),
    ] {
        let answer = operator.ask(request, body.clone()).await;
        assert_eq!((answer.status.as_u16(), &answer.body["detail"]), (status, &json!(says)));
    }
    let fleet = world.authority.fleet(&Filter::default()).await.unwrap();
    assert_eq!(fleet.all().await.unwrap(), []);
    let same = post("/proxy/agents/create").header("sec-fetch-site", "same-origin");
    assert_eq!(operator.ask(same, token).await.status, StatusCode::OK);
}

#[tokio::test]
async fn refused_logins_say_why_and_lock_out() {
    let world = World::new().await;
    let empty = log_in(&world, "").await;
    assert_eq!(empty.status, StatusCode::BAD_REQUEST);
    for _ in 0..5 {
        let wrong = log_in(&world, "not-the-secret").await;
        assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
        assert!(wrong.text.contains("neither the admin secret nor the password"));
        assert!(!wrong.text.contains("not-the-secret"));
    }
    let right = log_in(&world, SECRET).await;
    assert_eq!((right.status, right.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, Some("900")));
    assert!(right.header("set-cookie").is_none());
    let foreign = Request::post("/proxy/login").header("sec-fetch-site", "cross-site");
    let foreign = world.ask(nobody(), foreign.body(Body::from("password=x")).unwrap()).await;
    assert_eq!(foreign.status, StatusCode::FORBIDDEN, "nobody is logged in by another site");
}

#[tokio::test]
async fn pages_are_strict_about_what_runs_in_them() {
    let world = World::new().await;
    let operator = Operator::log_in(&world).await;
    world.member("alice").await;
    let session = enrolment(&world, "<script>alert(1)</script>").await;
    for path in [
        "/proxy/overview",
        "/proxy/enrollments",
        "/proxy/agents",
        "/proxy/agents?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E&flash=%3Cscript%3Ealert(1)",
        "/proxy/agents/acme::alice",
        "/proxy/agents/acme::nobody",
        "/proxy/sessions",
        &format!("/enroll?session={session}"),
    ] {
        let answer = operator.get(path).await;
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"));
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        let scripts = answer.text.matches("<script").count();
        assert_eq!(scripts, answer.text.matches("<script src=\"/static/htmx.js\" defer></script>").count());
        for inline in [" style=", " onclick=", "javascript:", "<style"] {
            assert!(!answer.text.contains(inline), "{path}: {inline}");
        }
    }
    for (name, kind) in
        [("mastio.css", "text/css"), ("htmx.js", "text/javascript"), ("mastio.svg", "image/svg")]
    {
        let asset = world.get(&format!("/static/{name}")).await;
        assert!(asset.header("content-type").unwrap().starts_with(kind));
        assert!(asset.header("etag").is_some());
    }
    assert_eq!(world.get("/static/nothing").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_enrolment_is_approved_or_rejected_by_form() {
    let world = World::new().await;
    let operator = Operator::log_in(&world).await;
    let (first, second) = (enrolment(&world, "Mario").await, enrolment(&world, "Lucia").await);
    let page = operator.get("/proxy/enrollments").await.text;
    let token_field = format!("name=\"csrf_token\" value=\"{}\"", operator.token);
    for part in [&format!("/proxy/enrollments/{first}/approve"), "Mario", "Lucia", "screening", &token_field]
    {
        assert!(page.contains(part), "{part}: {page}");
    }
    let listed = operator.get("/v1/admin/enrollments").await.body;
    for ask in listed.as_array().unwrap() {
        let code = ask["code"].as_str().unwrap();
        assert!(page.contains(&format!("<code class=\"code\">{code}</code>")), "{code}: {page}");
    }
    let approve = format!("/proxy/enrollments/{first}/approve");
    let wrong = operator.is_sent_to(&approve, "agent_id=not%20a%20name").await;
    assert!(wrong.starts_with("/proxy/enrollments?error=agent_id%20must%20be"), "{wrong}");
    let again = operator.get(&wrong).await.text;
    assert_eq!(again.matches("value=\"not a name\"").count(), 1, "what was typed is there again: {again}");
    let forged = wrong.replace("not%20a%20name", "alice").replace(&first, &second);
    assert!(!operator.get(&forged).await.text.contains("alice"), "a link fills in nothing");
    let script = operator.request(Method::POST, &approve).header("x-csrf-token", &operator.token);
    let told = operator.ask(script, "agent_id=not%20a%20name".into()).await;
    assert_eq!(told.status, StatusCode::BAD_REQUEST);
    assert!(told.body["detail"].is_array(), "{told:?}");
    let reject = format!("/proxy/enrollments/{second}/reject");
    for (path, twice) in [(&approve, "agent_id=a&agent_id=b"), (&reject, "reason=a&reason=b")] {
        let script = operator.request(Method::POST, path).header("x-csrf-token", &operator.token);
        let told = operator.ask(script, twice.into()).await;
        assert_eq!(told.status, StatusCode::BAD_REQUEST);
        assert!(told.body["detail"].is_array(), "{told:?}");
        assert_eq!(operator.submit(path, twice).await.status, StatusCode::UNPROCESSABLE_ENTITY);
        let forged = operator.ask(operator.request(Method::POST, path), twice.into()).await;
        assert_eq!(forged.status, StatusCode::FORBIDDEN);
    }

    let fields = "agent_id=mario&capabilities=crm.read,%20kyc&groups=a";
    let done = operator.is_sent_to(&approve, fields).await;
    assert!(done.starts_with("/proxy/enrollments?flash=Approved"), "{done}");
    let late = operator.is_sent_to(&approve, fields).await;
    assert!(late.starts_with("/proxy/enrollments?error=Cannot%20approve"), "{late}");
    let agent = operator.get("/proxy/agents/acme::mario").await.text;
    assert!(agent.contains("crm.read") && agent.contains("Connector"), "{agent}");

    let empty = operator.is_sent_to(&reject, "reason=").await;
    assert!(empty.starts_with("/proxy/enrollments?error="), "{empty}");
    let done = operator.is_sent_to(&reject, "reason=who%20are%20you").await;
    assert!(done.starts_with("/proxy/enrollments?flash=Rejected.&seal="), "{done}");
    assert!(operator.get("/proxy/enrollments").await.text.contains("Nobody waits"));
    let listed = operator.get("/v1/admin/enrollments").await;
    assert_eq!(listed.body, json!([]));
}

#[tokio::test]
async fn an_agent_that_is_there_is_handed_over_when_the_operator_has_seen_it() {
    let world = World::new().await;
    let operator = Operator::log_in(&world).await;
    world.member("alice").await;
    let session = enrolment(&world, "Mallory").await;
    let approve = format!("/proxy/enrollments/{session}/approve");
    let fields = "agent_id=alice&capabilities=all";
    let question = operator.submit(&approve, fields).await;
    assert_eq!(question.status, StatusCode::OK, "{question:?}");
    for part in ["There is an agent of this name.", "until 2026-09-23 14:20 UTC", "Mallory", &approve] {
        assert!(question.text.contains(part), "{part}: {}", question.text);
    }
    assert!(operator.get("/proxy/enrollments").await.text.contains("Mallory"), "nothing is decided yet");
    let stale = operator.submit(&approve, &format!("{fields}&replace={}", "0".repeat(64))).await;
    assert_eq!(stale.status, StatusCode::OK, "another certificate was confirmed");
    let confirmed = format!("{fields}&replace={}", field(&question.text, "replace"));
    let done = operator.is_sent_to(&approve, &confirmed).await;
    assert!(
        done.starts_with("/proxy/enrollments?flash=Approved%3A%20acme%3A%3Aalice%20was%20there"),
        "{done}"
    );
    assert!(operator.get(&done).await.text.contains("of before works until 2026-09-23 14:20 UTC."));
    let late = operator.is_sent_to(&approve, fields).await;
    assert!(late.starts_with("/proxy/enrollments?error=Cannot%20approve"), "{late}");

    let again = enrolment(&world, "A script").await;
    let path = format!("/proxy/enrollments/{again}/approve");
    let script = operator.request(Method::POST, &path).header("accept", "*/*");
    let done = operator.ask(script, format!("csrf_token={}&agent_id=alice", operator.token)).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{done:?}");
    assert!(done.header("location").unwrap().contains("was%20there%20before"), "{done:?}");
}

#[tokio::test]
async fn a_stranger_with_the_link_learns_how_it_stands_and_no_more() {
    let world = World::new().await;
    let session = enrolment(&world, "Mario Rossi").await;
    let path = format!("/enroll?session={session}");
    let page = world.get(&path).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text.contains("pending") && page.text.contains("class=\"code\""), "{}", page.text);
    for private in ["Mario", "mario@example.com", "screening", "<form"] {
        assert!(!page.text.contains(private), "{private}");
    }
    let operator = Operator::log_in(&world).await;
    let page = operator.get(&path).await.text;
    for part in ["Mario Rossi", "mario@example.com", &format!("/proxy/enrollments/{session}/approve")] {
        assert!(page.contains(part), "{part}");
    }
    operator.is_sent_to(&format!("/proxy/enrollments/{session}/approve"), "agent_id=mario").await;
    assert!(world.get(&path).await.text.contains("approved"));
    assert!(!world.get(&path).await.text.contains("acme::mario"));
    for nothing in ["/enroll", "/enroll?session=x", "/enroll?session=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        let page = world.get(nothing).await;
        assert_eq!(page.status, StatusCode::NOT_FOUND, "{nothing}");
        assert!(!page.text.contains("/proxy/overview"), "a stranger is not sent where only operators may go");
    }
    for _ in 0..40 {
        world.get(&path).await;
    }
    assert_eq!(world.get(&path).await.status, StatusCode::TOO_MANY_REQUESTS);
}

/// The value of a hidden field.
fn field<'a>(page: &'a str, name: &str) -> &'a str {
    let rest = page.split_once(&format!("name=\"{name}\" value=\"")).unwrap().1;
    rest.split_once('"').unwrap().0
}

#[tokio::test]
async fn new_credentials_are_in_one_answer_only() {
    let world = World::new().await;
    let operator = Operator::log_in(&world).await;
    world.member("alice").await;
    let page = operator.get("/proxy/agents/acme::alice").await.text;
    let (path, pin) = ("/proxy/agents/acme::alice/rotate-cert", field(&page, "thumbprint").to_owned());
    let shown = operator.submit(path, &format!("thumbprint={pin}")).await;
    assert_eq!((shown.status, shown.header("cache-control")), (StatusCode::OK, Some("no-store")));
    for name in ["cert.pem", "agent-key.pem"] {
        let link = format!("download=\"{name}\" href=\"data:application/octet-stream;base64,");
        assert!(shown.text.contains(&link), "{name}");
    }
    let reloaded = operator.is_sent_to(path, &format!("thumbprint={pin}")).await;
    assert!(reloaded.starts_with("/proxy/agents/acme::alice?error=The%20certificate%20has%20changed"));
    let page = operator.get("/proxy/agents/acme::alice").await.text;
    assert_ne!(field(&page, "thumbprint"), pin);
    assert_eq!(page.matches("<code>agent.cert_rotated</code>").count(), 1, "a reload rotated nothing");
    assert!(!page.contains("base64,"));
}

#[tokio::test]
async fn the_form_makes_a_name_of_what_people_write() {
    let world = World::new().await;
    let operator = Operator::log_in(&world).await;
    let made = operator.submit("/proxy/agents/create", "agent_name=%20My%20Agent%20").await;
    assert!(made.status == StatusCode::OK && made.text.contains("acme::my_agent"), "{made:?}");
    let wrong = operator.is_sent_to("/proxy/agents/create", "agent_name=My%20%C3%85gent").await;
    assert!(wrong.starts_with("/proxy/agents?error=agent%20name"), "{wrong}");
}

#[tokio::test]
async fn buttons_switch_agents_and_say_what_happened() {
    let world = World::new().await;
    let operator = Operator::log_in(&world).await;
    world.member("alice").await;
    for (action, fields, says) in [
        ("deactivate", "", "?flash=Switched%20off"),
        ("deactivate", "", "?error=agent%20not%20found%20or%20already%20inactive"),
        ("reactivate", "", "?flash=Switched%20on"),
        ("revoke", "reason=%0A", "?flash=Revoked"),
        ("reactivate", "", "?error=agent%20acme%3A%3Aalice%20is%20revoked"),
    ] {
        let location = operator.is_sent_to(&format!("/proxy/agents/acme::alice/{action}"), fields).await;
        assert!(location.starts_with(&format!("/proxy/agents/acme::alice{says}")), "{action}: {location}");
    }
    let long = format!("reason={}", "x".repeat(200));
    let location = operator.is_sent_to("/proxy/agents/acme::alice/revoke", &long).await;
    assert!(location.contains("?error=the%20reason%20is%20at%20most"), "{location}");
    let nobody = operator.is_sent_to("/proxy/agents/acme::nobody/revoke", "").await;
    assert!(nobody.contains("?error=agent%20not%20found"), "{nobody}");
}

#[tokio::test]
async fn a_deleted_agent_leaves_a_page_with_its_receipt() {
    let world = World::new().await;
    world.member("alice").await;
    let operator = Operator::log_in(&world).await;
    let nothing = operator.get("/proxy/agents/acme::alice/receipt").await;
    assert_eq!(nothing.status, StatusCode::NOT_FOUND);
    let location = operator.is_sent_to("/proxy/agents/acme::alice/delete", "reason=host+retired").await;
    assert!(location.starts_with("/proxy/agents/acme::alice?flash="), "{location}");
    let page = operator.get(&location).await.text;
    assert!(
        page.contains("host retired") && page.contains("agent.delete") && page.contains("Deleted."),
        "{page}"
    );
    let receipt = operator.get("/proxy/agents/acme::alice/receipt").await;
    assert_eq!(receipt.body["agent_id"], "acme::alice");
    assert!(receipt.header("content-disposition").unwrap().contains("alice-receipt.json"));
    let nobody = operator.is_sent_to("/proxy/agents/acme::nobody/delete", "").await;
    assert!(nobody.contains("error=agent"), "{nobody}");
}

#[tokio::test]
async fn a_line_of_the_audit_log_leads_to_a_session() {
    let world = World::new().await;
    let operator = Operator::log_in(&world).await;
    world.member("alice").await;
    operator.submit("/proxy/agents/acme::alice/deactivate", "").await;
    let history = operator.get("/proxy/agents/acme::alice").await.text;
    let by = history.split("<code>").find(|part| part.starts_with("dashboard:")).unwrap();
    let by = by.split('<').next().unwrap();
    assert_eq!(by.len(), "dashboard:".len() + 8);
    assert!(history.contains("<td class=\"when\">2026-09-21 14:20:00 UTC</td>"), "{history}");
    assert!(operator.get("/proxy/sessions").await.text.contains(&format!("<code>{by}</code>")));
}

#[tokio::test]
async fn an_address_of_no_page_is_told_to_browsers_and_programs_in_their_own_words() {
    let world = World::new().await;
    let operator = Operator::log_in(&world).await;
    for path in ["/proxy/nothing", "/proxy/agents/acme::alice/nothing"] {
        let browser = operator.request(Method::GET, path).header("accept", PAGE);
        let page = operator.ask(browser, String::new()).await;
        assert_eq!(page.status, StatusCode::NOT_FOUND);
        assert!(page.text.contains("href=\"/proxy/overview\""), "{}", page.text);
        let program = world.get(path).await;
        assert_eq!(
            (program.status, &program.body),
            (StatusCode::NOT_FOUND, &json!({ "detail": "Not Found" }))
        );
    }
}

#[tokio::test]
async fn a_page_says_only_what_this_session_was_sent_to_hear() {
    let world = World::new().await;
    let (operator, other) = (Operator::log_in(&world).await, Operator::log_in(&world).await);
    world.member("alice").await;
    let sealed = operator.is_sent_to("/proxy/agents/acme::alice/deactivate", "").await;
    assert!(operator.get(&sealed).await.text.contains("Switched off. Its certificate"));
    let forged = sealed.replace("Switched%20off", "Call%20555%20now");
    let as_error = sealed.replace("flash=", "error=");
    let foreign = "/proxy/overview?flash=Call%20555%20now&seal=00".to_owned();
    let bare = "/proxy/agents?error=Call%20555%20now".to_owned();
    for address in [forged, as_error, foreign, bare] {
        let page = operator.get(&address).await;
        assert_eq!(page.status, StatusCode::OK, "{address}");
        assert!(!page.text.contains("class=\"notice"), "{address}");
    }
    assert!(!other.get(&sealed).await.text.contains("class=\"notice"), "the seal is of one session");
}

#[tokio::test]
async fn the_list_has_pages_a_search_and_states() {
    let world = World::new().await;
    let operator = Operator::log_in(&world).await;
    for number in 0..27 {
        world.member(&format!("worker-{number:02}")).await;
    }
    operator.submit("/proxy/agents/acme::worker-03/revoke", "").await;
    let rows = async |query: &str| {
        let page = operator.get(&format!("/proxy/agents{query}")).await.text;
        page.matches("<td><a href=").count()
    };
    assert_eq!(rows("").await, 25);
    assert_eq!(rows("?after=acme::worker-24").await, 2);
    assert_eq!(rows("?after=acme::zoe").await, 0, "nothing comes after the last");
    assert_eq!(rows("?q=WORKER-0").await, 10);
    assert_eq!(rows("?q=worker-0&state=revoked").await, 1);
    assert_eq!(rows("?state=inactive").await, 0);
    assert_eq!(rows("?q=%25").await, 0, "a search is for text, not for patterns");
    let overview = operator.get("/proxy/overview").await.text;
    assert!(overview.contains("<span class=\"number\">26</span><span>active agents</span>"), "{overview}");
    assert!(overview.contains("<span class=\"number\">1</span><span>revoked agent</span>"), "{overview}");

    let soon = "<span class=\"badge pending\">in 30 days</span>";
    assert_eq!(rows("?state=ending").await, 0);
    world.clock.advance(Duration::from_secs(335 * 24 * 3600 + 3600));
    let operator = Operator::log_in(&world).await;
    world.member("young").await;
    let page = operator.get("/proxy/agents?state=ending&q=worker-0").await.text;
    assert_eq!(page.matches(soon).count(), 9, "the revoked one needs no new certificate: {page}");
    let young = operator.get("/proxy/agents?q=young").await.text;
    assert!(young.contains("in 365 days") && !young.contains("badge pending"), "{young}");
    let overview = operator.get("/proxy/overview").await.text;
    assert!(overview.contains("<span class=\"number\">26</span><span>certificates end within"), "{overview}");
}

#[tokio::test]
async fn the_audit_log_is_searched_explained_and_handed_out() {
    let world = World::new().await;
    let operator = Operator::log_in(&world).await;
    world.member("alice").await;
    operator.submit("/proxy/agents/acme::alice/deactivate", "").await;
    for query in
        ["", "?page=x", "?page=2&source=traffic", "?cursor=x&status=maybe", "?agent=%00", "?action=a+b"]
    {
        let page = operator.get(&format!("/proxy/audit{query}")).await;
        assert_eq!(page.status, StatusCode::OK, "{query}: {page:?}");
    }
    let page = operator.get("/proxy/audit?agent=alice&action=agent.&status=success").await.text;
    assert!(page.contains("switched acme::alice off.") && page.contains("was enrolled by"), "{page}");
    let link = page.split("href=\"/proxy/audit/").nth(3).unwrap().split('"').next().unwrap();
    let entry = operator.get(&format!("/proxy/audit/{link}")).await;
    assert_eq!(entry.status, StatusCode::OK, "{entry:?}");
    assert!(entry.text.contains("logged in to the dashboard from 198.51.100.7"), "{}", entry.text);
    assert_eq!(operator.get("/proxy/audit/x").await.status, StatusCode::BAD_REQUEST);
    let export = operator.get("/proxy/audit/export?format=csv").await;
    assert!(
        export.text.starts_with("id,timestamp,") && export.text.contains("agent.deactivated"),
        "{export:?}"
    );
    let page = operator.get("/proxy/audit?action=audit.exported").await.text;
    assert!(page.contains("dashboard:") && page.contains("entries of acme as csv"), "{page}");
}

#[tokio::test]
async fn the_badge_counts_the_last_hour_and_not_the_day() {
    let world = World::new().await;
    let badge = async || {
        let operator = Operator::log_in(&world).await;
        operator.get("/proxy/badge/audit").await.text.parse::<u32>().unwrap()
    };
    let first = badge().await;
    world.member("alice").await;
    assert_eq!(badge().await, first + 2, "a login and an agent");
    world.clock.advance(Duration::from_secs(3601));
    assert_eq!(badge().await, 1, "the login");
}
