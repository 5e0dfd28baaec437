//! What any backend of the store must do. SQLite is the first; the next one runs the same functions.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use mastio_core::{
    AgentId, Event, Kid, OrgId, PrincipalKind, SpiffeId, Stamp, SystemClock, SystemRng, Thumbprint,
    TrustDomain, event::catalogue,
};
use mastio_store::{
    Committed, OpenError, OpenOptions, Rejection, Statement, Store, Touch, Unavailable, Unit, WriteError,
    agents::{
        self, Method, NewAgent, PinnedLeaf, Standing,
        fleet::{self, Filter, Status},
    },
    audit, config, crl,
    dashboard::{self, SessionRow},
    idempotency::{self, Remembered},
    keys::{self, KeyState},
    pending,
    spiffe::{self, Bundle},
    sqlite::Database,
};
use secrecy::ExposeSecret;

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("data/mcp_proxy.db")
    }

    fn with_fixture(name: &str) -> Self {
        let place = Self::new();
        std::fs::create_dir_all(place.path().parent().unwrap()).unwrap();
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/");
        std::fs::write(place.path(), std::fs::read(format!("{fixture}{name}")).unwrap()).unwrap();
        place
    }

    fn open(&self) -> Result<(Arc<Database>, mastio_store::Adoption), OpenError> {
        let backups = self.dir.path().join("backups");
        Database::open(&OpenOptions {
            path: &self.path(),
            backups: &backups,
            now: Stamp::from_unix(1_790_000_000),
        })
    }

    fn store(&self) -> Store {
        let org = OrgId::parse("acme").unwrap();
        Store::start(self.open().unwrap().0, org, Arc::new(SystemClock::default()), &SystemRng).unwrap()
    }

    fn count(&self, table: &str) -> i64 {
        let connection = rusqlite::Connection::open(self.path()).unwrap();
        connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    }

    fn sql(&self, sql: &str) -> rusqlite::Result<()> {
        rusqlite::Connection::open(self.path())?.execute_batch(sql)
    }

    /// Every table, index and trigger with the text that made it.
    fn schema(&self) -> Vec<(String, Option<String>)> {
        let connection = rusqlite::Connection::open(self.path()).unwrap();
        let mut statement = connection.prepare("SELECT name, sql FROM sqlite_master ORDER BY name").unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }
}

fn told(by: &str) -> Event {
    Event::new(&catalogue::AgentDeactivated { by: by.to_owned() })
}

fn alice() -> AgentId {
    AgentId::parse("acme::alice").unwrap()
}

fn new_agent(id: &AgentId) -> [Statement; 2] {
    let leaf = PinnedLeaf {
        thumbprint: Thumbprint::of(b"leaf"),
        spki_sha256: Thumbprint::of(id.as_str().as_bytes()).to_string(),
        not_after: Stamp::from_unix(2),
    };
    NewAgent {
        id,
        display_name: "Alice",
        capabilities: &["order.read".to_owned()],
        certificates: "PEM",
        leaf: &leaf,
        method: Method::Admin,
        dpop_jkt: None,
        spiffe_id: None,
        federated: false,
        device_info: None,
        kind: PrincipalKind::Agent,
        reuse: false,
        at: Stamp::from_unix(1),
    }
    .insert()
}

#[tokio::test]
async fn many_writers_get_their_places_without_gap_or_fork() {
    let place = Place::new();
    let store = Arc::new(place.store());
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..500 {
        let store = Arc::clone(&store);
        tasks.spawn(async move { store.submit(Unit::of(told(&writer.to_string()))).await.unwrap() });
    }
    let mut places: Vec<u64> = tasks.join_all().await.into_iter().map(|done| done.audit.unwrap().0).collect();
    places.sort_unstable();
    assert_eq!(places, (1..=500).collect::<Vec<_>>());
    let findings = audit::verify_file(&place.path(), &mut |_| {}).unwrap();
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].result.as_ref().unwrap().rows, 500);
}

