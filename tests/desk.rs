//! An operator at the dashboard, as far as enrolments need one.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{CONTENT_TYPE, COOKIE, SET_COOKIE},
};
use mastio_client::{Answer, Connection};
use serde_json::{Value, json};

use crate::harness::{ADMIN_SECRET, Mastio};

const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
const X_CSRF_TOKEN: HeaderName = HeaderName::from_static("x-csrf-token");
const ENROLLMENTS: &str = "/proxy/enrollments";

/// Somebody who is logged in.
pub(crate) struct Desk {
    connection: Connection,
    cookie: HeaderValue,
    csrf_token: String,
}

impl Desk {
    /// Logs in with the admin secret.
    pub(crate) async fn open(server: &Mastio) -> Self {
        let mut connection = server.client(None).connect();
        let form = HeaderMap::from_iter([(CONTENT_TYPE, FORM)]);
        let body = format!("password={ADMIN_SECRET}");
        let answer = connection.request(Method::POST, "/proxy/login", form, body).await.unwrap();
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.detail());
        let cookie = answer.headers[SET_COOKIE].to_str().unwrap().split(';').next().unwrap();
        let cookie = HeaderValue::from_str(cookie).unwrap();
        let mut desk = Self { connection, cookie, csrf_token: String::new() };
        let page = desk.page(ENROLLMENTS).await;
        let field = page.split_once("name=\"csrf_token\" value=\"").expect("a form has the token").1;
        desk.csrf_token = field.split('"').next().unwrap().to_owned();
        desk
    }

    pub(crate) async fn page(&mut self, path: &str) -> String {
        let answer = self.request(Method::GET, path, HeaderMap::new(), String::new()).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.detail());
        String::from_utf8(answer.body.to_vec()).unwrap()
    }

    /// The enrolments that wait for a decision, newest first.
    pub(crate) async fn waiting(&mut self) -> Vec<Value> {
        let list = self.request(Method::GET, "/v1/admin/enrollments", HeaderMap::new(), String::new()).await;
        list.success().unwrap().json().unwrap()
    }

    /// Lets a device in by the JSON route; what the answer says the agent is called.
    pub(crate) async fn approve(&mut self, session: &str, name: &str, capabilities: &[&str]) -> String {
        let body = json!({ "agent_id": name, "capabilities": capabilities });
        let answer = self.decide(session, "approve", &body).await;
        assert_eq!(
            (answer.status, &answer.json::<Value>().unwrap()["status"]),
            (StatusCode::OK, &"approved".into())
        );
        answer.json::<Value>().unwrap()["agent_id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn reject(&mut self, session: &str, reason: &str) {
        let answer = self.decide(session, "reject", &json!({ "reason": reason })).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.detail());
    }

    /// Lets a device in by the form that the page of waiting enrolments shows for it.
    pub(crate) async fn approve_by_form(&mut self, session: &str, name: &str) {
        let action = format!("{ENROLLMENTS}/{session}/approve");
        assert!(self.page(ENROLLMENTS).await.contains(&action), "the page shows {session}");
        let body = format!("csrf_token={}&agent_id={name}&capabilities=&groups=", self.csrf_token);
        let answer =
            self.request(Method::POST, &action, HeaderMap::from_iter([(CONTENT_TYPE, FORM)]), body).await;
        let next = answer.header("location").unwrap_or_default();
        assert!(
            answer.status == StatusCode::SEE_OTHER && next.contains("flash="),
            "{next}: {}",
            answer.detail()
        );
    }

    async fn decide(&mut self, session: &str, decision: &str, body: &Value) -> Answer {
        let token = HeaderValue::from_str(&self.csrf_token).unwrap();
        let path = format!("/v1/admin/enrollments/{session}/{decision}");
        let headers = HeaderMap::from_iter([(X_CSRF_TOKEN, token)]);
        self.request(Method::POST, &path, headers, body.to_string()).await
    }

    async fn request(&mut self, method: Method, path: &str, mut headers: HeaderMap, body: String) -> Answer {
        headers.insert(COOKIE, self.cookie.clone());
        self.connection.request(method, path, headers, body).await.unwrap()
    }
}
