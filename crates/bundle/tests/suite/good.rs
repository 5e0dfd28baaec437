//! Bundles that hold.

use mastio_audit::{note::SignedCheckpoint, proof::TlogProof};
use mastio_bundle::{
    Evidence, Occasion, Plan, Step, Survey, Trusted, Verdict, WriteError, Writer, receipt, verify,
    verify_entries,
};
use mastio_timestamp::Anchors;

use crate::{
    python,
    world::{ORG, World, with_row},
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
        log_key: Some(world.log.key().clone()),
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
        let trusted = Trusted { log_key: Some(world.log.key().clone()), ..world.trusted() };
        let inclusion = world.inclusion(seq, 600);
        let proof = TlogProof { inclusion, checkpoint: world.checkpoint(600) }.to_string();
        let report = receipt::verify_proof(&proof, Some(world.hash(seq)), &trusted);
        assert_eq!(report.failure(), None, "{report}");
        let report = receipt::verify_proof(&proof, Some(world.hash(300)), &trusted);
        assert_eq!(report.failure().map(|check| check.step), Some(Step::Inclusion), "{report}");
        let other = Trusted { log_key: Some(crate::world::log_key().key().clone()), ..world.trusted() };
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
        mastio_audit::note::Checkpoint { origin, head }.sign(&world.log).unwrap()
    };
    assert!(against(forged(100)).unwrap().contains("history was rewritten"));
    assert!(against(forged(600)).unwrap().contains("history was rewritten"));
    assert!(against(forged(601)).unwrap().contains("newer than what you saved"));
    assert!(against(stranger.checkpoint(100)).unwrap().contains("no signature by"));
}
