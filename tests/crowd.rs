//! Many agents of one Mastio.

use std::sync::Arc;

use mastio_client::Identity;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::JoinSet;

use crate::harness::Mastio;

/// How many operators enrol them at once.
const ADMINS: usize = 4;

/// Enrols so many: `agent-0`, `agent-1` and so on, in this order. From now on each may have a connection.
pub(crate) async fn crowd(server: &Mastio, size: usize) -> Vec<Arc<Identity>> {
    raise_file_limit();
    let mut admins = JoinSet::new();
    for first in 0..ADMINS {
        let mut admin = server.admin();
        admins.spawn(async move {
            let mut made = Vec::new();
            for number in (first..size).step_by(ADMINS) {
                let name = format!("agent-{number}");
                made.push((number, Arc::new(admin.create_agent(&name, "", &[]).await.unwrap())));
            }
            made
        });
    }
    let mut made: Vec<_> = admins.join_all().await.into_iter().flatten().collect();
    made.sort_unstable_by_key(|(number, _)| *number);
    made.into_iter().map(|(_, identity)| identity).collect()
}

fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}
