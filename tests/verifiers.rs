//! Proof from outside: what the verifiers of real clients make of our chains before, during and after every kind of
//! rotation, by what the client pinned.
//!
//! Every cell of the tables is a promise of `docs/rotate-ca.md` and `docs/pki-doctor.md`, or a limit that they tell of.

mod legacy;
mod real;
mod situations;
mod tables;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use http::{HeaderMap, Method};
use mastio_client::{Client, ClientError};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::LocalSet;

use self::{
    real::{Real, real},
    situations::{Situation, situation},
    tables::{AGENTS, SERVER, rows},
};
use crate::harness::{Mastio, PATIENCE, Place, Process, both, repository, run};

/// A situation on disk, with a server in it.
struct Scene {
    situation: Situation,
    folder: TempDir,
    port: u16,
    _server: Server,
}

/// Who serves it.
#[expect(dead_code, reason = "they are held until the test is over")]
enum Server {
    Openssl(Process),
    Mastio(Mastio, Place),
}

impl Scene {
    fn new(name: &str) -> Self {
        let (situation, folder) = (situation(name), tempfile::tempdir().unwrap());
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("chain.pem", &situation.chain);
        write("key.pem", &situation.key);
        let mut child = serve(folder.path());
        let port = announced(&mut child);
        Self { situation, folder, port, _server: Server::Openssl(Process(child)) }
    }

