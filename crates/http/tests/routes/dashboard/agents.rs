//! Agents: the list, the page of one, and what its buttons do.

use std::time::Duration;

use http::StatusCode;

use super::{Operator, field};
use crate::world::World;

#[tokio::test]
async fn new_credentials_are_in_one_answer_only() {
    let world = World::new().await;
    let operator = Operator::log_in(&world).await;
    world.member("alice").await;
    let page = operator.get("/proxy/agents/acme::alice").await.text;
    let (path, pin) = ("/proxy/agents/acme::alice/rotate-cert", field(&page, "thumbprint").to_owned());
    let shown = operator.submit(path, &format!("thumbprint={pin}")).await;
    assert_eq!((shown.status, shown.header("cache-control")), (StatusCode::OK, Some("no-store")));
    for name in ["cert.pem", "agent-key.pem"] {
        let link = format!("download=\"{name}\" href=\"data:application/octet-stream;base64,");
        assert!(shown.text.contains(&link), "{name}");
    }
    let reloaded = operator.is_sent_to(path, &format!("thumbprint={pin}")).await;
    assert!(reloaded.starts_with("/proxy/agents/acme::alice?error=The%20certificate%20has%20changed"));
    let page = operator.get("/proxy/agents/acme::alice").await.text;
    assert_ne!(field(&page, "thumbprint"), pin);
    assert_eq!(page.matches("<code>agent.cert_rotated</code>").count(), 1, "a reload rotated nothing");
    assert!(!page.contains("base64,"));
}

#[tokio::test]
async fn the_form_makes_a_name_of_what_people_write() {
    let world = World::new().await;
    let operator = Operator::log_in(&world).await;
    let made = operator.submit("/proxy/agents/create", "agent_name=%20My%20Agent%20").await;
    assert!(made.status == StatusCode::OK && made.text.contains("acme::my_agent"), "{made:?}");
    let wrong = operator.is_sent_to("/proxy/agents/create", "agent_name=My%20%C3%85gent").await;
    assert!(wrong.starts_with("/proxy/agents?error=agent%20name"), "{wrong}");
}

#[tokio::test]
async fn buttons_switch_agents_and_say_what_happened() {
    let world = World::new().await;
    let operator = Operator::log_in(&world).await;
    world.member("alice").await;
    for (action, fields, says) in [
        ("deactivate", "", "?flash=Switched%20off"),
        ("deactivate", "", "?error=agent%20not%20found%20or%20already%20inactive"),
        ("reactivate", "", "?flash=Switched%20on"),
        ("revoke", "reason=%0A", "?flash=Revoked"),
        ("reactivate", "", "?error=agent%20acme%3A%3Aalice%20is%20revoked"),
    ] {
        let location = operator.is_sent_to(&format!("/proxy/agents/acme::alice/{action}"), fields).await;
        assert!(location.starts_with(&format!("/proxy/agents/acme::alice{says}")), "{action}: {location}");
    }
    let long = format!("reason={}", "x".repeat(200));
    let location = operator.is_sent_to("/proxy/agents/acme::alice/revoke", &long).await;
    assert!(location.contains("?error=the%20reason%20is%20at%20most"), "{location}");
    let nobody = operator.is_sent_to("/proxy/agents/acme::nobody/revoke", "").await;
    assert!(nobody.contains("?error=agent%20not%20found"), "{nobody}");
}

#[tokio::test]
async fn a_deleted_agent_leaves_a_page_with_its_receipt() {
    let world = World::new().await;
    world.member("alice").await;
    let operator = Operator::log_in(&world).await;
    let nothing = operator.get("/proxy/agents/acme::alice/receipt").await;
    assert_eq!(nothing.status, StatusCode::NOT_FOUND);
    let location = operator.is_sent_to("/proxy/agents/acme::alice/delete", "reason=host+retired").await;
    assert!(location.starts_with("/proxy/agents/acme::alice?flash="), "{location}");
    let page = operator.get(&location).await.text;
    assert!(
        page.contains("host retired") && page.contains("agent.delete") && page.contains("Deleted."),
        "{page}"
    );
    let receipt = operator.get("/proxy/agents/acme::alice/receipt").await;
    assert_eq!(receipt.body["agent_id"], "acme::alice");
    assert!(receipt.header("content-disposition").unwrap().contains("alice-receipt.json"));
    let nobody = operator.is_sent_to("/proxy/agents/acme::nobody/delete", "").await;
    assert!(nobody.contains("error=agent"), "{nobody}");
}

#[tokio::test]
async fn the_list_has_pages_a_search_and_states() {
    let world = World::new().await;
    let operator = Operator::log_in(&world).await;
    for number in 0..27 {
        world.member(&format!("worker-{number:02}")).await;
    }
    operator.submit("/proxy/agents/acme::worker-03/revoke", "").await;
    let rows = async |query: &str| {
        let page = operator.get(&format!("/proxy/agents{query}")).await.text;
        page.matches("<td><a href=").count()
    };
    assert_eq!(rows("").await, 25);
    assert_eq!(rows("?after=acme::worker-24").await, 2);
    assert_eq!(rows("?after=acme::zoe").await, 0, "nothing comes after the last");
    assert_eq!(rows("?q=WORKER-0").await, 10);
    assert_eq!(rows("?q=worker-0&state=revoked").await, 1);
    assert_eq!(rows("?state=inactive").await, 0);
    assert_eq!(rows("?q=%25").await, 0, "a search is for text, not for patterns");
    let overview = operator.get("/proxy/overview").await.text;
    assert!(overview.contains("<span class=\"number\">26</span><span>active agents</span>"), "{overview}");
    assert!(overview.contains("<span class=\"number\">1</span><span>revoked agent</span>"), "{overview}");

    let soon = "<span class=\"badge pending\">in 30 days</span>";
    assert_eq!(rows("?state=ending").await, 0);
    world.clock.advance(Duration::from_secs(335 * 24 * 3600 + 3600));
    let operator = Operator::log_in(&world).await;
    world.member("young").await;
    let page = operator.get("/proxy/agents?state=ending&q=worker-0").await.text;
    assert_eq!(page.matches(soon).count(), 9, "the revoked one needs no new certificate: {page}");
    let young = operator.get("/proxy/agents?q=young").await.text;
    assert!(young.contains("in 365 days") && !young.contains("badge pending"), "{young}");
    let overview = operator.get("/proxy/overview").await.text;
    assert!(overview.contains("<span class=\"number\">26</span><span>certificates end within"), "{overview}");
}
