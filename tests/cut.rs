//! A cut in the middle of a busy fleet: every certificate of before is answered with a 401 that says why, on connections
//! that are open, on resumed sessions and on new ones, until it is replaced. Nobody is cut off in a handshake.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use http::{Method, StatusCode};
use mastio_client::{Agent, ClientError, Identity};
use mastio_pki::{KeyPair, pem};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    crowd::crowd,
    harness::{Mastio, PATIENCE, Place, eventually, run},
    seeds::agent,
};

/// How many agents are connected when it happens. They and the server share two cores with the other tests.
const AGENTS: usize = 300;

/// What an agent meets. Anything else is a failure, the lack of an answer above all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Met {
    Served,
    /// The certificate is of the former CA.
    Replaced,
    /// The agent has another one.
    Revoked,
}

/// Calls with the token if there is one, else with the certificate. A token that is refused makes the client log in again.
async fn met(agent: &mut Agent) -> Met {
    let by_token = agent.access_token().is_some();
    let answer = match by_token {
        true => agent.call(Method::GET, "/v1/auth/whoami", "").await,
        false => agent.call_mtls(Method::GET, "/v1/auth/whoami", "").await,
    };
    let (status, detail) = match answer {
        Ok(answer) => (answer.status, answer.detail()),
        Err(ClientError::Refused { status, detail, .. }) => (status, detail),
        Err(error) => panic!("{}: no answer: {error}", agent.identity().agent_id()),
    };
    match status {
        StatusCode::OK => Met::Served,
        StatusCode::UNAUTHORIZED if detail.contains("an Org CA that has been replaced") => Met::Replaced,
        StatusCode::UNAUTHORIZED if detail.contains("has been revoked") => Met::Revoked,
        status => panic!("{}: {status} {detail}", agent.identity().agent_id()),
    }
}

/// What all of them meet who call at the same time.
async fn all_meet(agents: &mut Vec<Agent>) -> Vec<Met> {
    let calls = agents.drain(..).map(|mut agent| async move {
        let met = met(&mut agent).await;
        (agent, met)
    });
    let (back, met) = calls.collect::<JoinSet<_>>().join_all().await.into_iter().unzip();
    *agents = back;
    met
}

/// The agents of a fleet, a third of which call with a token, a third with their certificates, and a third keep a
/// connection open and say nothing until it is over.
struct Fleet {
    tasks: JoinSet<Agent>,
    served: Arc<AtomicUsize>,
    cut: Arc<AtomicBool>,
    over: watch::Sender<bool>,
}

impl Fleet {
    async fn start(server: &Mastio, identities: &[Arc<Identity>]) -> Self {
        let (served, cut) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (over, wait) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for (number, identity) in identities.iter().enumerate() {
            let (agent, served, cut) = (server.agent(identity), Arc::clone(&served), Arc::clone(&cut));
            match number % 3 {
                0 => tasks.spawn(quiet(agent, served, wait.clone())),
                kind => tasks.spawn(busy(agent, kind == 1, served, cut)),
            };
        }
        let busy = async || (served.load(Ordering::SeqCst) > 3 * AGENTS).then_some(());
        eventually("all are busy", PATIENCE * 2, busy).await;
        Self { tasks, served, cut, over }
    }

    /// What becomes of it once the cut has been answered: the agents, each of which was refused once since.
    async fn refused(self) -> Vec<Agent> {
        self.cut.store(true, Ordering::SeqCst);
        self.over.send_replace(true);
        tokio::time::timeout(PATIENCE * 2, self.tasks.join_all()).await.expect("every agent is refused")
    }
}

async fn busy(mut agent: Agent, by_token: bool, served: Arc<AtomicUsize>, cut: Arc<AtomicBool>) -> Agent {
    if by_token {
        agent.login_mtls().await.unwrap();
    }
    loop {
        let too_late = cut.load(Ordering::SeqCst);
        match met(&mut agent).await {
            Met::Served => assert!(!too_late, "a call that started after the cut was served"),
            met => {
                assert_eq!(met, Met::Replaced);
                return agent;
            }
        }
        served.fetch_add(1, Ordering::SeqCst);
    }
}

async fn quiet(mut agent: Agent, served: Arc<AtomicUsize>, mut over: watch::Receiver<bool>) -> Agent {
    assert_eq!(met(&mut agent).await, Met::Served);
    served.fetch_add(1, Ordering::SeqCst);
    over.wait_for(|over| *over).await.unwrap();
    assert_eq!(met(&mut agent).await, Met::Replaced);
    agent
}

