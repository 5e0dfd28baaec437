//! Who signed the checkpoint, and what hangs in its tree.

use mastio_audit::{
    checkpoint::SignedCheckpoint,
    note::{NoteError, NoteKey},
    tree::TreeHead,
};
use mastio_core::{OrgId, SpiffeId, Stamp, counted};
use mastio_jose::{Algorithm, Compact, JwsError, VerifyingKey};
use mastio_pki::{Anchors, Certificate, MAX_PRESENTED, PathError, pem};
use serde::Deserialize;

use crate::{
    format::{ChainProof, Inclusion, LogKey},
    hand_over,
    problem::{At, Stop, fails},
    report::{Report, Step},
    verify::Trusted,
};

/// The `typ` of the JWS that announces a log key.
const ANNOUNCEMENT: &str = "mastio-log-key+jwt";

/// A statement by the Mastio's signing key.
pub(crate) struct Signatory {
    /// The certificate of the key.
    pub(crate) certificate: Certificate,
    /// When it says that it signed.
    pub(crate) at: Stamp,
}

/// A log key that was announced.
pub(crate) struct Announced {
    pub(crate) key: NoteKey,
    pub(crate) base_seq: u64,
    /// Since when it signs. Each key that signs tokens announces it again.
    pub(crate) since: Stamp,
    pub(crate) by: Signatory,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    origin: String,
    vkey: String,
    base_seq: u64,
    since: Option<i64>,
    iat: i64,
}

/// Reads a compact JWS with ES256 and this `typ`, by the key of `certificate`.
pub(crate) fn signed<C: serde::de::DeserializeOwned>(
    jws: &str,
    typ: &str,
    certificate: &Certificate,
) -> Result<C, String> {
    let form = |error: JwsError| error.to_string();
    let compact = Compact::split(jws).map_err(form)?;
    let header = compact.header().map_err(form)?;
    if header.alg() != Some(Algorithm::Es256.name()) || header.typ() != Some(typ) {
        return Err(format!("its header does not say ES256 and {typ}"));
    }
    let key = VerifyingKey::from_spki_der(certificate.spki_der()).map_err(|error| error.to_string())?;
    compact.verify(&key, Algorithm::Es256).map_err(|error| error.to_string())?;
    compact.claims().map_err(form)
}

/// The log key, if the holder of the signing certificate announced it.
pub(crate) fn announced(
    log_key: &LogKey,
    signing_cert: &str,
    org: &str,
    trusted: &Trusted,
    report: &mut Report,
) -> Result<Announced, Stop> {
    let step = Step::LogKey;
    let certificate = pem::first_certificate(signing_cert).at(step)?;
    let claims: Claims = signed(&log_key.announcement, ANNOUNCEMENT, &certificate)
        .map_err(|why| Stop::Fails(step, format!("the announcement does not hold: {why}")))?;
    let said = (&claims.iss, &claims.origin, &claims.vkey, claims.base_seq);
    if said != (&org.to_owned(), &log_key.origin, &log_key.vkey, log_key.base_seq) {
        return fails(step, "the Mastio announced another key, or for another log");
    }
    let key: NoteKey = log_key.vkey.parse().at(step)?;
    if key.name().as_str() != log_key.origin {
        return fails(step, format!("the key is of {}, not of {}", key.name(), log_key.origin));
    }
    let at = Stamp::from_unix(claims.iat);
    match trusted.log_keys.as_slice() {
        [] => report.holds(step, format!("{key} is announced by the Mastio of {org} at {at}")),
        known if known.contains(&key) => {
            report.holds(step, format!("{key} is announced by the Mastio of {org}, and the one you expect"));
        }
        known => {
            let known: Vec<_> = known.iter().map(NoteKey::to_string).collect();
            return fails(step, format!("it is {key}, and you expect {}", known.join(" or ")));
        }
    }
    let since = claims.since.map_or(at, Stamp::from_unix);
    Ok(Announced { key, base_seq: claims.base_seq, since, by: Signatory { certificate, at } })
}

/// The CAs that came along, in PEM.
pub(crate) fn ca_chain(pem: &str) -> Result<Vec<Certificate>, Stop> {
    pem::certificates(pem).at(Step::SigningCertificate)
}

