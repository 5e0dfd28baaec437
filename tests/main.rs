//! The black-box suite: it knows the binary, its files and HTTP, and nothing of what is inside.
//!
//! Every test has a server, a folder and ports of its own, and waits for states with a limit, never for a moment. The
//! suite needs root (it mounts small disks), nginx, sqlite3, openssl, curl, jq, Go, Chromium with its driver, and the
//! Python clients that `scripts/test` installs; where one is missing it fails.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by it, in its helpers too"
)]

mod adopted;
mod archive;
mod attacks;
mod authorization;
mod boot;
mod bundle;
mod clients;
mod connector;
mod crash;
mod crl;
mod crowd;
mod curl;
mod cut;
mod dashboard;
mod desk;
mod disk;
mod doctor;
mod enrollment;
mod fleet;
mod harness;
mod hostile;
mod identity;
mod key_rotation;
mod lasting_evidence;
mod long_notes;
mod mcp;
mod memory;
mod nginx;
mod output;
mod overlap;
mod pki_page;
mod revocation;
mod rotation;
mod sdk;
mod seeds;
mod spiffe;
mod stopped;
mod time_stamps;
mod trail;
mod tree;
mod updates;
mod verifiers;
mod walk;
mod webdriver;
mod witness;
