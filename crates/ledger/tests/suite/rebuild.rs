//! A damaged tree is computed anew from the entries, and from nothing else.

use std::sync::Arc;

use mastio_authority::Refusal;
use mastio_core::{OrgId, SystemClock, SystemRng, event::catalogue};
use mastio_ledger::{
    Ledger,
    archive::{Wanted, restore},
    rebuild::{RebuildError, Rebuilt, rebuild_tree},
    rewind::accept::Loss,
};
use mastio_store::{Store, Unit, sqlite::Database};

use crate::world::{World, leave, write};

/// Does something with the database of a stopped server.
async fn stopped<T>(world: &World, work: impl AsyncFnOnce(&Store, &OrgId) -> T) -> T {
    let org: String = world.text("SELECT value FROM proxy_config WHERE key = 'org_id'");
    let org = OrgId::parse(&org).unwrap();
    let database = Database::open_alone(&world.path("mcp_proxy.db")).unwrap();
    let store = Store::start(database, org.clone(), Arc::new(SystemClock::default()), &SystemRng).unwrap();
    let done = work(&store, &org).await;
    store.close();
    done
}

async fn rebuild(world: &World) -> Result<Option<Rebuilt>, RebuildError> {
    stopped(world, async |store, org| rebuild_tree(store, org, "test", &mut |_, _| {}).await).await
}

/// A log of more than two levels of tiles, with a checkpoint; the server has stopped.
async fn logged(entries: usize) -> World {
    let world = World::new();
    let ledger = world.boot(&[]).await;
    write(&ledger, entries).await;
    ledger.checkpoint_now().await.unwrap();
    leave(ledger);
    world
}

/// What the tree is, in one text.
fn tree(world: &World) -> String {
    world.text(
        "SELECT group_concat(level || ' ' || tile || ' ' || hex(hashes), char(10)) || (SELECT base_seq || ' ' || size FROM audit_tree) \
         FROM (SELECT * FROM audit_tiles ORDER BY level, tile)",
    )
}

#[tokio::test]
async fn whatever_of_the_tree_is_damaged_comes_back_as_it_was() {
    let world = logged(600).await;
    assert_eq!(rebuild(&world).await.unwrap(), None, "nothing is damaged");
    let before = tree(&world);
    for (damage, replaced, removed) in [
        ("UPDATE audit_tree SET size = size + 100000", 0, 0),
        ("UPDATE audit_tree SET size = size - 300", 0, 0),
        ("UPDATE audit_tree SET base_seq = 7", 0, 0),
        ("DELETE FROM audit_tree", 0, 0),
        ("UPDATE audit_tiles SET hashes = zeroblob(length(hashes)) WHERE tile = 0", 2, 0),
        ("UPDATE audit_tiles SET hashes = substr(hashes, 1, 32) WHERE level = 1", 1, 0),
        (
            "INSERT INTO audit_tiles VALUES (0, 900, zeroblob(32)), (2, 0, zeroblob(32)), (-1, 0, zeroblob(32)), \
             (70, 9223372036854775807, zeroblob(32))",
            0,
            4,
        ),
    ] {
        world.sql(damage);
        let rebuilt = rebuild(&world).await.unwrap().unwrap();
        assert_eq!((rebuilt.removed, rebuilt.rewind_withdrawn), (removed, false), "{damage}");
        // And the open tile, which takes the entry that told of the time before.
        assert!((replaced..=replaced + 1).contains(&rebuilt.replaced), "{damage}: {rebuilt:?}");
        holds_the_full_tiles_of(&world, &before);
    }
    assert_eq!(world.events("audit.tree_rebuilt"), 7);
    let ledger = world.boot(&[]).await;
    ledger.keep_log().await;
    let newest = ledger.newest_checkpoint().await.unwrap().unwrap().head();
    assert_eq!(ledger.consistency(300, None).await.unwrap().checkpoint.head(), newest);
    for seq in [1, 256, 257, newest.size] {
        ledger.prove(seq, None).await.unwrap();
    }
}

/// Whatever is damaged, the server says which command helps, and tells no rewind.
#[tokio::test]
async fn a_damaged_tree_is_not_taken_for_another_history() {
    for damage in [
        "UPDATE audit_tree SET size = size + 100000",
        "UPDATE audit_tree SET size = size - 300",
        "UPDATE audit_tree SET base_seq = 7",
        "DELETE FROM audit_tree",
        "DELETE FROM audit_tiles WHERE level = 0",
        "UPDATE audit_tiles SET hashes = zeroblob(length(hashes))",
    ] {
        let world = logged(600).await;
        world.sql(damage);
        let ledger = world.boot(&[]).await;
        write(&ledger, 1).await;
        ledger.keep_log().await;
        let error = ledger.checkpoint_now().await.unwrap_err();
        assert!(error.to_string().contains("mastio audit rebuild-tree"), "{damage}: {error}");
        assert_eq!((error.status(), world.events("audit.rolled_back")), (500, 0), "{damage}");
        let authority = ledger.authority();
        let (store, custody) = (authority.store(), authority.custody());
        Loss::examine(store.database(), custody.as_ref(), &authority.trust()).unwrap_err();
        leave(ledger);
        rebuild(&world).await.unwrap().unwrap();
        let ledger = world.boot(&[]).await;
        assert!(ledger.checkpoint_now().await.is_ok(), "{damage}");
    }
}

