//! Rotations at the dashboard: an open overlap is shown and steered, and the intermediate is rotated.

use std::time::Duration;

use axum::body::Body;
use http::{Request, StatusCode};
use mastio_core::Thumbprint;
use mastio_store::{Statement, Unit, rotations::Phase};
use serde_json::json;

use crate::{
    dashboard::{Operator, field},
    world::{Member, World, nobody},
};

const HERE: &str = "/proxy/pki";
const INTERMEDIATE: &str = "/proxy/pki/rotate-intermediate";

/// Begins an overlap as an operator does; where its buttons lead.
async fn begin(operator: &Operator<'_>) -> String {
    let form = "mode=mint&transition=overlap";
    let shown = operator.submit("/proxy/pki/rotate-ca", form).await.text;
    let candidate = format!("candidate={}", field(&shown, "candidate"));
    let begun = operator.is_sent_to("/proxy/pki/rotate-ca", &candidate).await;
    assert!(begun.starts_with("/proxy/pki?flash=The%20rotation%20with%20overlap%20began"), "{begun}");
    format!("/proxy/pki/rotations/{}", open(operator.world()).unwrap().1)
}

/// The phase and the name of the rotation that is open.
fn open(world: &World) -> Option<(Phase, String)> {
    world.authority.trust().rotation.as_ref().map(|rotation| (rotation.phase, rotation.id.clone()))
}

fn root(world: &World) -> Thumbprint {
    world.authority.trust().root.thumbprint()
}

/// Has the agent fetch the trust file of now.
async fn fetch(world: &World, member: &Member) {
    let request = Request::get("/v1/agents/self/trust-bundle").body(Body::empty()).unwrap();
    assert_eq!(world.ask(member.peer(), request).await.status, StatusCode::OK);
}

#[tokio::test]
async fn who_is_answered_without_the_trust_file_whatever_it_has_does_not_count_as_having_it() {
    let world = World::new().await;
    let alice = world.member("alice").await;
    let id = mastio_core::AgentId::parse("acme::alice").unwrap();
    let fetched =
        async || mastio_store::rotations::following::fetched_by(world.authority.store(), &id).await.unwrap();
    let request = Request::get("/v1/agents/self/trust-bundle")
        .header("If-None-Match", "*")
        .body(Body::empty())
        .unwrap();
    assert_eq!(world.ask(alice.peer(), request).await.status, StatusCode::NOT_MODIFIED);
    assert_eq!(fetched().await, None);
    fetch(&world, &alice).await;
    assert!(fetched().await.is_some());
}

/// Whoever came in otherwise, with a certificate that is not of ours.
async fn came_by(world: &World, name: &str, method: &'static str) {
    let id = format!("acme::{name}");
    let came = "UPDATE internal_agents SET enrollment_method = ?2 WHERE agent_id = ?1";
    let brought = "UPDATE agent_certs SET issuer = NULL WHERE agent_id = ?1";
    let unit = Unit::default()
        .write(Statement::one(came, vec![id.as_str().into(), method.into()]))
        .write(Statement::one(brought, vec![id.into()]));
    world.authority.store().submit(unit).await.unwrap();
}

