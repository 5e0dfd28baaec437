//! An older copy of the database is noticed by what it does not know.

use mastio_authority::Refusal;
use mastio_ledger::{Ledger, checkpoint_file::Known, rewind::Reason};

use crate::world::{World, leave, write};

async fn kept(ledger: &Ledger) -> Reason {
    ledger.keep_log().await;
    ledger.rewind().expect("the rewind is noticed").reason
}

#[tokio::test]
async fn a_database_behind_the_file_stops_checkpoints_and_is_told_once() {
    let world = World::new();
    let ledger = world.boot(&[]).await;
    let old = ledger.checkpoint_now().await.unwrap();
    leave(ledger);
    let copy = world.backup();
    let ledger = world.boot(&[]).await;
    write(&ledger, 500).await;
    let lost = ledger.checkpoint_now().await.unwrap();
    leave(ledger);
    world.restore(&copy);

    for _ in 0..2 {
        world.pass(100);
        let ledger = world.boot(&[]).await;
        assert_eq!(kept(&ledger).await, Reason::Behind);
        assert_eq!(ledger.rewind().unwrap().known.note, lost.note);
        assert_eq!(ledger.checkpoint_now().await.unwrap_err().reason(), "audit_rolled_back");
        assert_eq!(ledger.prove(1, None).await.unwrap().checkpoint, old, "what is stored still proves");
        leave(ledger);
    }
    assert_eq!(world.events("audit.rolled_back"), 1);
    assert_eq!(world.count("SELECT count(*) FROM audit_checkpoints"), 1);

    // It grows past the lost checkpoint and is another history still.
    let ledger = world.boot(&[]).await;
    write(&ledger, 600).await;
    assert_eq!(kept(&ledger).await, Reason::Rewritten);
}

#[tokio::test]
async fn a_witness_may_know_more_than_the_file() {
    let world = World::new();
    let ledger = world.boot(&[]).await;
    ledger.checkpoint_now().await.unwrap();
    leave(ledger);
    let copy = world.backup();
    let ledger = world.boot(&[]).await;
    write(&ledger, 5).await;
    let seen = ledger.checkpoint_now().await.unwrap();
    let seen = Known { note: seen.note, at: Some(seen.signed_at) };
    assert!(!ledger.compare_with("w.example/w", seen.clone()).await.unwrap());
    leave(ledger);
    world.restore(&copy);
    std::fs::remove_file(world.path("audit-checkpoints.log")).unwrap();
    let ledger = world.boot(&[]).await;
    ledger.keep_log().await;
    assert!(ledger.rewind().is_none());
    write(&ledger, 9).await;
    assert!(ledger.compare_with("w.example/w", seen).await.unwrap());
    assert_eq!(ledger.rewind().unwrap().seen_in, "w.example/w");
    assert_eq!(ledger.checkpoint_now().await.unwrap_err().reason(), "audit_rolled_back");
}

#[tokio::test]
async fn a_log_begun_anew_beside_an_old_file_is_noticed() {
    let (old, new) = (World::new(), World::new());
    let ledger = old.boot(&[]).await;
    ledger.checkpoint_now().await.unwrap();
    leave(ledger);
    std::fs::create_dir_all(new.path("")).unwrap();
    std::fs::copy(old.path("audit-checkpoints.log"), new.path("audit-checkpoints.log")).unwrap();
    assert_eq!(kept(&new.boot(&[]).await).await, Reason::UnknownKey);
    // The checkpoints of another log say nothing of this one.
    let ledger = World::new().boot(&[("MCP_PROXY_AUDIT_ORIGIN", "x")]).await;
    ledger.checkpoint_now().await.unwrap();
    let other = World::new();
    std::fs::create_dir_all(other.path("")).unwrap();
    std::fs::copy(old.path("audit-checkpoints.log"), other.path("audit-checkpoints.log")).unwrap();
    let ledger = other.boot(&[("MCP_PROXY_AUDIT_ORIGIN", "mastio.test:9443/audit-of-another")]).await;
    ledger.checkpoint_now().await.unwrap();
}
