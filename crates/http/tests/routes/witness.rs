//! Being a witness: the protocol, its races, and what is seen of logs that tell two stories.

use std::{collections::BTreeMap, time::Duration};

use axum::body::Body;
use http::{Request, StatusCode};
use mastio_audit::{
    checkpoint::{Checkpoint, SignedCheckpoint},
    note::{KeyKind, Name, NoteKey, NoteSigner},
    tree::{Edge, TileId, Tiles, Tree},
    witness::AddCheckpoint,
};
use mastio_core::{Clock, Stamp, SystemRng, sha256};
use mastio_store::Query;
use serde_json::json;

use crate::world::{Answer, SECRET, World, nobody};

const PATH: &str = "/audit/witness/add-checkpoint";
const ORIGIN: &str = "other.example/audit";

/// A log of somebody else.
struct Log {
    signer: NoteSigner,
    tiles: BTreeMap<TileId, Vec<u8>>,
}

impl Tiles for Log {
    type Error = &'static str;

    fn tile(&self, tile: TileId, _: usize) -> Result<Vec<u8>, &'static str> {
        self.tiles.get(&tile).cloned().ok_or("no such tile")
    }
}

impl Log {
    fn new() -> Self {
        let name = Name::parse(ORIGIN).unwrap();
        let signer = NoteSigner::generate(KeyKind::Log, name, &SystemRng).unwrap();
        Self { signer, tiles: BTreeMap::new() }.telling("the truth")
    }

    /// The same log with another history.
    fn telling(mut self, story: &str) -> Self {
        let mut edge = Edge::load(0, &self).unwrap();
        (0..1000).for_each(|entry| edge.append(&sha256(format!("{story} {entry}").as_bytes())));
        self.tiles = edge.take_growth().into_iter().map(|growth| (growth.tile, growth.hashes)).collect();
        self
    }

    fn checkpoint(&self, size: u64) -> SignedCheckpoint {
        let head = Tree::new(size, self).head().unwrap();
        Checkpoint { origin: self.signer.key().name().clone(), head }.sign(&self.signer).unwrap()
    }

    fn request(&self, old: u64, size: u64) -> AddCheckpoint {
        let path = Tree::new(size, self).consistency(old).map_or_else(|_| vec![], |proof| proof.path);
        AddCheckpoint { old, path, checkpoint: self.checkpoint(size) }
    }

    async fn witness(&self) -> World {
        let vkey = self.signer.key().to_string();
        World::with(&[("MCP_PROXY_AUDIT_WITNESS_FOR", &vkey)]).await
    }
}

impl World {
    async fn add(&self, request: impl ToString) -> Answer {
        let request = Request::post(PATH).body(Body::from(request.to_string())).unwrap();
        self.ask(nobody(), request).await
    }

    async fn rows(&self, sql: &'static str) -> usize {
        self.authority.store().rows(Query::new("local_audit", sql, vec![])).await.unwrap().len()
    }

    async fn warns(&self) -> bool {
        let body = self.get("/healthz").await.body;
        body["warnings"].as_array().is_some_and(|warnings| warnings.contains(&json!("audit_split_view")))
    }

    async fn show(&self) -> serde_json::Value {
        let request = Request::get("/v1/admin/audit/witness").header("x-admin-secret", SECRET);
        self.ask(nobody(), request.body(Body::empty()).unwrap()).await.body
    }
}

const SPLIT_VIEWS: &str = "SELECT id FROM local_audit WHERE event_type = 'audit.split_view'";

#[tokio::test]
async fn a_log_is_cosigned_as_it_grows() {
    let log = Log::new();
    let world = log.witness().await;
    for (old, size) in [(0, 0), (0, 3), (3, 300), (300, 300), (300, 1000)] {
        let request = log.request(old, size);
        let answer = world.add(&request).await;
        assert_eq!(answer.status, StatusCode::OK, "{old} {size}: {answer:?}");
        let key: NoteKey = world.show().await["vkey"].as_str().unwrap().parse().unwrap();
        assert_eq!(key.name().as_str(), "mastio.test:9443/witness");
        assert!(answer.text.starts_with("— ") && answer.text.ends_with('\n'), "{answer:?}");
        let note = request.checkpoint.with_line(&answer.text).unwrap();
        assert_eq!(note.cosigned_at(&key), Ok(Stamp::from_unix(world.clock.now().unix())));
    }
    let shown = world.show().await;
    assert_eq!((&shown["logs"][0]["origin"], &shown["logs"][0]["size"]), (&json!(ORIGIN), &json!(1000)));
    let told = "SELECT id FROM local_audit WHERE event_type = 'audit.log_witnessed'";
    assert_eq!(world.rows(told).await, 1, "cosigning writes no entries: logs of witnesses would never rest");
}

