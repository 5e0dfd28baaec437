//! What proves less than a bundle does: the receipt of a deleted agent, and a C2SP tlog-proof of one entry.

use mastio_audit::{note::NoteKey, tlog_proof::TlogProof};
use mastio_core::{Stamp, counted};
use mastio_pki::{Certificate, pem};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    entries,
    format::{Digest, LogKey},
    log::{self, Signatory},
    problem::{At, Stop, fails},
    report::{Report, Step},
    verify::Trusted,
};

/// The `typ` of the JWS in a receipt.
const RECEIPT: &str = "mastio-receipt+jwt";

/// A receipt, as `GET /v1/admin/agents/{id}/receipt` gives it.
#[derive(Deserialize)]
struct Receipt<'a> {
    agent_id: String,
    deleted_at: String,
    receipt: String,
    signing_cert_pem: Option<String>,
    ca_chain_pem: String,
    #[serde(borrow)]
    entries: Vec<&'a RawValue>,
    /// A tlog-proof of the last entry.
    proof: Option<String>,
    /// The key of the log that signed for the proof.
    log_key: Option<LogKey>,
    /// The certificate of the key that announced it.
    log_key_cert_pem: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    iat: i64,
    deleted_at: String,
    audit: Entries,
}

#[derive(Deserialize)]
struct Entries {
    last_seq: u64,
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    seq: u64,
    hash: Digest,
}

/// Verifies the receipt of a deleted agent.
#[must_use]
pub fn verify_receipt(text: &str, trusted: &Trusted) -> Report {
    reported(|report| receipt(text, trusted, report))
}

/// Verifies a tlog-proof: that the entry with `entry_hash` is in the tree that the log signed.
#[must_use]
pub fn verify_proof(text: &str, entry_hash: Option<[u8; 32]>, trusted: &Trusted) -> Report {
    reported(|report| {
        let Some(entry_hash) = entry_hash else {
            return fails(Step::Inclusion, "the entry is not known: pass its hash with --entry-hash");
        };
        proof(text, entry_hash, &trusted.log_keys, trusted, report)
    })
}

/// Verifies that the Mastio of `org` announced a key of its log, by the certificate of the key that did, in PEM, and the
/// CAs that it may lead through, on the word of `trusted.ca_roots`.
#[must_use]
pub fn verify_log_key(
    log_key: &LogKey,
    (signing_cert, cas): (&str, Vec<Certificate>),
    org: &str,
    trusted: &Trusted,
) -> Report {
    reported(|report| {
        let announced = log::announced(log_key, signing_cert, org, trusted, report)?;
        log::signatory(&announced.by, cas, org, trusted, report)
    })
}

fn reported(steps: impl FnOnce(&mut Report) -> Result<(), Stop>) -> Report {
    let mut report = Report::default();
    match steps(&mut report) {
        Ok(()) => {}
        Err(Stop::Fails(step, why)) => report.fails(step, why),
        Err(Stop::Unreadable(error)) => report.fails(Step::Archive, error.to_string()),
    }
    report
}

fn receipt(text: &str, trusted: &Trusted, report: &mut Report) -> Result<(), Stop> {
    let step = Step::Receipt;
    let receipt: Receipt<'_> = serde_json::from_str(text).at(step)?;
    let Some(signing_cert) = &receipt.signing_cert_pem else {
        return fails(step, "the certificate of the key that signed it is not in it");
    };
    let certificate = pem::first_certificate(signing_cert).at(step)?;
    let claims: Claims = log::signed(&receipt.receipt, RECEIPT, &certificate).at(step)?;
    if (&claims.sub, &claims.deleted_at) != (&receipt.agent_id, &receipt.deleted_at) {
        return fails(step, "it says something else than what was signed");
    }
    report
        .holds(step, format!("{} says that {} was deleted at {}", claims.iss, claims.sub, claims.deleted_at));
    let by = Signatory { certificate, at: Stamp::from_unix(claims.iat) };
    log::signatory(&by, log::ca_chain(&receipt.ca_chain_pem)?, &claims.iss, trusted, report)?;
    entries_of(&receipt, &claims, report)?;
    let last = claims.audit.entries.iter().find(|entry| entry.seq == claims.audit.last_seq);
    match (&receipt.proof, last) {
        (Some(text), Some(last)) => {
            let keys = log_keys(&receipt, &claims.iss, trusted, report)?;
            if keys.is_empty() {
                report.not_checked(Step::Inclusion, "the log's key is not known: pass it with --log-key");
                return Ok(());
            }
            proof(text, last.hash.0, &keys, trusted, report)
        }
        (Some(_), None) => fails(Step::Inclusion, "the last entry is not among those that were signed"),
        (None, _) => {
            report.not_checked(
                Step::Inclusion,
                "it came before the first checkpoint that has its entries; ask for it again",
            );
            Ok(())
        }
    }
}

/// The key of the log that the Mastio announced, else those that are known from elsewhere.
fn log_keys(
    receipt: &Receipt<'_>,
    org: &str,
    trusted: &Trusted,
    report: &mut Report,
) -> Result<Vec<NoteKey>, Stop> {
    let (Some(log_key), Some(cert)) = (&receipt.log_key, &receipt.log_key_cert_pem) else {
        return Ok(trusted.log_keys.clone());
    };
    let announced = log::announced(log_key, cert, org, trusted, report)?;
    // Another key than that of the receipt, if it was rotated in between.
    if receipt.signing_cert_pem.as_ref() != Some(cert) {
        log::signatory(&announced.by, log::ca_chain(&receipt.ca_chain_pem)?, org, trusted, report)?;
    }
    Ok(vec![announced.key])
}

/// Each entry that is there has the hash that was signed for it.
fn entries_of(receipt: &Receipt<'_>, claims: &Claims, report: &mut Report) -> Result<(), Stop> {
    let step = Step::ChainWalk;
    for entry in &receipt.entries {
        let (seq, hash) = entries::alone(entry.get().as_bytes()).at(step)?;
        if !claims.audit.entries.iter().any(|signed| (signed.seq, signed.hash) == (seq, hash)) {
            return fails(step, format!("entry {seq} is not the one that was signed"));
        }
    }
    let (there, signed) = (receipt.entries.len(), claims.audit.entries.len());
    if there == 0 {
        report.not_checked(
            step,
            format!(
                "the {} in an archive",
                counted(signed, "entry that was signed is", "entries that were signed are")
            ),
        );
        return Ok(());
    }
    report.holds(
        step,
        format!(
            "{there} of {} there, with the hashes that were signed",
            counted(signed, "entry is", "entries are")
        ),
    );
    Ok(())
}

fn proof(
    text: &str,
    entry_hash: [u8; 32],
    keys: &[NoteKey],
    trusted: &Trusted,
    report: &mut Report,
) -> Result<(), Stop> {
    let step = Step::CheckpointSignature;
    let proof: TlogProof = text.parse().at(step)?;
    let signed = keys.iter().find(|key| proof.checkpoint.verify(key).is_ok());
    let Some(key) = signed.or(keys.first()) else {
        return fails(step, "the log's key is not known: pass it with --log-key");
    };
    let head = proof.checkpoint.verify(key).at(step)?.head;
    report.holds(
        step,
        format!(
            "{} with root {}, by {}",
            counted(head.size, "entry", "entries"),
            hex::encode(head.root),
            key.name()
        ),
    );
    let step = Step::Inclusion;
    proof.inclusion.verify(&entry_hash, &head).at(step)?;
    report.holds(step, format!("{} is leaf {} of the tree", hex::encode(entry_hash), proof.inclusion.index));
    log::witnesses(&proof.checkpoint, trusted, report)
}
