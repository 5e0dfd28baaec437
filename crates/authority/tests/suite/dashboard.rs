//! Operators at the dashboard: who gets in, and what ends a session.

use std::{net::IpAddr, sync::Arc, time::Duration};

use mastio_authority::{
    Authority, Refusal,
    dashboard::{LoginError, SESSION_LIFETIME, Session},
};
use mastio_store::{Unit, config};
use secrecy::ExposeSecret;

use crate::world::{SECRET, World, address, leave};

const PASSWORD: &str = "correct horse";

async fn try_from(authority: &Authority, typed: &str, address: IpAddr) -> Result<String, LoginError> {
    let opened = authority.log_in(typed.to_owned().into(), address, "a browser").await?;
    Ok(opened.cookie.expose_secret().to_owned())
}

async fn log_in(authority: &Authority) -> String {
    try_from(authority, SECRET, address()).await.unwrap()
}

async fn session(authority: &Authority, cookie: &str) -> Option<Session> {
    authority.session(cookie).await.unwrap()
}

/// Whether a wrong password was judged, or the door was closed.
async fn guess(authority: &Authority, address: &str) -> &'static str {
    match try_from(authority, "a wild guess", address.parse().unwrap()).await {
        Err(LoginError::Wrong) => "wrong",
        Err(LoginError::LockedOut(_)) => "locked",
        other => panic!("{other:?}"),
    }
}

fn events(world: &World, name: &str) -> Vec<String> {
    let database = rusqlite::Connection::open(world.dir.path().join("data/mcp_proxy.db")).unwrap();
    let sql =
        "SELECT result || ' ' || coalesce(details, '') FROM local_audit WHERE event_type = ?1 ORDER BY id";
    let mut statement = database.prepare(sql).unwrap();
    statement.query_map([name], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn the_admin_secret_opens_a_session_that_ends_by_hand_or_in_time() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let (first, second) = (log_in(&authority).await, log_in(&authority).await);
    let session_of_first = session(&authority, &first).await.unwrap();
    assert!(session_of_first.operator.fingerprint.starts_with("dashboard:"));
    assert!(session_of_first.has_csrf_token(session_of_first.csrf_token()));
    assert!(!session_of_first.has_csrf_token(""));
    assert!(first.contains(session_of_first.csrf_token()), "scripts read it out of the cookie");

    let listed = authority.sessions().await.unwrap();
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|row| row.user_agent == "a browser" && row.address == "198.51.100.7"));
    let hash_of_second = session(&authority, &second).await.unwrap().hash;
    authority.end_session(&hash_of_second, &session_of_first.operator).await.unwrap();
    assert!(session(&authority, &second).await.is_none());
    let again = authority.end_session(&hash_of_second, &session_of_first.operator).await.unwrap_err();
    assert_eq!(again.to_string(), "there is no such session any more");

    let third = log_in(&authority).await;
    authority.end_other_sessions(&session_of_first).await.unwrap();
    assert!(session(&authority, &third).await.is_none());
    assert!(session(&authority, &first).await.is_some());

    let fourth = log_in(&authority).await;
    authority.log_out(&session(&authority, &fourth).await.unwrap()).await.unwrap();
    assert!(session(&authority, &fourth).await.is_none());

    world.clock.advance(SESSION_LIFETIME);
    assert!(session(&authority, &first).await.is_none());
    assert!(authority.sessions().await.unwrap().is_empty());
    assert_eq!(events(&world, "auth.login").len(), 4);
    assert_eq!(events(&world, "auth.logout").len(), 1);
    assert_eq!(events(&world, "auth.session_ended").len(), 1);
}

#[tokio::test]
async fn five_failures_lock_an_address_out_and_another_one_still_gets_in() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    for _ in 0..5 {
        assert_eq!(guess(&authority, "2001:db8::1").await, "wrong");
    }
    assert_eq!(guess(&authority, "2001:db8::2").await, "locked", "an IPv6 network is one client");
    let right = try_from(&authority, SECRET, "2001:db8::3".parse().unwrap()).await.unwrap_err();
    assert_eq!(right.retry_after(), Some(Duration::from_secs(15 * 60)), "{right}");
    log_in(&authority).await;

    world.clock.advance(Duration::from_secs(15 * 60));
    assert!(try_from(&authority, SECRET, "2001:db8::3".parse().unwrap()).await.is_ok());
    authority.flush_denials(true);
    authority.store().submit(Unit::default()).await.unwrap();
    let denied: Vec<_> =
        events(&world, "auth.login").into_iter().filter(|event| event.starts_with("denied")).collect();
    assert_eq!(denied.len(), 2, "one entry per reason: {denied:?}");
    assert!(denied.iter().any(|event| event.contains("login_wrong") && event.contains("\"count\":5")));
}

#[tokio::test]
async fn guesses_at_the_same_time_are_no_more_than_one_after_the_other() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let guesses = (0..8).map(|_| {
        let authority = Arc::clone(&authority);
        tokio::spawn(async move { guess(&authority, "203.0.113.7").await })
    });
    let mut answers = Vec::new();
    for guess in guesses.collect::<Vec<_>>() {
        answers.push(guess.await.unwrap());
    }
    assert_eq!(answers.iter().filter(|answer| **answer == "wrong").count(), 5, "{answers:?}");
}