#[tokio::test]
async fn every_refusal_has_its_status() {
    let (log, stranger) = (Log::new(), Log::new());
    let world = log.witness().await;
    assert_eq!(world.add(log.request(0, 10)).await.status, StatusCode::OK);

    let unknown = Name::parse("unknown.example/audit").unwrap();
    let unknown = NoteSigner::generate(KeyKind::Log, unknown, &SystemRng).unwrap();
    let unknown = Log { signer: unknown, tiles: BTreeMap::new() }.telling("the truth");
    let wrong_proof = AddCheckpoint { path: vec![[7; 32]], ..log.request(10, 20) };
    let forged = log.request(10, 20).to_string().replace("\n20\n", "\n21\n");
    for (what, request, status) in [
        ("nothing", String::new(), 400),
        ("no text", "old \u{fffd}".to_owned(), 400),
        ("a leading zero", log.request(10, 20).to_string().replace("old 10", "old 010"), 400),
        ("no empty line", log.request(10, 20).to_string().replace("\n\n", "\n"), 400),
        ("from larger to smaller", log.request(20, 10).to_string(), 400),
        ("another log", unknown.request(0, 10).to_string(), 404),
        ("the same name, another key", stranger.request(10, 20).to_string(), 403),
        ("a checkpoint that was changed", forged, 403),
        ("a stale size", log.request(0, 20).to_string(), 409),
        ("a size from the future", log.request(15, 20).to_string(), 409),
        ("a smaller tree", log.request(0, 5).to_string(), 409),
        ("a proof that does not hold", wrong_proof.to_string(), 422),
        ("the next one", log.request(10, 20).to_string(), 200),
    ] {
        let answer = world.add(request).await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        if answer.status == StatusCode::CONFLICT {
            assert_eq!((answer.header("content-type"), &*answer.text), (Some("text/x.tlog.size"), "10\n"));
        }
    }
}

#[tokio::test]
async fn signatures_of_others_are_ignored_and_a_log_may_have_several_keys() {
    let (log, second) = (Log::new(), Log::new());
    let vkeys = format!("{}, {}", log.signer.key(), second.signer.key());
    let world = World::with(&[("MCP_PROXY_AUDIT_WITNESS_FOR", &vkeys)]).await;
    let name = Name::parse("somebody.example").unwrap();
    let witness = NoteSigner::generate(KeyKind::Witness, name, &SystemRng).unwrap();
    let line = log.checkpoint(10).cosign(&witness, world.clock.now()).unwrap();
    let request =
        AddCheckpoint { checkpoint: log.checkpoint(10).with_line(&line).unwrap(), ..log.request(0, 10) };
    assert_eq!(world.add(request).await.status, StatusCode::OK);
    assert_eq!(world.show().await["logs"][0]["checkpoint"], log.checkpoint(10).to_string());
    assert_eq!(world.add(second.request(10, 20)).await.status, StatusCode::OK, "the same history");
}

#[tokio::test]
async fn of_two_updates_from_one_size_one_wins() {
    let log = Log::new();
    let world = log.witness().await;
    for old in [0, 10, 20, 30, 40] {
        let (a, b) =
            tokio::join!(world.add(log.request(old, old + 10)), world.add(log.request(old, old + 5)));
        let mut statuses = [a.status.as_u16(), b.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409], "{a:?} {b:?}");
        let size: u64 =
            [a, b].iter().find(|answer| answer.status == 409).unwrap().text.trim().parse().unwrap();
        assert!(world.add(log.request(size, old + 10)).await.status == StatusCode::OK, "to the next round");
    }
}

