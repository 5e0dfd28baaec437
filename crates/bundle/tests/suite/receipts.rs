//! Receipts of deleted agents.

use mastio_audit::{lines, tlog_proof::TlogProof};
use mastio_bundle::{Report, Step, Trusted, Verdict, receipt::verify_receipt};
use mastio_jose::jws;
use mastio_pki::trust_file;
use serde_json::{Value, json};

use crate::world::{ORG, Signer, World, agent_below, now, with_row};

fn line(world: &World, seq: u64) -> Value {
    let mut line = Vec::new();
    with_row(&world.entries[seq as usize - 1], |row| lines::ndjson(row, &mut line));
    serde_json::from_slice(&line).unwrap()
}

/// The receipt of an agent whose end the entries 7 and 8 tell.
fn receipt(world: &World, signer: &Signer) -> Value {
    let deleted_at = "2026-09-21T14:20:00.000001+00:00";
    let entries = [7, 8].map(|seq| json!({ "seq": seq, "hash": hex::encode(world.hash(seq)) }));
    let header = json!({ "alg": "ES256", "kid": signer.key.kid(), "typ": "mastio-receipt+jwt" });
    let claims = json!({
        "iss": ORG, "sub": "acme::alice", "iat": now().unix(), "deleted_at": deleted_at, "reason": "retired",
        "audit": { "first_seq": 7, "last_seq": 8, "entries": entries },
    });
    let proof = TlogProof { inclusion: world.inclusion(8, 600), checkpoint: world.checkpoint(600) };
    json!({
        "kind": "receipt", "agent_id": "acme::alice", "deleted_at": deleted_at,
        "receipt": jws::sign(&signer.key, &header, &claims).unwrap(),
        "signing_cert_pem": signer.certificate.pem(),
        "ca_chain_pem": trust_file(world.root.certificate(), [world.intermediate.certificate()]),
        "entries": [line(world, 7), line(world, 8)],
        "proof": proof.to_string(),
    })
}

fn verified(world: &World, receipt: &Value) -> Report {
    let trusted = Trusted { log_keys: vec![world.log.key().clone()], ..world.trusted() };
    verify_receipt(&receipt.to_string(), &trusted)
}

#[test]
fn a_receipt_holds_and_nothing_in_it_can_be_changed() {
    let world = World::new();
    let good = receipt(&world, &world.mastio);
    let report = verified(&world, &good);
    assert_eq!(report.failure(), None, "{report}");
    assert!(report.checks.iter().any(|check| check.step == Step::Inclusion), "{report}");

    // What the Mastio announced is enough; entries that were archived are no finding.
    let mut alone = good.clone();
    alone["log_key"] = serde_json::to_value(world.announce(&world.mastio, &world.log)).unwrap();
    alone["log_key_cert_pem"] = json!(world.mastio.certificate.pem());
    alone["entries"] = json!([]);
    let report = verify_receipt(&alone.to_string(), &world.trusted());
    let found = |step| report.checks.iter().find(|check| check.step == step).map(|check| check.verdict);
    assert_eq!(found(Step::ChainWalk), Some(Verdict::NotChecked), "{report}");
    assert_eq!(found(Step::Inclusion), Some(Verdict::Holds), "{report}");
    alone["log_key"]["vkey"] = json!(crate::world::log_key().key().to_string());
    let report = verify_receipt(&alone.to_string(), &world.trusted());
    assert_eq!(report.failure().map(|check| check.step), Some(Step::LogKey), "{report}");

    let refuse = |step: Step, edit: &dyn Fn(&mut Value)| {
        let mut edited = good.clone();
        edit(&mut edited);
        let report = verified(&world, &edited);
        assert_eq!(report.failure().map(|check| check.step), Some(step), "{report}");
    };
    refuse(Step::Receipt, &|receipt| receipt["agent_id"] = json!("acme::bob"));
    refuse(Step::Receipt, &|receipt| receipt["deleted_at"] = json!("2026-09-22T14:20:00.000001+00:00"));
    refuse(Step::Receipt, &|receipt| receipt["signing_cert_pem"] = Value::Null);
    refuse(Step::ChainWalk, &|receipt| receipt["entries"][0]["details"] = json!("{}"));
    refuse(Step::ChainWalk, &|receipt| receipt["entries"][0] = line(&world, 9));
    refuse(Step::CheckpointSignature, &|receipt| receipt["proof"] = json!("no proof"));
    let agent = receipt(&world, &agent_below(&world.intermediate));
    let report = verified(&world, &agent);
    assert_eq!(report.failure().map(|check| check.step), Some(Step::SigningCertificate), "{report}");
}
