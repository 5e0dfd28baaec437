//! The walk of the book, with nothing but curl and openssl.

use std::{fmt::Write as _, fs, path::Path, process::Command};

use crate::harness::{Place, both, repository};

/// The commands of a page: its `bash` fences, in order.
fn commands(page: &str) -> String {
    let mut script = String::new();
    for fence in page.split("```bash\n").skip(1) {
        let (block, _) = fence.split_once("```").expect("the fence is closed");
        writeln!(script, "{block}").unwrap();
    }
    script
}

#[tokio::test]
async fn the_commands_of_the_page_do_what_it_says() {
    let script = commands(&fs::read_to_string(repository("docs/walk-curl.md")).unwrap());
    assert!(script.contains("/v1/auth/whoami") && script.contains("audit verify"), "the page lost its walk");
    let mut place = Place::new();
    // As the page says: with the secret of proxy.env.
    let server = place.set("MCP_PROXY_ADMIN_SECRET", "").serve().await;
    let settings = place.text("proxy.env");
    let secret = settings.lines().find_map(|line| line.strip_prefix("MCP_PROXY_ADMIN_SECRET=")).unwrap();
    let work = tempfile::tempdir().unwrap();
    let binaries = Path::new(env!("CARGO_BIN_EXE_mastio")).parent().unwrap();
    let output = Command::new("timeout")
        .args(["60", "bash", "-e", "-c", &script])
        .env_clear()
        .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", binaries.display()))
        .env("MASTIO", server.url())
        .env("CA", place.path("certs/org-ca.pem"))
        .env("ADMIN_SECRET", secret)
        .env("MASTIO_DIR", place.path(""))
        .env("WORK", work.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", both(&output));
}
