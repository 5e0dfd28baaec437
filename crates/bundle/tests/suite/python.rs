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
    let python = if Path::new(INSTALLED).exists() { INSTALLED } else { "python3" };
    let mut command = Command::new("timeout");
    command.args(["60", python, SCRIPT]).arg(bundle).args(arguments);
    command.env("PYTHONUTF8", "1").output().unwrap()
}

/// The step that its output names as the failure.
pub(crate) fn failed(output: &Output) -> Option<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(if text.contains('✗') { 2 } else { 0 }), "{output:?}");
    let line = text.lines().find_map(|line| line.strip_prefix("✗ ").map(str::to_owned))?;
    Some(line.split(": ").next().unwrap_or_default().to_owned())
}
