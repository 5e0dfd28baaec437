//! Lists, pages and filters of a fleet; publishing an agent to a Court.

use std::{sync::Arc, time::Duration};

use crate::world::*;
use mastio_authority::{Authority, Refusal, lifecycle::Rotation};
use mastio_core::{AgentId, Clock};
use mastio_store::{
    Statement, Unit,
    agents::{
        Method,
        fleet::{Filter, Status},
    },
};

async fn names(authority: &Arc<Authority>, filter: &Filter) -> Vec<String> {
    let fleet = authority.fleet(filter).await.unwrap().all().await.unwrap();
    let mut names: Vec<_> = fleet.iter().map(|listed| listed.agent.id.name().to_owned()).collect();
    // The pages hold the same agents.
    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let page = authority.page(filter, after.as_ref(), 2).await.unwrap();
        paged.extend(page.agents.iter().map(|listed| listed.agent.id.name().to_owned()));
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert!(paged.is_sorted(), "{paged:?}");
    names.sort();
    assert_eq!(paged, names);
    names
}

#[tokio::test]
async fn an_agent_of_another_organisation_gets_no_certificate_and_is_not_found() {
    let world = World::new();
    let authority = world.boot(&[("MCP_PROXY_ORG_ID", "acme")]).await.unwrap();
    for name in ["alice", "bob"] {
        Holder::created(&authority, name).await;
    }
    for table in ["internal_agents", "agent_certs"] {
        world.sql(&format!("UPDATE {table} SET agent_id = 'acmes::bob' WHERE agent_id = 'acme::bob'"));
    }
    authority.reload().unwrap();
    let bob = AgentId::parse("acmes::bob").unwrap();
    let refused = authority.rotate_certificate(&bob, &Rotation::default(), &operator()).await.unwrap_err();
    assert_eq!((refused.status(), refused.reason()), (409, "org_mismatch"));
    assert!(refused.to_string().contains("acmes::bob is not of acme"), "{refused}");
    assert_eq!(names(&authority, &Filter::default()).await, ["alice", "bob"], "its operator sees it");
    let ours = Filter { org: Some(authority.trust().org.clone()), ..Filter::default() };
    assert_eq!(names(&authority, &ours).await, ["alice"]);
}

#[tokio::test]
async fn filters_let_through_what_they_say_and_pages_hold_everybody_once() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let now = world.clock.now();
    for name in ["alice", "bob", "carol", "dave", "erin"] {
        world.clock.advance(Duration::from_secs(60));
        let mut candidate = candidate(name);
        candidate.capabilities = vec!["order.read".into(), format!("own \"{name}\"")];
        authority.create_agent(&candidate, false, &operator()).await.unwrap();
    }
    let id = |name: &str| AgentId::parse(&format!("{}::{name}", authority.trust().org)).unwrap();
    let newest: Vec<_> = fleet(&authority).await.iter().map(|agent| agent.id.name().to_owned()).collect();
    assert_eq!(newest, ["erin", "dave", "carol", "bob", "alice"]);
    authority.revoke(&id("bob"), None, &operator()).await.unwrap();
    authority.deactivate(&id("carol"), &operator()).await.unwrap();
    let set = |sql: &'static str, name: &str| Statement::one(sql, vec![(&id(name)).into()]);
    let changes = [
        set("UPDATE internal_agents SET enrollment_method = 'byoca' WHERE agent_id = ?1", "dave"),
        set(
            "UPDATE agent_certs SET not_after = '2000-01-01T00:00:00.000001+00:00' WHERE agent_id = ?1",
            "erin",
        ),
    ];
    authority.store().submit(Unit::default().write_all(changes)).await.unwrap();

    let by = async |filter| names(&authority, &filter).await;
    assert_eq!(by(Filter::default()).await, ["alice", "bob", "carol", "dave", "erin"]);
    let status = |status| Filter { status: Some(status), ..Filter::default() };
    assert_eq!(by(status(Status::Active)).await, ["alice", "dave", "erin"]);
    assert_eq!(by(status(Status::Inactive)).await, ["carol"]);
    assert_eq!(by(status(Status::Revoked)).await, ["bob"]);
    assert_eq!(by(Filter { method: Some(Method::Byoca), ..Filter::default() }).await, ["dave"]);
    assert_eq!(by(Filter { expiring_before: Some(now), ..Filter::default() }).await, ["erin"]);
    assert_eq!(by(Filter { needle: Some("AR".into()), ..Filter::default() }).await, ["carol"]);
    assert_eq!(by(Filter { needle: Some("%".into()), ..Filter::default() }).await, [""; 0]);
    let able = |words: &[&str]| Filter {
        capabilities: words.iter().map(|word| (*word).to_owned()).collect(),
        ..Filter::default()
    };
    assert_eq!(by(able(&["order.read"])).await.len(), 5);
    assert_eq!(by(able(&["order.read", "own \"dave\""])).await, ["dave"]);
    assert_eq!(by(able(&["order"])).await, [""; 0], "a part of a word is another word");

    let one = authority.agent(&id("alice")).await.unwrap();
    assert!(one.thumbprint.is_some() && one.not_after.is_some_and(|end| end > now));
    assert_eq!(reason(authority.agent(&id("nobody")).await), (404, "not_found"));
}

#[tokio::test]
async fn one_bad_row_does_not_hide_the_fleet() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    for name in ["alice", "bob", "carol"] {
        Holder::created(&authority, name).await;
    }
    let spoil = "UPDATE internal_agents SET capabilities = 'nonsense' WHERE agent_id LIKE '%::bob'";
    authority.store().submit(Unit::default().write(Statement::one(spoil, vec![]))).await.unwrap();
    assert_eq!(names(&authority, &Filter::default()).await, ["alice", "carol"]);
    let able = Filter { capabilities: vec!["x".into()], ..Filter::default() };
    assert_eq!(names(&authority, &able).await, [""; 0]);
}

#[tokio::test]
async fn publishing_an_agent_is_told_once() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let alice = AgentId::parse(&Holder::created(&authority, "alice").await.id).unwrap();
    let published = authority.set_federated(&alice, true, &operator()).await.unwrap();
    assert!(published.federated && published.federation_revision == 2);
    assert_eq!(published.federated_at, Some(world.clock.now()));
    assert_eq!(authority.set_federated(&alice, true, &operator()).await.unwrap(), published);
    let withdrawn = authority.set_federated(&alice, false, &operator()).await.unwrap();
    assert!(!withdrawn.federated && withdrawn.federated_at.is_some(), "a Court has to be told");
    assert_eq!(withdrawn.federation_revision, 3);
    assert_eq!(
        told(&authority, "agent.federated_patched").await,
        [r#"{"by":"operator:test","federated":true}"#, r#"{"by":"operator:test","federated":false}"#]
    );
}

#[tokio::test]
async fn adopted_agents_are_listed_with_thumbprint_and_end() {
    let world = World::new();
    fixture(&world, "adopted-plain.db");
    let authority = world.boot(&[]).await.unwrap();
    let mut pinned = 0;
    for listed in authority.fleet(&Filter::default()).await.unwrap().all().await.unwrap() {
        let stored = listed.agent.certificates.as_deref();
        let leaf = stored.and_then(|pem| mastio_pki::Certificate::from_pem(pem).ok());
        assert_eq!(listed.thumbprint, leaf.as_ref().map(mastio_pki::Certificate::thumbprint));
        assert_eq!(listed.not_after, leaf.as_ref().map(mastio_pki::Certificate::not_after));
        pinned += usize::from(leaf.is_some());
    }
    assert!(pinned > 0, "the fixture has agents with certificates");
}