/// That the signatory is the Mastio of `org`, on the word of the auditor's root, or else of the one that came along in
/// `chain`.
pub(crate) fn signatory(
    by: &Signatory,
    chain: Vec<Certificate>,
    org: &str,
    trusted: &Trusted,
    report: &mut Report,
) -> Result<(), Stop> {
    let step = Step::SigningCertificate;
    if !is_of_mastio(&by.certificate, org) {
        let why = format!("{} is not the certificate of the Mastio of {org}", by.certificate.subject());
        return fails(step, why);
    }
    let own = trusted.ca_roots.is_empty();
    let roots: Vec<_> =
        if own { &chain } else { &trusted.ca_roots }.iter().filter(|ca| is_root(ca)).collect();
    // Of its own roots the bundle names one: the first.
    let roots: Vec<_> = roots.into_iter().take(if own { 1 } else { usize::MAX }).cloned().collect();
    if roots.is_empty() {
        return fails(step, "none of the CA certificates that are to be trusted signs itself: pass the root");
    }
    let anchors = Anchors::builder().org(roots).build().at(step)?;
    let mut above: Vec<_> = trusted.ca_roots.iter().filter(|ca| !is_root(ca)).cloned().collect();
    above.extend(chain.into_iter().filter(|ca| !is_root(ca) && !trusted.ca_roots.contains(ca)));
    let above = leading_from(&by.certificate, above);
    // A Mastio is a server; CAs that agents brought stand below the same root, and are for clients only.
    let path = anchors.validate_server(&by.certificate, &above, by.at).map_err(|error| match error {
        PathError::UnknownIssuer => Stop::Fails(step, "it does not lead to the root that is trusted".into()),
        error => Stop::Fails(step, error.to_string()),
    })?;
    let (root, print) = (path.anchor.subject(), path.anchor.thumbprint());
    let when = by.at;
    report.holds(step, format!("{} leads to {root}, valid at {when}", by.certificate.subject()));
    if own {
        let text = format!(
            "whether {root} is the organisation's own root: compare its SHA-256 fingerprint {print}, or pass it with --ca-root"
        );
        report.not_checked(step, text);
    }
    Ok(())
}

/// A file of CAs may hold more than the root: `certs/org-ca.pem` has the intermediates below it as well.
fn is_root(ca: &Certificate) -> bool {
    ca.is_self_issued() && ca.is_signed_by(ca)
}

/// Those of `above` that a path from `leaf` can take, the nearest first: a long life leaves many CAs behind.
fn leading_from(leaf: &Certificate, mut above: Vec<Certificate>) -> Vec<Certificate> {
    let mut path = vec![leaf.clone()];
    let mut met = 0;
    while let Some(below) = path.get(met).cloned() {
        path.extend(above.extract_if(.., |ca| below.is_signed_by(ca)));
        met += 1;
    }
    path.into_iter().skip(1).take(MAX_PRESENTED).collect()
}

/// The Mastio's own leaf: `CN=proxy:<org>` and `spiffe://<trust domain>/proxy/<org>` (contract `pki.md` §2). No agent
/// is issued either.
fn is_of_mastio(certificate: &Certificate, org: &str) -> bool {
    let Ok(org) = OrgId::parse(org) else { return false };
    let named = certificate.common_name() == Some(format!("proxy:{org}").as_str());
    let id = certificate.spiffe_id();
    named && id.is_some_and(|id| SpiffeId::of_mastio(id.trust_domain(), &org) == *id)
}

/// The tree that the log signed.
pub(crate) fn checkpoint(
    checkpoint: &SignedCheckpoint,
    announced: &Announced,
    report: &mut Report,
) -> Result<TreeHead, Stop> {
    let step = Step::CheckpointSignature;
    let head = checkpoint.verify(&announced.key).at(step)?.head;
    let text = format!(
        "{} with root {}, by {}",
        counted(head.size, "entry", "entries"),
        hex::encode(head.root),
        announced.key.name()
    );
    report.holds(step, text);
    Ok(head)
}

