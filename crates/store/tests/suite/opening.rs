//! Opening: older versions, adopted databases, and what is left alone.

use std::{collections::BTreeMap, sync::Arc};

use mastio_core::{OrgId, Stamp, SystemClock, SystemRng};
use mastio_store::{OpenError, Store, Unit, agents, audit, pending};

use crate::place::{Place, told};

#[test]
fn a_database_of_an_older_version_takes_the_missing_steps() {
    /// What the first version had, but for what every table of the existing system has.
    const FIRST: &str = "('cullis_schema', 'cullis_writer', 'cullis_config', 'agent_epochs', 'message_keys', \
        'proxy_config', 'internal_agents', 'mastio_keys', 'pki_key_store', 'local_audit', 'local_messages')";
    let place = Place::new();
    drop(place.open().unwrap());
    let fresh = place.schema();
    let connection = rusqlite::Connection::open(place.path()).unwrap();
    let list = format!(
        "SELECT type, name FROM sqlite_master WHERE type = 'table' AND name NOT IN {FIRST} AND name NOT LIKE 'audit_text_%' \
         UNION ALL SELECT type, name FROM sqlite_master \
         WHERE name LIKE 'cullis_messages_%' OR name IN \
            ('local_audit_no_delete', 'local_audit_forgotten', 'cullis_audit_archived', 'audit_told_marks', \
             'internal_agents_active')"
    );
    let mut statement = connection.prepare(&list).unwrap();
    let later: Vec<String> = statement
        .query_map([], |row| Ok(format!("DROP {} {};", row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    drop(statement);
    assert!(later.len() > 20, "{later:?}");
    connection.execute_batch(&later.concat()).unwrap();
    connection.execute_batch("UPDATE cullis_schema SET version = 1").unwrap();
    drop(connection);
    drop(place.open().unwrap());
    assert_eq!(place.schema(), fresh);
}

#[test]
fn a_second_server_is_kept_out() {
    let place = Place::new();
    let _held = place.open().unwrap();
    let refused = place.open().unwrap_err().to_string();
    assert!(refused.contains(&format!("pid {}", std::process::id())), "{refused}");
}

#[tokio::test]
async fn databases_of_the_python_implementation_are_adopted() {
    for (fixture, org) in
        [("adopted-plain.db", "98cb713aa86714a1"), ("adopted-encrypted.db", "d49479eca420b99d")]
    {
        let place = Place::with_fixture(fixture);
        let tables = |path: &std::path::Path| -> BTreeMap<String, String> {
            let connection = rusqlite::Connection::open(path).unwrap();
            let mut statement = connection
                .prepare("SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name <> 'local_audit'")
                .unwrap();
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
            rows.collect::<rusqlite::Result<_>>().unwrap()
        };
        let before = tables(&place.path());
        let (database, adoption) = place.open().unwrap();
        let adopted = adoption.unsealed.unwrap();
        assert_eq!(adopted.revision, "0042_audit_log_v2");
        let after = tables(&place.path());
        for (name, sql) in &before {
            assert_eq!(after.get(name), Some(sql), "its own tables stay as they were");
        }
        assert!(tables(&adopted.backup) == before, "the copy is of what was there");
        for finding in audit::verify_file(&place.path(), &mut |_| {}).unwrap() {
            assert!(finding.result.is_ok(), "{}: {:?}", finding.chain, finding.result);
        }
        let org = OrgId::parse(org).unwrap();
        let store =
            Store::start(database, org.clone(), Arc::new(SystemClock::default()), &SystemRng).unwrap();
        assert_eq!(
            agents::fleet::newest_first(&store, &agents::fleet::Filter::default()).await.unwrap().len(),
            2
        );
        let appended = store.submit(Unit::of(told("x"))).await.unwrap();
        assert_eq!(appended.audit, Some((5, 5)), "the chain continues");
        store.close();
        let again = audit::verify_file(&place.path(), &mut |_| {}).unwrap();
        let ours = again.iter().find(|finding| finding.chain == org.as_str()).unwrap();
        assert_eq!(ours.result.as_ref().unwrap().rows, 5);
        assert!(place.open().unwrap().1.unsealed.is_some(), "told again until it is sealed");
    }
}

#[tokio::test]
async fn enrollments_of_an_adopted_database_end_at_their_own_time() {
    let place = Place::with_fixture("adopted-plain.db");
    let waits = [
        ("2026-11-22 08:00:00", "2026-11-22 08:30:00"),
        ("2026-11-22 08:00:00.123456+00:00", "2026-11-22 08:30:00.000000+00:00"),
        ("2026-11-22T08:00:00+00:00", "2026-11-22T08:30:00+00:00"),
        ("2026-11-22T08:00:00Z", "2026-11-22T10:30:00+02:00"),
    ];
    for (number, (created, expires)) in waits.iter().enumerate() {
        let id = format!("{number}{}", "A".repeat(31));
        place
            .sql(&format!(
                "INSERT INTO pending_enrollments (session_id, pubkey_pem, pubkey_fingerprint, requester_name, \
                 requester_email, created_at, expires_at) VALUES ('{id}', 'x', 'x', 'x', 'x', '{created}', '{expires}')"
            ))
            .unwrap();
    }
    place.sql("INSERT INTO pending_enrollments VALUES ('x', 'x', 'x', 'x', 'x', NULL, NULL, 'rejected', 'once', 'later', \
               NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'agent')").unwrap();
    let store = place.store();
    let waiting = async |text| pending::count_waiting(&store, Stamp::parse(text).unwrap()).await.unwrap();
    assert_eq!(waiting("2026-11-22T08:29:59Z").await, 4);
    assert_eq!(waiting("2026-11-22T08:30:00Z").await, 0);
    let listed = pending::waiting(&store, Stamp::parse("2026-11-22T08:29:59Z").unwrap(), 9).await.unwrap();
    assert_eq!(listed.len(), 4);
}

#[test]
fn what_cannot_be_adopted_is_refused_and_left_alone() {
    let refuse = |prepare: &dyn Fn(&Place), says: &str| {
        let place = Place::with_fixture("adopted-plain.db");
        prepare(&place);
        let refused = place.open().map(drop).expect_err(says).to_string();
        assert!(refused.contains(says), "{refused}");
    };
    refuse(&|place| place.sql("UPDATE alembic_version SET version_num = '0017_x'").unwrap(), "0017_x");
    refuse(
        &|place| place.sql("INSERT INTO alembic_version VALUES ('0039_a')").unwrap(),
        "0039_a 0042_audit_log_v2",
    );
    let place = Place::with_fixture("adopted-plain.db");
    let lock = place.path().with_file_name("mcp_proxy.db.local_sweeper.lock");
    let held = std::fs::File::create(&lock).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    assert!(matches!(place.open(), Err(OpenError::PythonRuns { .. })));
    drop(held);
    assert!(place.open().is_ok());
    let foreign = Place::new();
    std::fs::create_dir_all(foreign.path().parent().unwrap()).unwrap();
    foreign.sql("CREATE TABLE recipes (id)").unwrap();
    assert!(matches!(foreign.open(), Err(OpenError::Foreign { .. })));
}
