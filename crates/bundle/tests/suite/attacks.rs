//! Bundles that somebody tampered with: both readers must fail, and at the right step.

use std::process::Command;

use mastio_audit::{Head, checkpoint::Checkpoint};
use mastio_bundle::{Evidence, Step, Trusted, format::MAX_LINE, verify};
use mastio_core::{Stamp, SystemRng};
use mastio_pki::{CsrKind, Issuer, KeyPair, SigningRequest, sign_csr};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::{
    parts::{Parts, bomb, with_words},
    python,
    world::{Signer, World, agent_below, began, draft, log_key, mastio_below, now, written},
};

/// What the readers are told.
struct Readers {
    folder: tempfile::TempDir,
    trusted: Trusted,
}

impl Readers {
    fn of(world: &World) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), world.root.certificate().pem()).unwrap();
        Self { folder, trusted: world.trusted() }
    }

    /// Both fail, at `step`.
    fn refuse(&self, name: &str, step: Step, bundle: &[u8]) {
        let report = verify(bundle, &self.trusted).unwrap();
        assert_eq!(report.failure().map(|check| check.step), Some(step), "{name}: {report}");
        let (file, ca) = (self.folder.path().join("bundle"), self.folder.path().join("ca.pem"));
        std::fs::write(&file, bundle).unwrap();
        let output = python::verify(&file, &["--ca-root", ca.to_str().unwrap()]);
        assert_eq!(python::failed(&output), Some(step.to_string()), "{name}: {output:?}");
    }
}

type Edit = fn(&mut Parts);

