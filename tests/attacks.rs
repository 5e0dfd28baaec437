//! Attacks on the stored log by somebody with every right on the database file, and what shows each of them.

use std::{
    fs,
    process::{Command, Output},
};

use serde_json::Value;

use crate::harness::{Mastio, PATIENCE, Place, both, eventually, mastio, repository, run};

/// A deployment whose log has a dozen entries and more.
async fn logged() -> Place {
    let place = Place::new();
    let server = place.serve().await;
    let mut admin = server.admin();
    for name in ["alice", "bob", "carol", "dave", "erin", "frank"] {
        admin.create_agent(name, name, &[]).await.unwrap();
    }
    assert_eq!(server.stop().await, 0);
    assert!(place.verify_audit() >= 10);
    place
}

/// Runs SQL past the guards: they are triggers in the same file.
fn attack(place: &Place, sql: &str) {
    let triggers = place.sql(
        "SELECT 'DROP TRIGGER ' || name || ';' FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'local_audit'",
    );
    assert!(triggers.contains("local_audit_no_update"), "{triggers}");
    place.sql(&format!("{triggers} {sql}"));
}

fn rebuild(place: &Place, seq: u64, tree: bool) {
    let script = repository("tests/attacks/rebuild.py");
    let mut rebuild = Command::new("python3");
    rebuild.arg(script).arg(place.database()).arg(seq.to_string());
    run(if tree { rebuild.arg("tree") } else { &mut rebuild });
}

fn verify(place: &Place) -> Output {
    mastio(&["audit", "verify", "--db", place.database().to_str().unwrap()], &[]).output().unwrap()
}

#[tokio::test]
async fn one_row_cannot_be_touched_unseen() {
    let attacks = [
        (
            "UPDATE local_audit SET details = '{\"by\":\"nobody\"}' WHERE chain_seq = 6",
            "broken at entry 6 (row id 6): its content does not have its hash",
        ),
        ("DELETE FROM local_audit WHERE chain_seq = 6", "broken at entry 7 (row id 7): it follows entry 5"),
        (
            "UPDATE local_audit SET chain_seq = -chain_seq - 1 WHERE chain_seq > 6;
             UPDATE local_audit SET chain_seq = -chain_seq WHERE chain_seq < 0;
             INSERT INTO local_audit (timestamp, event_type, org_id, result, chain_seq, previous_hash, entry_hash, hash_format)
             SELECT timestamp, 'agent.reactivated', org_id, result, 7, entry_hash, entry_hash, 'v2'
             FROM local_audit WHERE chain_seq = 6",
            "broken at entry 7",
        ),
        (
            "UPDATE local_audit SET chain_seq = -6 WHERE chain_seq = 7;
             UPDATE local_audit SET chain_seq = 7 WHERE chain_seq = 6;
             UPDATE local_audit SET chain_seq = 6 WHERE chain_seq = -6",
            "broken at entry 6 (row id 7): it does not link to the entry before it",
        ),
        ("DELETE FROM local_audit WHERE chain_seq < 4", "broken at entry 4 (row id 4): every entry before it is missing"),
    ];
    for (sql, shown) in attacks {
        let place = logged().await;
        attack(&place, sql);
        let found = verify(&place);
        let report = both(&found);
        assert_eq!(found.status.code(), Some(2), "{sql}\n{report}");
        assert!(report.contains(shown), "{sql}\n{report}");
    }
}

/// The guards are not the proof, but whoever does not drop them is stopped at once.
#[tokio::test]
async fn a_second_writer_on_a_stale_head_is_refused() {
    let place = logged().await;
    let stale = "INSERT INTO local_audit (timestamp, event_type, org_id, result, chain_seq, previous_hash, entry_hash, hash_format)
        SELECT timestamp, event_type, org_id, result, chain_seq, previous_hash, entry_hash, 'v2'
        FROM local_audit WHERE chain_seq = 5";
    let refused = Command::new("sqlite3").arg(place.database()).arg(stale).output().unwrap();
    assert!(!refused.status.success());
    assert!(
        both(&refused).contains("chain_seq must follow the newest entry without gap or fork"),
        "{}",
        both(&refused)
    );
    place.verify_audit();
}

/// What verifies by itself and is not the log that was published: the copy of the newest checkpoint shows it.
#[tokio::test]
async fn a_log_that_is_not_the_published_one_is_told() {
    type Attack = fn(&Place);
    let attacks: [(&str, Attack); 3] = [
        ("the newest entries are cut off", |place| {
            attack(
                place,
                "DELETE FROM local_audit WHERE chain_seq > (SELECT max(chain_seq) - 3 FROM local_audit)",
            );
        }),
        ("an older copy of the database", |place| {
            fs::copy(place.path("older.db"), place.database()).unwrap();
        }),
        ("a new history with its tree", |place| rebuild(place, 6, true)),
    ];
    for (name, attack) in attacks {
        let place = logged().await;
        place.sql(&format!(".backup {}", place.path("older.db").display()));
        let server = place.serve().await;
        server.admin().create_agent("grace", "Grace", &[]).await.unwrap();
        assert_eq!(server.stop().await, 0);
        attack(&place);
        place.verify_audit();
        let server = place.serve().await;
        warns(&server, "audit_rolled_back", name).await;
        assert_eq!(server.stop().await, 0);
    }
}

/// A new history under the old tree: the entries are compared with what was made of them.
#[tokio::test]
async fn entries_that_are_not_those_of_the_tree_are_told() {
    let place = logged().await;
    rebuild(&place, 6, false);
    place.verify_audit();
    let server = place.serve().await;
    warns(&server, "audit_chain_broken", "a new history").await;
    assert_eq!(server.stop().await, 0);
}

async fn warns(server: &Mastio, warning: &str, attack: &str) {
    eventually(&format!("{attack}: {warning}"), PATIENCE, async || {
        let health = server.get("/healthz").await.json::<Value>().ok()?;
        health["warnings"].as_array()?.iter().any(|told| told == warning).then_some(())
    })
    .await;
}
