//! The dashboard as a browser and as a script see it.

mod agents;
mod audit;
mod enrollments;

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

/// The value of a hidden field.
pub(crate) fn field<'a>(page: &'a str, name: &str) -> &'a str {
    let rest = page.split_once(&format!("name=\"{name}\" value=\"")).unwrap().1;
    rest.split_once('"').unwrap().0
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
