//! The audit log, asked and handed out.

use axum::body::Body;
use http::{Request, StatusCode};
use mastio_core::{Event, event::catalogue};
use mastio_store::{Unit, audit::index};
use serde_json::{Value, json};

use crate::world::{Answer, SECRET, World, nobody};

impl World {
    /// What an operator reads at `path`.
    async fn read(&self, path: &str) -> Answer {
        let request = Request::get(path).header("x-admin-secret", SECRET);
        self.ask(nobody(), request.body(Body::empty()).unwrap()).await
    }

    async fn switch(&self, agent: &str, route: &str) {
        let path = format!("/v1/admin/agents/{agent}/{route}");
        let done = self.operate(SECRET, &path, &json!({ "reason": "key_leaked" })).await;
        assert!(done.status.is_success(), "{done:?}");
    }

    /// `count` entries, `each` of them in one unit.
    async fn fill(&self, count: u64) {
        let event = |count| Event::new(&catalogue::KeysSealed { count });
        let unit = Unit { events: (0..count).map(event).collect(), ..Unit::default() };
        self.authority.commit(unit).await.unwrap();
    }

    async fn index(&self) {
        while self.app.ledger().index_next().await.unwrap() {}
    }
}

fn lines(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn events(answer: &Answer) -> Vec<&str> {
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let entries = answer.body["entries"].as_array().unwrap();
    entries.iter().map(|entry| entry["event_type"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn an_export_holds_the_chain_oldest_first_and_ends_in_the_head() {
    let world = World::new().await;
    world.member("alice").await;
    world.switch("alice", "revoke").await;
    let head = world.read("/v1/admin/audit/head").await;
    let export = world.read("/v1/admin/audit/export").await;
    assert_eq!(export.header("content-type"), Some("application/x-ndjson"));
    let entries = lines(&export);
    let (first, last) = (&entries[0], &entries[entries.len() - 1]);
    assert_eq!(
        (&first["kind"], &first["chain_seq"], &first["previous_hash"]),
        (&json!("entry"), &json!(1), &json!(null))
    );
    for (one, next) in entries.iter().zip(&entries[1..]) {
        assert_eq!(one["hash"], next["prev_hash"]);
    }
    assert_eq!(head.body["last_hash"], last["entry_hash"]);
    assert_eq!(head.body["last_id"], format!("acme:{}", last["chain_seq"]));
    assert_eq!(head.body["last_timestamp"], last["timestamp"]);
    let all = world.read("/v1/admin/audit/export?org_id=*&format=json").await;
    let exported = &lines(&all)[entries.len()];
    assert_eq!(exported["event_type"], "audit.exported");
    assert!(all.text.starts_with(&export.text), "{}", all.text);
    assert_eq!(world.read("/v1/admin/audit/export?org_id=nobody").await.text, "");
}

#[tokio::test]
async fn an_export_is_narrowed_and_written_for_spreadsheets() {
    let world = World::new().await;
    world.member("alice").await;
    world.member("bob").await;
    world.switch("bob", "revoke").await;
    let revoked = lines(&world.read("/v1/admin/audit/export?event_type=agent.revoked&actor=bob").await);
    assert_eq!((revoked.len(), &revoked[0]["actor"]), (1, &json!("acme::bob")));
    let csv = world.read("/v1/admin/audit/export?format=csv&event_type=agent.&actor=acme::bob").await;
    assert_eq!(csv.header("content-disposition"), Some("attachment; filename=\"audit_export.csv\""));
    let records: Vec<&str> = csv.text.split("\r\n").collect();
    assert_eq!(records.len(), 4, "{records:?}");
    assert_eq!(records[0].split(',').next_back(), Some("previous_hash"));
    // The clock stands at 14:20:00 on this day.
    let day = "/v1/admin/audit/export?start=2026-09-21T14:20:00Z&end=2026-09-22";
    assert_eq!(lines(&world.read(day).await).len(), 5, "two agents, a revocation and two exports");
    assert_eq!(world.read("/v1/admin/audit/export?start=2026-09-22").await.text, "");
}

#[tokio::test]
async fn too_much_is_a_413_that_says_how_much_and_what_to_do() {
    let world = World::new().await;
    world.fill(10).await;
    let refused = world.read("/v1/admin/audit/export?limit=3").await;
    assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE);
    let said = refused.body["detail"].as_str().unwrap();
    assert!(said.starts_with("at least 4 entries match, and the limit is 3: narrow"), "{said}");
    let above = world.read("/v1/admin/audit/export?limit=1000001").await;
    assert_eq!(above.status, StatusCode::BAD_REQUEST);
    assert!(above.text.contains("CULLIS_AUDIT_EXPORT_MAX"), "{above:?}");
}

#[tokio::test]
async fn a_long_export_arrives_whole() {
    let world = World::new().await;
    let before = lines(&world.read("/v1/admin/audit/export").await).len();
    world.fill(5000).await;
    world.index().await;
    assert_eq!(
        lines(&world.read("/v1/admin/audit/export").await).len(),
        before + 5001,
        "and the export before"
    );
}

#[tokio::test]
async fn an_export_that_began_is_on_record_and_a_refused_one_is_not() {
    let world = World::new().await;
    world.fill(10).await;
    let told = async || {
        let path = "/v1/admin/audit/entries?event=audit.exported";
        world.read(path).await.body["entries"].as_array().unwrap().clone()
    };
    for refused in ["format=xml", "start=soon", "limit=3", "limit=1000001", "start=2026-09-22&end=2026-09-21"]
    {
        let answer = world.read(&format!("/v1/admin/audit/export?{refused}")).await;
        assert!(answer.status.is_client_error(), "{refused}: {answer:?}");
    }
    assert_eq!(told().await, Vec::<Value>::new());

    let asked = "format=csv&org_id=*&start=2026-09-01&end=2026-10-01&event_type=pki.&actor=bob";
    world.read(&format!("/v1/admin/audit/export?{asked}")).await;
    let [entry] = told().await.try_into().unwrap();
    let mut details = entry["details"].clone();
    assert!(details["by"].take().as_str().unwrap().starts_with("operator:"), "{entry}");
    assert_eq!(
        details,
        json!({
            "format": "csv", "org_id": "*", "start": "2026-09-01T00:00:00.000000+00:00", "end": "2026-10-01T00:00:00.000000+00:00",
            "event_type": "pki.*", "actor": "acme::bob", "entries": 0, "archived_through": null, "by": null,
        })
    );
    assert!(entry["sentence"].as_str().unwrap().contains("took out 0 entries of * as csv from 2026-09-01"));

    let export = world.read("/v1/admin/audit/export").await;
    let [_, newest] = lines(&export).iter().rev().take(2).cloned().collect::<Vec<_>>().try_into().unwrap();
    assert_ne!(newest["event_type"], "audit.exported", "what is handed out does not tell of itself");
    let told_now = told().await;
    assert_eq!(told_now[0]["details"]["entries"], lines(&export).len());

    let long = format!("/v1/admin/audit/export?org_id={}", "x".repeat(20_000));
    assert_eq!(world.read(&long).await.status, StatusCode::OK);
    let told_now = told().await;
    assert_eq!((told_now.len(), &told_now[0]["details"]["oversized"]), (3, &json!(true)));
}

#[tokio::test]
async fn an_export_that_cannot_be_told_is_not_handed_out() {
    let world = World::new().await;
    let path = world.authority.store().database().path().to_owned();
    let full = "CREATE TRIGGER full BEFORE INSERT ON local_audit WHEN NEW.event_type = 'audit.exported' \
        BEGIN SELECT RAISE(ABORT, 'full'); END";
    rusqlite::Connection::open(path).unwrap().execute_batch(full).unwrap();
    let refused = world.read("/v1/admin/audit/export").await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{refused:?}");
}

#[tokio::test]
async fn what_went_to_an_archive_is_told() {
    let world = World::new().await;
    world.fill(10).await;
    let path = world.authority.store().database().path().to_owned();
    let database = rusqlite::Connection::open(path).unwrap();
    database
        .execute_batch(
            "INSERT INTO audit_tree VALUES (1, 1, 1000); \
             INSERT INTO audit_checkpoints VALUES (1, 'log', 1000, 'root', 'note', 'now'); \
             INSERT INTO audit_marks SELECT org_id, chain_seq, 1, entry_hash, 'one.tar.gz', 'x', 'now' \
             FROM local_audit WHERE chain_seq = 3;",
        )
        .unwrap();
    let hash = "SELECT entry_hash FROM local_audit WHERE chain_seq = 3";
    let archived = catalogue::Archived {
        first_seq: 1,
        last_seq: 3,
        first_hash: "y".into(),
        last_hash: database.query_row(hash, [], |row| row.get(0)).unwrap(),
        bundle_sha256: "x".into(),
        file: "one.tar.gz".into(),
        by: "operator".into(),
    };
    world.authority.commit(Unit::of(Event::new(&archived))).await.unwrap();
    database.execute_batch("DELETE FROM local_audit WHERE chain_seq <= 3").unwrap();
    let export = world.read("/v1/admin/audit/export").await;
    assert_eq!(
        (lines(&export)[0]["chain_seq"].as_i64(), export.header("x-cullis-archived-through")),
        (Some(4), Some("3"))
    );
    let later = world.read("/v1/admin/audit/export?start=2026-09-22").await;
    assert_eq!(later.header("x-cullis-archived-through"), None);
    let all = world.read("/v1/admin/audit/export?org_id=*").await;
    assert_eq!(all.header("x-cullis-archived-through"), Some("3"));
    let found = world.read("/v1/admin/audit/entries").await;
    assert_eq!(
        (found.body["archived_through"].as_i64(), found.header("x-cullis-archived-through")),
        (Some(3), Some("3"))
    );
    let gone = world.read("/v1/admin/audit/entries/2").await;
    assert_eq!(gone.status, StatusCode::GONE);
    assert!(gone.text.contains("one.tar.gz"), "{gone:?}");
    let first = world.read("/v1/admin/audit/entries/4").await;
    assert_eq!(
        first.body["verdict"],
        json!({
            "holds": true, "words": "its content has its hash, and it follows the entry before",
        })
    );
}

#[tokio::test]
async fn a_search_finds_by_every_filter_and_goes_on_page_by_page() {
    let world = World::new().await;
    world.member("alice").await;
    world.member("bob").await;
    world.switch("alice", "revoke").await;
    world.fill(u64::from(index::CHUNK)).await;
    for indexed in [false, true] {
        if indexed {
            world.index().await;
        }
        let list = async |query: &str| world.read(&format!("/v1/admin/audit/entries?{query}")).await;
        assert_eq!(events(&list("agent=alice").await), ["agent.revoked", "agent.create"]);
        assert_eq!(events(&list("event=agent.").await), ["agent.revoked", "agent.create", "agent.create"]);
        assert_eq!(
            events(&list("event=agent.create&agent=acme::bob&result=success").await),
            ["agent.create"]
        );
        assert_eq!(events(&list("text=key_leaked").await), ["agent.revoked"]);
        assert_eq!(events(&list("event=agent.&from=2026-09-22").await), Vec::<&str>::new());
        let page = list("event=agent.&limit=2").await;
        assert_eq!(events(&page), ["agent.revoked", "agent.create"]);
        assert_eq!(page.body["entries"][0]["sentence"].as_str().unwrap().split(' ').nth(1), Some("revoked"));
        assert_eq!(page.body["entries"][0]["details"]["reason"], "key_leaked");
        let next = page.header("link").unwrap().split(['<', '>']).nth(1).unwrap();
        let last = world.read(next).await;
        assert_eq!((events(&last), last.header("link")), (vec!["agent.create"], None));
        assert_eq!(last.body["next"], json!(null));
    }
}

#[tokio::test]
async fn a_filter_that_cannot_be_read_is_named() {
    let world = World::new().await;
    for (asked, name, says) in [
        ("entries?agent=a::b::c", Some("agent"), "use an agent's id or name"),
        ("entries?event=a%20b", Some("event"), "use a name such as"),
        ("entries?result=maybe", Some("result"), "use ok, denied or error"),
        ("entries?from=soon", Some("from"), "use a time such as"),
        ("entries?to=2026-13-01", Some("to"), "use a time such as"),
        ("entries?text=%2D", Some("text"), "give at least one letter or digit"),
        ("entries?limit=0", Some("limit"), "use a number from 1 to 1000"),
        ("entries?cursor=x", Some("cursor"), "take the one of the page before"),
        ("entries?colour=red", None, "unknown field `colour`"),
        ("export?format=xml", Some("format"), "use ndjson, json or csv"),
        ("export?actor=a::b::c", Some("actor"), "use an agent's id or name"),
        ("export?limit=0", Some("limit"), "use a number above 0"),
        ("export?start=soon", Some("start"), "use a time such as"),
        ("export?start=2026-09-22&end=2026-09-21", Some("start"), "start must not be behind end"),
        ("entries?from=2026-09-22&to=2026-09-21", Some("from"), "from must not be behind to"),
        ("proof?from=3&to=2", Some("from"), "from must not be behind to, and 3 is behind 2"),
    ] {
        let refused = world.read(&format!("/v1/admin/audit/{asked}")).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{asked}: {refused:?}");
        let problem = &refused.body["detail"][0];
        let place = name.map_or_else(|| json!(["query"]), |name| json!(["query", name]));
        assert_eq!(problem["loc"], place, "{asked}: {refused:?}");
        assert!(problem["msg"].as_str().unwrap().contains(says), "{asked}: {refused:?}");
    }
    for path in ["entries/x", "entries/0"] {
        let refused = world.read(&format!("/v1/admin/audit/{path}")).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{path}: {refused:?}");
    }
    let missing = world.read("/v1/admin/audit/entries/4711").await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND, "{missing:?}");
}

#[tokio::test]
async fn a_bundle_of_an_inverted_range_is_refused_by_both_names() {
    let world = World::new().await;
    for (body, says) in [
        (
            json!({ "first_seq": 3, "last_seq": 2 }),
            "first_seq must not be behind last_seq, and 3 is behind 2",
        ),
        (json!({ "start": "2026-09-22", "end": "2026-09-21" }), "start must not be behind end"),
    ] {
        let refused = world.operate(SECRET, "/v1/admin/audit/bundle", &body).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{refused:?}");
        assert!(refused.body["detail"].as_str().unwrap().starts_with(says), "{refused:?}");
    }
}

#[tokio::test]
async fn an_entry_is_explained_by_those_around_it() {
    let world = World::new().await;
    let alice = world.member("alice").await;
    let (token, _) = world.token(&alice).await;
    assert!(!token.is_empty());
    world.switch("alice", "revoke").await;
    let issued = world.read("/v1/admin/audit/entries?event=auth.token_issued").await;
    let seq = issued.body["entries"][0]["chain_seq"].as_i64().unwrap();
    let explained = world.read(&format!("/v1/admin/audit/entries/acme:{seq}")).await.body;
    assert_eq!(explained["who"]["name"], "acme::alice");
    assert_eq!(explained["credentials"][0]["event_type"], "agent.create", "{explained}");
    assert_eq!(explained["followed"][0]["event_type"], "agent.revoked", "{explained}");
    assert_eq!(explained["verdict"]["holds"], true);
    assert_eq!(explained["archive"], json!(null));
    let revoked = world.read(&format!("/v1/admin/audit/entries/{}", seq + 1)).await.body;
    assert_eq!(revoked["rule"], "key_leaked", "{revoked}");
    assert!(revoked["who"]["meaning"].as_str().unwrap().contains("admin secret"), "{revoked}");
    let cut = world.operate(SECRET, "/pki/rotate-ca?mode=mint", &json!({})).await;
    assert_eq!(cut.status, StatusCode::OK, "{cut:?}");
    let started = world.read("/v1/admin/audit/entries?event=org_ca.rotation_started").await;
    let seq = started.body["entries"][0]["chain_seq"].as_i64().unwrap();
    let started = world.read(&format!("/v1/admin/audit/entries/{seq}")).await.body;
    assert_eq!(started["followed"][0]["event_type"], "org_ca.rotated", "{started}");
}

#[tokio::test]
async fn a_timeline_has_the_entries_of_both_tables() {
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("data/mcp_proxy.db");
    std::fs::create_dir_all(database.parent().unwrap()).unwrap();
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/adopted-plain.db");
    std::fs::copy(fixture, &database).unwrap();
    let agent: String = {
        let connection = rusqlite::Connection::open(&database).unwrap();
        let sql =
            "SELECT agent_id FROM audit_log WHERE agent_id IN (SELECT agent_id FROM internal_agents) LIMIT 1";
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    let now = mastio_core::Stamp::from_unix(1_800_000_000);
    let world = World::over(dir, None, now).await;
    world.switch(&agent, "revoke").await;
    let (mut tables, mut times, mut path) =
        (Vec::new(), Vec::new(), Some(format!("/v1/admin/agents/{agent}/timeline?limit=1")));
    while let Some(asked) = path {
        let page = world.read(&asked).await;
        assert_eq!(page.status, StatusCode::OK, "{page:?}");
        for entry in page.body["entries"].as_array().unwrap() {
            tables.push(entry["table"].as_str().unwrap().to_owned());
            times.push(entry["timestamp"].as_str().unwrap().to_owned());
            assert_eq!(entry["agent_id"], agent.as_str());
            assert!(entry["sentence"].as_str().unwrap().ends_with('.'));
        }
        path = page.header("link").map(|link| link.split(['<', '>']).nth(1).unwrap().to_owned());
    }
    assert!(times.is_sorted_by(|one, next| one >= next), "{times:?}");
    assert_eq!(tables[0], "local_audit");
    assert!(tables.iter().any(|table| table == "audit_log"), "{tables:?}");
}
