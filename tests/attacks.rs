//! Attacks on the stored log by somebody with every right on the database file, and what shows each of them.

use std::{
    fs,
    process::{Command, Output},
};

use mastio_audit::{
    checkpoint::Checkpoint,
    note::{KeyKind, NoteKey, NoteSigner},
    tree::Peaks,
};
use mastio_core::SystemRng;
use serde_json::Value;

use crate::harness::{PATIENCE, Place, both, eventually, repository, run};

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

fn verify(place: &Place, arguments: &[&str]) -> Output {
    place.command(&[&["audit", "verify"], arguments].concat()).output().unwrap()
}

/// What is done to the stored log, what the verifier says of it, and what the server warns of.
type Attack = (&'static str, fn(&Place), &'static str, &'static str);

const ATTACKS: [Attack; 10] = [
    (
        "one entry is changed",
        |place| attack(place, "UPDATE local_audit SET details = '{\"by\":\"nobody\"}' WHERE chain_seq = 6"),
        "broken at entry 6 (row id 6): its content does not have its hash",
        "audit_chain_broken",
    ),
    (
        "one entry is removed",
        |place| attack(place, "DELETE FROM local_audit WHERE chain_seq = 6"),
        "broken at entry 7 (row id 7): it follows entry 5",
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
        "broken at entry 7",
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
        "broken at entry 6 (row id 7): it does not link to the entry before it",
        "audit_chain_broken",
    ),
    (
        "the first entries are removed",
        |place| attack(place, "DELETE FROM local_audit WHERE chain_seq < 4"),
        "broken at entry 4 (row id 4): every entry before it is missing",
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
            let refused = place.sqlite3().arg(delete).output().unwrap();
            assert!(both(&refused).contains("cullis-proxy audit archive"), "{}", both(&refused));
            attack(place, delete);
        },
        "no entry audit.archived behind it tells of that archive",
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
        "and all up to the expected head",
        "audit_chain_broken",
    ),
    (
        "a new history",
        |place| rebuild(place, 6, false),
        "are not those of the checkpoint that was signed for them",
        "audit_chain_broken",
    ),
    (
        "a new history with its tree",
        |place| rebuild(place, 6, true),
        "are not those of the checkpoint that was signed for them",
        "audit_rolled_back",
    ),
    (
        "an older copy of the database",
        |place| {
            fs::copy(place.path("older.db"), place.database()).unwrap();
            // What is left of the newer one beside it would be read over the copy.
            for beside in ["-wal", "-shm"] {
                drop(fs::remove_file(place.path(&format!("data/mcp_proxy.db{beside}"))));
            }
        },
        "audit-checkpoints.log: the saved checkpoint has",
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

        let found = verify(&place, &[]);
        let report = both(&found);
        assert!(found.status.code() == Some(2) && report.contains(shown), "{name}: {report}");
        let server = place.serve().await;
        eventually(&format!("{name}: {warning}"), PATIENCE, async || {
            let health = server.get("/healthz").await.json::<Value>().ok()?;
            health["warnings"].as_array()?.iter().any(|told| told == warning).then_some(())
        })
        .await;
        assert_eq!(server.stop().await, 0);
    }
}

/// Whoever has the file can put a key of their own in it and sign with that: only a key or a root from elsewhere shows it.
#[tokio::test]
async fn a_new_history_under_a_key_of_their_own_is_not_believed() {
    let place = logged().await;
    let known = place.sql("SELECT vkey FROM audit_origins").trim().to_owned();
    rebuild(&place, 6, true);
    let key: NoteKey = known.parse().unwrap();
    let size: u64 = place.sql("SELECT max(tree_size) FROM audit_checkpoints").trim().parse().unwrap();
    let mut peaks = Peaks::default();
    for hash in
        place.sql(&format!("SELECT entry_hash FROM local_audit ORDER BY chain_seq LIMIT {size}")).lines()
    {
        peaks.append(&hex::decode(hash).unwrap().try_into().unwrap());
    }
    let signer = NoteSigner::generate(KeyKind::Log, key.name().clone(), &SystemRng).unwrap();
    let forged = Checkpoint { origin: key.name().clone(), head: peaks.head() }.sign(&signer).unwrap();
    place.sql(&format!(
        "UPDATE audit_origins SET vkey = '{}';
         DELETE FROM audit_checkpoints WHERE tree_size < {size};
         UPDATE audit_checkpoints SET root_hash = '{}', note = '{forged}'",
        signer.key(),
        hex::encode(peaks.head().root)
    ));

    let (database, root) = (place.database(), place.path("nginx-certs/org-ca.crt"));
    let database = database.to_str().unwrap();
    let alone = verify(&place, &["--db", database]);
    assert_eq!(alone.status.code(), Some(0), "{}", both(&alone));
    for (option, value, why) in [
        ("--log-key", known.as_str(), "is none of the keys that you expect"),
        ("--ca-root", root.to_str().unwrap(), "the Mastio announced another key"),
    ] {
        let held = verify(&place, &["--db", database, option, value]);
        assert!(held.status.code() == Some(2) && both(&held).contains(why), "{}", both(&held));
    }
}

#[tokio::test]
async fn a_database_is_held_to_the_key_and_the_root_that_are_known() {
    let place = logged().await;
    let known = place.sql("SELECT vkey FROM audit_origins").trim().to_owned();
    let root = place.path("nginx-certs/org-ca.crt");
    let held = verify(&place, &["--log-key", &known, "--ca-root", root.to_str().unwrap()]);
    assert!(
        held.status.success() && both(&held).contains("below the root that you trust"),
        "{}",
        both(&held)
    );
    for useless in ["--witness", "--tsa-root", "--require-timestamp"] {
        let value = if useless == "--tsa-root" { root.to_str().unwrap() } else { known.as_str() };
        let option = if useless == "--require-timestamp" { vec![useless] } else { vec![useless, value] };
        let refused = verify(&place, &option);
        assert!(refused.status.code() == Some(1) && both(&refused).contains(useless), "{}", both(&refused));
    }
}

/// The guards are not the proof, but whoever does not drop them is stopped at once.
#[tokio::test]
async fn a_second_writer_on_a_stale_head_is_refused() {
    let place = logged().await;
    let stale = "INSERT INTO local_audit (timestamp, event_type, org_id, result, chain_seq, previous_hash, entry_hash, hash_format)
        SELECT timestamp, event_type, org_id, result, chain_seq, previous_hash, entry_hash, 'v2'
        FROM local_audit WHERE chain_seq = 5";
    let refused = place.sqlite3().arg(stale).output().unwrap();
    assert!(!refused.status.success());
    assert!(
        both(&refused).contains("chain_seq must follow the newest entry without gap or fork"),
        "{}",
        both(&refused)
    );
    place.verify_audit();
}
