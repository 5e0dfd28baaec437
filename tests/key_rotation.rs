//! The signing key and the intermediate are rotated while agents call without pause; openssl looks at the chains.

use std::{process::Command, sync::Arc, time::Duration};

use http::{Method, StatusCode};
use mastio_client::{Agent, Client, Identity};
use mastio_core::{Clock, Stamp, SystemClock};
use mastio_jose::SigningKey;
use mastio_pki::{Certificate, pem};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    crowd::crowd,
    harness::{Mastio, PATIENCE, Place, both, eventually, run},
};

/// Agents that call at the same time. They and the server share two cores with the other tests, so that each calls once or
/// twice a second: it is their number that is proved here, not their rate.
const AGENTS: usize = 500;
/// Out of so many agents one writes to the next such one, and one keeps its connection and its token.
const KINDS: usize = 5;
/// How many rounds each agent ends after each step: the first may have begun before.
const ROUNDS: u64 = 2;
/// How long a round of all agents may take.
const PHASE: Duration = Duration::from_secs(150);
/// How long a token lives, and for how long it is accepted after that.
const TOKEN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Within what time every agent calls again, so that it hears that its token has ended while the key is still known.
const ROUND: Duration = Duration::from_secs(10);

/// One agent of the fleet.
struct Worker {
    client: Client,
    identity: Arc<Identity>,
    habit: Habit,
}

/// What an agent does in a round. Every refusal is a failure; but the client answers a 401 by logging in again, so the
/// server is asked for those.
enum Habit {
    /// Logs in on a new connection, and calls.
    Comes,
    /// Calls on the connection that it has, by the token that it has, until the token ends.
    Stays,
    /// The same; writes to this agent and reads what it was sent, too.
    Writes(String),
}

impl Worker {
    async fn logged_in(&self, number: u64) -> Agent {
        let mut agent = Agent::new(&self.client, Arc::clone(&self.identity), SigningKey::generate().unwrap());
        match number % 3 {
            0 => agent.login().await.unwrap(),
            1 => agent.login_direct().await.unwrap(),
            _ => agent.login_mtls().await.unwrap(),
        }
        agent.whoami().await.unwrap();
        agent
    }

    async fn work(self, done: watch::Sender<u64>, stop: watch::Receiver<bool>) {
        let mut agent = self.logged_in(0).await;
        for number in 1.. {
            if *stop.borrow() {
                return;
            }
            match &self.habit {
                Habit::Comes => agent = self.logged_in(number).await,
                Habit::Stays => {}
                Habit::Writes(next) => {
                    agent.send(next, r#"{"still": "here"}"#, None, None).await.unwrap();
                    for message in agent.inbox().await.unwrap() {
                        agent.verify(&message).await.unwrap();
                        agent.ack(&message.msg_id).await.unwrap();
                    }
                }
            }
            agent.whoami().await.unwrap();
            done.send_replace(number);
        }
    }
}

/// A fleet that calls until it is told to stop.
struct Fleet {
    tasks: JoinSet<()>,
    rounds: Vec<watch::Receiver<u64>>,
    stop: watch::Sender<bool>,
}

impl Fleet {
    /// Half of the agents trust the root alone, the others all that `/pki/ca.crt` had at the beginning.
    async fn start(server: &Mastio) -> Self {
        let (root, url) = (root(&server.ca_pem), server.url());
        let identities = crowd(server, AGENTS).await;
        let (stop, stopping) = watch::channel(false);
        let (mut tasks, mut rounds) = (JoinSet::new(), Vec::new());
        for (number, identity) in identities.iter().enumerate() {
            let ca = if number % 2 == 0 { &root } else { &server.ca_pem };
            let client = Client::builder(&url).ca_pem(ca).timeout(PATIENCE).identity(identity);
            let habit = match number % KINDS {
                0 => Habit::Writes(identities[(number + KINDS) % AGENTS].agent_id().to_string()),
                1 => Habit::Stays,
                _ => Habit::Comes,
            };
            let worker = Worker { client: client.build().unwrap(), identity: Arc::clone(identity), habit };
            let (done, round) = watch::channel(0);
            rounds.push(round);
            tasks.spawn(worker.work(done, stopping.clone()));
        }
        Self { tasks, rounds, stop }
    }

