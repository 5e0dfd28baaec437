//! Whoever changes the log while the server runs or rests is found out, told of once, and forgiven when it is mended.

use std::time::Duration;

use mastio_core::{Event, Stamp, event::catalogue};
use mastio_ledger::{
    archive::{ArchiveError, Wanted},
    self_check::SelfCheck,
};
use mastio_store::audit;

use crate::world::World;

const DETECTED: &str = "audit.chain_break_detected";
const MENDED: &str = "audit.chain_break_mended";

async fn round(check: &mut SelfCheck) {
    check.new_entries().await.unwrap();
    check.round(Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn an_intact_log_is_found_intact_and_counted() {
    let world = World::new().await;
    world.append(30).await;
    let mut check = SelfCheck::of(&world.ledger);
    round(&mut check).await;
    let metrics = &world.authority.metrics.audit;
    let last = world.count("SELECT max(chain_seq) FROM local_audit");
    assert_eq!((metrics.last_seq.get(), metrics.unverified.get(), world.chain_ok("acme")), (last, 0, 1));
    assert_eq!(metrics.verified.get(), last.cast_unsigned());
    world.append(5).await;
    check.new_entries().await.unwrap();
    assert_eq!(metrics.last_seq.get(), last + 5, "only what is new is read");
    assert_eq!(metrics.verified.get(), last.cast_unsigned() + 5);
    assert!(!world.authority.audit_chain_is_broken());
    assert_eq!(world.told(DETECTED), 0);
}

#[tokio::test]
async fn a_break_is_told_once_and_its_mending_too() {
    let world = World::new().await;
    world.append(10).await;
    let before = world.count("SELECT length(details) FROM local_audit WHERE chain_seq = 7");
    world.tamper(
        "CREATE TABLE kept AS SELECT details FROM local_audit WHERE chain_seq = 7;
         UPDATE local_audit SET details = '{}' WHERE chain_seq = 7",
    );
    let mut check = SelfCheck::of(&world.ledger);
    round(&mut check).await;
    round(&mut check).await;
    assert!(world.authority.audit_chain_is_broken());
    assert_eq!((world.told(DETECTED), world.chain_ok("acme")), (1, 0));
    let wanted = Wanted {
        before: Stamp::parse_or_day("2099-01-01").unwrap(),
        out: world.dir.path().join("cold"),
        by: "operator".into(),
    };
    let error = world.ledger.begin_archive(wanted).await.unwrap_err();
    assert!(matches!(error, ArchiveError::Broken(7)), "{error}");
    let told = "SELECT details ->> 'seq' FROM local_audit WHERE event_type = 'audit.chain_break_detected'";
    assert_eq!(world.count(told), 7);

    drop(check);
    let world = world.restarted().await;
    assert!(world.authority.audit_chain_is_broken(), "the log tells it at the start");
    let mut check = SelfCheck::of(&world.ledger);
    round(&mut check).await;
    assert_eq!(world.told(DETECTED), 1, "not again after a restart");
    // Another place is another break.
    world.tamper(
        "CREATE TABLE kept3 AS SELECT details FROM local_audit WHERE chain_seq = 3;
         UPDATE local_audit SET details = '{}' WHERE chain_seq = 3",
    );
    round(&mut check).await;
    assert_eq!(world.told(DETECTED), 2);

    world.tamper(
        "UPDATE local_audit SET details = (SELECT details FROM kept) WHERE chain_seq = 7;
         UPDATE local_audit SET details = (SELECT details FROM kept3) WHERE chain_seq = 3",
    );
    assert_eq!(world.count("SELECT length(details) FROM local_audit WHERE chain_seq = 7"), before);
    round(&mut check).await;
    assert!(!world.authority.audit_chain_is_broken(), "the warning follows the last finding");
    assert_eq!((world.told(MENDED), world.chain_ok("acme")), (1, 1));
    drop(check);
    let world = world.restarted().await;
    assert!(!world.authority.audit_chain_is_broken(), "and the log keeps both");
}

#[tokio::test]
async fn whoever_rebuilds_or_cuts_what_was_seen_is_found_out() {
    let world = World::new().await;
    world.append(10).await;
    let mut check = SelfCheck::of(&world.ledger);
    round(&mut check).await;
    // A chain that ends earlier, and goes on with entries that fit it, holds together.
    world.tamper("DELETE FROM local_audit WHERE chain_seq > 6");
    world.append(10).await;
    let database = world.dir.path().join("data/mcp_proxy.db");
    assert!(audit::verify_file(&database, &mut |_| ()).unwrap().iter().all(|finding| finding.result.is_ok()));
    round(&mut check).await;
    assert!(world.authority.audit_chain_is_broken());
    assert_eq!(world.told(DETECTED), 1);
}

#[tokio::test]
async fn chains_of_others_are_looked_at_and_missed_when_they_go() {
    let world = World::new().await;
    let other = "INSERT INTO local_audit (timestamp, event_type, org_id, result, chain_seq, entry_hash, hash_format) VALUES
        ('2026-01-01T00:00:00.000001+00:00', 'message_sent', 'other', 'ok', 1, '{hash}', 'v2')";
    let text = "v2|2026-01-01T00:00:00.000001+00:00|message_sent|||other|ok||genesis|seq=1|peer=";
    let hash = hex::encode(mastio_core::sha256(text.as_bytes()));
    world.tamper(&other.replace("{hash}", &hash));
    let mut check = SelfCheck::of(&world.ledger);
    round(&mut check).await;
    assert_eq!((world.chain_ok("other"), world.told(DETECTED)), (1, 0));
    world.tamper("DELETE FROM local_audit WHERE org_id = 'other'");
    round(&mut check).await;
    assert_eq!((world.chain_ok("other"), world.chain_ok("acme"), world.told(DETECTED)), (0, 1, 1));
}

/// What went into an archive is not missed: the chain is verified from its mark on, if it tells of that archive.
#[tokio::test]
async fn an_archived_beginning_is_known_by_its_mark() {
    let world = World::new().await;
    world.append(12).await;
    world.ledger.checkpoint_now().await.unwrap();
    let mark = "INSERT INTO audit_marks SELECT org_id, chain_seq, 1, entry_hash, 'f', 's', 't'
        FROM local_audit WHERE chain_seq = 8;";
    let database = world.database();
    database.execute_batch(mark).unwrap();
    let file = world.dir.path().join("data/mcp_proxy.db");
    let holds =
        || audit::verify_file(&file, &mut |_| ()).unwrap().iter().all(|finding| finding.result.is_ok());
    let mut check = SelfCheck::of(&world.ledger);
    round(&mut check).await;
    assert!(world.authority.audit_chain_is_broken() && !holds(), "anybody can write a mark");
    let hash = "SELECT entry_hash FROM local_audit WHERE chain_seq = 8";
    let archived = catalogue::Archived {
        first_seq: 1,
        last_seq: 8,
        first_hash: "y".into(),
        last_hash: database.query_row(hash, [], |row| row.get(0)).unwrap(),
        bundle_sha256: "s".into(),
        file: "f".into(),
        by: "operator".into(),
    };
    world.tell(Event::new(&archived)).await;
    for rows in ["chain_seq <= 5", "chain_seq <= 8"] {
        database.execute_batch(&format!("DELETE FROM local_audit WHERE {rows}")).unwrap();
        round(&mut check).await;
        assert!(!world.authority.audit_chain_is_broken() && holds(), "{rows}");
    }
    world.tamper("DELETE FROM local_audit WHERE chain_seq = 9");
    round(&mut check).await;
    assert!(world.authority.audit_chain_is_broken() && !holds());
}

/// Without hurry from the beginning, but at once from the last checkpoint.
#[tokio::test]
async fn what_no_checkpoint_covers_is_looked_at_first() {
    let world = World::new().await;
    world.append(10).await;
    let database = world.database();
    database
        .execute_batch(
            "INSERT INTO audit_tree VALUES (1, 2, 5);
             INSERT INTO audit_checkpoints VALUES (1, 'acme/audit', 5, 'r', 'n', 't');",
        )
        .unwrap();
    let last = world.count("SELECT max(chain_seq) FROM local_audit");
    let mut check = SelfCheck::of(&world.ledger);
    check.new_entries().await.unwrap();
    // Leaves 0 to 4 are the entries 2 to 6.
    assert_eq!(world.authority.metrics.audit.verified.get(), (last - 6).cast_unsigned());
}