#[tokio::test]
async fn the_page_shows_how_far_an_overlap_is_and_who_is_left() {
    let world = World::new().await;
    let operator = Operator::log_in(&world).await;
    let page = operator.get(HERE).await.text;
    assert!(!page.contains("hx-get") && !page.contains("id=\"rotation\""), "{page}");
    let alice = world.member("alice").await;
    for number in 10..22 {
        world.member(&format!("agent-{number}")).await;
    }
    for (name, method) in [("brought", "byoca"), ("spire", "spiffe")] {
        world.member(name).await;
        came_by(&world, name, method).await;
    }
    world.member("former").await;
    let ended = "UPDATE agent_certs SET not_after = '2020-01-01T00:00:00.000000+00:00' WHERE agent_id = ?1";
    let ended = Unit::default().write(Statement::one(ended, vec!["acme::former".into()]));
    world.authority.store().submit(ended).await.unwrap();
    let rotation = begin(&operator).await;
    fetch(&world, &alice).await;
    let page = operator.get(HERE).await.text;
    for part in [
        "1 of 13 have the trust file",
        "aria-current=\"step\">distribute<",
        "<progress max=\"13\" value=\"1\"",
        "hx-get=\"/proxy/pki\" hx-trigger=\"every 5s\"",
        ">acme::agent-19</a>",
        "and 2 more",
        "BYOCA: 0 of 1 with a certificate of the new root",
        "SPIFFE: 0 of 1 with the new trust file",
        "1 agent is shut out until it gets another certificate",
        ">acme::brought</a>",
        ">acme::former</a>",
        "believed already",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains("acme::agent-20") && !page.contains("acme::alice"), "{page}");
    assert!(
        !page.contains("id=\"advance\"") && page.contains("id=\"force\""),
        "it would leave agents behind"
    );

    let left = operator.get(&rotation).await.text;
    assert!(left.contains("acme::agent-21") && !left.contains("acme::brought"), "{left}");
    let work = operator.get(&format!("{rotation}?who=operators")).await.text;
    for part in ["acme::brought", "acme::spire", "acme::former", ">shut out<"] {
        assert!(work.contains(part), "{part}: {work}");
    }
    assert!(!work.contains("acme::agent-21"), "{work}");
    let after = operator.get(&format!("{rotation}?after=acme::agent-20")).await.text;
    assert!(after.contains("acme::agent-21") && !after.contains("acme::agent-20<"), "{after}");
    let api = rotation.replacen(HERE, "/pki", 1);
    let request = Request::get(format!("{api}?who=operators")).header("x-admin-secret", crate::world::SECRET);
    let told = world.ask(nobody(), request.body(Body::empty()).unwrap()).await.body;
    assert_eq!(told["operators_work"]["shut_out"], json!({ "agents": 1 }));
    assert_eq!(told["left"][1]["agent_id"], "acme::former");
    assert_eq!((&told["left"][0]["shut_out"], &told["left"][1]["shut_out"]), (&json!(false), &json!(true)));
    let nothing = operator.get("/proxy/pki/rotations/nothing").await;
    assert_eq!(nothing.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_buttons_steer_an_overlap_to_its_end() {
    let world = World::new().await;
    let operator = Operator::log_in(&world).await;
    let (alice, before) = (world.member("alice").await, root(&world));
    let rotation = begin(&operator).await;
    for action in ["advance", "pause", "resume", "abort"] {
        let request = Request::post(format!("{rotation}/{action}")).body(Body::from("from=distribute"));
        let answer = world.ask(nobody(), request.unwrap()).await;
        assert_eq!(answer.header("location"), Some("/proxy/login"), "{action}");
        let request = operator.request(http::Method::POST, &format!("{rotation}/{action}"));
        let forged = operator.ask(request, "from=distribute&force=1&confirm_text=FORCE".into()).await;
        assert_eq!(forged.status, StatusCode::FORBIDDEN, "{action}");
    }
    let pause = operator.is_sent_to(&format!("{rotation}/pause"), "").await;
    assert!(operator.get(&pause).await.text.contains("badge pending\">paused"));
    let again = operator.is_sent_to(&format!("{rotation}/pause"), "").await;
    assert!(operator.get(&again).await.text.contains("the rotation is paused already"));
    let resume = operator.is_sent_to(&format!("{rotation}/resume"), "").await;
    assert!(operator.get(&resume).await.text.contains("id=\"pause\""));

    let advance = format!("{rotation}/advance");
    assert_eq!(operator.submit(&advance, "from=somewhere").await.status, StatusCode::BAD_REQUEST);
    let early = operator.is_sent_to(&advance, "from=distribute").await;
    let told = operator.get(&early).await.text;
    assert!(told.contains("1 of 1 agent has not fetched the new trust file; wait for them"), "{told}");
    fetch(&world, &alice).await;
    assert!(operator.get(HERE).await.text.contains("Go on to reissue"));
    let on = operator.is_sent_to(&advance, "from=distribute").await;
    assert!(operator.get(&on).await.text.contains("The rotation went on: reissue."));
    let page = operator.get(HERE).await.text;
    assert!(page.contains("certifies agents already") && page.contains("0 of 1 moved"), "{page}");
    let late = operator.is_sent_to(&advance, "from=distribute").await;
    assert!(operator.get(&late).await.text.contains("the rotation has changed meanwhile"));

    force(&operator, &advance, "reissue").await;
    let page = operator.get(HERE).await.text;
    assert!(page.contains("until 2026-10-05") && page.contains("believed still"), "{page}");
    force(&operator, &advance, "activated").await;
    assert_eq!(open(&world), None);
    assert_ne!(root(&world), before);
    let over = operator.is_sent_to(&format!("{rotation}/pause"), "").await;
    assert!(operator.get(&over).await.text.contains("the rotation is over (done)"));
    assert!(operator.get(&rotation).await.text.contains("The rotation is over."));
}

/// Goes on out of `from` without those who are left, as who is asked does it.
async fn force(operator: &Operator<'_>, advance: &str, from: &str) {
    let asks = format!("from={from}&force=1");
    let shown = operator.submit(advance, &asks).await;
    assert_eq!(shown.status, StatusCode::OK, "{shown:?}");
    assert!(shown.text.contains("acme::alice") && shown.text.contains("without 1 agent?"), "{}", shown.text);
    let confirms = format!("{asks}&behind={}", field(&shown.text, "behind"));
    let mistyped = operator.submit(advance, &format!("{confirms}&confirm_text=force")).await;
    assert_eq!(mistyped.status, StatusCode::BAD_REQUEST);
    assert_eq!(open(operator.world()).unwrap().0.as_str(), from, "nothing was done");
    operator.is_sent_to(advance, &format!("{confirms}&confirm_text=FORCE")).await;
}

#[tokio::test]
async fn nobody_is_left_behind_whom_the_operator_was_not_shown() {
    let world = World::new().await;
    let operator = Operator::log_in(&world).await;
    world.member("alice").await;
    let advance = format!("{}/advance", begin(&operator).await);
    let shown = operator.submit(&advance, "from=distribute&force=1").await.text;
    let confirms = format!("from=distribute&force=1&confirm_text=FORCE&behind={}", field(&shown, "behind"));
    world.member("bob").await;
    let again = operator.submit(&advance, &confirms).await;
    assert_eq!(again.status, StatusCode::OK, "{again:?}");
    for part in ["More agents are left than you were shown", "acme::bob", "without 2 agents?"] {
        assert!(again.text.contains(part), "{part}: {}", again.text);
    }
    assert_eq!(open(&world).unwrap().0, Phase::Distribute);
    let stale = operator.is_sent_to(&advance, "from=reissue&force=1&confirm_text=FORCE&behind=9").await;
    assert!(operator.get(&stale).await.text.contains("the rotation has changed meanwhile"));
    let confirms =
        format!("from=distribute&force=1&confirm_text=FORCE&behind={}", field(&again.text, "behind"));
    operator.is_sent_to(&advance, &confirms).await;
    assert_eq!(open(&world).unwrap().0, Phase::Reissue);
}

#[tokio::test]
async fn an_overlap_is_aborted_when_that_is_confirmed() {
    let world = World::new().await;
    let operator = Operator::log_in(&world).await;
    world.member("alice").await;
    let before = root(&world);
    let abort = format!("{}/abort", begin(&operator).await);
    let shown = operator.submit(&abort, "").await;
    assert!(shown.status == 200 && shown.text.contains("The new root is dropped."), "{shown:?}");
    assert_eq!(operator.submit(&abort, "confirm_text=yes").await.status, StatusCode::BAD_REQUEST);
    assert!(open(&world).is_some(), "nothing was done");
    let done = operator.is_sent_to(&abort, "confirm_text=ABORT").await;
    let page = operator.get(&done).await.text;
    assert!(page.contains("What was before the rotation is again.") && !page.contains("id=\"rotation\""));
    assert_eq!((open(&world), root(&world)), (None, before));
    let twice = operator.is_sent_to(&abort, "").await;
    assert!(operator.get(&twice).await.text.contains("the rotation is over (aborted)"));
}

#[tokio::test]
async fn the_intermediate_is_rotated_as_it_was_shown_and_once() {
    let world = World::new().await;
    let operator = Operator::log_in(&world).await;
    let issuer = || world.authority.trust().server_issuer.as_ref().unwrap().certificate().thumbprint();
    let before = issuer();
    let request = operator.request(http::Method::POST, INTERMEDIATE);
    assert_eq!(operator.ask(request, "grace_days=14".into()).await.status, StatusCode::FORBIDDEN);
    assert!(operator.get(INTERMEDIATE).await.text.contains("Show what will happen"));
    for bad in ["", "grace_days=0", "grace_days=91", "grace_days=3&confirm_text=ROTATE"] {
        assert_eq!(operator.submit(INTERMEDIATE, bad).await.status, StatusCode::BAD_REQUEST, "{bad}");
    }
    let shown = operator.submit(INTERMEDIATE, "grace_days=1").await;
    assert_eq!(shown.status, StatusCode::OK, "{shown:?}");
    assert!(shown.text.contains("verify for 1 day more"), "{}", shown.text);
    assert_eq!(field(&shown.text, "instead_of"), before.to_string());
    assert_eq!(issuer(), before, "nothing has happened yet");

    let form = format!("grace_days=1&instead_of={before}");
    let mistyped = operator.submit(INTERMEDIATE, &format!("{form}&confirm_text=rotate")).await;
    assert_eq!(mistyped.status, StatusCode::BAD_REQUEST);
    let done = operator.is_sent_to(INTERMEDIATE, &format!("{form}&confirm_text=ROTATE")).await;
    let after = issuer();
    assert_ne!(after, before);
    let page = operator.get(&done).await.text;
    for part in ["certifies from now on, until", "signs tokens", "what it certified works until it ends"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let again = operator.is_sent_to(INTERMEDIATE, &format!("{form}&confirm_text=ROTATE")).await;
    assert!(operator.get(&again).await.text.contains("another rotation came first"));
    assert_eq!(issuer(), after, "a form that is sent again rotates nothing");
}

#[tokio::test]
async fn the_intermediate_is_rotated_while_an_overlap_is_open_too() {
    let world = World::new().await;
    let operator = Operator::log_in(&world).await;
    let advance = format!("{}/advance", begin(&operator).await);
    for (phase, then) in [
        ("distribute", "Agents then fetch the trust file once more."),
        ("reissue", "the one that it takes the place of"),
        ("activated", "</span>, and goes on.</p>"),
    ] {
        assert_eq!(open(&world).unwrap().0.as_str(), phase);
        assert!(operator.get(HERE).await.text.contains("href=\"/proxy/pki/rotate-intermediate\""));
        let page = operator.get(INTERMEDIATE).await.text;
        assert!(page.contains("Show what will happen") && page.contains(then), "{phase}: {page}");
        let shown = operator.submit(INTERMEDIATE, "grace_days=1").await.text;
        let elsewhere = shown.contains("from the intermediate that the rotation of the Org CA brings");
        assert_eq!(elsewhere, phase == "reissue", "{shown}");
        let form = format!("grace_days=1&confirm_text=ROTATE&instead_of={}", field(&shown, "instead_of"));
        let done = operator.is_sent_to(INTERMEDIATE, &form).await;
        assert!(operator.get(&done).await.text.contains("certifies from now on, until"), "{phase}");
        operator.is_sent_to(&advance, &format!("from={phase}")).await;
    }
    let staged = Statement::one("UPDATE pki_rotations SET phase = 'staged'", vec![]);
    world.authority.store().submit(Unit::default().write(staged)).await.unwrap();
    world.authority.reload().unwrap();
    let page = operator.get(INTERMEDIATE).await.text;
    assert!(page.contains("is just being begun") && !page.contains("grace_days"), "{page}");
}

#[tokio::test]
async fn why_the_intermediate_is_not_rotated_is_told_in_words() {
    let world = World::new().await;
    world.clock.advance(Duration::from_secs(16 * 365 * 24 * 3600));
    let operator = Operator::log_in(&world).await;
    let ended = "the Org CA cannot sign another intermediate: it ended at";
    let page = operator.get(INTERMEDIATE).await.text;
    assert!(page.contains(ended) && !page.contains("grace_days"), "{page}");
    let refused = operator.is_sent_to(INTERMEDIATE, "grace_days=14").await;
    let page = operator.get(&refused).await.text;
    assert!(page.contains(ended), "{page}");
    let api = world.operate(crate::world::SECRET, "/v1/admin/mastio-ca/rotate", &json!({})).await;
    assert_eq!(api.status, StatusCode::CONFLICT, "as the API says: {api:?}");
}