#[tokio::test]
async fn a_tree_of_three_levels_comes_back_from_nothing() {
    let world = logged(65_540).await;
    let before = tree(&world);
    world.sql("DELETE FROM audit_tiles");
    assert_eq!(rebuild(&world).await.unwrap().unwrap().replaced, 257 + 1 + 1);
    holds_the_full_tiles_of(&world, &before);
    let ledger = world.boot(&[]).await;
    ledger.prove(65_537, None).await.unwrap();
    ledger.consistency(65_536, None).await.unwrap();
}

fn holds_the_full_tiles_of(world: &World, before: &str) {
    let (full, after) = (2 * 32 * 256, tree(world));
    let mut tiles = before.lines().filter(|tile| tile.len() > full).peekable();
    assert!(tiles.peek().is_some() && tiles.all(|tile| after.contains(tile)));
}

#[tokio::test]
async fn entries_that_were_changed_are_not_made_a_tree_of() {
    let world = logged(600).await;
    let unguarded = "DROP TRIGGER local_audit_no_update; DROP TRIGGER local_audit_no_delete;";
    world.sql(&format!("{unguarded} UPDATE local_audit SET details = '{{}}' WHERE chain_seq = 20"));
    let error = rebuild(&world).await.unwrap_err();
    assert!(matches!(&error, RebuildError::Broken(broken) if broken.seq == 20), "{error}");

    // The newest are cut off, and the chain holds.
    let world = logged(600).await;
    world.sql("UPDATE audit_tiles SET hashes = zeroblob(length(hashes)) WHERE level = 1");
    let before = tree(&world);
    world.sql(&format!("{unguarded} DELETE FROM local_audit WHERE chain_seq > 500"));
    let error = rebuild(&world).await.unwrap_err();
    assert!(matches!(error, RebuildError::Cut { entries: 500, .. }), "{error}");

    assert_eq!(tree(&world), before);
    assert_eq!(world.events("audit.tree_rebuilt"), 0);
}

#[tokio::test]
async fn of_archived_entries_the_stored_hashes_serve_or_the_archive() {
    let world = logged(1000).await;
    let ledger = world.boot(&[]).await;
    let archived = archive(&world, &ledger).await;
    write(&ledger, 300).await;
    ledger.checkpoint_now().await.unwrap();
    leave(ledger);
    assert!(archived > 900);

    world.sql("DELETE FROM audit_tiles WHERE level > 0; UPDATE audit_tree SET size = 5");
    assert_eq!(rebuild(&world).await.unwrap().unwrap().replaced, 1);

    let file = world.text("SELECT file FROM audit_marks");
    for damage in [
        "UPDATE audit_tiles SET hashes = zeroblob(8192) WHERE level = 0 AND tile = 1",
        "DELETE FROM audit_tiles WHERE level = 0 AND tile = 1",
    ] {
        world.sql(damage);
        let error = rebuild(&world).await.unwrap_err();
        assert!(error.to_string().contains(&format!("restore-archive {file}")), "{error}");
        let back = stopped(&world, async |store, org| {
            restore(store, org, file.as_ref(), "test", &mut |_| {}).await.map(drop)
        });
        back.await.unwrap();
        assert!(rebuild(&world).await.unwrap().unwrap().replaced >= 1);
        world.sql("DELETE FROM restored_audit");
    }
    let ledger = world.boot(&[]).await;
    ledger.keep_log().await;
    for seq in [1, 300, archived, archived + 1] {
        ledger.prove(seq, None).await.unwrap();
    }
}

async fn archive(world: &World, ledger: &Ledger) -> u64 {
    world.pass(60);
    let before = ledger.authority().clock().now();
    ledger.begin_archive(Wanted { before, out: world.path("cold"), by: "test".into() }).await.unwrap();
    ledger.run_archive().await.unwrap();
    world.count("SELECT archived_through FROM audit_marks").unsigned_abs()
}

/// An older Mastio told damage as a rewind, and an archive is refused for as long as that stands.
#[tokio::test]
async fn a_rewind_that_was_none_is_withdrawn() {
    let world = logged(600).await;
    let ledger = world.boot(&[]).await;
    let newest = ledger.newest_checkpoint().await.unwrap().unwrap();
    let told = format!("{}-- {}\n", newest.note, newest.signed_at);
    let rolled_back = catalogue::LogRolledBack {
        origin: "mastio.test:9443/audit".into(),
        reason: "rewritten",
        seen_in: "database".into(),
        entries: 600,
        last_known_entries: newest.head().size,
        last_known_root: hex::encode(newest.head().root),
    };
    let unit = Unit::of(mastio_core::Event::new(&rolled_back))
        .write(mastio_store::config::put_own("audit_rolled_back", &told));
    ledger.authority().commit(unit).await.unwrap();
    leave(ledger);
    assert!(rebuild(&world).await.unwrap().unwrap().rewind_withdrawn);
    let ledger = world.boot(&[]).await;
    ledger.keep_log().await;
    assert!(!ledger.is_rolled_back());
    assert!(archive(&world, &ledger).await > 0);
}