/// Every edit of a good bundle of entries 5 to 40, time stamped.
const EDITS: &[(&str, Step, Edit)] = &[
    ("an entry is edited", Step::ManifestDigest, |parts| {
        parts.lines(|lines| lines[3] = lines[3].replace("op-8", "op-9"));
    }),
    ("a file is edited", Step::ManifestDigest, |parts| {
        parts.text("ca-chain.pem", |text| text + "\n");
    }),
    ("a file is not in the manifest", Step::ManifestDigest, |parts| {
        parts.json("manifest.json", |manifest| {
            manifest["files"].as_object_mut().unwrap().remove("log-key.json");
        });
    }),
    ("an entry and the manifest are edited", Step::ChainWalk, |parts| {
        parts.lines(|lines| lines[3] = lines[3].replace("op-8", "op-9")).cover();
    }),
    ("a member that no hash covers is edited", Step::ChainWalk, |parts| {
        parts
            .lines(|lines| {
                lines[3] = lines[3].replace("\"actor\":\"acme::alice\"", "\"actor\":\"acme::bob\"");
            })
            .cover();
    }),
    ("a member is added", Step::ChainWalk, |parts| {
        parts.lines(|lines| lines[3] = lines[3].replace("{\"kind\"", "{\"note\":\"x\",\"kind\"")).cover();
    }),
    ("a member is there twice", Step::ChainWalk, |parts| {
        parts.lines(|lines| lines[3] = lines[3].replace("{\"kind\"", "{\"id\":1,\"kind\"")).cover();
    }),
    ("an entry is cut into other columns", Step::LogKey, |parts| recut(parts)),
    ("an entry is cut into other columns, and says to be v1", Step::ChainWalk, |parts| {
        recut(parts);
        let as_v1 = |line: &str| {
            line.replace("\"id\":15,", "\"id\":\"v2\",").replace("_format\":\"v2\"", "_format\":\"v1\"")
        };
        parts.lines(|lines| lines[3] = as_v1(&lines[3])).cover();
    }),
    ("a line is too long", Step::ChainWalk, |parts| {
        parts.lines(|lines| lines[3] = " ".repeat(MAX_LINE - lines[3].len()) + &lines[3]).cover();
    }),
    ("an entry is removed", Step::ChainWalk, |parts| {
        parts.lines(|lines| drop(lines.remove(3))).cover();
    }),
    ("an entry is inserted", Step::ChainWalk, |parts| {
        parts.lines(|lines| lines.insert(3, lines[2].clone())).cover();
    }),
    ("two entries change places", Step::ChainWalk, |parts| {
        parts.lines(|lines| lines.swap(3, 4)).cover();
    }),
    ("a line is no entry", Step::ChainWalk, |parts| {
        parts.lines(|lines| lines[3] = "[]".to_owned()).cover();
    }),
    ("all entries are removed", Step::ChainWalk, |parts| {
        parts.lines(Vec::clear).cover();
    }),
    ("the first entry is removed", Step::Head, |parts| {
        parts.lines(|lines| drop(lines.remove(0))).cover();
    }),
    ("the last entry is removed", Step::Tail, |parts| {
        parts.lines(|lines| drop(lines.pop())).cover();
    }),
    ("the manifest has another organisation", Step::ChainWalk, |parts| {
        manifest(parts, "org_id", json!("other"));
    }),
    ("the manifest has another format", Step::ManifestDigest, |parts| {
        manifest(parts, "format", json!("x/2"));
    }),
    ("the manifest has another first row", Step::Head, |parts| manifest(parts, "first_id", json!("acme:1"))),
    ("the manifest has another first entry", Step::Head, |parts| manifest(parts, "first_seq", json!(6))),
    ("the manifest has another first hash", Step::Head, |parts| {
        manifest(parts, "first_hash", json!("00".repeat(32)));
    }),
    ("the manifest has another predecessor", Step::Head, |parts| {
        manifest(parts, "previous_hash", json!("00".repeat(32)));
    }),
    ("the manifest begins later", Step::Head, |parts| {
        manifest(parts, "start", json!(now().plus(HOUR).to_string()));
    }),
    ("the manifest has another last entry", Step::Tail, |parts| manifest(parts, "last_seq", json!(41))),
    ("the manifest has another last hash", Step::Tail, |parts| {
        manifest(parts, "last_hash", json!("00".repeat(32)));
    }),
    ("the manifest counts more entries", Step::Tail, |parts| manifest(parts, "entries", json!(37))),
    ("the manifest has another time", Step::Tail, |parts| {
        manifest(parts, "created", json!("2026-01-01T00:00:00.000001+00:00"));
    }),
    ("the manifest ends earlier", Step::Tail, |parts| {
        manifest(parts, "end", json!("2026-01-01T00:00:00.000001+00:00"));
    }),
    ("the announcement is edited", Step::LogKey, |parts| {
        parts
            .text("log-key.json", |text| text.replace("\"announcement\": \"ey", "\"announcement\": \"fy"))
            .cover();
    }),
    ("the base is edited", Step::LogKey, |parts| {
        parts.json("log-key.json", |key| key["base_seq"] = json!(2)).cover();
    }),
    ("the checkpoint has another size", Step::CheckpointSignature, |parts| {
        parts.text("checkpoint.txt", |text| text.replacen("\n600\n", "\n601\n", 1)).cover();
    }),
    ("the checkpoint is not signed", Step::CheckpointSignature, |parts| {
        parts.text("checkpoint.txt", |text| text.replace("audit ", "audit2 ")).cover();
    }),
    ("the proof of the first entry is edited", Step::Inclusion, |parts| proof(parts, "first")),
    ("the proof of the last entry is edited", Step::Inclusion, |parts| proof(parts, "last")),
    ("the proof of the first entry is missing", Step::Inclusion, |parts| {
        parts.json("chain-proof.json", |proof| proof["first"] = Value::Null).cover();
    }),
    ("the proof is for another leaf", Step::Inclusion, |parts| {
        parts.json("chain-proof.json", |proof| proof["last"]["leaf_index"] = json!(40)).cover();
    }),
    ("the proof is for another tree", Step::Inclusion, |parts| {
        parts.json("chain-proof.json", |proof| proof["tree_size"] = json!(599)).cover();
    }),
    ("the entries follow no such archive", Step::Inclusion, |parts| {
        let zero = "00".repeat(32);
        let mark = json!({ "first_seq": 1, "archived_through": 4, "head_hash": zero, "bundle_sha256": zero });
        parts.json("chain-proof.json", |proof| proof["archived"] = mark).cover();
    }),
    ("the time stamp is edited", Step::TsaSignature, |parts| {
        let reply = parts.file("tsa-reply.tsr");
        let end = reply.len() - 5;
        reply[end] ^= 1;
        parts.cover();
    }),
    ("the time stamp is no time stamp", Step::TsaSignature, |parts| {
        *parts.file("tsa-reply.tsr") = b"no".to_vec();
        parts.cover();
    }),
    ("a file is missing", Step::Archive, |parts| parts.0.retain(|(name, _)| name != "log-key.json")),
    ("a file is there twice", Step::Archive, |parts| {
        let again = parts.0[2].clone();
        parts.0.push(again);
    }),
    ("a file is added", Step::Archive, |parts| parts.0.push(("notes.txt".to_owned(), b"trust me".to_vec()))),
    ("a file would go elsewhere", Step::Archive, |parts| {
        parts.0.push(("../../etc/passwd".to_owned(), Vec::new()));
    }),
    ("a file's name is a command to the terminal", Step::Archive, |parts| {
        parts.0.push(("\u{1b}[8m\n✓ archive".to_owned(), Vec::new()));
    }),
    ("the manifest is not first", Step::Archive, |parts| parts.0.swap(0, 1)),
    ("a small file is large", Step::Archive, |parts| {
        *parts.file("checkpoint.txt") = vec![b'x'; 300 * 1024];
        parts.cover();
    }),
];

