//! Who follows a rotation, of a large fleet: the questions that come every two seconds while it is open.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Arc, time::Duration};

use mastio_core::{Clock, ManualClock, OrgId, Stamp, SystemClock, SystemRng, Thumbprint};
use mastio_store::{
    OpenOptions, Store,
    rotations::{
        Mode, Phase, Rotation, Transition,
        following::{self, Fleet, Left},
    },
    sqlite::Database,
};
use rusqlite::Connection;

/// A fleet of ours, of which the first tenth is the operator's work and half of the rest has followed.
fn fill(path: &std::path::Path, agents: u64, bundle: Thumbprint) {
    let connection = Connection::open(path).unwrap();
    let numbers =
        format!("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {agents})");
    connection
        .execute_batch(&format!(
            "BEGIN;
             {numbers} INSERT INTO internal_agents (agent_id, display_name, cert_pem, created_at, enrollment_method)
             SELECT printf('acme::agent-%07d', i), 'agent', printf('%2200d', i), '2026-01-01T00:00:00+00:00',
                 CASE WHEN i % 20 = 0 THEN 'byoca' WHEN i % 20 = 1 THEN 'spiffe' ELSE 'connector' END FROM n;
             INSERT INTO agent_certs (agent_id, thumbprint, spki_sha256, not_after, issuer)
             SELECT agent_id, hex(randomblob(32)), hex(randomblob(32)), '2027-01-01T00:00:00+00:00',
                 CASE WHEN enrollment_method = 'connector' THEN hex(zeroblob(32)) END FROM internal_agents;
             INSERT INTO agent_trust_bundles (agent_id, bundle_sha256, fetched_at)
             SELECT agent_id, '{bundle}', '2026-01-02T00:00:00+00:00' FROM internal_agents WHERE rowid % 2 = 0;
             INSERT INTO rotation_moves (rotation_id, agent_id, moved_at)
             SELECT 'r', agent_id, '2026-01-02T00:00:00+00:00' FROM internal_agents WHERE rowid % 2 = 0;
             COMMIT;"
        ))
        .unwrap();
}

struct Scene {
    store: Store,
    org: OrgId,
    rotation: Rotation,
    bundle: Thumbprint,
    _dir: tempfile::TempDir,
}

impl Scene {
    fn of(agents: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (path, now) = (dir.path().join("mcp_proxy.db"), Stamp::from_unix(1_790_000_000));
        let database = Database::open(&OpenOptions { path: &path, backups: dir.path(), now }).unwrap().0;
        let (org, clock) = (OrgId::parse("acme").unwrap(), Arc::new(ManualClock::at(now)));
        let store = Store::start(database, org.clone(), clock, &SystemRng).unwrap();
        let root = Thumbprint::of(b"root");
        let rotation = Rotation {
            id: "r".to_owned(),
            mode: Mode::Mint,
            transition: Transition::Overlap,
            phase: Phase::Reissue,
            paused: false,
            compromise: false,
            old_root: root,
            new_root: root,
            started_by: String::new(),
            started_at: now,
            changed_at: now,
            ended_at: None,
            error: None,
        };
        let bundle = Thumbprint::of(b"bundle");
        fill(&path, agents, bundle);
        Self { store, org, rotation, bundle, _dir: dir }
    }

    /// Every question that is asked while a rotation is open, and how long its answer took.
    async fn ask(&self) -> Vec<(&'static str, Duration)> {
        let Self { store, org, rotation, bundle, .. } = self;
        let fleet = Fleet { org, now: rotation.started_at };
        let mut asked = Vec::new();
        let clock = SystemClock::default();
        let mut took = |what, since: Duration| asked.push((what, clock.elapsed() - since));
        let since = clock.elapsed();
        let progress = following::progress(store, fleet, rotation, *bundle).await.unwrap();
        took("progress", since);
        let total = progress.agents + progress.byoca + progress.spiffe;
        assert_eq!(progress.agents * 10 / total, 9);
        assert_eq!(progress.moved * 2 / progress.agents, 1, "{progress:?}");
        for (what, left) in [
            ("agents left to fetch", Left::Unfetched(*bundle)),
            ("agents left to move", Left::Unmoved(rotation)),
            ("the operator's work", Left::Operators(rotation, *bundle)),
        ] {
            let since = clock.elapsed();
            let page = following::left(store, fleet, left, None, 101).await.unwrap();
            took(what, since);
            assert!(!page.is_empty());
            let since = clock.elapsed();
            let behind = following::left(store, fleet, left, page.last().map(|last| &last.agent), 101).await;
            took("its next page", since);
            drop(behind.unwrap());
        }
        let since = clock.elapsed();
        assert!(following::anybody_left(store, fleet, Left::Unmoved(rotation)).await.unwrap());
        took("anybody left", since);
        // The slowest answer: nobody is.
        let everybody = Connection::open(store.database().path()).unwrap();
        everybody
            .execute_batch(
                "INSERT OR IGNORE INTO rotation_moves SELECT 'r', agent_id, created_at FROM internal_agents",
            )
            .unwrap();
        let since = clock.elapsed();
        assert!(!following::anybody_left(store, fleet, Left::Unmoved(rotation)).await.unwrap());
        took("nobody left", since);
        let since = clock.elapsed();
        following::by_issuer(store).await.unwrap();
        took("by issuer", since);
        let since = clock.elapsed();
        following::pinned(store.database()).unwrap();
        took("pinned", since);
        asked
    }
}

#[tokio::test]
async fn the_answers_are_those_of_the_rows() {
    assert_eq!(Scene::of(200).ask().await.len(), 11);
}

#[tokio::test]
#[ignore = "a measurement: cargo test --release -p mastio-store --test following -- --ignored --nocapture"]
async fn how_long_the_answers_take() {
    let scene = Scene::of(100_000);
    for (what, took) in scene.ask().await {
        eprintln!("{what:<22} {took:?}");
    }
}
