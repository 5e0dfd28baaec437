//! The one writer: batches, rejections, commits of others, and databases that go away.

use std::sync::Arc;

use mastio_core::AgentId;
use mastio_store::{
    Committed, Rejection, Statement, Touch, Unavailable, Unit, WriteError, agents, audit, config,
};

use crate::place::{Place, alice, new_agent, told};

#[tokio::test]
async fn many_writers_get_their_places_without_gap_or_fork() {
    let place = Place::new();
    let store = Arc::new(place.store());
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..500 {
        let store = Arc::clone(&store);
        tasks.spawn(async move { store.submit(Unit::of(told(&writer.to_string()))).await.unwrap() });
    }
    let mut places: Vec<u64> = tasks.join_all().await.into_iter().map(|done| done.audit.unwrap().0).collect();
    places.sort_unstable();
    assert_eq!(places, (1..=500).collect::<Vec<_>>());
    let findings = audit::verify_file(&place.path(), &mut |_| {}).unwrap();
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].result.as_ref().unwrap().rows, 500);
}

#[tokio::test]
async fn a_rejected_unit_leaves_nothing_and_harms_no_other() {
    let place = Place::new();
    let store = place.store();
    let first = Unit::of(told("x")).write_all(new_agent(&alice())).touch(Touch::Agent(alice()));
    assert_eq!(store.submit(first.clone()).await, Ok(Committed { audit: Some((1, 1)) }));
    let (again, other) = tokio::join!(store.submit(first), store.submit(Unit::of(told("y"))));
    assert!(matches!(again, Err(WriteError::Rejected(Rejection::Constraint { statement: 0, .. }))));
    let alike = AgentId::parse(&format!("{}::ALICE", alice().org())).unwrap();
    let alike = store.submit(Unit::default().write_all(new_agent(&alike))).await;
    assert_eq!(alike, Err(WriteError::Rejected(Rejection::Rows { statement: 0, touched: 0 })));
    assert_eq!(other, Ok(Committed { audit: Some((2, 2)) }));
    let none = Unit::of(told("z"))
        .write(config::put("a", "1"))
        .write(Statement::one("UPDATE internal_agents SET is_active = 0 WHERE agent_id = 'nobody'", vec![]));
    let rejected = store.submit(none).await;
    assert_eq!(rejected, Err(WriteError::Rejected(Rejection::Rows { statement: 1, touched: 0 })));
    assert_eq!(config::get(store.database(), "a").unwrap(), None);
}

#[tokio::test]
async fn commits_of_others_are_noticed_and_built_upon() {
    let place = Place::new();
    let store = place.store();
    let (tell, mut told_of) = tokio::sync::mpsc::unbounded_channel();
    store.on_commit(move |notice| {
        tell.send(matches!(notice, mastio_store::Notice::Foreign)).unwrap();
    });
    assert_eq!(told_of.recv().await, Some(true), "there may have been some before it listened");
    store.submit(Unit::of(told("x"))).await.unwrap();
    assert_eq!(told_of.recv().await, Some(false));
    place.sql("INSERT INTO proxy_config VALUES ('spire_trust_bundle', 'x')").unwrap();
    let noticed = tokio::time::timeout(std::time::Duration::from_secs(5), told_of.recv()).await;
    assert_eq!(noticed, Ok(Some(true)));
}

#[tokio::test]
async fn commits_of_others_are_noticed_even_if_our_own_fails_meanwhile() {
    let place = Place::new();
    let store = place.store();
    let (tell, mut told_of) = tokio::sync::mpsc::unbounded_channel();
    store.on_commit(move |notice| {
        tell.send(matches!(notice, mastio_store::Notice::Foreign)).unwrap_or_default();
    });
    told_of.recv().await.unwrap();
    let other = rusqlite::Connection::open(place.path()).unwrap();
    other
        .execute_batch("BEGIN IMMEDIATE; INSERT INTO proxy_config VALUES ('spire_trust_bundle', 'x')")
        .unwrap();
    assert!(store.submit(Unit::of(told("x"))).await.is_err());
    other.execute_batch("COMMIT").unwrap();
    while let Ok(told) = told_of.try_recv() {
        assert!(told, "nothing of ours was committed");
    }
    let noticed = tokio::time::timeout(std::time::Duration::from_secs(5), told_of.recv()).await;
    assert_eq!(noticed, Ok(Some(true)));
}

#[tokio::test]
async fn a_deleted_or_replaced_file_is_never_written_into() {
    let place = Place::new();
    let store = place.store();
    store.submit(Unit::of(told("x"))).await.unwrap();
    std::fs::rename(place.path(), place.dir.path().join("elsewhere.db")).unwrap();
    let gone = store.submit(Unit::of(told("y"))).await;
    assert!(matches!(gone, Err(WriteError::Unavailable(Unavailable::Gone(_)))), "{gone:?}");
    std::fs::copy(place.dir.path().join("elsewhere.db"), place.path()).unwrap();
    let replaced = store.submit(Unit::of(told("y"))).await;
    assert!(matches!(replaced, Err(WriteError::Unavailable(Unavailable::Gone(_)))), "{replaced:?}");
    assert!(store.trouble().is_some());
    assert!(agents::find(&store, &alice()).await.is_err());
}

#[tokio::test]
async fn a_locked_database_refuses_and_recovers() {
    let place = Place::new();
    let store = place.store();
    let blocker = rusqlite::Connection::open(place.path()).unwrap();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = store.submit(Unit::of(told("x"))).await;
    assert!(
        matches!(&refused, Err(WriteError::Unavailable(u)) if u.to_string().contains("database is locked")),
        "{refused:?}"
    );
    blocker.execute_batch("ROLLBACK").unwrap();
    assert_eq!(store.submit(Unit::of(told("x"))).await, Ok(Committed { audit: Some((1, 1)) }));
    assert!(store.trouble().is_none());
}

#[tokio::test]
async fn closing_commits_what_is_queued() {
    let place = Place::new();
    let store = place.store();
    for _ in 0..100 {
        store.post(Unit::of(told("x"))).unwrap();
    }
    store.close();
    assert_eq!(audit::verify_file(&place.path(), &mut |_| {}).unwrap()[0].result.as_ref().unwrap().rows, 100);
}
