//! Old audit entries leave for an archive: by the command, over HTTP, on a full disk, and when the power goes.

use std::{fs, path::Path, sync::Arc, time::Duration};

use http::{Method, StatusCode};
use mastio_core::{Event, OrgId, Rng, SystemClock, SystemRng, event::catalogue};
use mastio_store::{Store, Unit, sqlite::Database};
use serde_json::{Value, json};

use crate::{
    disk::Disk,
    harness::{Mastio, PATIENCE, Place, both, eventually, run},
};

/// A day that all entries are from before of.
const LATER: &str = "2099-01-01";
const STATUS: &str = "/v1/admin/audit/archive";

/// The command; its standard output is one JSON document.
fn archive(place: &Place, out: &Path) -> Value {
    let out = out.to_str().unwrap();
    let arguments = ["audit", "archive", "--before", LATER, "--out", out, "--yes", "--json"];
    let document: Value = serde_json::from_str(&run(&mut place.command(&arguments))).unwrap();
    document["archived"].clone()
}

/// The first and the last entry that the log still has.
fn ends(place: &Place) -> (i64, i64) {
    let ends = place.sql("SELECT min(chain_seq) || ' ' || max(chain_seq) FROM local_audit");
    let (first, last) = ends.trim().split_once(' ').unwrap();
    (first.parse().unwrap(), last.parse().unwrap())
}

/// A busy day, told by a tool beside the server.
async fn busy_day(place: &Place, entries: u32) {
    let org = OrgId::parse(place.text("certs/org-id").trim()).unwrap();
    let database = Database::open_for_tool(&place.database()).unwrap();
    let store = Store::start(database, org, Arc::new(SystemClock::default()), &SystemRng).unwrap();
    let event = |entry| {
        Event::new(&catalogue::OneshotDelivered {
            msg_id: format!("m-{entry}"),
            correlation_id: SystemRng.uuid().to_string(),
            sender_agent_id: "acme::alice".into(),
        })
    };
    store.submit((0..entries).fold(Unit::default(), |unit, entry| unit.tell(event(entry)))).await.unwrap();
    store.close();
}

async fn archived_so_far(server: &Mastio) -> Vec<Value> {
    eventually("nothing is under way", PATIENCE, async || {
        let mut status: Value = server.operator(Method::GET, STATUS, &json!({})).await.json().unwrap();
        status["under_way"].is_null().then(|| serde_json::from_value(status["archives"].take()).unwrap())
    })
    .await
}

#[tokio::test]
async fn the_command_archives_beside_a_server_and_without_one() {
    let place = Place::new();
    let out = place.path("cold");
    let server = place.serve().await;
    busy_day(&place, 1000).await;
    let (_, last) = ends(&place);
    let saved = server.operator(Method::GET, "/v1/admin/audit/checkpoint", &json!({})).await;
    place.write("saved.txt", &saved.body);
    let first = archive(&place, &out);
    assert!(first["first_seq"] == 1 && first["last_seq"].as_i64().unwrap() >= last - 1, "{first}");
    assert_eq!(ends(&place).0, first["last_seq"].as_i64().unwrap() + 1);
    place.verify_audit();
    let saved = place.path("saved.txt");
    let said = run(&mut place.command(&["audit", "verify", "--against", saved.to_str().unwrap()]));
    assert!(said.contains("these entries continue it"), "{said}");
    let delete = format!("DELETE FROM local_audit WHERE ts < '{LATER}'");
    let refused = place.sqlite3().arg(delete).output().unwrap();
    assert!(
        !refused.status.success() && both(&refused).contains("cullis-proxy audit archive"),
        "{}",
        both(&refused)
    );

    assert_eq!(server.stop().await, 0);
    let second = archive(&place, &out);
    assert_eq!(second["first_seq"].as_i64().unwrap(), first["last_seq"].as_i64().unwrap() + 1);
    place.verify_audit();
    let server = place.serve().await;
    let files: Vec<_> =
        archived_so_far(&server).await.iter().map(|archive| archive["file"].clone()).collect();
    assert_eq!(files, [first["file"].clone(), second["file"].clone()]);
    let cold = out.to_str().unwrap();
    let said = run(&mut place.command(&["audit", "verify", "--archive", cold]));
    assert!(said.contains("the archives are one chain, entries 1 to"), "{said}");

    let file = first["file"].as_str().unwrap();
    let said = run(&mut place.command(&["audit", "verify", file]));
    assert!(said.contains("chain walk: 1") && said.contains("inclusion"), "{said}");
    run(&mut place.command(&["audit", "restore-archive", file]));
    let restored = "SELECT count(*) FROM restored_audit";
    assert_eq!(place.sql(restored).trim(), first["entries"].to_string());
    let deliveries = "/v1/admin/audit/entries?event=oneshot_delivered&limit=500";
    let found: Value = server.operator(Method::GET, deliveries, &json!({})).await.json().unwrap();
    assert_eq!(found["entries"].as_array().unwrap().len(), 500, "what came back is found");
    run(&mut place.command(&["audit", "restore-archive", "--drop"]));
    let found: Value = server.operator(Method::GET, deliveries, &json!({})).await.json().unwrap();
    assert_eq!(found["entries"], json!([]));
    assert_eq!(place.sql(restored).trim(), "0");
    place.verify_audit();
}

