//! The tree grows with the log, and what is signed over it can be proved.

use mastio_audit::{checkpoint::SignedCheckpoint, note::NoteKey, tree::Hash};
use mastio_authority::Refusal;
use mastio_jose::jws::Compact;
use mastio_ledger::{Ledger, checkpoint_file::CheckpointFile};
use mastio_store::{Query, audit::tree};

use crate::world::{World, leave, write};

/// RFC 9162 §2.1.1, word for word.
fn root_of(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => mastio_core::sha256(&[]),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            mastio_core::sha256(&[&[1], &root_of(left)[..], &root_of(right)[..]].concat())
        }
    }
}

/// The root over the first `size` entries, from the entries themselves.
fn expected_root(ledger: &Ledger, size: u64) -> Hash {
    let (database, org) = (ledger.authority().store().database(), ledger.authority().trust().org.clone());
    let leaves = tree::leaves(database, &org, 1, size).unwrap();
    assert_eq!(leaves.len() as u64, size);
    let leaves: Vec<Hash> =
        leaves.iter().map(|leaf| mastio_core::sha256(&[&[0], &leaf.entry_hash[..]].concat())).collect();
    root_of(&leaves)
}

#[tokio::test]
async fn a_checkpoint_has_the_root_over_every_entry() {
    let world = World::new();
    let ledger = world.boot(&[]).await;
    let first = ledger.checkpoint_now().await.unwrap();
    let key = ledger.log_key().await.unwrap();
    assert_eq!(key.origin().as_str(), "mastio.test:9443/audit");
    assert_eq!(first.note.verify(key.vkey()).unwrap().head, first.head());
    assert_eq!(first.head().root, expected_root(&ledger, first.head().size));
    assert_eq!(world.count("SELECT max(chain_seq) FROM local_audit"), first.head().size.cast_signed());

    for count in [1, 255, 70_000] {
        write(&ledger, count).await;
        let next = ledger.checkpoint_now().await.unwrap();
        assert_eq!(next.head().root, expected_root(&ledger, next.head().size), "{count} more");
        let continued = ledger.consistency(first.head().size, None).await.unwrap();
        continued.proof.verify(&first.head(), &next.head()).unwrap();
    }
    assert_eq!(world.count("SELECT count(*) FROM audit_tiles WHERE length(hashes) > 8192"), 0);
    let filed = CheckpointFile::beside(&world.path("mcp_proxy.db")).all().unwrap();
    assert_eq!(filed.len(), 4);
    assert_eq!(filed[0].note, first.note);
}

/// Four checkpoints a day, the first three of each cosigned by one witness or both.
async fn signed_over_days(world: &World, ledger: &Ledger, days: u64) {
    for number in 0..days * 4 {
        write(ledger, 1).await;
        ledger.keep_log().await;
        let witnesses: &[&str] = match number % 4 {
            0 | 1 => &["one", "two"],
            2 => &["two"],
            _ => &[],
        };
        for witness in witnesses {
            world.sql(&format!(
                "INSERT INTO audit_cosignatures SELECT origin, tree_size, '{witness}', 'line', signed_at \
                 FROM audit_checkpoints ORDER BY tree_size DESC LIMIT 1"
            ));
        }
        world.pass(6 * 3600);
    }
}

