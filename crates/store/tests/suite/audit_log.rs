//! The audit log: what it refuses, what leaves it, and how it is read.

use mastio_core::{Event, OrgId, event::catalogue};
use mastio_store::{Unit, audit};

use crate::place::{Place, alice, told};

#[tokio::test]
async fn the_audit_log_refuses_what_would_break_it() {
    let place = Place::new();
    let store = place.store();
    for _ in 0..3 {
        store.submit(Unit::of(told("x"))).await.unwrap();
    }
    let insert =
        "INTO local_audit (id, timestamp, event_type, org_id, result, chain_seq, previous_hash, entry_hash)";
    for (sql, says) in [
        ("UPDATE local_audit SET result = 'denied'".to_owned(), "append-only"),
        ("DELETE FROM local_audit WHERE ts < '2099-01-01'".to_owned(), "cullis-proxy audit archive"),
        (
            format!("INSERT OR REPLACE {insert} VALUES (1, 't', 'e', 'acme', 'ok', 4, 'x', 'y')"),
            "append-only",
        ),
        (format!("INSERT {insert} VALUES (NULL, 't', 'e', 'acme', 'ok', 6, 'x', 'y')"), "without gap"),
        (format!("INSERT {insert} VALUES (NULL, 't', 'e', 'acme', 'ok', 3, 'x', 'y')"), "without gap"),
        (format!("INSERT {insert} VALUES (NULL, 't', 'e', 'acme', 'ok', 4, 'x', 'y')"), "previous_hash"),
        (format!("INSERT {insert} VALUES (NULL, 't', 'e', 'other', 'ok', 1, 'x', 'y')"), "previous_hash"),
        (format!("INSERT {insert} VALUES (-1, 't', 'e', NULL, 'ok', NULL, NULL, NULL)"), "positive"),
    ] {
        let refused = place.sql(&sql).expect_err(&sql).to_string();
        assert!(refused.contains(says), "{sql}: {refused}");
    }
    assert!(audit::verify_file(&place.path(), &mut |_| {}).unwrap()[0].result.is_ok());
}

fn archived(last_seq: i64, last_hash: &str, bundle_sha256: &str, file: &str) -> Event {
    Event::new(&catalogue::Archived {
        first_seq: 1,
        last_seq,
        first_hash: "first".into(),
        last_hash: last_hash.into(),
        bundle_sha256: bundle_sha256.into(),
        file: file.into(),
        by: "operator".into(),
    })
}

#[tokio::test]
async fn entries_leave_the_log_only_behind_a_mark_that_a_checkpoint_covers() {
    let place = Place::new();
    let store = place.store();
    for _ in 0..5 {
        store.submit(Unit::of(told("x"))).await.unwrap();
    }
    let mark = |first: i64, last: i64, hash: &str| {
        format!(
            "INSERT INTO audit_marks SELECT 'acme', {last}, {first}, {hash}, 'file', 'sha', 'now' \
             FROM local_audit WHERE chain_seq = {last}"
        )
    };
    let delete = |last: i64| format!("DELETE FROM local_audit WHERE chain_seq <= {last}");
    let refused = |sql: &str, says: &str| {
        let refused = place.sql(sql).expect_err(sql).to_string();
        assert!(refused.contains(says), "{sql}: {refused}");
    };
    refused(&mark(1, 3, "entry_hash"), "checkpoint that covers it");
    place.sql("INSERT INTO audit_tree VALUES (1, 1, 3)").unwrap();
    place.sql("INSERT INTO audit_checkpoints VALUES (1, 'log', 3, 'root', 'note', 'now')").unwrap();
    refused(&mark(1, 4, "entry_hash"), "checkpoint that covers it");
    refused(&mark(2, 3, "entry_hash"), "follows the one before");
    refused(&mark(1, 3, "'other'"), "with its hash");
    refused(&delete(3), "cullis-proxy audit archive");
    place.sql(&mark(1, 3, "entry_hash")).unwrap();
    // A mark alone shows nothing: the chain must tell of the archive, in every word.
    refused(&delete(3), "cullis-proxy audit archive");
    let hash: String = rusqlite::Connection::open(place.path())
        .unwrap()
        .query_row("SELECT entry_hash FROM local_audit WHERE chain_seq = 3", [], |row| row.get(0))
        .unwrap();
    for (last_seq, last_hash, sha, file) in [
        (2, hash.as_str(), "sha", "file"),
        (3, "other", "sha", "file"),
        (3, &hash, "other", "file"),
        (3, &hash, "sha", "other"),
    ] {
        store.submit(Unit::of(archived(last_seq, last_hash, sha, file))).await.unwrap();
        refused(&delete(3), "cullis-proxy audit archive");
    }
    let untold = audit::verify_file(&place.path(), &mut |_| {}).unwrap().remove(0).result.unwrap_err();
    assert_eq!((untold.seq, untold.problem), (4, mastio_audit::Problem::Untold));
    store.submit(Unit::of(archived(3, &hash, "sha", "file"))).await.unwrap();
    assert!(audit::verify_file(&place.path(), &mut |_| {}).unwrap()[0].result.is_ok());
    refused(&delete(4), "cullis-proxy audit archive");
    refused("UPDATE audit_marks SET archived_through = 4", "append-only");
    refused("DELETE FROM audit_marks", "append-only");
    place.sql(&delete(3)).unwrap();

    place.sql("UPDATE audit_checkpoints SET tree_size = 50").unwrap();
    refused(&mark(4, 10, "entry_hash"), "not the newest");
    refused(&mark(3, 4, "entry_hash"), "follows the one before");
    store.submit(Unit::of(told("x"))).await.unwrap();
    let [acme] = audit::verify_file(&place.path(), &mut |_| {}).unwrap().try_into().unwrap();
    let report = acme.result.unwrap();
    assert_eq!((report.first_seq, report.head.seq), (Some(4), 11));
}

#[tokio::test]
async fn entries_about_an_agent_come_newest_first() {
    let place = Place::new();
    let store = place.store();
    let org = OrgId::parse("acme").unwrap();
    assert_eq!(audit::head(&store, &org).await.unwrap(), None);
    for by in ["one", "two", "three"] {
        store.submit(Unit::of(told(by).about("acme::alice")).tell(told("somebody else"))).await.unwrap();
    }
    let entries = audit::about(&store, &alice(), 2).await.unwrap();
    let said: Vec<_> = entries.iter().map(|entry| (entry.chain_seq, entry.details.as_deref())).collect();
    assert_eq!(said, [(Some(5), Some(r#"{"by":"three"}"#)), (Some(3), Some(r#"{"by":"two"}"#))]);
    let head = audit::head(&store, &org).await.unwrap().unwrap();
    assert!(head.chain_seq == 6 && entries[0].entry_hash.is_some(), "{head:?}");
}
