//! Databases that the Python implementation wrote.

use std::{fs, sync::Arc};

use crate::harness::{Place, repository};

const PASSPHRASE: &str = "fixture-passphrase-0123456789abcdef";

fn place(fixture: &str) -> Place {
    let place = Place::new();
    place.write("data/mcp_proxy.db", fs::read(repository("fixtures").join(fixture)).unwrap());
    place
}

fn backups(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.path("backups")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

async fn is_adopted(place: &Place) {
    let entries_before = place.verify_audit();
    assert!(entries_before > 0, "the fixture has a chain");
    let revision = place.sql("SELECT version_num FROM alembic_version");
    let known = place.sql("SELECT agent_id FROM internal_agents ORDER BY agent_id");

    let server = place.serve().await;
    let mut admin = server.admin();
    let mut listed: Vec<_> =
        admin.agents().await.unwrap().into_iter().map(|agent| format!("{}\n", agent.agent_id)).collect();
    listed.sort();
    assert_eq!(listed.concat(), known);
    let [backup] = &backups(place)[..] else { panic!("not one copy: {:?}", backups(place)) };
    assert!(backup.starts_with("pre-adopt-"), "{backup}");

    let carol = Arc::new(admin.create_agent("carol", "Carol", &[]).await.unwrap());
    let mut agent = server.agent(&carol);
    agent.login().await.unwrap();
    assert_eq!(agent.whoami().await.unwrap().agent_id, *carol.agent_id());
    assert_eq!(server.stop().await, 0);
    assert!(place.verify_audit() > entries_before, "the chain goes on");
    assert_eq!(place.sql("SELECT version_num FROM alembic_version"), revision);

    // Once is enough.
    let server = place.serve().await;
    server.agent(&carol).login().await.unwrap();
    assert_eq!(server.stop().await, 0);
    assert_eq!(backups(place).len(), 1);
    place.verify_audit();
}

#[tokio::test]
async fn a_plain_database_goes_on() {
    is_adopted(&place("adopted-plain.db")).await;
}

#[tokio::test]
async fn an_encrypted_database_goes_on() {
    let mut place = place("adopted-encrypted.db");
    is_adopted(place.set("MCP_PROXY_DB_ENCRYPTION_KEY", PASSPHRASE)).await;
}

#[tokio::test]
async fn an_encrypted_database_without_its_passphrase_exits_3() {
    let place = place("adopted-encrypted.db");
    let (code, log) = place.refused().await;
    assert_eq!(code, 3, "{log}");
    assert!(log.contains("MCP_PROXY_DB_ENCRYPTION_KEY"), "{log}");
}