const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

fn manifest(parts: &mut Parts, member: &str, value: Value) {
    parts.json("manifest.json", |manifest| manifest[member] = value);
}

/// Moves the beginning of an entry's details into its result: the text that is hashed stays the same.
pub(crate) fn recut(parts: &mut Parts) {
    let cut =
        |line: &str| line.replace("\"ok\",\"details\":\"{", "\"ok|{").replace("|x", "\",\"details\":\"x");
    parts.lines(|lines| lines[3] = cut(&lines[3])).cover();
}

fn proof(parts: &mut Parts, which: &str) {
    let node = json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    parts.json("chain-proof.json", |proof| proof[which]["path"][2] = node).cover();
}

#[test]
fn both_readers_name_the_step_that_an_edit_breaks() {
    let world = World::new();
    let readers = Readers::of(&world);
    let good = Parts::of(&world.stamped(5, 40));
    for (name, step, edit) in EDITS {
        let mut parts = good.clone();
        edit(&mut parts);
        readers.refuse(name, *step, &parts.bundle());
    }
}

#[test]
fn an_archive_that_is_damaged_is_refused() {
    let world = World::new();
    let readers = Readers::of(&world);
    let bundle = world.bundle(5, 40);
    readers.refuse("truncated", Step::Archive, &bundle[..bundle.len() - 20]);
    readers.refuse("cut in the middle", Step::Archive, &bundle[..bundle.len() / 2]);
    readers.refuse("another stream follows", Step::Archive, &[bundle.clone(), bundle.clone()].concat());
    readers.refuse("no archive", Step::Archive, b"PK\x03\x04 something else");
    readers.refuse("a link", Step::Archive, &Parts::of(&bundle).with_link());
    readers.refuse("a long name", Step::Archive, &Parts::of(&bundle).with_long_name());
    readers.refuse("zeros follow", Step::Archive, &Parts::of(&bundle).with_zeros());
    let mut flipped = bundle.clone();
    let end = flipped.len() - 6;
    flipped[end] ^= 1;
    readers.refuse("another checksum", Step::Archive, &flipped);
}

#[test]
fn an_archive_that_claims_to_be_endless_is_not_read_to_its_end() {
    let world = World::new();
    let manifest = Parts::of(&world.bundle(5, 6)).file("manifest.json").clone();
    Readers::of(&world).refuse("endless", Step::Archive, &bomb(&manifest, 1 << 40));
}

#[test]
fn the_other_reader_trusts_no_root_that_the_machine_has() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    let (bundle, machine) = (folder.path().join("bundle"), folder.path().join("machine"));
    std::fs::write(&bundle, world.stamped(5, 40)).unwrap();
    std::fs::create_dir(&machine).unwrap();
    std::fs::write(machine.join("root.pem"), world.root.certificate().pem()).unwrap();
    assert!(Command::new("openssl").arg("rehash").arg(&machine).status().unwrap().success());
    let tsa = world.tsa.borrow();
    let another = tsa.as_ref().unwrap().file("root.pem");
    let mut reader = python::command(&bundle, &["--ca-root", another.to_str().unwrap()]);
    let output = reader.env("SSL_CERT_DIR", &machine).output().unwrap();
    assert_eq!(python::failed(&output), Some(Step::SigningCertificate.to_string()), "{output:?}");
}

/// The evidence of `world` with everything below the log key signed again.
fn signed_again(world: &World, signer: &Signer, ca_chain: String) -> Evidence {
    let log = log_key();
    let evidence = world.evidence(5, 40);
    let origin = log.key().name().clone();
    let checkpoint = Checkpoint { origin, head: world.tree(600) }.sign(&log).unwrap();
    let log_key = world.announce(signer, &log);
    Evidence { checkpoint, log_key, signing_cert: signer.certificate.pem(), ca_chain, ..evidence }
}

