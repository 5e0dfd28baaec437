//! Bundles that hold.

use mastio_audit::{
    Head,
    checkpoint::{Checkpoint, SignedCheckpoint},
    note::{KeyKind, Name, NoteSigner},
    tlog_proof::TlogProof,
};
use mastio_bundle::{
    Evidence, Occasion, Plan, Step, Survey, Trusted, Verdict, WriteError, Writer,
    format::{HandOver, Lost},
    receipt, verify, verify_entries,
};
use mastio_timestamp::Anchors;

use crate::{
    attacks::recut,
    parts::Parts,
    python,
    world::{ORG, World, draft, now, with_row},
};

fn steps(report: &mastio_bundle::Report) -> Vec<(Step, Verdict)> {
    report.checks.iter().map(|check| (check.step, check.verdict)).collect()
}

#[test]
fn every_step_holds_with_all_that_an_auditor_can_know() {
    let world = World::new();
    let mut evidence = Evidence { stamped: Some(world.stamp(599)), ..world.evidence(5, 599) };
    let line = evidence.checkpoint.cosign(&world.witness, crate::world::now()).unwrap();
    evidence.checkpoint = evidence.checkpoint.with_line(&line).unwrap();
    let bundle = world.written(5, 599, &evidence);
    let tsa_root = world.tsa.borrow().as_ref().unwrap().root_pem();
    let trusted = Trusted {
        tsa_roots: Some(Anchors::from_pem(&tsa_root).unwrap()),
        log_keys: vec![world.log.key().clone()],
        witnesses: vec![world.witness.key().clone()],
        against: Some(world.checkpoint(100)),
        require_timestamp: true,
        ..world.trusted()
    };
    let report = verify(bundle.as_slice(), &trusted).unwrap();
    let all = [
        Step::ManifestDigest,
        Step::ChainWalk,
        Step::Head,
        Step::Tail,
        Step::LogKey,
        Step::SigningCertificate,
        Step::CheckpointSignature,
        Step::Inclusion,
        Step::Witnesses,
        Step::Consistency,
        Step::TsaSignature,
        Step::TsaTime,
        Step::CertificateAtTsaTime,
    ];
    assert_eq!(steps(&report), all.map(|step| (step, Verdict::Holds)), "{report}");

    let folder = tempfile::tempdir().unwrap();
    let (file, ca, tsa) = (folder.path().join("b"), folder.path().join("ca"), folder.path().join("tsa"));
    std::fs::write(&file, &bundle).unwrap();
    std::fs::write(&ca, world.root.certificate().pem()).unwrap();
    std::fs::write(&tsa, tsa_root).unwrap();
    let (ca, tsa) = (ca.to_str().unwrap(), tsa.to_str().unwrap());
    let output = python::verify(&file, &["--ca-root", ca, "--tsa-root", tsa, "--require-timestamp"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        (output.status.code(), text.matches('✓').count(), text.matches('–').count()),
        (Some(0), 12, 0),
        "{output:?}"
    );
}

/// Both readers, with `--ca-root` of the root and of whatever else is in a file of CAs.
fn both_say(world: &World, bundle: &[u8], expected: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let (file, ca) = (folder.path().join("bundle"), folder.path().join("ca.pem"));
    std::fs::write(&file, bundle).unwrap();
    let cas = [world.root.certificate(), world.intermediate.certificate()];
    std::fs::write(&ca, cas.map(mastio_pki::Certificate::pem).concat()).unwrap();
    let trusted = Trusted { ca_roots: cas.map(Clone::clone).to_vec(), ..Trusted::default() };
    let ours = verify(bundle, &trusted).unwrap();
    assert_eq!(ours.failure(), None, "{ours}");
    let theirs = python::verify(&file, &["--ca-root", ca.to_str().unwrap()]);
    let theirs = String::from_utf8_lossy(&theirs.stdout).into_owned();
    for text in expected {
        assert!(ours.to_string().contains(text), "{text}: {ours}");
        assert!(theirs.contains(text), "{text}: {theirs}");
    }
}

#[test]
fn an_intermediate_is_no_anchor_and_both_readers_count_alike() {
    let world = World::new();
    both_say(
        &world,
        &world.stamped(5, 40),
        &["✓ manifest digest: 8 files", "✓ signing cert valid at TSA time"],
    );
    let below = Trusted { ca_roots: vec![world.intermediate.certificate().clone()], ..Trusted::default() };
    let report = verify(world.bundle(5, 40).as_slice(), &below).unwrap();
    assert_eq!(report.failure().map(|check| check.step), Some(Step::SigningCertificate), "{report}");
    let report = verify(world.bundle(5, 40).as_slice(), &world.trusted()).unwrap();
    let root = world.root.certificate().subject();
    assert!(report.to_string().contains(&format!("leads to {root}")), "{report}");
}

#[test]
fn a_clock_that_was_set_back_is_told() {
    let world = World::new();
    let back = |n: u64| std::time::Duration::from_secs(if n < 30 { 0 } else { 3600 });
    let mut head = Head::GENESIS;
    let entries: Vec<_> = (1..=40)
        .map(|n| head.append(draft(&format!("op-{n}"), crate::world::now().minus(back(n)))))
        .collect();
    let world = World::of(world, entries);
    both_say(&world, &world.bundle(5, 40), &["– chain walk: the clock was set back: 11 entries from 30 on"]);
}

#[test]
fn entries_that_were_adopted_may_have_more_than_one_reading_and_that_is_told() {
    let mut world = World::new();
    let mut parts = Parts::of(&world.bundle(5, 40));
    recut(&mut parts);
    let failed =
        |bundle: &[u8]| verify(bundle, &world.trusted()).unwrap().failure().map(|check| check.text.clone());
    assert!(failed(&parts.bundle()).unwrap().contains("entry 8 holds `|`"));

    // The same entry in a log whose key was announced after it.
    world.announced = now();
    let mut parts = Parts::of(&world.bundle(5, 40));
    recut(&mut parts);
    both_say(&world, &parts.bundle(), &["– chain walk: 1 entry from 8 on holds `|`", "✓ inclusion"]);
}

#[test]
fn a_log_that_was_handed_over_tells_what_it_lost() {
    let (world, former) = (World::new(), former_key());
    let origin = former.key().name().clone();
    let lost = Checkpoint { origin: origin.clone(), head: world.tree(60) }.sign(&former).unwrap();
    let told = Lost { seq: 41, first: 31, last: 60, last_checkpoint: lost.to_string() };
    let mut evidence = world.evidence(5, 600);
    let new_origin = evidence.chain_proof.origin.clone();
    let vkey = former.key().to_string();
    evidence.chain_proof.handed_over =
        vec![HandOver { origin: origin.to_string(), vkey, new_origin, told: Some(told) }];
    let bundle = world.written(5, 600, &evidence);
    both_say(
        &world,
        &bundle,
        &[
            "✓ hand-over: 1 name of the log before",
            "entries 31 to 60 of it are lost, see audit.restored, entry 41",
        ],
    );
    let against = |size| {
        let saved = Checkpoint { origin: origin.clone(), head: world.tree(size) }.sign(&former).unwrap();
        let trusted = Trusted { against: Some(saved), ..world.trusted() };
        verify(bundle.as_slice(), &trusted).unwrap().failure().map(|check| check.text.clone())
    };
    assert!(
        against(60).unwrap().contains("is its successor after a restore, and entries 31 to 60 were lost")
    );
    assert!(against(30).unwrap().contains("\"against_size\": 30"));

    let folder = tempfile::tempdir().unwrap();
    evidence.chain_proof.handed_over[0].new_origin = "elsewhere/audit".to_owned();
    let bundle = world.written(5, 600, &evidence);
    let report = verify(bundle.as_slice(), &world.trusted()).unwrap();
    assert_eq!(report.failure().map(|check| check.step), Some(Step::HandOver), "{report}");
    std::fs::write(folder.path().join("bundle"), bundle).unwrap();
    let output = python::verify(&folder.path().join("bundle"), &[]);
    assert_eq!(python::failed(&output), Some("hand-over".to_owned()), "{output:?}");
}

fn former_key() -> NoteSigner {
    let name = Name::parse("former.example/audit").unwrap();
    NoteSigner::generate(KeyKind::Log, name, &mastio_core::SystemRng).unwrap()
}

#[test]
fn the_same_range_gives_the_same_bytes() {
    let world = World::new();
    let evidence = world.evidence(1, 600);
    assert_eq!(world.written(1, 600, &evidence), world.written(1, 600, &evidence));
}

#[test]
fn entries_that_are_not_those_of_the_first_pass_make_no_bundle() {
    let world = World::new();
    let mut survey = Survey::default();
    with_row(&world.entries[4], |row| survey.push(row)).unwrap();
    let occasion = Occasion { org_id: ORG, window: None, archived: false };
    let plan = Plan::new(occasion, &survey.finish().unwrap(), &world.evidence(5, 5)).unwrap();
    let mut writer = Writer::begin(Vec::new(), plan).unwrap();
    with_row(&world.entries[5], |row| writer.push(row)).unwrap();
    assert!(matches!(writer.finish(), Err(WriteError::Changed)));
}

#[test]
fn entries_are_handed_out_on_the_way() {
    let world = World::new();
    let mut seen = Vec::new();
    let bundle = world.bundle(5, 40);
    let report =
        verify_entries(bundle.as_slice(), &world.trusted(), &mut |row| seen.push(row.chain_seq)).unwrap();
    let span = report.span.unwrap();
    assert_eq!((span.first_seq, span.last_seq, span.last_hash.0), (5, 40, world.hash(40)));
    assert_eq!(seen, (5..=40).map(Some).collect::<Vec<_>>());
}

#[test]
fn what_was_not_checked_is_said() {
    let world = World::new();
    let report = verify(world.bundle(1, 600).as_slice(), &Trusted::default()).unwrap();
    let not_checked: Vec<_> = report
        .checks
        .iter()
        .filter(|check| check.verdict == Verdict::NotChecked)
        .map(|check| check.step)
        .collect();
    assert_eq!(not_checked, [Step::SigningCertificate, Step::Witnesses, Step::TsaSignature], "{report}");
    assert!(report.to_string().contains("– TSA signature: not checked: there is no time stamp"));

    let strict = Trusted { require_timestamp: true, ..Trusted::default() };
    let report = verify(world.bundle(1, 600).as_slice(), &strict).unwrap();
    assert_eq!(report.failure().map(|check| check.step), Some(Step::TsaSignature));
}

#[test]
fn one_entry_is_a_bundle_and_a_proof_of_its_own() {
    let world = World::new();
    for seq in [1, 256, 600] {
        let report = verify(world.bundle(seq, seq).as_slice(), &world.trusted()).unwrap();
        assert_eq!(report.failure(), None, "{report}");
        let trusted = Trusted { log_keys: vec![world.log.key().clone()], ..world.trusted() };
        let inclusion = world.inclusion(seq, 600);
        let proof = TlogProof { inclusion, checkpoint: world.checkpoint(600) }.to_string();
        let report = receipt::verify_proof(&proof, Some(world.hash(seq)), &trusted);
        assert_eq!(report.failure(), None, "{report}");
        let report = receipt::verify_proof(&proof, Some(world.hash(300)), &trusted);
        assert_eq!(report.failure().map(|check| check.step), Some(Step::Inclusion), "{report}");
        let other = Trusted { log_keys: vec![crate::world::log_key().key().clone()], ..world.trusted() };
        let report = receipt::verify_proof(&proof, Some(world.hash(seq)), &other);
        assert_eq!(report.failure().map(|check| check.step), Some(Step::CheckpointSignature), "{report}");
    }
}

#[test]
fn a_checkpoint_that_was_saved_is_held_against_the_bundle() {
    let (world, stranger) = (World::new(), World::new());
    let bundle = world.bundle(5, 600);
    let against = |saved: SignedCheckpoint| {
        let trusted = Trusted { against: Some(saved), ..world.trusted() };
        verify(bundle.as_slice(), &trusted).unwrap().failure().map(|check| check.text.clone())
    };
    assert_eq!(against(world.checkpoint(100)), None);
    assert_eq!(against(world.checkpoint(600)), None);
    assert!(against(world.checkpoint(99)).unwrap().contains("\"against_size\": 99"));
    // Another history under the same key.
    let forged = |size| {
        let origin = world.log.key().name().clone();
        let head = mastio_audit::tree::TreeHead { size, ..stranger.tree(size.min(600)) };
        mastio_audit::checkpoint::Checkpoint { origin, head }.sign(&world.log).unwrap()
    };
    assert!(against(forged(100)).unwrap().contains("history was rewritten"));
    assert!(against(forged(600)).unwrap().contains("history was rewritten"));
    assert!(against(forged(601)).unwrap().contains("newer than what you saved"));
    assert!(against(stranger.checkpoint(100)).unwrap().contains("no signature by"));
}
