//! An older copy of the database is noticed by what it does not know.

use mastio_authority::Refusal;
use mastio_core::Stamp;
use mastio_ledger::{
    Ledger,
    archive::{ArchiveError, Wanted},
    checkpoint_file::Known,
    rewind::{
        Reason,
        accept::{AcceptError, Loss},
    },
};

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
    world.pass(1);
    write(&ledger, 9).await;
    assert!(ledger.compare_with("w.example/w", seen).await.unwrap());
    assert_eq!(ledger.rewind().unwrap().seen_in, "w.example/w");
    let error = ledger.begin_archive(everything(&world)).await.unwrap_err();
    assert!(matches!(error, ArchiveError::RolledBack), "{error}");
    let authority = ledger.authority();
    let loss = Loss::examine(authority.store().database(), authority.custody().as_ref(), &authority.trust())
        .unwrap();
    assert_eq!(loss.rewind.seen_in, "w.example/w");
    let noticed = "SELECT count(*) FROM local_audit WHERE event_type = 'audit.rolled_back' AND timestamp = ";
    assert_eq!(world.count(&format!("{noticed}'{}'", loss.noticed_at.unwrap())), 1);
    assert_eq!(ledger.checkpoint_now().await.unwrap_err().reason(), "audit_rolled_back");
}

fn everything(world: &World) -> Wanted {
    Wanted {
        before: Stamp::parse_or_day("2099-01-01").unwrap(),
        out: world.path("cold"),
        by: "operator".into(),
    }
}

/// Nobody has looked yet, and the archive is the first to do so, as on the command line.
#[tokio::test]
async fn nothing_leaves_a_database_that_was_rolled_back() {
    let world = World::new();
    let ledger = world.boot(&[]).await;
    write(&ledger, 50).await;
    ledger.checkpoint_now().await.unwrap();
    leave(ledger);
    let copy = world.backup();
    let ledger = world.boot(&[]).await;
    write(&ledger, 500).await;
    ledger.checkpoint_now().await.unwrap();
    leave(ledger);
    world.restore(&copy);
    let ledger = world.boot(&[]).await;
    ledger.begin_archive(everything(&world)).await.unwrap();
    let error = ledger.run_archive().await.unwrap_err();
    assert_eq!((error.status(), error.reason()), (409, "audit_rolled_back"));
    let error = ledger.begin_archive(everything(&world)).await.unwrap_err();
    assert!(error.to_string().contains("accept-restore"), "{error}");
    assert_eq!(world.count("SELECT min(chain_seq) FROM local_audit"), 1);
    assert_eq!(world.count("SELECT count(*) FROM audit_marks"), 0);
    accept(&world, &ledger).await.unwrap();
    ledger.keep_log().await;
    ledger.begin_archive(everything(&world)).await.unwrap();
    ledger.run_archive().await.unwrap();
    assert!(world.count("SELECT min(chain_seq) FROM local_audit") > 1);
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
    let other = World::new();
    std::fs::create_dir_all(other.path("")).unwrap();
    std::fs::copy(old.path("audit-checkpoints.log"), other.path("audit-checkpoints.log")).unwrap();
    let ledger = other.boot(&[("MCP_PROXY_AUDIT_ORIGIN", "mastio.test:9443/audit-of-another")]).await;
    ledger.checkpoint_now().await.unwrap();
}

/// Accepts the loss of the database in `world` as the command does, beside the server.
async fn accept(world: &World, ledger: &Ledger) -> Result<(u64, u64, String), AcceptError> {
    let authority = ledger.authority();
    let (store, trust) = (authority.store(), authority.trust());
    let loss = Loss::examine(store.database(), authority.custody().as_ref(), &trust)?;
    let with = (authority.clock().as_ref(), authority.rng().as_ref());
    loss.accept(store, authority.custody().as_ref(), &trust, with, "command line (uid 7)").await?;
    world.pass(1);
    Ok((loss.first, loss.last, loss.new_origin.to_string()))
}

#[tokio::test]
async fn an_accepted_restore_names_the_loss_and_goes_on_under_the_next_origin() {
    let world = World::new();
    let ledger = world.boot(&[]).await;
    let old = ledger.checkpoint_now().await.unwrap();
    assert!(matches!(accept(&world, &ledger).await, Err(AcceptError::NothingLost)));
    let copied = world.count("SELECT max(chain_seq) FROM local_audit").cast_unsigned();
    leave(ledger);
    let copy = world.backup();
    world.pass(1);
    let ledger = world.boot(&[]).await;
    write(&ledger, 500).await;
    let lost = ledger.checkpoint_now().await.unwrap();
    leave(ledger);

    for (generation, origin) in [(2, "mastio.test:9443/audit/2"), (3, "mastio.test:9443/audit/3")] {
        world.restore(&copy);
        world.pass(100);
        let ledger = world.boot(&[]).await;
        ledger.keep_log().await;
        assert!(ledger.is_rolled_back(), "{origin}");
        let (first, last, new_origin) = accept(&world, &ledger).await.unwrap();
        assert_eq!(new_origin, origin);
        if generation == 2 {
            assert_eq!((first, last), (copied + 1, lost.head().size));
        }
        ledger.keep_log().await;
        assert!(!ledger.is_rolled_back());
        let next = ledger.checkpoint_now().await.unwrap();
        let key = ledger.log_key().await.unwrap();
        assert_eq!((key.generation, key.origin().as_str()), (generation, origin));
        next.note.verify(key.vkey()).unwrap();
        // What was published before the copy was made is continued still.
        ledger
            .consistency(old.head().size, None)
            .await
            .unwrap()
            .proof
            .verify(&old.head(), &next.head())
            .unwrap();
        assert_eq!(world.events("audit.restored"), 1);
        let by = "SELECT count(*) FROM local_audit WHERE event_type = 'audit.restored' AND details ->> 'by' = 'command line (uid 7)'";
        assert_eq!(world.count(by), 1);
        assert_eq!(world.events("audit.log_key_announced"), 2);
        assert!(matches!(accept(&world, &ledger).await, Err(AcceptError::NothingLost)));
        drop(key);
        leave(ledger);
        // A restart sees nothing wrong.
        let ledger = world.boot(&[]).await;
        ledger.keep_log().await;
        assert!(!ledger.is_rolled_back());
        leave(ledger);
    }
}

#[tokio::test]
async fn a_line_of_a_generation_far_off_stops_nothing() {
    let world = World::new();
    let ledger = world.boot(&[]).await;
    let first = ledger.checkpoint_now().await.unwrap();
    leave(ledger);
    let copy = world.backup();
    let file = world.path("audit-checkpoints.log");
    let line = std::fs::read_to_string(&file).unwrap();
    let origin = first.note.unverified().origin.to_string();
    let forged = |generation: u64| line.replace(&origin, &format!("{origin}/{generation}"));
    std::fs::write(&file, format!("{}{}{line}", forged(7), forged(u64::MAX))).unwrap();

    let ledger = world.boot(&[]).await;
    ledger.keep_log().await;
    assert!(!ledger.is_rolled_back());
    write(&ledger, 5).await;
    ledger.checkpoint_now().await.unwrap();
    leave(ledger);
    world.restore(&copy);
    let ledger = world.boot(&[]).await;
    assert_eq!(kept(&ledger).await, Reason::Behind, "a true one beside it counts");
    let (.., origin) = accept(&world, &ledger).await.unwrap();
    assert_eq!(origin, "mastio.test:9443/audit/2");
    ledger.keep_log().await;
    ledger.checkpoint_now().await.unwrap();
}
