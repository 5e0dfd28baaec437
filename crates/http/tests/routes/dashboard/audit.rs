//! The audit log in pages.

use std::time::Duration;

use http::StatusCode;

use super::Operator;
use crate::world::World;

#[tokio::test]
async fn a_line_of_the_audit_log_leads_to_a_session() {
    let world = World::new().await;
    let operator = Operator::log_in(&world).await;
    world.member("alice").await;
    operator.submit("/proxy/agents/acme::alice/deactivate", "").await;
    let history = operator.get("/proxy/agents/acme::alice").await.text;
    let by = history.split("<code>").find(|part| part.starts_with("dashboard:")).unwrap();
    let by = by.split('<').next().unwrap();
    assert_eq!(by.len(), "dashboard:".len() + 8);
    assert!(history.contains("<td class=\"when\">2026-09-21 14:20:00 UTC</td>"), "{history}");
    assert!(operator.get("/proxy/sessions").await.text.contains(&format!("<code>{by}</code>")));
}

#[tokio::test]
async fn the_audit_log_is_searched_explained_and_handed_out() {
    let world = World::new().await;
    let operator = Operator::log_in(&world).await;
    world.member("alice").await;
    operator.submit("/proxy/agents/acme::alice/deactivate", "").await;
    for query in
        ["", "?page=x", "?page=2&source=traffic", "?cursor=x&status=maybe", "?agent=%00", "?action=a+b"]
    {
        let page = operator.get(&format!("/proxy/audit{query}")).await;
        assert_eq!(page.status, StatusCode::OK, "{query}: {page:?}");
    }
    let page = operator.get("/proxy/audit?agent=alice&action=agent.&status=success").await.text;
    assert!(page.contains("switched acme::alice off.") && page.contains("was enrolled by"), "{page}");
    let link = page.split("href=\"/proxy/audit/").nth(3).unwrap().split('"').next().unwrap();
    let entry = operator.get(&format!("/proxy/audit/{link}")).await;
    assert_eq!(entry.status, StatusCode::OK, "{entry:?}");
    assert!(entry.text.contains("logged in to the dashboard from 198.51.100.7"), "{}", entry.text);
    assert_eq!(operator.get("/proxy/audit/x").await.status, StatusCode::BAD_REQUEST);
    let export = operator.get("/proxy/audit/export?format=csv").await;
    assert!(
        export.text.starts_with("id,timestamp,") && export.text.contains("agent.deactivated"),
        "{export:?}"
    );
    let page = operator.get("/proxy/audit?action=audit.exported").await.text;
    assert!(page.contains("dashboard:") && page.contains("entries of acme as csv"), "{page}");
}

#[tokio::test]
async fn the_badge_counts_the_last_hour_and_not_the_day() {
    let world = World::new().await;
    let badge = async || {
        let operator = Operator::log_in(&world).await;
        operator.get("/proxy/badge/audit").await.text.parse::<u32>().unwrap()
    };
    let first = badge().await;
    world.member("alice").await;
    assert_eq!(badge().await, first + 2, "a login and an agent");
    world.clock.advance(Duration::from_secs(3601));
    assert_eq!(badge().await, 1, "the login");
}
