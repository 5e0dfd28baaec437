//! Generations of a log: after an accepted restore it goes on under another name and key, without the entries that the
//! older database did not have.

use mastio_audit::{checkpoint::SignedCheckpoint, note::NoteKey};
use mastio_core::counted;

use crate::{
    format::{ChainProof, HandOver, Lost},
    log::Announced,
    problem::{At, Stop, fails},
    report::{Report, Step},
};

/// Tells each name that the log had before. They lead to the one that it has.
pub(crate) fn follow(proof: &ChainProof, report: &mut Report) -> Result<(), Stop> {
    let step = Step::HandOver;
    if proof.handed_over.is_empty() {
        return Ok(());
    }
    report.holds(
        step,
        format!("{} of the log before {}", counted(proof.handed_over.len(), "name", "names"), proof.origin),
    );
    let next = proof.handed_over.iter().skip(1).map(|next| &next.origin).chain([&proof.origin]);
    for (before, next) in proof.handed_over.iter().zip(next) {
        let HandOver { origin, new_origin, told, .. } = before;
        if new_origin != next {
            return fails(step, format!("{origin} was handed over to {new_origin}, and not to {next}"));
        }
        let Some(Lost { seq, first, last, last_checkpoint }) = told else {
            report.noted(
                step,
                format!("{origin} goes on as {next} after a restore; what it lost is told in an archive"),
            );
            continue;
        };
        let known = SignedCheckpoint::parse(last_checkpoint).at(step)?;
        // The last one that a witness saw may be of a key that the restored database does not know.
        if known.unverified().origin.as_str() == origin {
            known.verify(&key(before)?).at(step)?;
        }
        let text = format!(
            "{origin} goes on as {next} after a restore: entries {first} to {last} of it are lost, see audit.restored, entry {seq}"
        );
        report.noted(step, text);
    }
    Ok(())
}

/// That a checkpoint of an earlier name has no more entries than were handed over.
pub(crate) fn shared(
    saved: &SignedCheckpoint,
    proof: &ChainProof,
    announced: &Announced,
) -> Result<(), Stop> {
    let (step, said, now) = (Step::Consistency, saved.unverified(), announced.key.name());
    let since = proof.handed_over.iter().position(|before| before.origin == said.origin.as_str());
    let Some(since) = since else {
        return fails(step, format!("the saved checkpoint is of {}, and this log is {now}", said.origin));
    };
    let since = &proof.handed_over[since..];
    saved.verify(&key(&since[0])?).at(step)?;
    let lost = since.iter().filter_map(|before| before.told.as_ref()).find(|lost| {
        let shared = lost.first.saturating_sub(announced.base_seq);
        said.head.size > shared
    });
    match lost {
        None => Ok(()),
        Some(Lost { seq, first, last, .. }) => fails(
            step,
            format!(
                "the saved checkpoint is of {} with {}; this log, {now}, is its successor after a restore, and entries {first} to {last} were lost: see audit.restored, entry {seq}",
                said.origin,
                counted(said.head.size, "entry", "entries")
            ),
        ),
    }
}

fn key(before: &HandOver) -> Result<NoteKey, Stop> {
    let step = Step::HandOver;
    let key: NoteKey = before.vkey.parse().at(step)?;
    if key.name().as_str() == before.origin {
        Ok(key)
    } else {
        fails(step, format!("the key is of {}, not of {}", key.name(), before.origin))
    }
}
