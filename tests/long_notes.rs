//! Checkpoints that their log signed and that are longer than anybody keeps (C2SP tlog-checkpoint allows more lines).

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, Method, StatusCode};
use mastio_audit::note::{KeyKind, Name, NoteSigner};
use mastio_core::SystemRng;

use crate::{
    bundle::Published,
    harness::{Place, both, mastio},
};

const ORIGIN: &str = "log.example/audit";
/// The longest that is taken.
const LONGEST: usize = 4096;

/// A log that writes more into its checkpoints.
struct Log {
    vkey: String,
    pair: Ed25519KeyPair,
}

impl Log {
    fn new() -> Self {
        let signer = NoteSigner::generate(KeyKind::Log, Name::parse(ORIGIN).unwrap(), &SystemRng).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&signer.to_pkcs8().unwrap()).unwrap();
        Self { vkey: signer.key().to_string(), pair }
    }

    /// A signed checkpoint of `length` bytes.
    fn checkpoint(&self, length: usize) -> String {
        let with = |more: usize| {
            let text = format!("{ORIGIN}\n3\n{}\n{}\n", STANDARD.encode([7; 32]), "x".repeat(more));
            let id = hex::decode(self.vkey.split('+').nth(1).unwrap()).unwrap();
            let line = STANDARD.encode([&id, self.pair.sign(text.as_bytes()).as_ref()].concat());
            format!("{text}\n— {ORIGIN} {line}\n")
        };
        with(length - with(1).len() + 1)
    }
}

#[tokio::test]
async fn a_witness_cosigns_none_that_is_longer_than_4_kb() {
    let (mut place, log) = (Place::new(), Log::new());
    let server = place.set("MCP_PROXY_AUDIT_WITNESS_FOR", &log.vkey).serve().await;
    for (length, status) in [(LONGEST + 1, StatusCode::BAD_REQUEST), (LONGEST, StatusCode::OK)] {
        let body = format!("old 0\n\n{}", log.checkpoint(length));
        let answer = server.ask(Method::POST, "/audit/witness/add-checkpoint", HeaderMap::new(), body).await;
        assert_eq!(answer.status, status, "{}", answer.detail());
        assert!(status == StatusCode::OK || answer.detail().contains("longer than 4 KB"));
    }
}

#[tokio::test]
async fn a_follower_takes_none_that_is_longer_than_4_kb() {
    let (place, log) = (Place::new(), Log::new());
    let published = Published::of(&place).await;
    let state = place.path("seen.txt");
    let follow = ["audit", "verify", "--follow", &published.url, "--interval", "0", "--log-key", &log.vkey];
    for (length, code) in [(LONGEST + 1, 2), (LONGEST, 0)] {
        place.write("static/audit/log/checkpoint", log.checkpoint(length));
        let looked = mastio(&follow, &[]).arg("--state").arg(&state).output().unwrap();
        assert_eq!(looked.status.code(), Some(code), "{}", both(&looked));
        assert_eq!((code != 0, state.exists()), (both(&looked).contains("longer than 4 KB"), code == 0));
    }
}
