//! Time stamps of the log, with OpenSSL as the authority.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Arc, time::Duration};

use mastio_authority::{Authority, Refusal, boot};
use mastio_config::{Settings, Source};
use mastio_core::{Clock, Event, ManualClock, SystemClock, SystemRng, event::catalogue};
use mastio_ledger::{Ledger, anchor::AnchorError};
use mastio_store::{
    Statement, Unit,
    audit::{self, anchors},
};
use mastio_testing::{
    responder::{Reply, Responder, Seen},
    tsa::{Key, Tsa},
};
use mastio_timestamp::{Token, tsr_of};
use tokio::sync::watch;

const LIMIT: Duration = Duration::from_secs(20);

struct World {
    ledger: Ledger,
    clock: Arc<ManualClock>,
    _dir: tempfile::TempDir,
}

impl World {
    /// A Mastio that has itself stamped by `url`, and trusts the root of `tsa`.
    async fn new(url: &str, tsa: &Tsa) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let trust = tsa.file("root.pem");
        let environment = [
            ("MCP_PROXY_ADMIN_SECRET", "4f1c0b6d9e2a4f1c0b6d9e2a4f1c0b6d"),
            ("MCP_PROXY_ORG_ID", "acme"),
            ("CULLIS_TSA_URL", url),
            ("MCP_PROXY_AUDIT_TSA_TRUST_ANCHOR_PATH", trust.to_str().unwrap()),
            ("MCP_PROXY_AUDIT_TSA_INTERVAL_SECONDS", "1"),
            ("MCP_PROXY_AUDIT_TSA_MAX_CLOCK_SKEW_SECONDS", "600"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = Settings::load(&Source::new(environment, ""), dir.path()).unwrap().settings;
        // The authority has the time of the machine.
        let clock = Arc::new(ManualClock::at(SystemClock::default().now()));
        let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let authority = boot::start(settings, shared, Arc::new(SystemRng)).await.unwrap();
        Self { ledger: Ledger::new(authority), clock, _dir: dir }
    }

    fn authority(&self) -> &Arc<Authority> {
        self.ledger.authority()
    }

    async fn happens(&self) {
        let event = catalogue::LoggedOut { session: "s".into() };
        self.authority().commit(Unit::of(Event::new(&event))).await.unwrap();
    }

    async fn head(&self) -> i64 {
        let head = audit::head(self.authority().store(), &self.authority().trust().org).await;
        head.unwrap().unwrap().chain_seq
    }

    async fn kept(&self) -> Vec<i64> {
        let (store, org) = (self.authority().store(), &self.authority().trust().org);
        let kept = anchors::within(store, org, 0, i64::MAX, 100).await.unwrap();
        kept.iter().map(|anchor| anchor.chain_seq).collect()
    }
}

/// An authority as it should be, and its address.
fn honest(key: Key) -> (Arc<Tsa>, Responder) {
    let tsa = Arc::new(Tsa::new(key));
    let stamping = Arc::clone(&tsa);
    (tsa, Responder::start(move |seen| Some(Reply::time_stamp(stamping.reply(&seen.body)))))
}

async fn eventually(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let seen = async {
        while !look().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, seen).await.is_ok(), "{what}: not within {LIMIT:?}");
}

#[tokio::test]
async fn the_head_is_stamped_when_something_happened() {
    for key in [Key::Rsa, Key::P256] {
        let (tsa, responder) = honest(key);
        let world = World::new(&responder.url(), &tsa).await;
        let head = world.head().await;
        let anchor = world.ledger.stamp_head().await.unwrap().unwrap();
        assert_eq!(anchor.chain_seq, head);
        assert_eq!(world.head().await, head + 1, "the stamp is told");
        assert_eq!(world.ledger.stamp_head().await.unwrap(), None, "that alone is nothing to stamp");
        assert_eq!(responder.requests(), 1);
        world.happens().await;
        assert_eq!(world.ledger.stamp_head().await.unwrap().unwrap().chain_seq, head + 2);
        assert_eq!(world.kept().await, [head, head + 2]);

        // An auditor needs nothing of ours for it.
        let file = tsa.file("kept.tsr");
        std::fs::write(&file, tsr_of(&Token::from_der(anchor.token.clone()).unwrap())).unwrap();
        assert!(tsa.verifies(&anchor.row_hash, &file));
        assert!(anchor.framed().starts_with(b"T1|0"));
        assert_eq!(anchor.tsa_cert_chain.unwrap().matches("BEGIN CERTIFICATE").count(), 3);
        assert_eq!(anchor.tsa_url, format!("{}/", responder.url()));
    }
}

