//! The Python clients as their makers ship them, in an environment of their own that `scripts/test` makes.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::harness::repository;

/// Where `scripts/test` installs what `tests/clients/requirements.txt` says.
const INSTALLED: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/clients");

/// A program of the clients' packages, with `home` for its files and nothing of our environment.
pub(crate) fn client(program: &str, home: &Path) -> Command {
    let binaries = Path::new(INSTALLED).join("bin");
    let path = binaries.join(program);
    assert!(path.exists(), "{} is missing: scripts/test installs it", path.display());
    // A client that hangs ends after a while, and one whose test has ended ends with it.
    let mut command = Command::new("timeout");
    command
        .args(["120", "setpriv", "--pdeathsig", "KILL"])
        .arg(path)
        .env_clear()
        .env("HOME", home)
        .current_dir(home);
    command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", binaries.display()));
    command.env("PYTHONWARNINGS", "ignore").env("PYTHONUNBUFFERED", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// One of our scripts that use the SDK.
pub(crate) fn script(name: &str, arguments: &[&str], home: &Path) -> Command {
    let mut command = client("python", home);
    let file: PathBuf = repository("tests/clients").join(name);
    command.arg(file.canonicalize().unwrap()).args(arguments);
    command
}

/// Python of the same environment, with arguments.
pub(crate) fn python(arguments: &[&str], home: &Path) -> std::process::Output {
    client("python", home).args(arguments).output().unwrap()
}
