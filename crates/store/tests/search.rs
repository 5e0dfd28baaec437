//! Searching the audit log: the same is found through the index and beside it, and nothing reads whole tables.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{ops::ControlFlow, path::PathBuf, sync::Arc, time::Duration};

use mastio_core::{Clock, Event, ManualClock, OrgId, Stamp, SystemRng, event::catalogue};
use mastio_store::{
    OpenOptions, Store, Unit,
    audit::{
        self, EventName, Filter, Order, Page, Words,
        archive::{self, Span},
        index::{self, CHUNK},
    },
    sqlite::Database,
};
use rusqlite::Connection;

const BRING_BACK: &str = "INSERT INTO restored_audit (id, timestamp, agent_id, event_type, details, previous_hash, \
    entry_hash, session_id, org_id, result, chain_seq, hash_format)";
const START: i64 = 1_790_000_000;

struct Log {
    dir: tempfile::TempDir,
    store: Store,
    clock: Arc<ManualClock>,
}

impl Log {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mcp_proxy.db");
        let (now, org) = (Stamp::from_unix(START), OrgId::parse("acme").unwrap());
        let (database, _) = Database::open(&OpenOptions { path: &path, backups: dir.path(), now }).unwrap();
        let clock = Arc::new(ManualClock::at(now));
        let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        Self { store: Store::start(database, org, shared, &SystemRng).unwrap(), dir, clock }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("mcp_proxy.db")
    }

    /// `rounds` times five entries, a second for each round.
    async fn fill(&self, rounds: u64) {
        for round in 0..rounds {
            let agent = format!("acme::agent-{}", round % 3);
            let told = |by: &str| catalogue::AgentDeactivated { by: format!("operator:{by}") };
            let denied = catalogue::OneshotDenied { reason: "reach", recipient: "acme::bob".into() };
            let unit = Unit::of(Event::new(&told(&format!("a{round}"))).about(agent.as_str()))
                .tell(Event::new(&catalogue::AgentReactivated { by: "café".into() }).about(agent.as_str()))
                .tell(Event::new(&denied).about(agent.as_str()).within(format!("s-{}", round % 7)))
                .tell(Event::new(&catalogue::AdminSecretRebootstrapped {}))
                .tell(Event::new(&catalogue::KeysSealed { count: round }));
            self.store.submit(unit).await.unwrap();
            self.clock.advance(Duration::from_secs(1));
        }
    }

    async fn index(&self) -> usize {
        let mut chunks = 0;
        while let Some(chunk) = index::next_chunk(self.store.database()).unwrap() {
            self.store.submit(chunk.unit()).await.unwrap();
            chunks += 1;
        }
        chunks
    }

    fn search(&self, filter: &Filter, order: Order, after: Option<i64>, limit: u32) -> Page {
        self.store.database().audit(|view| view.search(filter, order, after, limit)).unwrap()
    }

    /// The ids of all pages.
    fn ids(&self, filter: &Filter, order: Order, limit: u32) -> Vec<i64> {
        let (mut ids, mut after) = (Vec::new(), None);
        loop {
            let page = self.search(filter, order, after, limit);
            ids.extend(page.entries.iter().map(|entry| entry.id));
            after = page.next;
            if after.is_none() {
                return ids;
            }
        }
    }
}