#[tokio::test]
async fn an_entry_is_stamped_once() {
    let (tsa, responder) = honest(Key::P256);
    let world = World::new(&responder.url(), &tsa).await;
    let first = world.ledger.stamp(1).await.unwrap();
    assert_eq!(first.chain_seq, 1);
    assert_eq!(world.ledger.stamp(1).await.unwrap(), first);
    assert_eq!(responder.requests(), 1);
    let absent = world.ledger.stamp(1_000).await.unwrap_err();
    assert!(matches!(absent, AnchorError::NoEntry(1_000)), "{absent}");

    let (one, two) = tokio::join!(world.ledger.stamp(2), world.ledger.stamp(2));
    assert_eq!(one.unwrap(), two.unwrap(), "whoever comes second takes what is there");

    let sql = "UPDATE audit_tsa_anchors SET row_hash = ?1 WHERE chain_seq = 1";
    let forge = Unit::default().write(Statement::one(sql, vec!["00".repeat(32).into()]));
    world.authority().commit(forge).await.unwrap();
    let changed = world.ledger.stamp(1).await.unwrap_err();
    assert!(matches!(changed, AnchorError::Changed(1)), "{changed}");
}

/// What a hash is in a TimeStampReq of ours, and what the nonce.
fn other_hash(query: &[u8]) -> Vec<u8> {
    let mut query = query.to_vec();
    query[30] ^= 1;
    query
}

fn other_nonce(query: &[u8]) -> Vec<u8> {
    let mut query = query.to_vec();
    // The boolean behind it is three bytes long.
    let last = query.len() - 4;
    query[last] ^= 1;
    query
}

#[tokio::test]
async fn what_proves_nothing_is_refused_and_nothing_is_kept() {
    let (tsa, responder) = honest(Key::P256);
    let world = World::new(&responder.url(), &tsa).await;
    let stranger = Tsa::new(Key::P256);
    let plain = Tsa::certified(Key::P256, "plain", "20991231235959Z");
    type Lie = Box<dyn Fn(&Seen) -> Option<Reply> + Send + Sync>;
    fn lie(tsa: &Arc<Tsa>, reply: impl Fn(&Tsa, &[u8]) -> Vec<u8> + Send + Sync + 'static) -> Lie {
        let tsa = Arc::clone(tsa);
        Box::new(move |seen| Some(Reply::time_stamp(reply(&tsa, &seen.body))))
    }
    let lies: [(&str, Lie); 9] = [
        ("over another hash", lie(&tsa, |tsa, query| tsa.reply(&other_hash(query)))),
        ("its nonce differs", lie(&tsa, |tsa, query| tsa.reply(&other_nonce(query)))),
        ("does not lead to a trusted", lie(&Arc::new(stranger), Tsa::reply)),
        (
            "may not stamp",
            lie(&Arc::new(plain), {
                let real = Arc::clone(&tsa);
                move |plain, query| granted(&plain.sign(&real.info_of(&real.reply(query)), &["-cades"]))
            }),
        ),
        (
            "signature is wrong",
            lie(&tsa, |tsa, query| {
                let mut reply = tsa.reply(query);
                *reply.last_mut().unwrap() ^= 1;
                reply
            }),
        ),
        (
            "refused to stamp",
            lie(&tsa, |tsa, _| tsa.reply(&tsa.query(&"ab".repeat(32), &["-tspolicy", "1.9.9.9"]))),
        ),
        ("not a time stamp", lie(&tsa, |_, _| b"<html>come back later</html>".to_vec())),
        ("more than 65536 bytes", lie(&tsa, |_, _| vec![0; 65_537])),
        (
            "status 302",
            Box::new(|_| Some(Reply { headers: vec!["location: /elsewhere".into()], ..Reply::status(302) })),
        ),
    ];
    for (told, answer) in lies {
        responder.answer(answer);
        let error = world.ledger.stamp(1).await.unwrap_err();
        assert!(error.to_string().contains(told), "{told}: {error}");
        assert_eq!(error.status(), 502, "{told}");
        assert_eq!(world.kept().await, <[i64; 0]>::default(), "{told}");
    }
    let honest = Arc::clone(&tsa);
    responder.answer(move |seen| Some(Reply::time_stamp(honest.reply(&seen.body))));
    world.clock.advance(Duration::from_secs(3600));
    let skew = world.ledger.stamp(1).await.unwrap_err();
    assert!(skew.to_string().contains("check the clock"), "{skew}");
}

