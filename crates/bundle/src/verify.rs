//! Checks a bundle, step by step.

use std::io::Read;

use mastio_audit::{LocalRow, SetBack, checkpoint::SignedCheckpoint, note::NoteKey};
use mastio_core::{Stamp, counted, plural};
use mastio_pki::Certificate;
use mastio_timestamp::Anchors;

use crate::{
    archive::{self, Unpacked},
    entries::{Ambiguous, Walked},
    format::{ChainProof, File, LogKey, Manifest, entry_id},
    hand_over, log,
    problem::{At, Stop, Unreadable, fails},
    report::{Report, Span, Step},
    timestamp,
};

/// What the auditor knows from elsewhere. Without any of it a bundle can only be held against itself.
#[derive(Debug, Default)]
pub struct Trusted {
    /// Roots of the organisation: those that sign themselves. Others are only steps to one of them. Empty: the bundle's
    /// own is used, and the report says so.
    pub ca_roots: Vec<Certificate>,
    /// Roots of time stamping authorities. `None`: whoever stamped is only named.
    pub tsa_roots: Option<Anchors>,
    /// Keys of the log: of this generation, or of others. Empty: the announced one is used.
    pub log_keys: Vec<NoteKey>,
    /// Keys of witnesses.
    pub witnesses: Vec<NoteKey>,
    /// A checkpoint that was saved earlier.
    pub against: Option<SignedCheckpoint>,
    /// Whether a bundle without a time stamp fails.
    pub require_timestamp: bool,
}

/// Verifies a bundle: offline, in constant memory, up to the first step that fails.
///
/// # Errors
/// When `input` cannot be read. Evidence that does not hold is a finding of the report, not an error.
pub fn verify(input: impl Read, trusted: &Trusted) -> Result<Report, Unreadable> {
    verify_entries(input, trusted, &mut |_| {})
}

/// The same, and hands every entry to `each` on the way. Nothing of them is verified before the report says so.
///
/// # Errors
/// When `input` cannot be read.
pub fn verify_entries(
    input: impl Read,
    trusted: &Trusted,
    each: &mut dyn FnMut(&LocalRow<'_>),
) -> Result<Report, Unreadable> {
    let mut report = Report::default();
    match steps(input, trusted, each, &mut report) {
        Ok(()) => {}
        Err(Stop::Fails(step, why)) => report.fails(step, why),
        Err(Stop::Unreadable(error)) => return Err(Unreadable(error)),
    }
    Ok(report)
}

fn steps(
    input: impl Read,
    trusted: &Trusted,
    each: &mut dyn FnMut(&LocalRow<'_>),
    report: &mut Report,
) -> Result<(), Stop> {
    let bundle = archive::read(input, each)?;
    manifest_digest(&bundle, report)?;
    let walked = chain_walk(&bundle, report)?;
    report.span = Some(Span {
        org_id: bundle.manifest.org_id.clone(),
        first_seq: walked.first.seq,
        last_seq: walked.last.seq,
        first_hash: walked.first.hash,
        last_hash: walked.last.hash,
        previous_hash: walked.previous,
    });
    head(&bundle.manifest, walked, report)?;
    tail(&bundle.manifest, walked, report)?;

    let org = &bundle.manifest.org_id;
    let log_key: LogKey = bundle.json(File::LogKey, Step::LogKey)?;
    let signing_cert = bundle.text(File::SigningCert, Step::LogKey)?;
    let announced = log::announced(&log_key, signing_cert, org, trusted, report)?;
    not_recut(walked, announced.since)?;
    let ca_chain = bundle.text(File::CaChain, Step::SigningCertificate)?;
    log::signatory(&announced.by, log::ca_chain(ca_chain)?, org, trusted, report)?;

    let note = bundle.text(File::Checkpoint, Step::CheckpointSignature)?;
    let checkpoint = SignedCheckpoint::parse(note).at(Step::CheckpointSignature)?;
    let tree = log::checkpoint(&checkpoint, &announced, report)?;
    let proof: ChainProof = bundle.json(File::ChainProof, Step::Inclusion)?;
    let ends = [(walked.first.seq, walked.first.hash.0), (walked.last.seq, walked.last.hash.0)];
    log::inclusion(&proof, &announced, &tree, ends, report)?;
    archived(&proof, walked)?;
    hand_over::follow(&proof, report)?;
    log::witnesses(&checkpoint, trusted, report)?;
    log::consistency(&proof, &announced, &tree, trusted, report)?;

    let files = timestamp::Files { reply: bundle.bytes(File::TsaReply), chain: bundle.bytes(File::TsaChain) };
    let last = timestamp::Last { hash: &walked.last.hash.0, timestamp: &walked.last.timestamp };
    timestamp::check(&files, &last, &announced.by, trusted, report)
}

fn manifest_digest(bundle: &Unpacked, report: &mut Report) -> Result<(), Stop> {
    let (step, manifest) = (Step::ManifestDigest, &bundle.manifest);
    if bundle.events.0 != manifest.sha256 {
        return fails(step, format!("{} does not have the digest that the manifest gives", File::Events));
    }
    let mut files = 0;
    for (file, digest) in bundle.digests() {
        match manifest.files.get(file.name()) {
            Some(expected) if *expected == digest => files += 1,
            Some(_) => {
                return fails(step, format!("{file} does not have the digest that the manifest gives"));
            }
            None => return fails(step, format!("{file} is not in the manifest")),
        }
    }
    if files != manifest.files.len() {
        return fails(step, "the manifest names a file that is not there");
    }
    report.holds(step, format!("{} as the manifest says", counted(files + 1, "file is", "files are")));
    Ok(())
}

fn chain_walk<'a>(bundle: &'a Unpacked, report: &mut Report) -> Result<&'a Walked, Stop> {
    let step = Step::ChainWalk;
    let walked = bundle.events.1.as_ref().map_err(|why| Stop::Fails(step, why.clone()))?;
    let Walked { entries, first, last, .. } = walked;
    let (from, to) = (first.seq, last.seq);
    report.holds(
        step,
        format!("{}, {from} to {to}: every hash and every link holds", counted(*entries, "entry", "entries")),
    );
    for seq in &walked.restored {
        let text = format!(
            "entry {seq} tells of a database that was restored: what it says was lost is not in this log"
        );
        report.noted(step, text);
    }
    if let Some(SetBack { seq, entries, by }) = walked.set_back {
        let by = by.as_secs();
        let text = format!(
            "the clock was set back: {} from {seq} on {} dated up to {by} s before an earlier one",
            counted(entries, "entry", "entries"),
            plural(entries, "is", "are")
        );
        report.noted(step, text);
    }
    if let Some(Ambiguous { entries, first, .. }) = walked.ambiguous {
        let text = format!(
            "{} from {first} on {} `|` or a control character outside their details, as the Python implementation wrote \
             them: under the same hash their columns may have been cut elsewhere",
            counted(entries, "entry", "entries"),
            plural(entries, "holds", "hold")
        );
        report.noted(step, text);
    }
    Ok(walked)
}

