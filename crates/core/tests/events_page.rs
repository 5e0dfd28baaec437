//! The page of events is generated from the catalogue; this keeps it fresh.
//! Write it anew with: `UPDATE=1 cargo test -p mastio-core --test events_page`

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write;

use mastio_core::event::catalogue::REGISTRY;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/events.md");

fn generated() -> String {
    let mut page = String::from(
        "# Events\n\nEvery entry of the audit log has one of these names in the column `event_type`. \
         The outcome stands in `result`, the details are canonical JSON with the keys named here.\n\n\
         | Event | Result | Details | Meaning |\n|---|---|---|---|\n",
    );
    for kind in REGISTRY {
        let keys: Vec<String> = kind.keys.iter().map(|key| format!("`{key}`")).collect();
        let (name, outcome, meaning) = (kind.name, kind.outcome.as_str(), kind.meaning.trim());
        writeln!(page, "| `{name}` | {outcome} | {} | {meaning} |", keys.join(", ")).unwrap();
    }
    page
}

#[test]
fn the_page_of_events_is_fresh() {
    #[expect(clippy::disallowed_methods, reason = "a test's own switch")]
    let update = std::env::var("UPDATE").is_ok();
    if update {
        std::fs::write(PAGE, generated()).unwrap();
    }
    let written = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert_eq!(written, generated(), "docs/reference/events.md is not fresh; run this test with UPDATE=1");
}
