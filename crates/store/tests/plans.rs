//! How SQLite goes about statements that come round: they must not read whole tables.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use mastio_core::{AgentId, PrincipalKind, Stamp, Thumbprint};
use mastio_store::{
    OpenOptions,
    agents::{Method, NewAgent, PinnedLeaf},
    audit::checkpoints,
    messages,
    sqlite::Database,
};
use rusqlite::{Connection, params_from_iter};

/// The steps of SQLite's plan for `sql`.
fn plan(connection: &Connection, sql: &str) -> Vec<String> {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let none = vec![rusqlite::types::Null; statement.parameter_count()];
    let rows = statement.query_map(params_from_iter(none), |row| row.get("detail")).unwrap();
    rows.collect::<rusqlite::Result<_>>().unwrap()
}

#[test]
fn the_sweep_reads_only_what_it_changes() {
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/adopted-plain.db");
    for adopted in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (path, now) = (dir.path().join("mcp_proxy.db"), Stamp::from_unix(1_790_000_000));
        if adopted {
            std::fs::write(&path, std::fs::read(fixture).unwrap()).unwrap();
        }
        let _open = Database::open(&OpenOptions { path: &path, backups: dir.path(), now }).unwrap();
        let connection = Connection::open(&path).unwrap();
        for statement in messages::sweep(now, now).into_iter().chain([checkpoints::thin_out(now)]) {
            let plan = plan(&connection, &statement.sql);
            let searches = plan.iter().filter(|step| step.starts_with("SEARCH "));
            assert!(searches.count() > 0 && !plan.iter().any(|step| step.starts_with("SCAN ")), "{plan:?}");
        }
    }
}

#[test]
fn a_new_agent_is_compared_with_its_lookalikes_only() {
    let dir = tempfile::tempdir().unwrap();
    let (path, now) = (dir.path().join("mcp_proxy.db"), Stamp::from_unix(1_790_000_000));
    let _open = Database::open(&OpenOptions { path: &path, backups: dir.path(), now }).unwrap();
    let connection = Connection::open(&path).unwrap();
    let leaf = PinnedLeaf {
        thumbprint: Thumbprint::of(b"leaf"),
        spki_sha256: "00".repeat(32),
        not_after: now,
        issuer: None,
    };
    let [insert, _] = NewAgent {
        id: &AgentId::parse("acme::alice").unwrap(),
        display_name: "Alice",
        capabilities: &[],
        certificates: "PEM",
        leaf: &leaf,
        method: Method::Admin,
        dpop_jkt: None,
        spiffe_id: None,
        federated: false,
        device_info: None,
        kind: PrincipalKind::Agent,
        reuse: false,
        at: now,
    }
    .insert();
    let plan = plan(&connection, &insert.sql);
    assert!(plan.iter().any(|step| step.contains("idx_agent_certs_lookalike")), "{plan:?}");
    assert!(!plan.iter().any(|step| step.starts_with("SCAN agent_certs")), "{plan:?}");
}

#[test]
fn active_agents_are_counted_without_reading_their_rows() {
    let dir = tempfile::tempdir().unwrap();
    let (path, now) = (dir.path().join("mcp_proxy.db"), Stamp::from_unix(1_790_000_000));
    let _open = Database::open(&OpenOptions { path: &path, backups: dir.path(), now }).unwrap();
    let connection = Connection::open(&path).unwrap();
    let sql = "SELECT a.agent_id FROM internal_agents a WHERE a.is_active <> 0 \
        AND coalesce(a.enrollment_method, '') <> 'spiffe'";
    let plan = plan(&connection, sql);
    assert!(plan.iter().any(|step| step.contains("COVERING INDEX internal_agents_active")), "{plan:?}");
}
