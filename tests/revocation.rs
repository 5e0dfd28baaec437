//! An agent's end bites at once, on connections that are open and busy.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{Method, StatusCode};
use mastio_client::{Agent, ClientError};
use tokio::task::JoinSet;

use crate::harness::{Mastio, PATIENCE, Place, eventually};

/// How long refused connections may stay open: a refused one is closed with its answer.
const LINGER: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_that_starts_after_a_deactivation_succeeds() {
    ends_at_once(50, Method::DELETE, |agent| format!("/v1/admin/agents/{agent}")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_that_starts_after_a_revocation_succeeds() {
    ends_at_once(200, Method::POST, |agent| format!("/registry/agents/{agent}/revoke")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_with_the_old_credentials_that_starts_after_a_rotation_succeeds() {
    ends_at_once(50, Method::POST, |agent| format!("/registry/agents/{agent}/rotate-cert")).await;
}

/// Whether the end has been answered, and how many calls were before.
#[derive(Default)]
struct Progress {
    ended: AtomicBool,
    served: AtomicUsize,
}

/// Calls on so many connections without pause, half of them with a token and half with the certificate, makes the one
/// request that ends these credentials, and sees every connection refused and closed.
async fn ends_at_once(connections: usize, method: Method, path: impl Fn(&str) -> String) {
    let place = Place::new();
    let server = place.serve().await;
    let quiet = sockets(&server);
    let alice = Arc::new(server.admin().create_agent("alice", "Alice", &[]).await.unwrap());
    let progress = Arc::new(Progress::default());
    let mut agents: Vec<_> = (0..connections).map(|_| server.agent(&alice)).collect();
    for agent in agents.iter_mut().step_by(2) {
        agent.login_mtls().await.unwrap();
    }
    // All at once: calls while others still log in would only slow them down.
    let calls = agents.into_iter().map(|agent| call_until_refused(agent, Arc::clone(&progress)));
    let load: JoinSet<_> = calls.collect();
    let busy = async || (progress.served.load(Ordering::SeqCst) > 4 * connections).then_some(());
    eventually("all are busy", PATIENCE, busy).await;
    server.admin().send(method, &path(alice.agent_id().as_str()), None).await.unwrap();
    progress.ended.store(true, Ordering::SeqCst);

    let refused = tokio::time::timeout(PATIENCE, load.join_all()).await.expect("every connection is refused");
    assert_eq!(refused.len(), connections);
    let closed = async || (sockets(&server) <= quiet).then_some(());
    eventually("the connections are closed", LINGER, closed).await;
    let again = server.agent(&alice).login_mtls().await.unwrap_err().to_string();
    assert!(again.contains("401"), "{again}");
}

/// Returns the agent, so that its connection stays open unless the server closes it.
async fn call_until_refused(mut agent: Agent, progress: Arc<Progress>) -> Agent {
    loop {
        let too_late = progress.ended.load(Ordering::SeqCst);
        match agent.whoami().await {
            Ok(_) => assert!(!too_late, "a call that started after the answer was served"),
            Err(ClientError::Refused { status, .. }) => {
                assert_eq!(status, StatusCode::UNAUTHORIZED);
                return agent;
            }
            Err(error) => panic!("every call is answered: {error}"),
        }
        progress.served.fetch_add(1, Ordering::SeqCst);
    }
}

/// How many sockets the server has open.
fn sockets(server: &Mastio) -> usize {
    let open = fs::read_dir(format!("/proc/{}/fd", server.process.0.id())).unwrap();
    let links = open.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
}