fn questions() -> Vec<(&'static str, Filter)> {
    let any = Filter::default;
    let event = |text: &str| Some(EventName::read(text));
    let text = |text: &str| Words::read(text);
    let agent = || Some("acme::agent-1".to_owned());
    let at = |seconds: i64| Some(Stamp::from_unix(START + seconds));
    vec![
        ("all", any()),
        ("chain", Filter::of_chain("acme")),
        ("other chain", Filter::of_chain("other")),
        ("agent", Filter { agent: agent(), ..any() }),
        ("event", Filter { event: event("agent.deactivated"), ..any() }),
        ("family", Filter { event: event("agent."), ..any() }),
        ("no such family", Filter { event: event("nothing."), ..any() }),
        ("agent and event", Filter { agent: agent(), event: event("oneshot_denied"), ..any() }),
        ("agent and family", Filter { agent: agent(), event: event("agent."), ..any() }),
        ("denied", Filter { result: Some("denied".into()), ..any() }),
        ("ok", Filter { result: Some("ok".into()), ..any() }),
        ("session", Filter { session: Some("s-3".into()), ..any() }),
        ("times", Filter { from: at(20), until: at(40), ..any() }),
        ("from", Filter { from: at(90), ..any() }),
        ("text", Filter { text: text("a17"), ..any() }),
        ("text of several words", Filter { text: text("OPERATOR:a1"), ..any() }),
        ("text with an escape", Filter { text: text("café"), agent: agent(), ..any() }),
        ("text that is nowhere", Filter { text: text("nowhere"), ..any() }),
        (
            "all at once",
            Filter {
                agent: agent(),
                event: event("oneshot_"),
                result: Some("denied".into()),
                session: Some("s-4".into()),
                from: at(0),
                until: at(100),
                text: text("bob"),
                ..any()
            },
        ),
    ]
}

#[tokio::test]
async fn the_same_is_found_before_and_after_it_is_indexed() {
    let log = Log::new();
    log.fill(u64::from(CHUNK) / 2).await;
    let found = |order, limit| -> Vec<_> {
        questions().iter().map(|(_, filter)| log.ids(filter, order, limit)).collect()
    };
    let (newest, oldest) = (found(Order::NewestFirst, 1000), found(Order::OldestFirst, 1000));
    assert_eq!(log.index().await, 2, "whole chunks only");
    for (place, (question, _)) in questions().iter().enumerate() {
        let empty = question.contains("no") && !question.contains("denied") || question.contains("other");
        assert_eq!(newest[place].is_empty(), empty, "{question}");
        assert!(newest[place].is_sorted_by(|one, next| one > next), "{question}");
        assert!(newest[place].iter().rev().eq(&oldest[place]), "{question}");
    }
    for limit in [7, 100, 1000] {
        assert_eq!(found(Order::NewestFirst, limit), newest, "in pages of {limit}");
        assert_eq!(found(Order::OldestFirst, limit), oldest, "in pages of {limit}");
    }
}

#[tokio::test]
async fn an_entry_is_found_as_soon_as_it_is_committed() {
    let log = Log::new();
    log.fill(u64::from(CHUNK)).await;
    log.index().await;
    log.store.submit(Unit::of(Event::new(&catalogue::KeysSealed { count: 4711 }))).await.unwrap();
    let filter = Filter { text: Words::read("4711"), ..Filter::default() };
    let page = audit::search(&log.store, filter, None, 10).await.unwrap();
    assert_eq!((page.entries.len(), page.next), (1, None));
}

#[tokio::test]
async fn a_chunk_is_indexed_once_and_never_half() {
    let log = Log::new();
    log.fill(u64::from(CHUNK) / 5 + 1).await;
    let chunk = index::next_chunk(log.store.database()).unwrap().unwrap();
    log.store.submit(chunk.unit()).await.unwrap();
    log.store.submit(chunk.unit()).await.unwrap_err();
    let all = log.ids(&Filter::default(), Order::NewestFirst, 100);
    assert_eq!(all.len(), (u64::from(CHUNK) / 5 + 1) as usize * 5);
    assert_eq!(index::next_chunk(log.store.database()).unwrap(), None);
}