/// What has more than one reading is older than the key: whoever announced it writes no such entries.
fn not_recut(walked: &Walked, since: Stamp) -> Result<(), Stop> {
    match walked.recut_since(since) {
        None => Ok(()),
        Some(seq) => fails(
            Step::LogKey,
            format!(
                "entry {seq} holds `|` or a control character outside its details, which no entry does since the key was \
                 announced: it was cut into other columns"
            ),
        ),
    }
}

fn head(manifest: &Manifest, walked: &Walked, report: &mut Report) -> Result<(), Stop> {
    let (step, first) = (Step::Head, &walked.first);
    let named = (&manifest.first_id, manifest.first_seq, manifest.first_hash, manifest.previous_hash);
    if named != (&entry_id(&manifest.org_id, first.seq), first.seq, first.hash, walked.previous) {
        return fails(step, format!("the first entry is {}, and the manifest names another", first.seq));
    }
    if is_before(&first.timestamp, &manifest.start).at(step)? {
        return fails(
            step,
            format!("the first entry is of {}, before the start of the range", first.timestamp),
        );
    }
    let follows = walked.previous.map_or("begins the chain".to_owned(), |hash| format!("follows {hash}"));
    report.holds(step, format!("entry {} of {} {follows}", first.seq, first.timestamp));
    Ok(())
}

fn tail(manifest: &Manifest, walked: &Walked, report: &mut Report) -> Result<(), Stop> {
    let (step, last) = (Step::Tail, &walked.last);
    let named = (&manifest.last_id, manifest.last_seq, manifest.last_hash, manifest.entries);
    if named != (&entry_id(&manifest.org_id, last.seq), last.seq, last.hash, walked.entries)
        || manifest.created != last.timestamp
    {
        return fails(step, format!("the last entry is {}, and the manifest names another", last.seq));
    }
    if is_before(&manifest.end, &last.timestamp).at(step)? {
        return fails(step, format!("the last entry is of {}, after the end of the range", last.timestamp));
    }
    report.holds(step, format!("entry {} of {} is {}", last.seq, last.timestamp, last.hash));
    Ok(())
}

fn is_before(one: &str, other: &str) -> Result<bool, String> {
    let read = |text: &str| Stamp::parse(text).map_err(|_| format!("{text:?} is not a time"));
    Ok(read(one)? < read(other)?)
}

/// A chain that begins at an archive links to the last entry of it.
fn archived(proof: &ChainProof, walked: &Walked) -> Result<(), Stop> {
    let Some(mark) = &proof.archived else { return Ok(()) };
    let follows = mark.archived_through.checked_add(1) == Some(walked.first.seq);
    if follows && Some(mark.head_hash) == walked.previous {
        Ok(())
    } else {
        fails(Step::Inclusion, "the entries do not follow the archive that the proof names")
    }
}
