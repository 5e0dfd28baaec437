//! Framework updates.

mod adopted;
mod beside_rotations;
mod by_hand;
mod failing;
mod outlived;
mod snapshots;
mod strategies;

use std::{fs, sync::Arc, time::Duration};

use mastio_authority::{Authority, trust::Halt};
use mastio_pki::Certificate;
use mastio_store::agents;

use crate::{renewal::id, world::*};

pub(crate) const PATH_LEN: &str = "2026-04-23-org-ca-pathlen-1";
const PARKED: &str = "2026-11-22-parked-keys-1";
const PASSPHRASE: (&str, &str) = ("MCP_PROXY_DB_ENCRYPTION_KEY", "a passphrase of the tests, long enough");
/// What an operator does who does not want the migration, and takes that back.
pub(crate) const SET_ASIDE: &str = "UPDATE pending_updates SET status = 'rolled_back'";
const WANTED: &str = "UPDATE pending_updates SET status = 'pending'";

/// Of a root of path length 0.
fn vector(name: &str) -> String {
    let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/pki-vectors.json");
    let vectors: serde_json::Value = serde_json::from_slice(&fs::read(vectors).unwrap()).unwrap();
    vectors["legacy_pathlen_zero"][name].as_str().unwrap().to_owned()
}

/// A folder whose root permits no CA below it.
pub(crate) fn legacy() -> World {
    let world = World::new();
    // The vector was made on 2026-11-22.
    world.clock.advance(Duration::from_secs(10_000_000));
    let tls = world.dir.path().join("nginx-certs");
    fs::create_dir_all(&tls).unwrap();
    fs::write(tls.join("org-ca.crt"), vector("root")).unwrap();
    fs::write(tls.join("org-ca.key"), vector("root_key")).unwrap();
    world
}

/// A Mastio with such a root and agents from before its halt.
pub(crate) async fn halted(
    world: &World,
    settings: &[(&str, &str)],
    agents: &[&str],
) -> (Arc<Authority>, Vec<Holder>) {
    let authority = world.boot(settings).await.unwrap();
    world.sql(SET_ASIDE);
    authority.reload().unwrap();
    let mut holders = Vec::new();
    for name in agents {
        holders.push(Holder::created(&authority, name).await);
    }
    world.sql(WANTED);
    authority.reload().unwrap();
    (authority, holders)
}

fn halt(authority: &Authority) -> Option<Halt> {
    authority.trust().halt.clone()
}

async fn row(authority: &Authority, holder: &Holder) -> agents::AgentRow {
    agents::find(authority.store(), &id(holder)).await.unwrap().unwrap()
}

fn leaf_of(row: &agents::AgentRow) -> Certificate {
    Certificate::from_pem(row.certificates.as_deref().unwrap()).unwrap()
}

/// What `openssl verify` says of a chain below a root, strictly.
fn strict(authority: &Authority, chain: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let trust = folder.path().join("trust.pem");
    let leaf = folder.path().join("leaf.pem");
    fs::write(&trust, &authority.trust().trust_file).unwrap();
    fs::write(&leaf, chain).unwrap();
    let at = authority.clock().now().unix().to_string();
    let output = std::process::Command::new("openssl")
        .args(["verify", "-x509_strict", "-attime", &at, "-CAfile"])
        .arg(&trust)
        .arg("-untrusted")
        .arg(&leaf)
        .arg(&leaf)
        .output()
        .unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}
