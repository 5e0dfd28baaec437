//! Revocation bites at once, on connections that are open and busy.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use http::StatusCode;
use mastio_client::ClientError;
use tokio::task::JoinSet;

use crate::harness::{PATIENCE, Place, eventually};

/// Busy connections; half of them call with a token, half with the certificate.
const CONNECTIONS: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_that_starts_after_the_204_succeeds() {
    let place = Place::new();
    let server = place.serve().await;
    let alice = Arc::new(server.admin().create_agent("alice", "Alice", &[]).await.unwrap());
    let (gone, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut load = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let mut agent = server.agent(&alice);
        if connection % 2 == 0 {
            agent.login_mtls().await.unwrap();
        }
        let (gone, answered) = (Arc::clone(&gone), Arc::clone(&answered));
        load.spawn(async move {
            loop {
                let too_late = gone.load(Ordering::SeqCst);
                match agent.whoami().await {
                    Ok(_) => assert!(!too_late, "connection {connection} was served after the 204"),
                    Err(ClientError::Refused { status, .. }) => {
                        assert_eq!(status, StatusCode::UNAUTHORIZED, "connection {connection}");
                        return;
                    }
                    // A closed connection is no answer at all.
                    Err(_) => assert!(too_late, "connection {connection} broke"),
                }
                answered.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    let busy = async || (answered.load(Ordering::SeqCst) > 10 * CONNECTIONS).then_some(());
    eventually("all are busy", PATIENCE, busy).await;
    server.admin().deactivate(alice.agent_id()).await.unwrap();
    gone.store(true, Ordering::SeqCst);
    tokio::time::timeout(PATIENCE, load.join_all()).await.expect("every connection is refused");
    let again = server.agent(&alice).login_mtls().await.unwrap_err().to_string();
    assert!(again.contains("401"), "{again}");
}