#[tokio::test]
async fn a_rejected_unit_leaves_nothing_and_harms_no_other() {
    let place = Place::new();
    let store = place.store();
    let first = Unit::of(told("x")).write_all(new_agent(&alice())).touch(Touch::Agent(alice()));
    assert_eq!(store.submit(first.clone()).await, Ok(Committed { audit: Some((1, 1)) }));
    let (again, other) = tokio::join!(store.submit(first), store.submit(Unit::of(told("y"))));
    assert!(matches!(again, Err(WriteError::Rejected(Rejection::Constraint { statement: 0, .. }))));
    let alike = AgentId::parse(&format!("{}::ALICE", alice().org())).unwrap();
    let alike = store.submit(Unit::default().write_all(new_agent(&alike))).await;
    assert_eq!(alike, Err(WriteError::Rejected(Rejection::Rows { statement: 0, touched: 0 })));
    assert_eq!(other, Ok(Committed { audit: Some((2, 2)) }));
    let none = Unit::of(told("z"))
        .write(config::put("a", "1"))
        .write(Statement::one("UPDATE internal_agents SET is_active = 0 WHERE agent_id = 'nobody'", vec![]));
    let rejected = store.submit(none).await;
    assert_eq!(rejected, Err(WriteError::Rejected(Rejection::Rows { statement: 1, touched: 0 })));
    assert_eq!(config::get(store.database(), "a").unwrap(), None);
}

#[tokio::test]
async fn deactivation_raises_the_epoch_once() {
    let place = Place::new();
    let store = Arc::new(place.store());
    store.submit(Unit::default().write_all(new_agent(&alice()))).await.unwrap();
    let agent = agents::find(&store, &alice()).await.unwrap().unwrap();
    assert_eq!((agent.epoch, &agent.standing), (0, &Standing::Active));
    let unit = || agents::deactivate(Unit::of(told("admin")), &agent);
    let (one, two) = tokio::join!(store.submit(unit()), store.submit(unit()));
    assert!(one.is_ok() != two.is_ok(), "exactly one of two deactivations wins");
    let agent = agents::find(&store, &alice()).await.unwrap().unwrap();
    assert_eq!((agent.epoch, agent.standing), (1, Standing::Inactive));
    assert_eq!(agents::epochs(store.database()).unwrap(), vec![(alice(), 1)]);
}

#[tokio::test]
async fn a_spiffe_id_stands_for_one_agent_and_an_agent_for_one_id() {
    let place = Place::new();
    let store = place.store();
    let [one, two] =
        ["one", "two"].map(|path| SpiffeId::parse(&format!("spiffe://prod.example/{path}")).unwrap());
    let (alice, bob) = (alice(), AgentId::parse("acme::bob").unwrap());
    let bind = async |id, agent| store.submit(Unit::default().write(spiffe::bind(id, agent))).await;
    let agent = async |id| spiffe::binding(&store, id).await.unwrap().map(|binding| binding.agent);
    bind(&one, &alice).await.unwrap();
    bind(&one, &alice).await.unwrap();
    let taken = bind(&one, &bob).await;
    assert_eq!(taken, Err(WriteError::Rejected(Rejection::Rows { statement: 0, touched: 0 })));
    bind(&two, &bob).await.unwrap();
    assert!(bind(&one, &bob).await.is_err(), "bob has another one, and this is alice's");
    let revoked = Stamp::from_unix(1_790_000_000);
    store.submit(Unit::default().write_all(spiffe::refuse_issued_until(&alice, revoked))).await.unwrap();
    let three = SpiffeId::parse("spiffe://other.example/three").unwrap();
    bind(&three, &alice).await.unwrap();
    assert_eq!((agent(&one).await, agent(&three).await), (None, Some(alice.clone())));
    let floor = async |id| spiffe::binding(&store, id).await.unwrap().unwrap().issued_after;
    assert_eq!(floor(&three).await, Some(revoked), "a revocation follows the agent to its next id");
    let carol = AgentId::parse("acme::carol").unwrap();
    let to_enrol = spiffe::issued_after(&store, &carol, &one).await.unwrap();
    assert_eq!(to_enrol, Some(revoked), "and stays with the id");
    bind(&one, &carol).await.unwrap();
    assert_eq!((floor(&one).await, floor(&two).await), (Some(revoked), None));
    let mut domains: Vec<_> =
        spiffe::bound_domains(store.database()).unwrap().iter().map(ToString::to_string).collect();
    domains.sort();
    assert_eq!(domains, ["other.example", "prod.example"]);
}