#[tokio::test]
async fn of_each_day_long_ago_the_newest_checkpoint_stays_and_the_newest_of_each_witness() {
    let world = World::new();
    // The first second of a day.
    world.pass(86_400 - 1_790_000_000 % 86_400);
    let ledger = world.boot(&[]).await;
    signed_over_days(&world, &ledger, 2).await;
    let all = || world.count("SELECT count(*) FROM audit_checkpoints");
    let cosigned = || world.count("SELECT count(*) FROM audit_cosignatures");
    assert_eq!((all(), cosigned()), (8, 10));
    let saved = ledger.newest_checkpoint().await.unwrap().unwrap();

    world.pass(27 * 86_400);
    write(&ledger, 1).await;
    ledger.keep_log().await;
    assert_eq!((all(), cosigned()), (9, 10), "nothing is that old");

    world.pass(3 * 86_400);
    ledger.keep_log().await;
    // The second of a day is the newest of one witness, the third that of the other, the fourth that of the log.
    assert_eq!((all(), cosigned()), (7, 6));
    assert_eq!(
        world.count(
            "SELECT count(*) FROM audit_cosignatures WHERE tree_size NOT IN \
        (SELECT tree_size FROM audit_checkpoints)"
        ),
        0
    );
    // What was in one that is gone is proved by the next that was cosigned.
    let first = ledger.checkpoint_covering(1).await.unwrap();
    let second = world.count("SELECT min(tree_size) FROM audit_checkpoints");
    assert_eq!(first.head().size.cast_signed(), second);
    ledger.prove(1, Some(first.head().size)).await.unwrap();
    let newest = ledger.newest_checkpoint().await.unwrap().unwrap();
    let continued = ledger.consistency(saved.head().size, None).await.unwrap();
    continued.proof.verify(&saved.head(), &newest.head()).unwrap();

    world.pass(40 * 86_400);
    ledger.keep_log().await;
    assert_eq!((all(), cosigned()), (7, 6), "those that stay stay, and the newest of all is never too old");
}

#[tokio::test]
async fn nothing_new_is_signed_over_the_same_entries_and_a_checkpoint_writes_none() {
    let world = World::new();
    let ledger = world.boot(&[]).await;
    ledger.keep_log().await;
    let first = ledger.newest_checkpoint().await.unwrap().unwrap();
    let entries = world.count("SELECT count(*) FROM local_audit");
    for _ in 0..3 {
        world.pass(61);
        ledger.keep_log().await;
        assert_eq!(ledger.checkpoint_now().await.unwrap(), first);
    }
    assert_eq!(world.count("SELECT count(*) FROM local_audit"), entries);
    assert_eq!(world.count("SELECT count(*) FROM audit_checkpoints"), 1);

    write(&ledger, 1).await;
    world.pass(59);
    ledger.keep_log().await;
    assert_eq!(ledger.newest_checkpoint().await.unwrap(), Some(first.clone()), "not due yet");
    world.pass(2);
    ledger.keep_log().await;
    assert_eq!(ledger.newest_checkpoint().await.unwrap().unwrap().head().size, first.head().size + 1);
}

#[tokio::test]
async fn many_who_want_a_checkpoint_at_once_share_few() {
    let world = World::new();
    let ledger = world.boot(&[]).await;
    write(&ledger, 1000).await;
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let ledger = ledger.clone();
            tokio::spawn(async move { ledger.checkpoint_now().await.unwrap().head().size })
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap() >= 1000);
    }
    // The first of them may have asked before the entry that announces the key.
    assert!(world.count("SELECT count(*) FROM audit_checkpoints") <= 2);
}

#[tokio::test]
async fn an_entry_is_proved_and_the_proof_is_of_that_entry_alone() {
    let world = World::new();
    let ledger = world.boot(&[]).await;
    write(&ledger, 600).await;
    let newest = ledger.checkpoint_now().await.unwrap();
    for seq in [1, 2, 256, 257, 512, newest.head().size] {
        let proved = ledger.prove(seq, None).await.unwrap();
        assert_eq!((proved.seq, proved.inclusion.index), (seq, seq - 1));
        assert_eq!(proved.checkpoint, newest);
        let entry = proved.entry_hash.unwrap();
        proved.inclusion.verify(&entry, &newest.head()).unwrap();
        let mut other = entry;
        other[0] ^= 1;
        assert!(proved.inclusion.verify(&other, &newest.head()).is_err());
    }
    // An entry that no checkpoint has yet brings one about.
    write(&ledger, 1).await;
    let seq = newest.head().size + 1;
    assert_eq!(ledger.prove(seq, None).await.unwrap().checkpoint.head().size, seq);
    // The smallest one that has an entry stays the same, whatever comes later.
    let covering = ledger.checkpoint_covering(3).await.unwrap();
    write(&ledger, 10).await;
    ledger.checkpoint_now().await.unwrap();
    assert_eq!(ledger.checkpoint_covering(3).await.unwrap(), covering);
    for (seq, size, status) in
        [(0, None, 404), (9999, None, 404), (1, Some(5), 404), (seq, Some(newest.head().size), 404)]
    {
        assert_eq!(ledger.prove(seq, size).await.unwrap_err().status(), status, "{seq} {size:?}");
    }
    assert_eq!(ledger.consistency(99_999, None).await.unwrap_err().status(), 400);
}

