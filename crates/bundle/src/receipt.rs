//! What proves a single entry: a C2SP tlog-proof.

use mastio_audit::proof::TlogProof;

use crate::{
    problem::{At, Stop, fails},
    report::{Report, Step},
    verify::Trusted,
};

/// Verifies a tlog-proof: that the entry with `entry_hash` is in the tree that the log signed.
#[must_use]
pub fn verify_proof(text: &str, entry_hash: Option<[u8; 32]>, trusted: &Trusted) -> Report {
    let mut report = Report::default();
    if let Err(Stop::Fails(step, why)) = proof(text, entry_hash, trusted, &mut report) {
        report.fails(step, why);
    }
    report
}

fn proof(
    text: &str,
    entry_hash: Option<[u8; 32]>,
    trusted: &Trusted,
    report: &mut Report,
) -> Result<(), Stop> {
    let step = Step::CheckpointSignature;
    let proof: TlogProof = text.parse().at(step)?;
    let Some(key) = &trusted.log_key else {
        return fails(step, "the log's key is not known: pass it with --log-key");
    };
    let head = proof.checkpoint.verify(key).at(step)?.head;
    report.holds(
        step,
        format!("{} entries with root {}, by {}", head.size, hex::encode(head.root), key.name()),
    );
    let step = Step::Inclusion;
    let Some(entry_hash) = entry_hash else {
        return fails(step, "the entry is not known: pass its hash with --entry-hash");
    };
    proof.inclusion.verify(&entry_hash, &head).at(step)?;
    report.holds(step, format!("{} is leaf {} of the tree", hex::encode(entry_hash), proof.inclusion.index));
    crate::log::witnesses(&proof.checkpoint, trusted, report)
}
