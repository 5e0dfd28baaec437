//! The committed page about configuration is the one that the table makes.

use std::{fs, path::Path};

#[test]
fn the_reference_page_is_fresh() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/configuration.md"));
    let page = mastio_config::reference_markdown();
    if std::env::var_os("UPDATE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &page).unwrap();
    }
    let committed = fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == page,
        "docs/reference/configuration.md is stale: run `UPDATE=1 cargo test -p mastio-config` and commit it"
    );
}

#[test]
fn no_name_is_missing_from_the_page() {
    let page = mastio_config::reference_markdown();
    for name in mastio_config::VARIABLES.iter().flat_map(mastio_config::variable::Variable::names) {
        assert!(page.contains(&format!("`{name}`")), "{name}");
    }
}
