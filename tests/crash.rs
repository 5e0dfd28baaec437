//! Acknowledged means durable, whenever the power goes.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use mastio_client::{ClientError, Identity};
use mastio_core::{Rng, SystemRng};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::harness::{Mastio, PATIENCE, Place, eventually};

/// What the server has answered for.
#[derive(Default)]
struct Acknowledged {
    agents: BTreeSet<String>,
    tokens: BTreeSet<String>,
}

type Ledger = Arc<Mutex<Acknowledged>>;

#[tokio::test]
async fn kill_9_loses_nothing_that_was_acknowledged() {
    let place = Place::new();
    let ledger = Ledger::default();
    let server = place.serve().await;
    let minter = Arc::new(server.admin().create_agent("minter", "", &[]).await.unwrap());
    assert_eq!(server.stop().await, 0);

    let (mut tokens, mut agents) = (0, 0);
    for round in 0..rounds() {
        let server = place.serve().await;
        all_is_there(&place, &server, &ledger).await;
        let load = load(&server, &minter, &ledger, round);
        eventually("something of each kind is acknowledged", PATIENCE, async || {
            let now = ledger.lock().unwrap();
            (now.tokens.len() > tokens && now.agents.len() > agents).then_some(())
        })
        .await;
        let [moment] = SystemRng.bytes::<1>();
        tokio::time::sleep(Duration::from_millis(moment.into())).await;
        server.kill().await;
        load.join_all().await;
        let now = ledger.lock().unwrap();
        (tokens, agents) = (now.tokens.len(), now.agents.len());
    }
    let server = place.serve().await;
    all_is_there(&place, &server, &ledger).await;
}

/// `MASTIO_KILL_ROUNDS` makes it a long run.
#[expect(clippy::disallowed_methods, reason = "a switch of this suite, not a setting of a Mastio")]
fn rounds() -> u32 {
    std::env::var("MASTIO_KILL_ROUNDS").map_or(20, |text| text.parse().unwrap())
}

/// Two operators who make agents and two logins that mint, until the server is gone.
fn load(server: &Mastio, minter: &Arc<Identity>, ledger: &Ledger, round: u32) -> JoinSet<()> {
    let mut load = JoinSet::new();
    for task in 0..2 {
        let (mut admin, entries) = (server.admin(), Arc::clone(ledger));
        load.spawn(async move {
            for number in 0.. {
                let made = admin.create_agent(&format!("agent-{round}-{task}-{number}"), "", &[]).await;
                let Some(agent) = unless_gone(made) else { return };
                entries.lock().unwrap().agents.insert(agent.agent_id().to_string());
            }
        });
        let (mut agent, entries) = (server.agent(minter), Arc::clone(ledger));
        load.spawn(async move {
            while unless_gone(agent.login_mtls().await).is_some() {
                let token = agent.access_token().unwrap().expose_secret();
                entries.lock().unwrap().tokens.insert(jti(token));
            }
        });
    }
    load
}

/// The answer; none when the connection broke. A refusal is a failure of the test.
fn unless_gone<T>(answer: Result<T, ClientError>) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        Err(refused @ ClientError::Refused { .. }) => panic!("{refused}"),
        Err(_) => None,
    }
}

fn jti(token: &str) -> String {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    claims["jti"].as_str().unwrap().to_owned()
}

async fn all_is_there(place: &Place, server: &Mastio, ledger: &Ledger) {
    place.verify_audit();
    let listed = server.admin().agents().await.unwrap();
    let listed: BTreeSet<_> = listed.iter().map(|agent| agent.agent_id.to_string()).collect();
    let audited = |event: &str, column: &str| -> BTreeSet<_> {
        let query = format!("SELECT {column} FROM local_audit WHERE event_type = '{event}'");
        place.sql(&query).lines().map(str::to_owned).collect()
    };
    let created = audited("agent.create", "agent_id");
    let issued = audited("auth.token_issued", "json_extract(details, '$.jti')");
    let ledger = ledger.lock().unwrap();
    for (what, there) in [("registry", &listed), ("audit log", &created)] {
        let missing: Vec<_> = ledger.agents.difference(there).collect();
        assert!(missing.is_empty(), "acknowledged, but not in the {what}: {missing:?}");
    }
    assert_eq!(listed, created, "state and audit log disagree");
    let missing: Vec<_> = ledger.tokens.difference(&issued).collect();
    assert!(missing.is_empty(), "handed out, but not in the audit log: {missing:?}");
}