#[tokio::test]
async fn an_answer_that_costs_no_attempt_says_nothing_about_the_secret() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    // A round in which every place was taken when it was the attacker's turn: a guess may end before the next begins.
    for round in 0..100 {
        let attacker = format!("203.0.113.{round}");
        for _ in 0..4 {
            assert_eq!(guess(&authority, &attacker).await, "wrong");
        }
        let place = |number| {
            let authority = &authority;
            async move { guess(authority, &format!("198.51.{round}.{number}")).await }
        };
        let crowd = async {
            tokio::join!(place(1), place(2), place(3), place(4), place(5), place(6), place(7), place(8))
        };
        let right = try_from(&authority, SECRET, attacker.parse().unwrap());
        let (_, judged) = tokio::join!(crowd, right);
        if !matches!(judged, Err(LoginError::Busy)) {
            continue;
        }
        assert_eq!(guess(&authority, &attacker).await, "wrong", "it was no attempt");
        assert_eq!(guess(&authority, &attacker).await, "locked", "and took none back");
        return;
    }
    panic!("never busy");
}

#[tokio::test]
async fn logins_are_limited_even_when_they_are_right() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    for _ in 0..10 {
        log_in(&authority).await;
    }
    assert!(matches!(try_from(&authority, SECRET, address()).await, Err(LoginError::OverLimit(_))));
    assert!(matches!(try_from(&authority, "", "203.0.113.9".parse().unwrap()).await, Err(LoginError::Empty)));
}

#[tokio::test]
async fn the_first_password_is_kept_and_can_be_switched_off_and_forced() {
    let world = World::new();
    let initial = ("MCP_PROXY_INITIAL_ADMIN_PASSWORD", PASSWORD);
    let authority = world.boot(&[initial]).await.unwrap();
    try_from(&authority, PASSWORD, address()).await.unwrap();
    assert_eq!(events(&world, "auth.password_set").len(), 1);
    let stored = config::get(authority.store().database(), "admin_password_hash").unwrap().unwrap();
    assert!(stored.starts_with("$2b$12$"), "{stored}");
    leave(authority);

    let authority = world.boot(&[("MCP_PROXY_INITIAL_ADMIN_PASSWORD", "another password")]).await.unwrap();
    try_from(&authority, PASSWORD, address()).await.unwrap();
    assert!(matches!(try_from(&authority, "another password", address()).await, Err(LoginError::Wrong)));
    let off = Unit::default().write(config::put("local_password_enabled", "0"));
    authority.store().submit(off).await.unwrap();
    assert!(matches!(try_from(&authority, PASSWORD, address()).await, Err(LoginError::PasswordOff)));
    log_in(&authority).await;
    leave(authority);

    let authority = world.boot(&[("MCP_PROXY_FORCE_LOCAL_PASSWORD", "1")]).await.unwrap();
    try_from(&authority, PASSWORD, address()).await.unwrap();
    assert_eq!(events(&world, "auth.local_password.break_glass").len(), 1);
}

#[tokio::test]
async fn a_hash_of_the_existing_system_lets_its_password_in() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    // Python's bcrypt wrote it, for the token in `auth-vectors.json`, `culk_token`
    let hash = "$2b$12$abcdefghijklmnopqrstuudhnuNu8BAiaOdVLcCUooIUajx.86SkK";
    let unit = Unit::default().write(config::put("admin_password_hash", hash));
    authority.store().submit(unit).await.unwrap();
    let typed = "culk_aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypq";
    try_from(&authority, typed, address()).await.unwrap();
    assert_eq!(guess(&authority, "203.0.113.7").await, "wrong");
}

#[tokio::test]
async fn a_restart_ends_no_session_but_another_key_or_secret_ends_all() {
    let key = |text| ("MCP_PROXY_DASHBOARD_SIGNING_KEY", text);
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let cookie = log_in(&authority).await;
    leave(authority);
    let authority = world.boot(&[]).await.unwrap();
    assert!(session(&authority, &cookie).await.is_some(), "the key is kept in its file");
    leave(authority);

    let authority = world.boot(&[key("a first key, long enough")]).await.unwrap();
    assert!(session(&authority, &cookie).await.is_none());
    assert!(authority.sessions().await.unwrap().is_empty());
    assert_eq!(events(&world, "auth.sessions_ended").len(), 1);
    let cookie = log_in(&authority).await;
    leave(authority);

    let secret = ("MCP_PROXY_ADMIN_SECRET", "another-secret-of-the-suite");
    let authority = world.boot(&[key("a first key, long enough"), secret]).await.unwrap();
    assert!(session(&authority, &cookie).await.is_none());
    assert!(matches!(try_from(&authority, SECRET, address()).await, Err(LoginError::Wrong)));
    try_from(&authority, secret.1, address()).await.unwrap();
}

#[tokio::test]
async fn the_generated_key_is_private_and_a_lost_one_only_logs_out() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let path = world.dir.path().join("certs/.mcp_proxy_dashboard_signing_key");
    let (text, mode) = (std::fs::read_to_string(&path).unwrap(), path.metadata().unwrap().permissions());
    assert_eq!((text.len(), mode.mode() & 0o777), (64, 0o600));
    let cookie = log_in(&authority).await;
    leave(authority);
    std::fs::write(&path, "short").unwrap();
    let authority = world.boot(&[]).await.unwrap();
    assert!(session(&authority, &cookie).await.is_none());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "short", "nobody's file is written over");
    log_in(&authority).await;
}