#[tokio::test]
async fn a_bundle_is_written_over_the_one_that_was_read_only() {
    let place = Place::new();
    let store = place.store();
    let domain = TrustDomain::parse("prod.example").unwrap();
    let put = async |pem: &str, before: Option<&str>| {
        let bundle =
            Bundle { domain: domain.clone(), pem: pem.into(), updated_at: Stamp::from_unix(1_790_000_000) };
        store.submit(Unit::default().write(spiffe::put_bundle(&bundle, before))).await.is_ok()
    };
    assert!(!put("two", Some("one")).await, "there is none");
    assert!(put("one", None).await);
    assert!(!put("two", None).await && !put("two", Some("other")).await);
    assert!(put("two", Some("one")).await);
    let stored = spiffe::bundles(store.database()).unwrap();
    assert_eq!(stored.iter().map(|bundle| bundle.pem.as_str()).collect::<Vec<_>>(), ["two"]);
    let drop = async || store.submit(Unit::default().write(spiffe::drop_bundle(&domain))).await.is_ok();
    assert!(drop().await && !drop().await);
}

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
async fn commits_of_others_are_noticed_and_built_upon() {
    let place = Place::new();
    let store = place.store();
    let (tell, mut told_of) = tokio::sync::mpsc::unbounded_channel();
    store.on_commit(move |notice| {
        tell.send(matches!(notice, mastio_store::Notice::Foreign)).unwrap();
    });
    assert_eq!(told_of.recv().await, Some(true), "there may have been some before it listened");
    store.submit(Unit::of(told("x"))).await.unwrap();
    assert_eq!(told_of.recv().await, Some(false));
    place.sql("INSERT INTO proxy_config VALUES ('spire_trust_bundle', 'x')").unwrap();
    let noticed = tokio::time::timeout(std::time::Duration::from_secs(5), told_of.recv()).await;
    assert_eq!(noticed, Ok(Some(true)));
}

#[tokio::test]
async fn commits_of_others_are_noticed_even_if_our_own_fails_meanwhile() {
    let place = Place::new();
    let store = place.store();
    let (tell, mut told_of) = tokio::sync::mpsc::unbounded_channel();
    store.on_commit(move |notice| {
        tell.send(matches!(notice, mastio_store::Notice::Foreign)).unwrap_or_default();
    });
    told_of.recv().await.unwrap();
    let other = rusqlite::Connection::open(place.path()).unwrap();
    other
        .execute_batch("BEGIN IMMEDIATE; INSERT INTO proxy_config VALUES ('spire_trust_bundle', 'x')")
        .unwrap();
    assert!(store.submit(Unit::of(told("x"))).await.is_err());
    other.execute_batch("COMMIT").unwrap();
    while let Ok(told) = told_of.try_recv() {
        assert!(told, "nothing of ours was committed");
    }
    let noticed = tokio::time::timeout(std::time::Duration::from_secs(5), told_of.recv()).await;
    assert_eq!(noticed, Ok(Some(true)));
}

#[tokio::test]
async fn a_deleted_or_replaced_file_is_never_written_into() {
    let place = Place::new();
    let store = place.store();
    store.submit(Unit::of(told("x"))).await.unwrap();
    std::fs::rename(place.path(), place.dir.path().join("elsewhere.db")).unwrap();
    let gone = store.submit(Unit::of(told("y"))).await;
    assert!(matches!(gone, Err(WriteError::Unavailable(Unavailable::Gone(_)))), "{gone:?}");
    std::fs::copy(place.dir.path().join("elsewhere.db"), place.path()).unwrap();
    let replaced = store.submit(Unit::of(told("y"))).await;
    assert!(matches!(replaced, Err(WriteError::Unavailable(Unavailable::Gone(_)))), "{replaced:?}");
    assert!(store.trouble().is_some());
    assert!(agents::find(&store, &alice()).await.is_err());
}

#[tokio::test]
async fn a_locked_database_refuses_and_recovers() {
    let place = Place::new();
    let store = place.store();
    let blocker = rusqlite::Connection::open(place.path()).unwrap();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = store.submit(Unit::of(told("x"))).await;
    assert!(
        matches!(&refused, Err(WriteError::Unavailable(u)) if u.to_string().contains("database is locked")),
        "{refused:?}"
    );
    blocker.execute_batch("ROLLBACK").unwrap();
    assert_eq!(store.submit(Unit::of(told("x"))).await, Ok(Committed { audit: Some((1, 1)) }));
    assert!(store.trouble().is_none());
}

