//! A real browser: Chromium, driven by chromedriver over W3C WebDriver. The few commands that the suite needs are JSON
//! over HTTP, which the client speaks already.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use http::{HeaderMap, Method};
use mastio_client::Client;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{PATIENCE, Process, eventually};

/// The key of an element in WebDriver's JSON.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

const ARGUMENTS: [&str; 9] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1100,1400",
];

/// A browser with a fresh profile, gone with the test.
pub(crate) struct Browser {
    client: Client,
    /// `/session/<id>`
    session: String,
    chromium: Pid,
    downloads: TempDir,
    _profile: TempDir,
    _driver: Process,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // One that is gone already cannot be killed, and need not be.
        let _ = kill_process(self.chromium, Signal::KILL);
    }
}

impl Browser {
    pub(crate) async fn start() -> Self {
        let mut command = Command::new("chromedriver");
        let mut driver =
            command.arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port =
            lines.find_map(|line| line.split_once("started successfully on port ").map(|it| it.1.to_owned()));
        let driver = Process(driver);
        let port = port.expect("chromedriver says its port").trim_end_matches('.').to_owned();
        // It goes on to write now and then.
        std::thread::spawn(move || lines.for_each(drop));
        let (profile, downloads) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut arguments: Vec<String> = ARGUMENTS.map(str::to_owned).into();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        let preferences = json!({ "download.default_directory": downloads.path() });
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "acceptInsecureCerts": true,
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "args": arguments, "prefs": preferences },
        } } });
        let client = Client::builder(&format!("http://127.0.0.1:{port}")).timeout(PATIENCE).build().unwrap();
        let made = command_of(&client, Method::POST, "/session", &wanted).await.unwrap();
        let pid = made["capabilities"]["goog:processID"].as_i64().unwrap();
        Self {
            session: format!("/session/{}", made["sessionId"].as_str().unwrap()),
            chromium: Pid::from_raw(pid.try_into().unwrap()).unwrap(),
            client,
            downloads,
            _profile: profile,
            _driver: driver,
        }
    }

    async fn command(&self, method: Method, path: &str, body: &Value) -> Result<Value, String> {
        command_of(&self.client, method, &format!("{}{path}", self.session), body).await
    }

    async fn try_element(&self, css: &str) -> Option<String> {
        let query = json!({ "using": "css selector", "value": css });
        let found = self.command(Method::POST, "/element", &query).await.ok()?;
        Some(format!("/element/{}", found[ELEMENT].as_str()?))
    }

    /// Does `action` with the element that is found by `css`, as soon as there is one that lets it happen.
    async fn with_element(&self, css: &str, action: &str, body: &Value) {
        eventually(&format!("{action} {css}"), PATIENCE, async || {
            let element = self.try_element(css).await?;
            self.command(Method::POST, &format!("{element}/{action}"), body).await.ok()
        })
        .await;
    }

    pub(crate) async fn open(&self, url: &str) {
        self.command(Method::POST, "/url", &json!({ "url": url })).await.unwrap();
    }

    pub(crate) async fn click(&self, css: &str) {
        self.with_element(css, "click", &json!({})).await;
    }

    pub(crate) async fn enter(&self, css: &str, text: &str) {
        self.with_element(css, "value", &json!({ "text": text })).await;
    }

    /// The text that is seen in the first element found by `css`, once it satisfies `wanted`.
    pub(crate) async fn reads(&self, css: &str, wanted: &str) -> String {
        eventually(&format!("{css} reads {wanted:?}"), PATIENCE, async || {
            let element = self.try_element(css).await?;
            let text = self.command(Method::GET, &format!("{element}/text"), &Value::Null).await.ok()?;
            text.as_str().filter(|text| text.contains(wanted)).map(str::to_owned)
        })
        .await
    }

    /// How many elements `css` finds.
    pub(crate) async fn count(&self, css: &str) -> usize {
        let query = json!({ "using": "css selector", "value": css });
        let found = self.command(Method::POST, "/elements", &query).await.unwrap();
        found.as_array().unwrap().len()
    }

    /// Waits until the browser is at an address that ends so.
    pub(crate) async fn is_at(&self, end: &str) {
        eventually(&format!("the browser is at {end}"), PATIENCE, async || {
            let url = self.command(Method::GET, "/url", &Value::Null).await.ok()?;
            url.as_str()?.ends_with(end).then_some(())
        })
        .await;
    }

    /// Clicks a link and waits for what it downloads.
    pub(crate) async fn download(&self, css: &str, name: &str) {
        self.click(css).await;
        let path = self.downloads.path().join(name);
        eventually(name, PATIENCE, async || path.metadata().is_ok_and(|file| file.len() > 0).then_some(()))
            .await;
    }

    pub(crate) fn downloads(&self) -> &Path {
        self.downloads.path()
    }

    /// What the console of the browser complained about since the last time.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let log = self.command(Method::POST, "/se/log", &json!({ "type": "browser" })).await.unwrap();
        let severe = log.as_array().unwrap().iter().filter(|line| line["level"] == "SEVERE");
        severe.map(|line| line["message"].as_str().unwrap().to_owned()).collect()
    }
}

/// The value that a command answers, or what is wrong.
async fn command_of(client: &Client, method: Method, path: &str, body: &Value) -> Result<Value, String> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, "application/json".parse().unwrap())]);
    let answer = client.connect().request(method, path, headers, body).await.unwrap();
    let mut answered: Value = answer.json().unwrap();
    let value = answered["value"].take();
    if answer.status.is_success() { Ok(value) } else { Err(value.to_string()) }
}