#[tokio::test]
async fn a_restart_goes_on_with_the_same_tree_and_key() {
    let world = World::new();
    let ledger = world.boot(&[]).await;
    write(&ledger, 300).await;
    let before = ledger.checkpoint_now().await.unwrap();
    let vkey = ledger.log_key().await.unwrap().vkey().to_string();
    leave(ledger);
    let ledger = world.boot(&[("MCP_PROXY_AUDIT_ORIGIN", "other")]).await;
    write(&ledger, 300).await;
    let after = ledger.checkpoint_now().await.unwrap();
    assert_eq!(ledger.log_key().await.unwrap().vkey().to_string(), vkey, "kept once made");
    assert_eq!(after.head().root, expected_root(&ledger, after.head().size));
    let continued = ledger.consistency(before.head().size, None).await.unwrap();
    continued.proof.verify(&before.head(), &after.head()).unwrap();
    assert_eq!(world.events("audit.log_key_announced"), 1);
}

#[tokio::test]
async fn the_key_is_announced_by_the_key_that_signs_tokens_and_sealed_with_the_others() {
    let world = World::new();
    let ledger = world.boot(&[]).await;
    let key = ledger.log_key().await.unwrap();
    let trust = ledger.authority().trust();
    let signer = trust.signer.as_ref().unwrap();
    let announced = Compact::split(&key.announcement).unwrap();
    announced.verify(&signer.key.verifying_key(), mastio_jose::Algorithm::Es256).unwrap();
    assert_eq!(announced.header().unwrap().kid(), Some(signer.kid.as_str()));
    assert_eq!(announced.header().unwrap().typ(), Some("mastio-log-key+jwt"));
    let claims: serde_json::Value = announced.claims().unwrap();
    assert_eq!(claims["vkey"], key.vkey().to_string());
    assert_eq!(claims["base_seq"], 1);
    assert_eq!(claims["iss"], trust.org.as_str());
    assert_eq!(claims["vkey"].as_str().unwrap().parse::<NoteKey>().unwrap(), *key.vkey());

    let stored = "SELECT count(*) FROM audit_origins WHERE log_key LIKE '-----BEGIN%'";
    assert_eq!(world.count(stored), 1, "without a passphrase it lies there as the others do");
    let vkey = key.vkey().to_string();
    drop((key, trust));
    leave(ledger);
    let ledger = world.boot(&[("MCP_PROXY_DB_ENCRYPTION_KEY", "correct horse battery staple")]).await;
    assert_eq!(world.count(stored), 0);
    assert_eq!(ledger.log_key().await.unwrap().vkey().to_string(), vkey);
    ledger.checkpoint_now().await.unwrap();
}

#[tokio::test]
async fn an_interrupted_piece_is_taken_again() {
    let world = World::new();
    let ledger = world.boot(&[]).await;
    write(&ledger, 40_000).await;
    world.sql("CREATE TRIGGER stop BEFORE INSERT ON audit_tiles WHEN NEW.tile > 100 BEGIN SELECT RAISE(ABORT, 'stop'); END");
    let error = ledger.checkpoint_now().await.unwrap_err();
    assert_eq!(error.reason(), "audit_tree_unreadable");
    assert!(error.to_string().contains("rebuild-tree"), "{error}");
    let size = world.count("SELECT size FROM audit_tree");
    assert!((1..40_000).contains(&size), "whole pieces were stored: {size}");
    world.sql("DROP TRIGGER stop");
    let checkpoint = ledger.checkpoint_now().await.unwrap();
    assert_eq!(checkpoint.head().root, expected_root(&ledger, checkpoint.head().size));
}