#[tokio::test]
async fn closing_commits_what_is_queued() {
    let place = Place::new();
    let store = place.store();
    for _ in 0..100 {
        store.post(Unit::of(told("x"))).unwrap();
    }
    store.close();
    assert_eq!(audit::verify_file(&place.path(), &mut |_| {}).unwrap()[0].result.as_ref().unwrap().rows, 100);
}

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
            ('local_audit_no_delete', 'local_audit_forgotten', 'cullis_audit_archived', 'audit_told_marks')"
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

#[tokio::test]
async fn sessions_of_the_dashboard_end_once() {
    let place = Place::new();
    let store = place.store();
    let at = |seconds: i64| Stamp::from_unix(1_790_000_000 + seconds);
    let row = |hash: &str, opened| SessionRow {
        hash: hash.to_owned(),
        address: "198.51.100.7".into(),
        user_agent: "a browser".into(),
        created_at: at(opened),
        expires_at: at(opened + 100),
    };
    for (hash, opened) in [("a", 0), ("b", 1), ("c", 2)] {
        store.submit(Unit::default().write(row(hash, opened).insert())).await.unwrap();
    }
    let live = async |now| {
        let rows = dashboard::list(&store, at(now)).await.unwrap();
        rows.into_iter().map(|row| row.hash).collect::<String>()
    };
    assert_eq!(live(3).await, "cba");
    assert_eq!(live(101).await, "c");
    assert_eq!(dashboard::find(&store, "b", at(3)).await.unwrap(), Some(row("b", 1)));
    assert_eq!(dashboard::find(&store, "b", at(101)).await.unwrap(), None);
    let end = || Unit::of(told("b")).write(dashboard::end("b", at(4)));
    store.submit(end()).await.unwrap();
    let again = store.submit(end()).await.unwrap_err();
    assert_eq!(again, WriteError::Rejected(Rejection::Rows { statement: 0, touched: 0 }));
    store.submit(Unit::default().write(dashboard::end_all(Some("a"), at(5)))).await.unwrap();
    assert_eq!(live(6).await, "a");
    store.submit(Unit::default().write(dashboard::end_all(None, at(7)))).await.unwrap();
    assert_eq!(live(8).await, "");
    store.submit(Unit::default().write(dashboard::forget(at(102)))).await.unwrap();
    assert_eq!(place.count("dashboard_sessions"), 1, "the one that ran out last is remembered");
}

#[tokio::test]
async fn the_fleet_is_counted_and_shown_in_pages() {
    let place = Place::new();
    let store = place.store();
    let id = |name: &str| AgentId::parse(&format!("acme::{name}")).unwrap();
    for name in ["a", "b", "c", "d"] {
        let unit = Unit::of(told(name).about(id(name).as_str())).write_all(new_agent(&id(name)));
        store.submit(unit).await.unwrap();
    }
    // As the existing system leaves them: an empty text is no time.
    place
        .sql("UPDATE internal_agents SET is_active = 0, revoked_at = '' WHERE agent_id = 'acme::b'")
        .unwrap();
    let revoked = "UPDATE internal_agents SET is_active = 0, revoked_at = '2026-11-22 01:51:01.718073+00:00' \
        WHERE agent_id = 'acme::c'";
    place.sql(revoked).unwrap();
    let census = fleet::census(&store).await.unwrap();
    assert_eq!(census, [(Status::Active, 2), (Status::Inactive, 1), (Status::Revoked, 1)]);
    let ids = async |filter: Filter, after: Option<AgentId>| {
        let page = fleet::page(&store, &filter, after.as_ref(), 2).await.unwrap();
        let names: String = page.agents.iter().map(|listed| listed.agent.id.name()).collect();
        (names, page.next)
    };
    assert_eq!(fleet::count(&store, &Filter::default()).await.unwrap(), 4);
    assert_eq!(ids(Filter::default(), None).await, ("ab".into(), Some(id("b"))));
    assert_eq!(ids(Filter::default(), Some(id("b"))).await, ("cd".into(), None));
    let revoked = Filter { status: Some(Status::Revoked), ..Filter::default() };
    assert_eq!(fleet::count(&store, &revoked).await.unwrap(), 1);
    assert_eq!(ids(revoked, None).await, ("c".into(), None));
    let searched = Filter { needle: Some("::D".into()), ..Filter::default() };
    assert_eq!(ids(searched, None).await, ("d".into(), None));
}