    fn real(real: Real) -> Self {
        let Real { place, server, situation, .. } = real;
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("chain.pem"), &situation.chain).unwrap();
        Self { port: server.tls, situation, folder, _server: Server::Mastio(server, place) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The file with what is pinned under a name.
    fn pinned(&self, name: &str) -> PathBuf {
        let path = self.path("pinned.pem");
        fs::write(&path, self.situation.pin(name)).unwrap();
        path
    }
}

/// An openssl server that answers every request with a page.
fn serve(folder: &Path) -> Child {
    let mut server = Command::new("openssl");
    server.args([
        "s_server",
        "-accept",
        "127.0.0.1:0",
        "-www",
        "-cert",
        "chain.pem",
        "-cert_chain",
        "chain.pem",
    ]);
    server.args(["-key", "key.pem"]).current_dir(folder);
    server.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// The port that it says it listens on.
fn announced(server: &mut Child) -> u16 {
    let lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let accepting = lines.map(Result::unwrap).find(|line| line.starts_with("ACCEPT")).unwrap();
    accepting.rsplit(':').next().unwrap().parse().unwrap()
}

/// Whether a verifier believed, or its words about a refusal. Anything else than a refused certificate is no answer.
type Verdict = Result<(), String>;

/// A program that ends with success if it believes, and says one of `words` if it does not.
fn judged(command: &mut Command, words: &[&str]) -> Verdict {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = both(&output);
    if output.status.success() {
        return Ok(());
    }
    assert!(words.iter().any(|word| said.contains(word)), "{command:?} did not judge: {said}");
    Err(said)
}

fn openssl_client(scene: &Scene, pinned: &Path) -> Verdict {
    let mut client = Command::new("openssl");
    client.args(["s_client", "-connect", &format!("127.0.0.1:{}", scene.port), "-servername", "localhost"]);
    client
        .args(["-verify_hostname", "localhost", "-verify_return_error", "-x509_strict", "-CAfile"])
        .arg(pinned);
    judged(&mut client, &["certificate verify failed"])
}

/// `openssl verify` of the first certificate of a file, with the others as help.
fn openssl_verify(chain: &Path, purpose: &str, pinned: &Path) -> Verdict {
    let mut verify = Command::new("openssl");
    verify.args(["verify", "-x509_strict", "-purpose", purpose, "-CAfile"]).arg(pinned);
    verify.arg("-untrusted").arg(chain).arg(chain);
    judged(&mut verify, &["verification failed"])
}

/// One of our scripts, which says `believed` or `refused`.
fn script(command: &mut Command, scene: &Scene, pinned: &Path) -> Verdict {
    let output = command.arg(scene.port.to_string()).arg(pinned).output().unwrap();
    let said = both(&output);
    match said.trim() {
        "believed" => Ok(()),
        said if said.starts_with("refused: ") => Err(said.to_owned()),
        _ => panic!("{command:?} did not judge: {said}"),
    }
}

async fn webpki(scene: &Scene, pinned: &Path) -> Verdict {
    let url = format!("https://localhost:{}", scene.port);
    let trusted = fs::read_to_string(pinned).unwrap();
    let client = Client::builder(&url).ca_pem(&trusted).timeout(PATIENCE).build().unwrap();
    match client.connect().request(Method::GET, "/", HeaderMap::new(), String::new()).await {
        Ok(_) => Ok(()),
        Err(ClientError::Handshake { source, .. }) => {
            assert!(source.to_string().contains("invalid peer certificate"), "{source}");
            Err(source.to_string())
        }
        Err(error) => panic!("the client did not judge: {error}"),
    }
}

/// Go's verifier, made once. Without a network, and with the standard library alone.
fn go(folder: &Path) -> PathBuf {
    let program = folder.join("strict");
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(&program);
    build.arg(repository("tests/verifiers/strict.go").canonicalize().unwrap());
    build.envs([("GOTOOLCHAIN", "local"), ("GOPROXY", "off"), ("GO111MODULE", "off")]);
    build.env("GOCACHE", concat!(env!("CARGO_TARGET_TMPDIR"), "/go"));
    run(&mut build);
    program
}

fn compare(wrong: &mut Vec<String>, cell: &str, expected: bool, verdict: &Verdict) {
    if verdict.is_ok() != expected {
        let found = verdict.as_ref().map_or_else(String::as_str, |()| "believed");
        wrong.push(format!("{cell}: expected {expected}, and it is {}", found.trim()));
    }
}

/// What all verifiers make of one row, as far as it is not what its cells say.
async fn judge(scene: &Scene, (name, pin, cells): (&str, &str, &[bool]), go: &Path, wrong: &mut Vec<String>) {
    let pinned = scene.pinned(pin);
    let mut python = Command::new("python3");
    python.arg(repository("tests/verifiers/strict.py").canonicalize().unwrap());
    let verdicts = [
        ("openssl s_client", cells[0], openssl_client(scene, &pinned)),
        ("openssl verify", cells[0], openssl_verify(&scene.path("chain.pem"), "sslserver", &pinned)),
        ("python", cells[1], script(&mut python, scene, &pinned)),
        ("webpki", cells[2], webpki(scene, &pinned).await),
        ("go", cells[3], script(&mut Command::new(go), scene, &pinned)),
    ];
    for (verifier, expected, verdict) in &verdicts {
        compare(wrong, &format!("{name}, {pin}, {verifier}"), *expected, verdict);
    }
}

fn judge_agent(situation: &Situation, (name, agent, cells): (&str, &str, &[bool]), wrong: &mut Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let [pinned, leaf] = ["pinned.pem", "chain.pem"].map(|name| folder.path().join(name));
    fs::write(&pinned, situation.pin("file")).unwrap();
    fs::write(&leaf, situation.chain_of(agent)).unwrap();
    compare(wrong, &format!("{name}, {agent}"), cells[0], &openssl_verify(&leaf, "sslclient", &pinned));
}

#[tokio::test]
async fn every_verifier_judges_every_situation_as_the_table_says() {
    let workshop = tempfile::tempdir().unwrap();
    let go = go(workshop.path());
    let mut scenes = BTreeMap::new();
    let mut wrong = Vec::new();
    for (name, pin, cells) in rows(SERVER) {
        let scene = scenes.entry(name).or_insert_with(|| Scene::new(name));
        judge(scene, (name, pin, &cells), &go, &mut wrong).await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn chains_of_agents_lead_to_the_trust_file_as_the_table_says() {
    let mut wrong = Vec::new();
    for (name, agent, cells) in rows(AGENTS) {
        judge_agent(&situation(name), (name, agent, &cells), &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The situations that a Mastio is brought into by its own operations.
const REAL: &[&str] = &[
    "fresh",
    "intermediate rotated",
    "cut",
    "cut of a wide root",
    "compromise",
    "two cuts behind",
    "three cuts behind",
    "overlap, distribute",
    "overlap, reissue",
    "overlap, activated",
    "overlap, done",
    "two overlaps behind",
    "a cut and an overlap behind",
    "an overlap and a cut behind",
    "legacy root",
    "root reissued",
    "root reissued, back",
    "root rekeyed",
    "root rekeyed, back",
];

/// How many of them there are at once: they wait most of the time.
const AT_ONCE: usize = 4;

#[tokio::test]
async fn a_running_mastio_keeps_what_the_table_promises_and_its_doctor_agrees() {
    let workshop = tempfile::tempdir().unwrap();
    let go = go(workshop.path());
    let mut wrong = Vec::new();
    for names in REAL.chunks(AT_ONCE) {
        let judging = LocalSet::new();
        let verdicts: Vec<_> =
            names.iter().map(|name| judging.spawn_local(judge_real(name, go.clone()))).collect();
        judging.await;
        for verdict in verdicts {
            wrong.extend(verdict.await.unwrap());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is not as the tables say on a Mastio that was brought into a situation, and what its doctor does not say of it.
async fn judge_real(name: &'static str, go: PathBuf) -> Vec<String> {
    let (real, mut wrong) = (real(name).await, Vec::new());
    let problems = problems(&real.place);
    if problems != real.problems {
        wrong.push(format!("{name}: the doctor finds {problems:?} instead of {:?}", real.problems));
    }
    let known = |(situation, row, _): &(&str, &str, Vec<bool>)| {
        *situation == name
            && (real.situation.pins.iter().any(|(pin, _)| pin == row)
                || real.situation.agents.iter().any(|(agent, _)| agent == row))
    };
    let (servers, agents): (Vec<_>, Vec<_>) =
        (rows(SERVER).filter(known).collect(), rows(AGENTS).filter(known).collect());
    assert!(!servers.is_empty() && !agents.is_empty(), "{name}: not in the tables");
    for (name, agent, cells) in &agents {
        judge_agent(&real.situation, (name, agent, cells), &mut wrong);
    }
    let scene = Scene::real(real);
    for (name, pin, cells) in &servers {
        judge(&scene, (name, pin, cells), &go, &mut wrong).await;
    }
    wrong
}

/// What `mastio pki doctor` calls a problem, beside the running server.
fn problems(place: &Place) -> Vec<String> {
    let output = place.command(&["pki", "doctor", "--json"]).output().unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", both(&output)));
    let found = said["findings"].as_array().unwrap().iter();
    let problems = found.filter(|found| found["level"] == "problem");
    problems.map(|found| found["code"].as_str().unwrap().to_owned()).collect()
}