/// Has operators replace the certificates, several at once.
async fn replaced(server: &Mastio, agents: &[Agent]) -> Vec<Arc<Identity>> {
    let mut operators = JoinSet::new();
    for some in agents.chunks(agents.len().div_ceil(4)) {
        let names: Vec<_> = some.iter().map(|agent| agent.identity().agent_id().clone()).collect();
        let mut admin = server.admin();
        operators.spawn(async move {
            let mut made = Vec::new();
            for name in names {
                let path = format!("/registry/agents/{name}/rotate-cert");
                let answer = admin.send(Method::POST, &path, Some(&json!({}))).await.unwrap();
                let answer: Value = answer.json().unwrap();
                let key = KeyPair::from_pem(answer["key_pem"].as_str().unwrap()).unwrap();
                made.push(Arc::new(Identity::new(answer["cert_pem"].as_str().unwrap(), key).unwrap()));
            }
            made
        });
    }
    operators.join_all().await.concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_old_certificate_is_answered_until_it_is_replaced() {
    let place = Place::new();
    let server = place.serve().await;
    let identities = crowd(&server, AGENTS).await;
    let fleet = Fleet::start(&server, &identities).await;
    let cut = server.operator(Method::POST, "/pki/rotate-ca?mode=mint", &json!({})).await;
    assert_eq!(cut.status, StatusCode::OK, "{}", cut.detail());
    let served = Arc::clone(&fleet.served);
    let mut agents = fleet.refused().await;
    assert_eq!(agents.len(), AGENTS);
    println!(
        "{AGENTS} agents, {} calls before the cut, each refused once after it",
        served.load(Ordering::SeqCst)
    );

    // Again, on whatever the client makes of a connection that was refused; and as clients that are started now.
    assert_eq!(all_meet(&mut agents).await, [Met::Replaced; AGENTS]);
    let mut started: Vec<_> = identities.iter().map(|identity| server.agent(identity)).collect();
    assert_eq!(all_meet(&mut started).await, [Met::Replaced; AGENTS]);

    // One half, then the other: who has a new certificate is served, and nobody else.
    let mut waiting = agents.split_off(AGENTS / 2);
    let fresh = replaced(&server, &agents).await;
    let mut fresh: Vec<_> = fresh.iter().map(|identity| server.agent(identity)).collect();
    assert_eq!(all_meet(&mut fresh).await, [Met::Served; AGENTS / 2]);
    assert_eq!(all_meet(&mut waiting).await, [Met::Replaced; AGENTS / 2]);
    let rest = replaced(&server, &waiting).await;
    let mut rest: Vec<_> = rest.iter().map(|identity| server.agent(identity)).collect();
    assert_eq!(all_meet(&mut rest).await, [Met::Served; AGENTS / 2]);
    assert_eq!(all_meet(&mut agents).await, [Met::Revoked; AGENTS / 2], "what was replaced is of no use");
    place.verify_audit();
}

/// Mints a token over mTLS as curl would, in a session that is kept in `session.pem`, or in the one that is there.
fn mints(place: &Place, server: &Mastio, session: &str) -> String {
    let request = "POST /v1/auth/token HTTP/1.1\\r\\nHost: localhost\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n";
    let client = format!(
        "printf '{request}' | timeout 30 openssl s_client -connect localhost:{} -servername localhost -CAfile root.pem \
         -verify_return_error -cert cert.pem -cert_chain cert.pem -key agent-key.pem -ign_eof {session} session.pem",
        server.tls
    );
    run(Command::new("bash").args(["-eu", "-o", "pipefail", "-c", &client]).current_dir(place.path("")))
}

#[tokio::test]
async fn a_session_that_is_resumed_after_a_cut_is_judged_like_any_other() {
    let place = Place::new();
    let server = place.serve().await;
    let (_, dir) = agent(&server, "alice").await;
    for name in ["cert.pem", "agent-key.pem"] {
        place.write(name, std::fs::read(dir.path().join(name)).unwrap());
    }
    place.write("root.pem", pem::first_certificate(&server.ca_pem).unwrap().pem());
    let first = mints(&place, &server, "-sess_out");
    assert!(first.contains("\nNew, TLS") && first.contains("access_token"), "{first}");
    let resumed = mints(&place, &server, "-sess_in");
    assert!(resumed.contains("\nReused, TLS") && resumed.contains("access_token"), "{resumed}");
    mints(&place, &server, "-sess_out");

    let cut = server.operator(Method::POST, "/pki/rotate-ca?mode=mint", &json!({})).await;
    assert_eq!(cut.status, StatusCode::OK, "{}", cut.detail());
    let resumed = mints(&place, &server, "-sess_in");
    assert!(resumed.contains("\nReused, TLS"), "{resumed}");
    assert!(resumed.contains("HTTP/1.1 401") && resumed.contains("ca_rotated"), "{resumed}");
}