#[tokio::test]
async fn numbers_of_revocation_lists_follow_each_other() {
    let place = Place::new();
    let store = place.store();
    let number = || crl::number(store.database(), "aa").unwrap();
    let using = async |number| store.submit(Unit::default().write(crl::use_number("aa", number))).await;
    assert_eq!(number(), 0);
    using(1).await.unwrap();
    for taken_or_early in [1, 3] {
        let rejected = Err(WriteError::Rejected(Rejection::Rows { statement: 0, touched: 0 }));
        assert_eq!(using(taken_or_early).await, rejected);
    }
    using(2).await.unwrap();
    assert_eq!(number(), 2);
}

#[tokio::test]
async fn a_used_key_is_taken_until_its_day_is_over() {
    let place = Place::new();
    let store = place.store();
    let remembered = |request: &str, at| Remembered {
        request_sha256: request.into(),
        agent: alice(),
        thumbprint: Thumbprint::of(b""),
        at,
    };
    let (now, later) = (Stamp::from_unix(10), Stamp::from_unix(10).plus(idempotency::KEPT));
    let remember = async |request, at| {
        store.submit(Unit::default().write(idempotency::remember("key", &remembered(request, at)))).await
    };
    remember("one", now).await.unwrap();
    assert!(matches!(remember("two", now).await, Err(WriteError::Rejected(_))));
    assert_eq!(idempotency::find(&store, "key", now).await.unwrap(), Some(remembered("one", now)));
    assert_eq!(idempotency::find(&store, "key", later).await.unwrap(), None);
    remember("two", later).await.unwrap();
    store.submit(Unit::default().write(idempotency::purge(later))).await.unwrap();
    assert_eq!(idempotency::find(&store, "key", later).await.unwrap(), Some(remembered("two", later)));
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

#[tokio::test]
async fn one_signing_key_is_in_place_at_a_time() {
    let place = Place::new();
    let store = place.store();
    let (now, later) = (Stamp::from_unix(10), Stamp::from_unix(20));
    let [one, two, staged] = ["one", "two", "staged"].map(Kid::from_text);
    let insert = |kid: &Kid| keys::insert_signing_key(kid, "PUBLIC", &"PRIVATE".into(), "LEAF", now);
    let submit =
        async |statements: Vec<Statement>| store.submit(Unit::default().write_all(statements)).await.is_ok();
    assert!(submit(vec![keys::no_signing_key_in_place(), insert(&one)]).await);
    assert!(!submit(vec![keys::no_signing_key_in_place(), insert(&two)]).await, "one is active");
    let succeed = |old: &Kid, new: &Kid| {
        vec![keys::deprecate_signing_key(old, now, later), keys::no_signing_key_in_place(), insert(new)]
    };
    assert!(submit(succeed(&one, &two)).await);
    assert!(!submit(succeed(&one, &Kid::from_text("three"))).await, "one left its place already");
    let stage =
        "INSERT INTO mastio_keys (kid, pubkey_pem, privkey_pem, created_at) VALUES ('staged', '', 'S', ?1)";
    assert!(submit(vec![Statement::one(stage, vec![now.into()])]).await);
    assert!(!submit(succeed(&two, &one)).await, "another is staged");
    assert!(!submit(vec![keys::activate_signing_key(&staged, now)]).await, "two is active");
    assert!(!submit(vec![keys::drop_signing_key(&two)]).await, "two is not staged");
    let activate =
        || vec![keys::deprecate_signing_key(&two, now, later), keys::activate_signing_key(&staged, now)];
    assert!(submit(activate()).await && !submit(activate()).await);
    assert!(!submit(vec![keys::drop_signing_key(&staged)]).await, "it is active");
    let mut rows = keys::signing_keys(store.database()).unwrap();
    rows.sort_by(|one, other| one.kid.cmp(&other.kid));
    let found: Vec<_> =
        rows.iter().map(|row| (row.kid.as_str(), row.state, row.private.expose_secret())).collect();
    let grace = KeyState::Grace(Some(later));
    assert_eq!(found, [("one", grace, ""), ("staged", KeyState::Active, "S"), ("two", grace, "")]);
}