    /// Waits until every agent has ended so many more rounds.
    async fn goes_on(&mut self, rounds: u64) {
        let goals: Vec<u64> = self.rounds.iter().map(|round| *round.borrow() + rounds).collect();
        eventually("every agent goes on", PHASE, async || {
            self.fails_with_its_agents();
            let there = self.rounds.iter().zip(&goals).all(|(round, goal)| *round.borrow() >= *goal);
            there.then_some(())
        })
        .await;
    }

    fn fails_with_its_agents(&mut self) {
        if let Some(ended) = self.tasks.try_join_next() {
            ended.unwrap();
        }
    }

    /// Ends it; how many rounds there were.
    async fn end(mut self) -> u64 {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        self.rounds.iter().map(|round| *round.borrow()).sum()
    }
}

fn root(ca_pem: &str) -> String {
    pem::first_certificate(ca_pem).unwrap().pem()
}

/// The refusals that the server counted, but for the planned ones: proofs that it asked to make again with its nonce, as
/// the protocol has it shortly after a start, and tokens that lived to their end.
async fn refusals(server: &Mastio) -> Vec<String> {
    let metrics = String::from_utf8(server.get("/metrics").await.body.to_vec()).unwrap();
    let refused = |line: &&str| {
        let planned = line.contains("nonce") || line.contains("\"token_expired\"");
        line.starts_with("cullis_auth_deny_total{") && !planned && !line.ends_with(" 0")
    };
    metrics.lines().filter(refused).map(str::to_owned).collect()
}

async fn post(server: &Mastio, path: &str) -> Value {
    let answer = server.operator(Method::POST, path, &json!({})).await;
    assert_eq!(answer.status, StatusCode::OK, "{path}: {}", String::from_utf8_lossy(&answer.body));
    answer.json().unwrap()
}

/// Verifies `chain` (leaf, then what was sent along) with nothing but the root, as strict clients do.
fn verifies_strictly(place: &Place, name: &str, chain: &str) {
    let all = pem::certificates(chain).unwrap();
    let above: String = all[1..].iter().map(Certificate::pem).collect();
    place.write(&format!("{name}-leaf.pem"), all[0].pem());
    place.write(&format!("{name}-above.pem"), above);
    place.write("root.pem", root(&place.text("nginx-certs/org-ca.crt")));
    let verify = Command::new("openssl")
        .args(["verify", "-x509_strict", "-CAfile"])
        .arg(place.path("root.pem"))
        .arg("-untrusted")
        .arg(place.path(&format!("{name}-above.pem")))
        .arg(place.path(&format!("{name}-leaf.pem")))
        .output()
        .unwrap();
    assert!(verify.status.success(), "{name}: {}", both(&verify));
}

/// Waits until the server shows a certificate that `issuer` signed, to a client that is strict and knows the root only.
async fn serves_under(place: &Place, server: &Mastio, issuer: &str) {
    place.write("root.pem", root(&place.text("nginx-certs/org-ca.crt")));
    let handshake = format!(
        "openssl s_client -connect 127.0.0.1:{} -servername localhost -verify_hostname localhost -CAfile '{}' \
         -x509_strict -verify_return_error </dev/null 2>/dev/null | openssl x509 -noout -issuer",
        server.tls,
        place.path("root.pem").display()
    );
    let shown = async || {
        let output = Command::new("bash").args(["-o", "pipefail", "-c", &handshake]).output().unwrap();
        assert!(output.status.success(), "{}", both(&output));
        both(&output).contains(issuer).then_some(())
    };
    eventually("the server certificate follows", PATIENCE, shown).await;
}

/// A replaced key whose grace ends a round after the last token that it may have signed is accepted no more.
struct Leaving {
    kid: String,
    end: Stamp,
}

impl Leaving {
    fn new(place: &Place, kid: &str) -> Self {
        let end = SystemClock::default().now().plus(TOKEN.0 + TOKEN.1 + ROUND);
        place.sql(&format!("UPDATE mastio_keys SET expires_at = '{end}' WHERE kid = '{kid}'"));
        Self { kid: kid.to_owned(), end }
    }

