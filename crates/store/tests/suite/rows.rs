//! Rows that may exist once, follow each other, or end at their time.

use std::sync::Arc;

use mastio_core::{AgentId, Kid, SpiffeId, Stamp, Thumbprint, TrustDomain};
use mastio_store::{
    Rejection, Statement, Unit, WriteError,
    agents::{
        self, Standing,
        fleet::{self, Filter, Status},
    },
    crl,
    dashboard::{self, SessionRow},
    idempotency::{self, Remembered},
    keys::{self, KeyState},
    spiffe::{self, Bundle},
};
use secrecy::ExposeSecret;

use crate::place::{Place, alice, new_agent, told};

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