#[test]
fn whoever_holds_the_database_alone_cannot_sign_another_history() {
    let world = World::new();
    let readers = Readers::of(&world);
    let chain = world.evidence(5, 40).ca_chain;

    // The chain is rebuilt with another entry in it, the signed checkpoint is what it was.
    let mut head = Head { seq: 4, hash: Some(world.hash(4)) };
    let forged: Vec<_> = (5..=40).map(|n| head.append(draft(&format!("forged {n}"), now()))).collect();
    readers.refuse("rebuilt", Step::Inclusion, &written(&forged, &world.evidence(5, 40)));

    // A log key of their own, without anybody's word for it.
    let good = world.evidence(5, 40);
    let mut evidence = signed_again(&world, &world.mastio, chain.clone());
    evidence.log_key.announcement = good.log_key.announcement.clone();
    readers.refuse("log key not announced", Step::LogKey, &world.written(5, 40, &evidence));
    let stranger = mastio_below(&world.intermediate);
    evidence = signed_again(&world, &stranger, chain.clone());
    evidence.signing_cert = world.mastio.certificate.pem();
    readers.refuse("announced by another key", Step::LogKey, &world.written(5, 40, &evidence));

    // With the word of an agent, of the CA that an agent brought, of another organisation.
    let agent = agent_below(&world.intermediate);
    let evidence = signed_again(&world, &agent, chain.clone());
    readers.refuse("an agent's word", Step::SigningCertificate, &world.written(5, 40, &evidence));
    let brought = brought_ca(&world);
    let evidence = signed_again(&world, &mastio_below(&brought), chain + &brought.certificate().pem());
    readers.refuse("the word of a CA for agents", Step::SigningCertificate, &world.written(5, 40, &evidence));
    let other = World::new();
    let evidence = signed_again(&world, &other.mastio, other.evidence(5, 40).ca_chain);
    readers.refuse("another root", Step::SigningCertificate, &world.written(5, 40, &evidence));
}

/// A CA below the root that somebody brought for agents, as `mastio pki sign-csr` certifies it.
fn brought_ca(world: &World) -> Issuer<KeyPair> {
    let (key, folder) = (KeyPair::generate_p256().unwrap(), tempfile::tempdir().unwrap());
    let file = folder.path().join("key.pem");
    std::fs::write(&file, key.to_pkcs8_pem().expose_secret()).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-new", "-subj", "/CN=Their CA", "-outform", "DER", "-key"]).arg(file);
    let request = SigningRequest::from_der(&openssl.output().unwrap().stdout).unwrap();
    let kind = CsrKind::Ca { lifetime: 2 * HOUR };
    Issuer::new(sign_csr(&world.root, &request, &kind, began(), &SystemRng).unwrap(), key).unwrap()
}

#[test]
fn a_time_stamp_must_be_of_this_bundle_and_of_its_time() {
    let world = World::new();
    let readers = Readers::of(&world);
    let mut parts = Parts::of(&world.stamped(5, 40));
    parts.take_from(&Parts::of(&world.stamped(5, 41)), &["tsa-reply.tsr"]).cover();
    readers.refuse("of another bundle", Step::TsaSignature, &parts.bundle());

    let later = World::until(now().plus(HOUR));
    let readers = Readers::of(&later);
    let older = later.stamped(5, 600);
    readers.refuse("older than the event", Step::TsaTime, &older);
    let mut parts = Parts::of(&older);
    let reply = parts.file("tsa-reply.tsr");
    *reply = with_words(reply, "Time stamp: Nov 22 12:30:00 2099 GMT");
    readers.refuse("older, and says otherwise beside it", Step::TsaTime, &parts.cover().bundle());

    let ended = World::new();
    let tsa =
        mastio_testing::tsa::Tsa::certified(mastio_testing::tsa::Key::P256, "stamps", "20210101000000Z");
    *ended.tsa.borrow_mut() = Some(tsa);
    let readers = Readers::of(&ended);
    readers.refuse("of an authority that had ended", Step::CertificateAtTsaTime, &ended.stamped(5, 40));
}

#[test]
fn times_that_cannot_be_read_are_refused() {
    let world = World::new();
    let readers = Readers::of(&world);
    let mut parts = Parts::of(&world.bundle(5, 40));
    manifest(&mut parts, "start", json!("yesterday"));
    readers.refuse("no time", Step::Head, &parts.bundle());
    assert!(Stamp::parse("yesterday").is_err());
}
