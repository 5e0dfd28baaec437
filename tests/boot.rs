//! Starting and not starting: exit codes, and words that an operator can act on.

use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{ADMIN_SECRET, PATIENCE, Place, eventually};

#[tokio::test]
async fn a_bad_configuration_exits_1_and_names_the_variable() {
    for (name, value, says) in [
        ("MCP_PROXY_ADMIN_SECRET", "", "MCP_PROXY_ADMIN_SECRET"),
        ("MCP_PROXY_ADMIN_SECRET", "change-me-in-production", "well-known default"),
        ("MCP_PROXY_ADMIN_SECRET", "ein-geheimnis-für-alle", "MCP_PROXY_ADMIN_SECRET"),
        ("MCP_PROXY_KMS_BACKEND", "vualt", "MCP_PROXY_KMS_BACKEND"),
        ("MCP_PROXY_KMS_BACKEND", "vault", "not built yet"),
        ("MCP_PROXY_DATABASE_URL", "postgres://mastio@db/mastio", "MCP_PROXY_DATABASE_URL"),
        ("MCP_PROXY_PORT", "ninety", "MCP_PROXY_PORT"),
    ] {
        let mut place = Place::new();
        // Beside a proxy.env nothing is a first start.
        place.write("proxy.env", "# no secret here\n");
        let (code, log) = place.set(name, value).refused().await;
        assert_eq!(code, 1, "{name}={value}: {log}");
        assert!(log.contains(says), "{name}={value}: {log}");
        assert!(!place.path("data").exists(), "{name}={value}: something was written");
    }
}

#[tokio::test]
async fn every_problem_is_reported_at_once_without_its_value() {
    let mut place = Place::new();
    place.set("MCP_PROXY_ADMIN_SECRET", "hunter2").set("MCP_PROXY_PORT", "ninety");
    let (code, log) = place.set("MCP_PROXY_KMS_BACKEND", "vualt").refused().await;
    assert_eq!(code, 1, "{log}");
    for name in ["MCP_PROXY_ADMIN_SECRET", "MCP_PROXY_PORT", "MCP_PROXY_KMS_BACKEND"] {
        assert!(log.contains(name), "{name}: {log}");
    }
    assert!(!log.contains("hunter2"), "{log}");
}

#[tokio::test]
async fn filesystem_is_the_old_word_for_local_custody() {
    let mut place = Place::new();
    let server = place.set("MCP_PROXY_KMS_BACKEND", "filesystem").serve().await;
    assert!(server.log().contains("KMS provider: local (proxy_config DB)"), "{}", server.log());
    assert_eq!(server.stop().await, 0, "SIGTERM is a clean stop");
}

#[tokio::test]
async fn a_taken_port_exits_3_and_says_which_settings_to_change() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut place = Place::new();
    place.set("MCP_PROXY_PORT", &port).set("MCP_PROXY_PROXY_PUBLIC_URL", "https://mastio.example.com:9443");
    let (code, log) = place.refused().await;
    assert_eq!(code, 3, "{log}");
    for word in ["MCP_PROXY_PORT", "MCP_PROXY_PROXY_PUBLIC_URL", "https://mastio.example.com:9443", &port] {
        assert!(log.contains(word), "{word}: {log}");
    }
    reason_follows_the_runbook_line(&log);
}

/// The runbook sends operators to the line after this one.
fn reason_follows_the_runbook_line(log: &str) {
    let after = log.split_once("Waiting for application startup.").expect(log).1;
    let next = after.lines().nth(1).expect("a line with the reason");
    assert!(next.contains("ERROR"), "the reason does not follow at once: {log}");
}

#[tokio::test]
async fn a_second_server_on_the_same_folder_exits_3_and_names_the_first() {
    let place = Place::new();
    let first = place.serve().await;
    let (code, log) = place.refused().await;
    assert_eq!(code, 3, "{log}");
    assert!(log.contains(&format!("pid {}", first.process.0.id())), "{log}");
    first.ready().await;
    assert_eq!(first.stop().await, 0);
    // A lock is not left behind.
    place.serve().await;
}

#[tokio::test]
async fn the_first_start_writes_a_private_proxy_env_that_the_runbook_can_read() {
    let mut place = Place::new();
    let server = place.set("MCP_PROXY_ADMIN_SECRET", "").serve().await;
    let path = place.path("proxy.env");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(server.log().contains(path.to_str().unwrap()), "it says so: {}", server.log());

    let text = place.text("proxy.env");
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("MCP_PROXY_ADMIN_SECRET")).collect();
    let [line] = lines[..] else { panic!("not one line: {text}") };
    let secret = line.split('=').nth(1).unwrap();
    assert!(!server.log().contains(secret), "the secret is in the log");
    let mut admin = mastio_client::Admin::new(&server.client(None), secret.into());
    assert_eq!(admin.agents().await.unwrap(), []);

    assert_eq!(server.stop().await, 0);
    place.serve().await;
    assert_eq!(place.text("proxy.env"), text, "a second start leaves it alone");
}

#[tokio::test]
async fn production_never_invents_a_secret() {
    let mut place = Place::new();
    place.set("MCP_PROXY_ADMIN_SECRET", "").set("MCP_PROXY_ENVIRONMENT", "production");
    let (code, log) = place.refused().await;
    assert_eq!(code, 1, "{log}");
    assert!(log.contains("MCP_PROXY_ADMIN_SECRET"), "{log}");
    assert!(!place.path("proxy.env").exists());
}

#[tokio::test]
async fn a_stopping_server_finishes_what_is_under_way() {
    let place = Place::new();
    let server = place.serve().await;
    let body = r#"{"agent_name":"last"}"#;
    let head = format!(
        "POST /v1/admin/agents HTTP/1.1\r\nhost: localhost\r\nx-admin-secret: {ADMIN_SECRET}\r\n\
         content-length: {}\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n",
        body.len(),
    );
    let mut stream = TcpStream::connect(("127.0.0.1", server.plain)).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 64];
    let read = stream.read(&mut answer).await.unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 100 "), "the handler waits for the body");

    server.process.signal(Signal::TERM);
    eventually("it stops", PATIENCE, async || server.log().contains("stopping").then_some(())).await;
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    let mut process = server.process;
    assert_eq!(process.ended(PATIENCE).await.code(), Some(0));
    assert_eq!(place.sql("SELECT count(*) FROM internal_agents").trim(), "1");
    place.verify_audit();
}
