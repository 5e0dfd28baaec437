//! The memory of the server does not grow with its audit log.

use std::{process::Command, sync::Arc};

use mastio_core::{Event, OrgId, Rng, SystemClock, SystemRng, event::catalogue};
use mastio_store::{Store, Unit, sqlite::Database};

use crate::harness::{ADMIN_SECRET, Mastio, Place, run};

/// Entries of the log, which take some 100 MB on disk.
const ENTRIES: u64 = 200_000;
/// Entries of one unit when it is filled.
const PER_UNIT: u64 = 5_000;
/// What the server may ever have beside its program, in KiB: 64 MB, less the 20 of the program as it is shipped.
const MOST: u64 = 44_000_000 / 1024;

/// A log that a server which does not run any more left behind.
async fn long_log() -> Place {
    let mut place = Place::new();
    // The allocator keeps something for each thread: not more of them on a larger machine.
    place.set("MASTIO_WORKERS", "2").set("MCP_PROXY_ORG_ID", "acme");
    drop(place.serve().await);
    let org = OrgId::parse("acme").unwrap();
    let database = Database::open_for_tool(&place.database()).unwrap();
    let store = Store::start(database, org, Arc::new(SystemClock::default()), &SystemRng).unwrap();
    let event = |_| {
        Event::new(&catalogue::OneshotDelivered {
            msg_id: SystemRng.uuid().to_string(),
            correlation_id: SystemRng.uuid().to_string(),
            sender_agent_id: "acme::alice".into(),
        })
    };
    for _ in 0..ENTRIES / PER_UNIT {
        store.submit((0..PER_UNIT).map(event).fold(Unit::default(), Unit::tell)).await.unwrap();
    }
    store.close();
    place
}

/// What the server had at most beside the pages of its program, in KiB (proc(5)). A debug build has a longer program.
fn peak(server: &Mastio) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process.0.id())).unwrap();
    let of = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim().strip_suffix(" kB").unwrap().parse().unwrap()
    };
    of("VmHWM") - of("RssFile")
}

#[tokio::test]
async fn a_long_log_is_taken_into_the_tree_and_handed_out_in_little_memory() {
    let place = long_log().await;
    let server = place.serve().await;
    let secret = format!("X-Admin-Secret: {ADMIN_SECRET}");
    let ask = |request: &[&str], path: &str| {
        let mut curl = Command::new("curl");
        curl.args(["-fsS", "--max-time", "300", "-o", "/dev/null", "-w", "%{size_download}", "-H", &secret]);
        run(curl.args(request).arg(server.plain_url() + path)).parse::<u64>().unwrap()
    };
    let range = format!(r#"{{"first_seq":1,"last_seq":{ENTRIES},"timestamp":"none"}}"#);
    // More than it may keep in memory, so that it must not.
    assert!(
        ask(&["-d", &range, "-H", "Content-Type: application/json"], "/v1/admin/audit/bundle") > 10 << 20
    );
    assert!(ask(&[], "/v1/admin/audit/export?limit=1000000") > 64 << 20);
    let peak = peak(&server);
    assert!(peak < MOST, "{peak} KiB beside the program");
}
