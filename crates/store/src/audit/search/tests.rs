use mastio_core::Stamp;

use super::*;
use crate::{OpenOptions, sqlite::Database};

/// The statements that searches consist of, and how SQLite goes about them.
#[test]
fn no_search_reads_a_whole_table_or_sorts_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mcp_proxy.db");
    let options = OpenOptions { path: &path, backups: dir.path(), now: Stamp::from_unix(1) };
    let (database, _) = Database::open(&options).unwrap();
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch(
            "INSERT INTO audit_chunks VALUES (9, 1, '0', '9'); \
             INSERT INTO audit_search VALUES (1, 'acme::alice', 'agent.create', 's', 'ok'), \
                (2, 'acme::alice', 'agent.revoked', NULL, 'denied')",
        )
        .unwrap();
    for (filter, uses) in questions() {
        for order in [Order::NewestFirst, Order::OldestFirst] {
            let steps = database
                .audit(|view| {
                    let asked = Asked {
                        filter: &filter,
                        order,
                        after: Some(5),
                        through: 9,
                        restored: true,
                        room: 3,
                        found: vec![],
                    };
                    let tail = plan(view, &asked.tail());
                    assert!(
                        tail.iter().all(|step| step.contains("SEARCH a USING INTEGER PRIMARY KEY")),
                        "{tail:?}"
                    );
                    Ok(plan(view, &view.indexed(&asked)?.unwrap()))
                })
                .unwrap();
            assert!(steps.iter().any(|step| step.contains(uses)), "{filter:?}: {steps:#?}");
            // What a merge sorts are at most three entries of each name.
            let merges = steps.iter().any(|step| step.contains("subquery"));
            assert!(
                merges || !steps.iter().any(|step| step.contains("TEMP B-TREE")),
                "{filter:?}: {steps:#?}"
            );
            assert!(!steps.iter().any(|step| reads_all(step)), "{filter:?}: {steps:#?}");
        }
    }
}

/// Filters, and what their search goes along.
fn questions() -> [(Filter, &'static str); 10] {
    let (any, time) = (Filter::default, Some(Stamp::from_unix(5)));
    let (agent, event) = (Some("acme::alice".to_owned()), |name| Some(EventName::read(name)));
    [
        (any(), "s USING INTEGER PRIMARY KEY"),
        (
            Filter { org: Some("acme".into()), from: time, until: time, ..any() },
            "s USING INTEGER PRIMARY KEY",
        ),
        (Filter { result: Some("ok".into()), ..any() }, "s USING INTEGER PRIMARY KEY"),
        (
            Filter { result: Some("denied".into()), ..any() },
            "INDEX audit_search_refused (result=? AND rowid>? AND rowid<?)",
        ),
        (
            Filter { session: Some("s".into()), agent: agent.clone(), ..any() },
            "INDEX audit_search_session (session_id=? AND rowid>? AND rowid<?)",
        ),
        (
            Filter { event: event("agent.create"), ..any() },
            "audit_search_event (event_type=? AND rowid>? AND rowid<?)",
        ),
        (
            Filter { event: event("agent."), ..any() },
            "audit_search_event (event_type=? AND rowid>? AND rowid<?)",
        ),
        (
            Filter { agent: agent.clone(), ..any() },
            "audit_search_agent (agent_id=? AND event_type=? AND rowid>?",
        ),
        (
            Filter { agent: agent.clone(), event: event("agent.create"), ..any() },
            "audit_search_agent (agent_id=? AND event_type=? AND rowid>?",
        ),
        (Filter { text: Words::read("x y"), agent, from: time, ..any() }, "SCAN t VIRTUAL TABLE"),
    ]
}

fn plan(view: &View<'_>, select: &Select) -> Vec<String> {
    let mut statement = view.transaction.prepare(&format!("EXPLAIN QUERY PLAN {}", select.sql)).unwrap();
    let values = params_from_iter(select.clause.values.iter());
    let rows = statement.query_map(values, |row| row.get("detail")).unwrap();
    rows.collect::<rusqlite::Result<_>>().unwrap()
}

/// The full text index is asked by its own means, and a merge reads what its parts hand on.
fn reads_all(step: &str) -> bool {
    step.starts_with("SCAN ") && !step.contains("VIRTUAL TABLE") && !step.contains("subquery")
}