#[tokio::test]
async fn archived_entries_are_not_found_any_more() {
    let log = Log::new();
    log.fill(u64::from(CHUNK)).await;
    log.index().await;
    let connection = Connection::open(log.path()).unwrap();
    connection
        .execute_batch(
            "INSERT INTO audit_tree VALUES (1, 1, 1000); \
             INSERT INTO audit_checkpoints VALUES (1, 'log', 1000, 'root', 'note', 'now'); \
             INSERT INTO audit_marks SELECT org_id, chain_seq, 1, entry_hash, 'one.tar.gz', 'x', 'now' \
             FROM local_audit WHERE chain_seq = 600;",
        )
        .unwrap();
    let span = Span { first: 1, last: 600 };
    let hash = "SELECT entry_hash FROM local_audit WHERE chain_seq = 600";
    let archived = catalogue::Archived {
        first_seq: span.first,
        last_seq: span.last,
        first_hash: "y".into(),
        last_hash: connection.query_row(hash, [], |row| row.get(0)).unwrap(),
        bundle_sha256: "x".into(),
        file: "one.tar.gz".into(),
        by: "operator".into(),
    };
    log.store.submit(Unit::of(Event::new(&archived))).await.unwrap();
    let gone = archive::remove(&OrgId::parse("acme").unwrap(), span);
    log.store.submit(Unit::default().write_all(gone)).await.unwrap();
    let count = |table: &str| -> i64 {
        let sql = format!("SELECT count(*) FROM {table} WHERE rowid <= 600");
        connection.query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!([count("audit_search"), count("audit_text")], [0, 0]);
    let all = log.ids(&Filter::default(), Order::OldestFirst, 1000);
    assert_eq!((all.len(), all[0]), (CHUNK as usize * 5 - 600 + 1, 601));
    let words = Filter { text: Words::read("a119"), ..Filter::default() };
    assert_eq!(log.ids(&words, Order::OldestFirst, 10), Vec::<i64>::new());
    connection.execute_batch(&format!(
        "{BRING_BACK} SELECT id - 600, timestamp, agent_id, event_type, details, previous_hash, entry_hash, session_id, \
         org_id, result, chain_seq - 600, hash_format FROM local_audit WHERE chain_seq BETWEEN 601 AND 700"
    )).unwrap();
    let oldest = log.ids(&Filter::default(), Order::OldestFirst, 102);
    assert_eq!(
        (oldest[0], oldest[99], oldest[100], oldest[101]),
        (1, 100, 601, 602),
        "what came back is found"
    );
    let newest = log.ids(&Filter::default(), Order::NewestFirst, 2000);
    assert_eq!((newest.len(), newest.last()), (CHUNK as usize * 5 - 500 + 1, Some(&1)));
    log.store
        .database()
        .audit(|view| {
            let unagented = Filter { event: Some(EventName::Within("a".into())), ..Filter::default() };
            let range = view.range("acme", &unagented)?.unwrap();
            assert!(range.first > 600, "what came back is not the log");
            let mark = view.archived("acme")?.unwrap();
            assert_eq!((mark.span, mark.file.as_str()), (span, "one.tar.gz"));
            assert_eq!(view.archive_of("acme", 7)?, Some(mark));
            assert_eq!(view.archive_of("acme", 601)?, None);
            assert_eq!(view.oldest("acme")?.unwrap().chain_seq, Some(601));
            Ok(())
        })
        .unwrap();
}

#[tokio::test]
async fn a_range_holds_all_that_was_asked_for_and_begins_and_ends_with_it() {
    let log = Log::new();
    log.fill(u64::from(CHUNK)).await;
    log.index().await;
    let at = |seconds: i64| Some(Stamp::from_unix(START + seconds));
    let filter = Filter { from: at(10), until: at(12), ..Filter::default() };
    let (range, none, walked, count, enough) = log
        .store
        .database()
        .audit(|view| {
            let range = view.range("acme", &filter)?.unwrap();
            let mut walked = Vec::new();
            view.walk(&range, &filter, &mut |row| {
                walked.push(row.chain_seq.unwrap());
                ControlFlow::Continue(())
            })?;
            let none = view.range("other", &filter)?;
            let enough = view.count(&range, &filter, 3)?;
            Ok((range.clone(), none, walked, view.count(&range, &filter, 100)?, enough))
        })
        .unwrap();
    assert_eq!((range.first, range.last, none), (51, 60, None));
    assert_eq!((walked, count, enough), ((51..=60).collect(), 10, 3));
}
