//! Disks that fill up, turn read-only or are somebody else's for a while: refuse with the reason, then go on.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use http::{Method, StatusCode};
use mastio_client::Answer;
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Mastio, PATIENCE, Place, Process, eventually, run};

/// A small file system of its own, gone after the test.
pub(crate) struct Disk {
    pub(crate) at: PathBuf,
    _temporary: TempDir,
}

impl Disk {
    /// In memory. Readiness wants 64 MiB free.
    pub(crate) fn in_memory() -> Self {
        Self::mount(|at| {
            run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=80m", "tmpfs"]).arg(at));
        })
    }

    /// In a file, as ext4: there even a file that is open already can be made immutable.
    fn in_a_file() -> Self {
        Self::mount(|at| {
            let image = at.with_extension("img");
            fs::File::create(&image).unwrap().set_len(96 << 20).unwrap();
            run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image));
            run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(at));
        })
    }

    /// Fills it down to the last byte, with a file that is deleted to make room again.
    pub(crate) fn fill(&self) -> PathBuf {
        let ballast = self.at.join("ballast");
        let mut file = fs::File::create(&ballast).unwrap();
        // A chunk that does not fit is followed by smaller ones.
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        ballast
    }

    fn mount(mount: impl FnOnce(&Path)) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let at = temporary.path().join("disk");
        fs::create_dir(&at).unwrap();
        mount(&at);
        Self { at, _temporary: temporary }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a failed test may still hold files there.
        drop(Command::new("umount").arg("--lazy").arg(&self.at).status());
    }
}

/// Makes agents and remembers which of them were acknowledged.
struct Operator<'a> {
    server: &'a Mastio,
    made: Vec<String>,
}

impl Operator<'_> {
    async fn make(&mut self) -> Answer {
        let name = format!("agent-{}", self.made.len());
        let answer =
            self.server.operator(Method::POST, "/v1/admin/agents", &json!({ "agent_name": name })).await;
        if answer.status == StatusCode::CREATED {
            self.made.push(name);
        }
        answer
    }

    /// Works until it is refused; returns the refusal.
    async fn until_refused(&mut self) -> Answer {
        eventually("the server refuses to write", PATIENCE, async || {
            Some(self.make().await).filter(|answer| answer.status != StatusCode::CREATED)
        })
        .await
    }
}

fn is_unavailable(answer: &Answer, reason: &str) {
    let detail = answer.detail();
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{detail}");
    assert!(detail.contains(reason), "{detail}");
    let seconds: Option<u32> = answer.header("retry-after").and_then(|text| text.parse().ok());
    assert!(seconds.is_some_and(|seconds| seconds > 0), "Retry-After: {:?}", answer.headers);
    assert!(answer.header("x-cullis-shed-reason").is_some(), "{:?}", answer.headers);
}

async fn is_not_ready(server: &Mastio, reason: &str) {
    eventually("/readyz says why", PATIENCE, async || {
        let (status, checks) = server.readyz().await;
        let database = checks["database"].as_str().unwrap().to_owned();
        (status == StatusCode::SERVICE_UNAVAILABLE && database.contains(reason)).then_some(())
    })
    .await;
}

/// Trouble is over: the server is ready again by itself, writes, and has lost nothing that it acknowledged.
async fn recovers(place: &Place, operator: &mut Operator<'_>) {
    operator.server.ready().await;
    let answer = operator.make().await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.detail());
    place.verify_audit();
    let there = place.sql("SELECT agent_id FROM internal_agents");
    for name in &operator.made {
        let name = format!("::{name}");
        assert!(there.lines().any(|id| id.ends_with(&name)), "{name} was acknowledged and is gone");
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_until_there_is_room() {
    let disk = Disk::in_memory();
    let place = Place::at(&disk.at);
    let server = place.serve().await;
    let mut operator = Operator { server: &server, made: Vec::new() };
    assert_eq!(operator.make().await.status, StatusCode::CREATED);

    let ballast = disk.fill();
    is_unavailable(&operator.until_refused().await, "full");
    is_not_ready(&server, "full").await;
    assert_eq!(server.get("/healthz").await.status, StatusCode::OK, "it is alive");

    fs::remove_file(ballast).unwrap();
    recovers(&place, &mut operator).await;
}

/// A file system with open files cannot be mounted read-only, so the files themselves become it.
#[tokio::test]
async fn a_read_only_database_refuses_writes_until_it_is_writable() {
    let disk = Disk::in_a_file();
    let place = Place::at(&disk.at);
    let server = place.serve().await;
    let mut operator = Operator { server: &server, made: Vec::new() };
    assert_eq!(operator.make().await.status, StatusCode::CREATED);
    let files = ["data/mcp_proxy.db", "data/mcp_proxy.db-wal"].map(|name| place.path(name));
    let immutable = |change: &str| drop(run(Command::new("chattr").arg(change).args(&files)));

    immutable("+i");
    is_unavailable(&operator.until_refused().await, "database");
    is_not_ready(&server, "attempt to write a readonly database").await;
    immutable("-i");
    recovers(&place, &mut operator).await;
}

#[tokio::test]
async fn a_locked_database_refuses_writes_until_it_is_released() {
    let place = Place::new();
    let server = place.serve().await;
    let mut operator = Operator { server: &server, made: Vec::new() };
    assert_eq!(operator.make().await.status, StatusCode::CREATED);

    let shell = place.sqlite3().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut shell = Process(shell);
    let mut script = shell.0.stdin.take().unwrap();
    writeln!(script, "BEGIN IMMEDIATE; SELECT 'held';").unwrap();
    let mut held = String::new();
    BufReader::new(shell.0.stdout.take().unwrap()).read_line(&mut held).unwrap();
    assert_eq!(held, "held\n");

    is_unavailable(&operator.until_refused().await, "database is locked");
    is_not_ready(&server, "database is locked").await;
    assert!(server.log().contains("database is locked"), "the words that the runbook searches for");
    drop(script);
    assert!(shell.ended(PATIENCE).await.success());
    recovers(&place, &mut operator).await;
}