    /// Sees that it is published until then, and not for long after; the others that are.
    async fn look(&self, server: &Mastio) -> (bool, Vec<String>) {
        let clock = SystemClock::default();
        let before = clock.now();
        let mut published = kids(server).await;
        let count = published.len();
        published.retain(|kid| *kid != self.kid);
        let there = published.len() < count;
        assert!(there || clock.now() >= self.end, "it left before its time");
        assert!(!there || before < self.end.plus(PATIENCE), "it stays");
        (there, published)
    }
}

/// The keys that are published, in order.
async fn kids(server: &Mastio) -> Vec<String> {
    let jwks: Value = server.get("/.well-known/jwks-local.json").await.json().unwrap();
    jwks["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

/// Verifies every revocation list with the CA file, and `leaf` against them.
async fn lists_hold(place: &Place, server: &Mastio, count: usize, leaves: &[&str]) {
    let lists = eventually("all lists are published", PATIENCE, async || {
        let lists = server.get("/pki/crl.pem").await;
        let lists = String::from_utf8(lists.body.to_vec()).unwrap();
        (lists.matches("BEGIN X509 CRL").count() == count).then_some(lists)
    })
    .await;
    place.write("crl.pem", &lists);
    let ca = place.path("nginx-certs/org-ca.crt");
    for list in lists.split_inclusive("-----END X509 CRL-----\n") {
        place.write("one.crl", list);
        let mut check = Command::new("openssl");
        check.args(["crl", "-noout", "-in"]).arg(place.path("one.crl")).arg("-CAfile").arg(&ca);
        let verified = both(&check.output().unwrap());
        assert!(verified.contains("verify OK"), "{verified}");
    }
    for leaf in leaves {
        let mut verify = Command::new("openssl");
        verify.args(["verify", "-crl_check", "-CAfile"]).arg(&ca).arg("-CRLfile").arg(place.path("crl.pem"));
        run(verify.arg(place.path(&format!("{leaf}-leaf.pem"))));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_call_without_pause_through_both_rotations() {
    let mut place = Place::new();
    place.set("MCP_PROXY_ORG_ID", "acme").set("CULLIS_MASTIO_ROTATION_MIN_INTERVAL_SECONDS", "0");
    place.set("MCP_PROXY_LOCAL_TOKEN_TTL_SECONDS", &TOKEN.0.as_secs().to_string());
    let server = place.serve().await;
    let old_identity = server.admin().create_agent("alice", "Alice", &[]).await.unwrap();
    verifies_strictly(&place, "old", &old_identity.certificates_pem());
    let mut fleet = Fleet::start(&server).await;
    fleet.goes_on(1).await;

    let signing = post(&server, "/v1/admin/mastio-key/rotate").await;
    let leaving = Leaving::new(&place, signing["old_kid"].as_str().unwrap());
    fleet.goes_on(ROUNDS).await;
    let rotated = post(&server, "/v1/admin/mastio-ca/rotate").await;
    serves_under(&place, &server, rotated["new_intermediate_cn"].as_str().unwrap()).await;
    fleet.goes_on(ROUNDS).await;
    while leaving.look(&server).await.0 {
        fleet.goes_on(ROUNDS).await;
    }
    fleet.goes_on(ROUNDS).await;
    let rounds = fleet.end().await;
    assert_eq!(refusals(&server).await, Vec::<String>::new());
    println!("{AGENTS} agents, {rounds} rounds, none refused");
    let mut expected = [&signing["new_kid"], &rotated["new_leaf_kid"]].map(|kid| kid.as_str().unwrap());
    expected.sort_unstable();
    assert_eq!(leaving.look(&server).await, (false, expected.map(str::to_owned).to_vec()));

    let new_identity = server.admin().create_agent("bob", "Bob", &[]).await.unwrap();
    assert_ne!(new_identity.chain()[0].issuer_raw(), old_identity.chain()[0].issuer_raw());
    verifies_strictly(&place, "new", &new_identity.certificates_pem());
    verifies_strictly(&place, "old", &old_identity.certificates_pem());
    verifies_strictly(&place, "server", &place.text("nginx-certs/mastio-server.crt"));
    lists_hold(&place, &server, 2, &["old", "new"]).await;
    // The SDK's check of a sender goes one level deep: the issuers of both are in the file that it trusts.
    let trusted = pem::certificates(&place.text("nginx-certs/org-ca.crt")).unwrap();
    for identity in [&old_identity, &new_identity] {
        let issuer = identity.chain()[0].issuer_raw();
        assert!(trusted.iter().any(|ca| ca.subject_raw() == issuer));
    }

    // A renewal leads under the new intermediate, and the old one signs its list until that leaf would have ended.
    let mut alice = server.agent(&Arc::new(old_identity));
    alice.renew(None).await.unwrap();
    assert_eq!(alice.identity().chain()[0].issuer_raw(), new_identity.chain()[0].issuer_raw());
    alice.login().await.unwrap();

    assert_eq!(server.stop().await, 0);
    let server = place.serve().await;
    assert_eq!(kids(&server).await, expected, "a restart changes nothing");
    lists_hold(&place, &server, 2, &["old", "new"]).await;
    alice = server.agent(&Arc::new(new_identity));
    alice.login().await.unwrap();
    assert_eq!(server.stop().await, 0);
    place.verify_audit();
}

#[tokio::test]
async fn the_command_line_rotates_and_completes() {
    let mut place = Place::new();
    place.set("MCP_PROXY_ORG_ID", "acme").set("CULLIS_MASTIO_ROTATION_MIN_INTERVAL_SECONDS", "3600");
    let server =
        place.set("MCP_PROXY_DB_ENCRYPTION_KEY", "a passphrase of the black-box suite").serve().await;
    let (url, plain) = (server.url(), server.plain_url());
    let pki = |arguments: &[&str]| place.command(&[&["pki"], arguments].concat()).output().unwrap();

    let dry = pki(&["rotate-intermediate", "--dry-run", "--url", &url]);
    assert!(dry.status.success() && both(&dry).contains("nothing was kept"), "{}", both(&dry));
    let done = pki(&["rotate-intermediate", "--json", "--url", &url]);
    let done: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&done["dry_run"], &done["grace_days"]), (&json!(false), &json!(14)));
    let soon = pki(&["rotate-signing-key", "--url", &url]);
    assert_eq!(soon.status.code(), Some(1));
    assert!(both(&soon).contains("429") && both(&soon).contains("wait 3"), "{}", both(&soon));
    let bounds = pki(&["rotate-intermediate", "--grace-days", "91", "--url", &plain]);
    assert!(both(&bounds).contains("grace_days must be 1 to 90"), "{}", both(&bounds));
    assert_eq!(pki(&["complete-staged", "--url", &url]).status.code(), Some(2), "say which");
    let nothing = pki(&["complete-staged", "--drop", "--url", &url]);
    assert!(both(&nothing).contains("no key is staged"), "{}", both(&nothing));

    // As the Python implementation leaves it when it stops after asking its Court.
    place.sql(
        "INSERT INTO mastio_keys (kid, pubkey_pem, privkey_pem, cert_pem, created_at) \
         SELECT 'mastio-0123456789abcdef', pubkey_pem, privkey_pem, cert_pem, created_at FROM mastio_keys \
         WHERE deprecated_at IS NULL",
    );
    let signer = async |expected: &str| {
        eventually("the server notices", PATIENCE, async || {
            (server.readyz().await.1["signer"] == expected).then_some(())
        })
        .await;
    };
    signer("halted").await;
    let metrics = String::from_utf8(server.get("/metrics").await.body.to_vec()).unwrap();
    assert!(metrics.contains("cullis_mastio_rotation_staged 1"), "{metrics}");
    let unusable = pki(&["complete-staged", "--activate", "--url", &url]);
    assert!(both(&unusable).contains("409"), "its key has another kid: {}", both(&unusable));
    let dropped = pki(&["complete-staged", "--drop", "--url", &url]);
    assert!(dropped.status.success() && both(&dropped).contains("was dropped"), "{}", both(&dropped));
    assert_eq!(server.readyz().await.1["signer"], "ok", "without a restart");
    assert_eq!(server.stop().await, 0);

    place.set("CULLIS_MASTIO_ROTATION_MIN_INTERVAL_SECONDS", "0");
    let server = place.serve().await;
    let output = place.command(&["pki", "rotate-signing-key", "--url", &server.url()]).output().unwrap();
    assert!(output.status.success() && both(&output).contains("signs tokens"), "{}", both(&output));
    let bare = "SELECT count(*) FROM mastio_keys WHERE privkey_pem LIKE '-----BEGIN%'";
    assert_eq!(place.sql(bare).trim(), "0", "keys are sealed");
    let bare = "SELECT count(*) FROM pki_cas WHERE private_key LIKE '-----BEGIN%'";
    assert_eq!(place.sql(bare).trim(), "0");
}