#[tokio::test]
async fn a_log_may_ask_what_was_cosigned_and_nobody_else() {
    let (log, stranger) = (Log::new(), Log::new());
    let world = log.witness().await;
    let ask = async |request: AddCheckpoint| {
        let request = Request::post("/audit/witness/cosigned").body(Body::from(request.to_string())).unwrap();
        world.ask(nobody(), request).await
    };
    assert_eq!(ask(log.request(0, 5)).await.status, StatusCode::NOT_FOUND, "nothing yet");
    assert_eq!(world.add(log.request(0, 10)).await.status, StatusCode::OK);
    let answer = ask(log.request(0, 5)).await;
    assert_eq!((answer.status, answer.text), (StatusCode::OK, log.checkpoint(10).to_string()));
    assert_eq!(ask(stranger.request(0, 5)).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn what_was_cosigned_outlives_a_restart() {
    let log = Log::new();
    let vkey = log.signer.key().to_string();
    let settings = [("MCP_PROXY_AUDIT_WITNESS_FOR", &*vkey)];
    let world = World::with(&settings).await;
    assert_eq!(world.add(log.request(0, 10)).await.status, StatusCode::OK);
    let before = world.show().await;
    // Not stopped but left behind: what was answered is in the file.
    let copy = tempfile::tempdir().unwrap();
    let into = copy.path().join("data");
    std::fs::create_dir(&into).unwrap();
    for file in ["mcp_proxy.db", "mcp_proxy.db-wal", ".mastio-identity"] {
        std::fs::copy(world.authority.settings.dir.join("data").join(file), into.join(file)).unwrap();
    }
    let again = World::over_with(copy, &settings, world.clock.now()).await;
    assert_eq!(again.show().await, before, "the same key, the same checkpoint");
    assert_eq!(again.add(log.request(0, 20)).await.text, "10\n");
    assert_eq!(again.add(log.request(10, 20)).await.status, StatusCode::OK);
}

#[tokio::test]
async fn two_stories_of_one_size_are_kept_told_and_warned_of_until_acknowledged() {
    let mut log = Log::new();
    let world = log.witness().await;
    assert_eq!(world.add(log.request(0, 10)).await.status, StatusCode::OK);
    let truth = log.checkpoint(10);
    log = log.telling("a lie");
    // Whatever size the request starts from.
    for old in [10, 0, 10] {
        let answer = world.add(log.request(old, 10)).await;
        assert_eq!((answer.status, &*answer.text), (StatusCode::CONFLICT, "10\n"));
    }
    assert_eq!(world.rows(SPLIT_VIEWS).await, 1, "told once");
    assert!(world.warns().await);
    let seen = &world.show().await["split_views"][0];
    assert_eq!(seen["known"], truth.to_string());
    assert_eq!(seen["other"], log.checkpoint(10).to_string());

    let acknowledge = async |origin: &str| {
        world.operate(SECRET, "/v1/admin/audit/witness/acknowledge", &json!({ "origin": origin })).await
    };
    assert_eq!(acknowledge("nobody.example").await.status, StatusCode::NOT_FOUND);
    assert!(world.warns().await);
    assert_eq!(acknowledge(ORIGIN).await.body, json!({ "origin": ORIGIN, "acknowledged": 1 }));
    assert!(!world.warns().await);
    assert_eq!(acknowledge(ORIGIN).await.status, StatusCode::NOT_FOUND);
    // The lie continues.
    for size in [20, 30, 40] {
        assert!(!world.warns().await, "{size}");
        assert_eq!(world.add(log.request(10, size)).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    assert!(world.warns().await);
    assert_eq!(world.rows(SPLIT_VIEWS).await, 2);
}

/// What an outsider sends who sees a checkpoint.
fn wrong(log: &Log, old: u64, size: u64) -> AddCheckpoint {
    AddCheckpoint { path: vec![[7; 32]], ..log.request(old, size) }
}

#[tokio::test]
async fn a_true_checkpoint_with_a_wrong_proof_says_nothing_about_its_log() {
    let log = Log::new();
    let world = log.witness().await;
    // Before anything was cosigned there is nothing that could be contradicted.
    assert_eq!(world.add(wrong(&log, 0, 10)).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(world.add(log.request(0, 10)).await.status, StatusCode::OK);
    for _ in 0..5 {
        assert_eq!(world.add(wrong(&log, 10, 20)).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    assert_eq!(world.add(wrong(&log, 10, 25)).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    // That very one never comes.
    assert_eq!(world.add(log.request(10, 21)).await.status, StatusCode::OK);
    assert_eq!(world.add(wrong(&log, 21, 26)).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(!world.warns().await);
    assert_eq!((world.rows(SPLIT_VIEWS).await, world.rows(KEPT).await), (0, 0));
    let counted = world.authority.metrics.witness.unproved.with_label_values(&[ORIGIN]).get();
    assert_eq!(counted, 7);
}

#[tokio::test]
async fn a_log_that_proves_nothing_any_more_is_suspected_until_it_proves_as_much() {
    let log = Log::new();
    let world = log.witness().await;
    assert_eq!(world.add(log.request(0, 10)).await.status, StatusCode::OK);
    for size in [20, 30, 40, 50] {
        assert_eq!(world.rows(SPLIT_VIEWS).await, usize::from(size > 40), "{size}");
        assert_eq!(world.add(wrong(&log, 10, size)).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    assert_eq!(world.rows(SPLIT_VIEWS).await, 1, "one suspicion at a time");
    assert_eq!(world.show().await["split_views"][0]["suspected_size"], 40);
    assert_eq!(world.add(log.request(10, 39)).await.status, StatusCode::OK);
    assert!(world.warns().await, "a smaller one tells nothing of it");
    assert_eq!(world.add(log.request(39, 41)).await.status, StatusCode::OK);
    assert!(!world.warns().await);
}

#[tokio::test]
async fn a_doubted_checkpoint_is_evidence_once_the_log_signs_another_of_its_size() {
    let mut log = Log::new();
    let world = log.witness().await;
    assert_eq!(world.add(log.request(0, 10)).await.status, StatusCode::OK);
    let truth = log.tiles.clone();
    log = log.telling("a lie");
    assert_eq!(world.add(log.request(10, 20)).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    let lie = log.checkpoint(20);
    assert!(!world.warns().await);
    log.tiles = truth;
    assert_eq!(world.add(log.request(10, 20)).await.status, StatusCode::OK);
    assert!(world.warns().await);
    assert_eq!(world.show().await["split_views"][0]["other"], lie.to_string());
    // It is proved: that the log goes on does not end it.
    assert_eq!(world.add(log.request(20, 30)).await.status, StatusCode::OK);
    assert!(world.warns().await);
}

const KEPT: &str = "SELECT id FROM audit_split_views";

#[tokio::test]
async fn suspicions_are_bounded_and_do_not_hide_a_proof() {
    let mut log = Log::new();
    let world = log.witness().await;
    assert_eq!(world.add(log.request(0, 10)).await.status, StatusCode::OK);
    let mut known = 10;
    for _ in 0..20 {
        for more in 1..4 {
            assert_eq!(world.add(wrong(&log, known, known + more)).await.status, 422);
        }
        world.clock.advance(Duration::from_secs(60));
        assert_eq!(world.add(log.request(known, known + 3)).await.status, StatusCode::OK);
        known += 3;
    }
    assert_eq!((world.rows(SPLIT_VIEWS).await, world.rows(KEPT).await), (16, 16), "ended ones count");
    assert!(!world.warns().await);
    log = log.telling("a lie");
    assert_eq!(world.add(log.request(known, known)).await.status, StatusCode::CONFLICT);
    assert_eq!((world.rows(SPLIT_VIEWS).await, world.rows(KEPT).await), (17, 17));
    assert!(world.warns().await);
}

#[tokio::test]
async fn a_smaller_tree_is_no_contradiction() {
    let mut log = Log::new();
    let world = log.witness().await;
    assert_eq!(world.add(log.request(0, 100)).await.status, StatusCode::OK);
    assert_eq!(world.add(log.request(0, 50)).await.text, "100\n");
    log = log.telling("a lie");
    assert_eq!(world.add(log.request(0, 50)).await.text, "100\n");
    assert!(!world.warns().await, "nobody can tell an old checkpoint from a rewritten one");
}

#[tokio::test]
async fn who_is_nobodys_witness_says_so() {
    let log = Log::new();
    let world = World::new().await;
    let answer = world.add(log.request(0, 10)).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert!(answer.text.contains("MCP_PROXY_AUDIT_WITNESS_FOR"), "{answer:?}");
}

#[tokio::test]
async fn requests_are_bounded_in_length_and_number() {
    let log = Log::new();
    let world = log.witness().await;
    let long = "x".repeat((64 << 10) + 1);
    assert_eq!(world.add(long).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    for _ in 1..60 {
        assert_eq!(world.add("old").await.status, StatusCode::BAD_REQUEST);
    }
    assert_eq!(world.add(log.request(0, 10)).await.status, StatusCode::TOO_MANY_REQUESTS);
}
