//! The second reader.

use std::{
    path::Path,
    process::{Command, Output},
};

/// Where `scripts/test` installs Python packages.
const INSTALLED: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/clients/bin/python");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/verify.py");

/// Runs `docs/verify.py`.
pub(crate) fn verify(bundle: &Path, arguments: &[&str]) -> Output {
    command(bundle, arguments).output().unwrap()
}

/// The same, before it runs.
pub(crate) fn command(bundle: &Path, arguments: &[&str]) -> Command {
    let python = if Path::new(INSTALLED).exists() { INSTALLED } else { "python3" };
    let mut command = Command::new("timeout");
    command.args(["60", python, SCRIPT]).arg(bundle).args(arguments);
    command.env("PYTHONUTF8", "1");
    command
}

/// The step that its output names as the failure. Whatever the bundle holds, the output is lines of its own.
pub(crate) fn failed(output: &Output) -> Option<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(if text.contains('✗') { 2 } else { 0 }), "{output:?}");
    let own = |line: &str| line.starts_with(['✓', '–', '✗']) && !line.contains(char::is_control);
    assert!(text.lines().all(own), "{text:?}");
    let line = text.lines().find_map(|line| line.strip_prefix("✗ ").map(str::to_owned))?;
    Some(line.split(": ").next().unwrap_or_default().to_owned())
}