/// That first and last entry are in the tree of `head`. `first` and `last`: position and hash.
pub(crate) fn inclusion(
    proof: &ChainProof,
    announced: &Announced,
    head: &TreeHead,
    [first, last]: [(u64, [u8; 32]); 2],
    report: &mut Report,
) -> Result<(), Stop> {
    let step = Step::Inclusion;
    let named = (proof.origin.as_str(), proof.base_seq, proof.tree_size, proof.root_hash.0);
    if named != (announced.key.name().as_str(), announced.base_seq, head.size, head.root) {
        return fails(step, "the proofs are not for the tree of the checkpoint");
    }
    match &proof.first {
        Some(inclusion) => included(inclusion, announced, head, first)?,
        None if first.0 < announced.base_seq => {}
        None => return fails(step, "the proof for the first entry is missing"),
    }
    included(&proof.last, announced, head, last)?;
    let (first, last) = (first.0, last.0);
    report.holds(step, match &proof.first {
        Some(_) => format!("entries {first} and {last} are in the checkpoint's tree"),
        None => format!("entry {last} is in the checkpoint's tree; entry {first} is older than the tree, and covered by it"),
    });
    Ok(())
}

fn included(
    inclusion: &Inclusion,
    announced: &Announced,
    head: &TreeHead,
    (seq, hash): (u64, [u8; 32]),
) -> Result<(), Stop> {
    let step = Step::Inclusion;
    if inclusion.seq != seq || seq.checked_sub(announced.base_seq) != Some(inclusion.leaf_index) {
        return fails(step, format!("the proof is for entry {}, not for entry {seq}", inclusion.seq));
    }
    inclusion
        .proof(head.size)
        .verify(&hash, head)
        .map_err(|error| Stop::Fails(step, format!("entry {seq}: {error}")))
}

/// Who else saw the checkpoint.
pub(crate) fn witnesses(
    checkpoint: &SignedCheckpoint,
    trusted: &Trusted,
    report: &mut Report,
) -> Result<(), Stop> {
    let step = Step::Witnesses;
    if trusted.witnesses.is_empty() {
        report.not_checked(step, "no witness is known: pass the key of one with --witness");
        return Ok(());
    }
    let (mut seen, mut missing) = (Vec::new(), Vec::new());
    for witness in &trusted.witnesses {
        match checkpoint.cosigned_at(witness) {
            Ok(at) => seen.push(format!("{} at {at}", witness.name())),
            Err(NoteError::Unsigned(_)) => missing.push(witness.name().to_string()),
            Err(error) => return fails(step, error.to_string()),
        }
    }
    if seen.is_empty() {
        return fails(
            step,
            format!("none of the known witnesses saw the checkpoint: {}", missing.join(", ")),
        );
    }
    let missing = if missing.is_empty() { String::new() } else { format!("; not by {}", missing.join(", ")) };
    let (count, known) = (seen.len(), trusted.witnesses.len());
    report.holds(step, format!("{count} of {known} known: cosigned by {}{missing}", seen.join(", ")));
    Ok(())
}

/// That what somebody saved earlier is the beginning of this tree.
pub(crate) fn consistency(
    proof: &ChainProof,
    announced: &Announced,
    head: &TreeHead,
    trusted: &Trusted,
    report: &mut Report,
) -> Result<(), Stop> {
    let step = Step::Consistency;
    let Some(saved) = &trusted.against else { return Ok(()) };
    let old = saved.unverified();
    if old.origin == *announced.key.name() {
        saved.verify(&announced.key).at(step)?;
    } else {
        hand_over::shared(saved, proof, announced)?;
    }
    if old.head.size > head.size {
        let why = format!(
            "the saved checkpoint has {} and this one {}: ask for a bundle that is newer than what you saved",
            counted(old.head.size, "entry", "entries"),
            head.size
        );
        return fails(step, why);
    }
    if old.head.size == head.size {
        if old.head.root != head.root {
            return fails(
                step,
                "the saved checkpoint has another root for the same size: history was rewritten",
            );
        }
    } else {
        let proof = proof.consistency.as_ref().filter(|proof| proof.from == old.head.size);
        let Some(proof) = proof else {
            let why = format!(
                "there is no proof for it in the bundle: ask for one with \"against_size\": {}",
                old.head.size
            );
            return fails(step, why);
        };
        proof.proof(head.size).verify(&old.head, head).at(step)?;
    }
    let (size, origin) = (old.head.size, &old.origin);
    report.holds(
        step,
        format!(
            "the saved checkpoint of {origin} with {} is the beginning of this one",
            counted(size, "entry", "entries")
        ),
    );
    Ok(())
}