/// A TimeStampResp around a token.
fn granted(token: &[u8]) -> Vec<u8> {
    tsr_of(&Token::from_der(token.to_vec()).unwrap())
}

#[tokio::test]
async fn an_expired_authority_does_not_count() {
    let expired = Arc::new(Tsa::certified(Key::P256, "stamps", "20210101000000Z"));
    let stamping = Arc::clone(&expired);
    let responder = Responder::start(move |seen| Some(Reply::time_stamp(stamping.reply(&seen.body))));
    let world = World::new(&responder.url(), &expired).await;
    let error = world.ledger.stamp(1).await.unwrap_err();
    assert!(error.to_string().contains("had expired at the time that is stamped"), "{error}");
}

#[tokio::test]
async fn failures_are_counted_and_tried_again_and_hold_nobody_up() {
    let (tsa, responder) = honest(Key::P256);
    responder.answer(|_| Some(Reply::status(500)));
    let world = World::new(&responder.url(), &tsa).await;
    let (stop, stopping) = watch::channel(false);
    let keeping = tokio::spawn(world.ledger.clone().keep_anchors(stopping));
    let metrics = &world.authority().metrics.anchors;
    eventually("two failures", async || metrics.failures.get() >= 2).await;
    assert_eq!(metrics.last.get(), 0);

    let honest = Arc::clone(&tsa);
    responder.answer(move |seen| Some(Reply::time_stamp(honest.reply(&seen.body))));
    eventually("a stamp", async || world.kept().await.len() == 1).await;
    eventually("its time", async || metrics.last.get() == world.clock.now().unix()).await;

    // A second one is due when the clock says so; an authority that says nothing holds up neither the log nor the end.
    let asked = responder.requests();
    responder.answer(|_| None);
    world.happens().await;
    world.clock.advance(Duration::from_secs(2));
    eventually("the silent authority is asked", async || responder.requests() > asked).await;
    world.happens().await;
    stop.send(true).unwrap();
    tokio::time::timeout(LIMIT / 2, keeping).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_file_of_trusted_roots_is_looked_at_before_anything_is_stamped() {
    let (tsa, responder) = honest(Key::P256);
    let world = World::new(&responder.url(), &tsa).await;
    world.ledger.check_tsa_trust().await.unwrap();
    std::fs::copy(tsa.file("tsa.pem"), tsa.file("root.pem")).unwrap();
    let error = world.ledger.check_tsa_trust().await.unwrap_err();
    assert!(
        error.to_string().ends_with("take the root of the time stamping authority, not its own certificate")
    );
    std::fs::remove_file(tsa.file("root.pem")).unwrap();
    let error = world.ledger.check_tsa_trust().await.unwrap_err();
    assert!(matches!(error, AnchorError::TrustFile { .. }), "{error}");
    assert!(world.ledger.stamp(1).await.is_err());
    assert_eq!(responder.requests(), 0);
}