#[tokio::test]
async fn a_gap_in_the_chain_stops_the_tree() {
    let world = World::new();
    let ledger = world.boot(&[]).await;
    let before = ledger.checkpoint_now().await.unwrap();
    write(&ledger, 10).await;
    let seq = before.head().size + 5;
    world
        .sql(&format!("DROP TRIGGER local_audit_no_delete; DELETE FROM local_audit WHERE chain_seq = {seq}"));
    assert_eq!(ledger.checkpoint_now().await.unwrap_err().reason(), "audit_chain_broken");
    assert_eq!(ledger.newest_checkpoint().await.unwrap().unwrap(), before);
}

#[tokio::test]
async fn tiles_that_were_changed_give_no_proof_and_no_checkpoint() {
    let world = World::new();
    let ledger = world.boot(&[]).await;
    write(&ledger, 600).await;
    ledger.checkpoint_now().await.unwrap();
    world.sql("UPDATE audit_tiles SET hashes = zeroblob(8192) WHERE level = 0 AND tile = 0");
    assert_eq!(ledger.prove(1, None).await.unwrap_err().reason(), "audit_tree_contradicts");
    world.sql("UPDATE audit_tiles SET hashes = zeroblob(length(hashes)) WHERE level = 1");
    write(&ledger, 1).await;
    for _ in 0..2 {
        let error = ledger.checkpoint_now().await.unwrap_err();
        assert_eq!(error.reason(), "audit_tree_unreadable");
        assert!(error.to_string().contains("mastio audit rebuild-tree"), "{error}");
    }
    assert_eq!(world.events("audit.rolled_back"), 0, "nobody rewrote anything");
}

#[tokio::test]
async fn the_file_may_fail_and_the_log_goes_on() {
    let world = World::new();
    std::fs::create_dir_all(world.path("audit-checkpoints.log")).unwrap();
    let ledger = world.boot(&[]).await;
    ledger.checkpoint_now().await.unwrap();
    assert_eq!(ledger.authority().metrics.evidence.checkpoint_file_errors.get(), 1);
}

#[tokio::test]
async fn an_adopted_chain_is_in_the_tree_from_its_first_row() {
    let world = World::new();
    std::fs::create_dir_all(world.path("")).unwrap();
    let fixture = format!("{}/../../fixtures/adopted-plain.db", env!("CARGO_MANIFEST_DIR"));
    std::fs::copy(fixture, world.path("mcp_proxy.db")).unwrap();
    let ledger = world.boot(&[]).await;
    let checkpoint = ledger.checkpoint_now().await.unwrap();
    let org = ledger.authority().trust().org.clone();
    let rows = ledger.authority().store();
    let sql = "SELECT count(*) AS n FROM local_audit WHERE org_id = ?1 AND chain_seq IS NOT NULL";
    let query = Query::new("local_audit", sql, vec![org.as_str().into()]);
    assert_eq!(rows.rows(query).await.unwrap()[0].int("n").unwrap(), checkpoint.head().size.cast_signed());
    assert_eq!(ledger.log_key().await.unwrap().base_seq, 1);
    assert_eq!(checkpoint.head().root, expected_root(&ledger, checkpoint.head().size));
    assert!(SignedCheckpoint::parse(checkpoint.note.as_str()).is_ok());
}

#[tokio::test]
async fn entries_that_wait_too_long_for_a_checkpoint_are_warned_of() {
    let world = World::new();
    let ledger = world.boot(&[]).await;
    ledger.keep_log().await;
    // An idle log waits for nothing.
    world.pass(7200);
    ledger.keep_log().await;
    assert!(!ledger.checkpoint_is_late());
    leave(ledger);
    world.sql("UPDATE audit_tree SET size = size + 100000000");
    let ledger = world.boot(&[]).await;
    write(&ledger, 5).await;
    world.pass(1);
    ledger.keep_log().await;
    assert!(!ledger.checkpoint_is_late());
    world.pass(601);
    ledger.keep_log().await;
    assert!(ledger.checkpoint_is_late());
    world.sql("UPDATE audit_tree SET size = size - 100000000");
    world.pass(60);
    ledger.keep_log().await;
    ledger.keep_log().await;
    assert!(!ledger.checkpoint_is_late());
}