#[tokio::test]
async fn over_http_archives_stay_in_their_folder() {
    let place = Place::new();
    let server = place.serve().await;
    busy_day(&place, 100).await;
    for out in ["/tmp", "../elsewhere"] {
        let refused = server.operator(Method::POST, STATUS, &json!({ "before": LATER, "out": out })).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{out}: {}", refused.detail());
    }
    let too_early = server.operator(Method::POST, STATUS, &json!({ "before": "2020-01-01" })).await;
    assert_eq!(too_early.status, StatusCode::CONFLICT, "{}", too_early.detail());
    let begun = server.operator(Method::POST, STATUS, &json!({ "before": LATER, "out": "2026" })).await;
    assert_eq!(begun.status, StatusCode::ACCEPTED, "{}", begun.detail());
    assert_eq!(begun.header("location"), Some(STATUS));
    let [made] = archived_so_far(&server).await.try_into().unwrap();
    let file = Path::new(made["file"].as_str().unwrap()).to_owned();
    assert!(file.starts_with(fs::canonicalize(place.path("archive/2026")).unwrap()), "{}", file.display());
    assert_eq!(ends(&place).0, made["last_seq"].as_i64().unwrap() + 1);
    place.verify_audit();
}

#[tokio::test]
async fn a_full_disk_takes_no_archive_and_nothing_is_lost() {
    let (place, disk) = (Place::new(), Disk::in_memory());
    let server = place.serve().await;
    busy_day(&place, 1000).await;
    disk.fill();
    let out = disk.at.to_str().unwrap();
    for _ in 0..2 {
        let arguments = ["audit", "archive", "--before", LATER, "--out", out, "--yes"];
        let refused = place.command(&arguments).output().unwrap();
        assert_eq!(refused.status.code(), Some(1), "{}", both(&refused));
        assert!(both(&refused).contains("name another disk"), "{}", both(&refused));
    }
    assert_eq!(ends(&place).0, 1);
    place.verify_audit();
    assert!(archived_so_far(&server).await.is_empty());
    archive(&place, &place.path("cold"));
}

#[tokio::test]
async fn kill_9_leaves_every_entry_in_the_log_or_in_a_verified_archive() {
    let mut place = Place::new();
    place.set("MCP_PROXY_AUDIT_ARCHIVE_DIR", "cold");
    let mut known = 0;
    for round in 0..6_u32 {
        let server = place.serve().await;
        busy_day(&place, 3000).await;
        let before = ends(&place);
        let begun = server.operator(Method::POST, STATUS, &json!({ "before": LATER })).await;
        assert_eq!(begun.status, StatusCode::ACCEPTED, "{}", begun.detail());
        if round == 0 {
            let deleting = async || (ends(&place).0 > before.0).then_some(());
            eventually("entries are being deleted", PATIENCE, deleting).await;
        } else {
            let [moment] = SystemRng.bytes::<1>();
            tokio::time::sleep(Duration::from_millis(u64::from(moment) * 2)).await;
        }
        server.kill().await;
        place.verify_audit();
        if ends(&place).0 > before.0 {
            let marked = place.sql("SELECT max(archived_through) FROM audit_marks");
            assert!(marked.trim().parse::<i64>().unwrap() >= ends(&place).0 - 1, "gone without a mark");
        }

        let server = place.serve().await;
        let archives = archived_so_far(&server).await;
        assert_eq!(archives.len(), known + 1, "what was begun is finished");
        known = archives.len();
        let newest = archives.last().unwrap();
        assert_eq!(newest["first_seq"], before.0);
        assert_eq!(ends(&place).0, newest["last_seq"].as_i64().unwrap() + 1);
        for archive in &archives {
            assert!(Path::new(archive["file"].as_str().unwrap()).exists());
        }
        assert_eq!(fs::read_dir(place.path("cold")).unwrap().count(), known, "nothing but archives");
        place.verify_audit();
        assert_eq!(server.stop().await, 0);
    }
}

#[tokio::test]
async fn a_disk_that_fills_up_is_told() {
    let disk = Disk::in_memory();
    let mut place = Place::at(&disk.at);
    fs::write(disk.at.join("ballast"), vec![0; 8 << 20]).unwrap();
    let server = place.set("MCP_PROXY_AUDIT_DISK_WARN_PERCENT", "5").serve_unready().await;
    let warned = async || {
        let health: Value = server.get("/healthz").await.json().unwrap();
        let warnings = health["warnings"].as_array().cloned().unwrap_or_default();
        warnings.contains(&json!("audit_disk_low")).then_some(())
    };
    eventually("/healthz warns", PATIENCE, warned).await;
    let told = async || server.log().contains("audit.disk_low").then_some(());
    eventually("the log tells it", PATIENCE, told).await;
    assert!(server.log().contains("cullis-proxy audit archive"), "what to do");
    let metrics = String::from_utf8(server.get("/metrics").await.body.to_vec()).unwrap();
    let gauge = |name: &str| -> f64 {
        let line = metrics.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!((0.1..0.5).contains(&gauge("cullis_disk_used_ratio")), "{metrics}");
    assert!(gauge("cullis_audit_disk_low") > 0.5 && gauge("cullis_database_bytes") > 4096.0, "{metrics}");
}
