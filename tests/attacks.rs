//! Attacks on the stored log by somebody with every right on the database file, and what shows each of them.

use std::{
    fs,
    process::{Command, Output},
};

use serde_json::Value;

use crate::harness::{PATIENCE, Place, both, eventually, mastio, repository, run};

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

/// What is done to the stored log, what the verifier says of the file alone, and what the server warns of.
type Attack = (&'static str, fn(&Place), Option<&'static str>, &'static str);

const ATTACKS: [Attack; 10] = [
    (
        "one entry is changed",
        |place| attack(place, "UPDATE local_audit SET details = '{\"by\":\"nobody\"}' WHERE chain_seq = 6"),
        Some("broken at entry 6 (row id 6): its content does not have its hash"),
        "audit_chain_broken",
    ),
    (
        "one entry is removed",
        |place| attack(place, "DELETE FROM local_audit WHERE chain_seq = 6"),
        Some("broken at entry 7 (row id 7): it follows entry 5"),
        "audit_chain_broken",
    ),
    (
        "one entry is inserted",
        |place| {
            attack(
                place,
                "UPDATE local_audit SET chain_seq = -chain_seq - 1 WHERE chain_seq > 6;
                 UPDATE local_audit SET chain_seq = -chain_seq WHERE chain_seq < 0;
                 INSERT INTO local_audit
                     (timestamp, event_type, org_id, result, chain_seq, previous_hash, entry_hash, hash_format)
                 SELECT timestamp, 'agent.reactivated', org_id, result, 7, entry_hash, entry_hash, 'v2'
                 FROM local_audit WHERE chain_seq = 6",
            );
        },
        Some("broken at entry 7"),
        "audit_chain_broken",
    ),
    (
        "two entries change places",
        |place| {
            attack(
                place,
                "UPDATE local_audit SET chain_seq = -6 WHERE chain_seq = 7;
                 UPDATE local_audit SET chain_seq = 7 WHERE chain_seq = 6;
                 UPDATE local_audit SET chain_seq = 6 WHERE chain_seq = -6",
            );
        },
        Some("broken at entry 6 (row id 7): it does not link to the entry before it"),
        "audit_chain_broken",
    ),
    (
        "the first entries are removed",
        |place| attack(place, "DELETE FROM local_audit WHERE chain_seq < 4"),
        Some("broken at entry 4 (row id 4): every entry before it is missing"),
        "audit_chain_broken",
    ),
    (
        "the first entries are removed behind a mark of an archive that was never made",
        |place| {
            let made_up =
                "INSERT INTO audit_marks SELECT org_id, chain_seq, 1, entry_hash, '/nowhere.tar.gz', '00',
                    timestamp FROM local_audit WHERE chain_seq = 4;";
            let delete = "DELETE FROM local_audit WHERE chain_seq <= 4";
            place.sql(made_up);
            let refused = Command::new("sqlite3").arg(place.database()).arg(delete).output().unwrap();
            assert!(both(&refused).contains("cullis-proxy audit archive"), "{}", both(&refused));
            attack(place, delete);
        },
        Some("no entry audit.archived behind it tells of that archive"),
        "audit_chain_broken",
    ),
    (
        "the newest entries are cut off",
        |place| {
            attack(
                place,
                "DELETE FROM local_audit WHERE chain_seq > (SELECT max(chain_seq) - 3 FROM local_audit)",
            );
        },
        Some("and all up to the expected head"),
        "audit_chain_broken",
    ),
    (
        "a new history",
        |place| rebuild(place, 6, false),
        Some("are not those of the checkpoint that was signed for them"),
        "audit_chain_broken",
    ),
    (
        "a new history with its tree",
        |place| rebuild(place, 6, true),
        Some("are not those of the checkpoint that was signed for them"),
        "audit_rolled_back",
    ),
    (
        "an older copy of the database",
        |place| {
            fs::copy(place.path("older.db"), place.database()).unwrap();
        },
        None,
        "audit_rolled_back",
    ),
];

#[tokio::test]
async fn the_stored_log_cannot_be_touched_unseen() {
    for (name, attack, shown, warning) in ATTACKS {
        let place = logged().await;
        place.sql(&format!(".backup {}", place.path("older.db").display()));
        let server = place.serve().await;
        server.admin().create_agent("grace", "Grace", &[]).await.unwrap();
        assert_eq!(server.stop().await, 0);
        attack(&place);

        let found = verify(&place);
        let report = both(&found);
        match shown {
            Some(shown) => {
                assert!(found.status.code() == Some(2) && report.contains(shown), "{name}: {report}");
            }
            None => assert_eq!(found.status.code(), Some(0), "{name}: {report}"),
        }
        let server = place.serve().await;
        eventually(&format!("{name}: {warning}"), PATIENCE, async || {
            let health = server.get("/healthz").await.json::<Value>().ok()?;
            health["warnings"].as_array()?.iter().any(|told| told == warning).then_some(())
        })
        .await;
        assert_eq!(server.stop().await, 0);
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
