//! What the published documents say.

use mastio_core::{Stamp, sha256};
use mastio_pki::crl::{Reason, Revoked};
use mastio_store::revocations::Revocation;
use serde_json::json;

use crate::lifecycle::{GRACE_OVER, SUPERSEDED};

/// The word for an agent whose work is over.
const CESSATION: &str = "cessation_of_operation";

/// `/pki/revoked.json`: every revoked certificate that has not ended by itself, whoever issued it.
pub(super) fn revoked_json(revoked: &[Revocation], now: Stamp) -> String {
    let entry = |revocation: &Revocation| {
        json!({
            "thumbprint": revocation.thumbprint,
            "serial": revocation.serial,
            "issuer": revocation.issuer_ski,
            "revoked_at": revocation.at,
            "reason": revocation.reason,
            "not_after": revocation.not_after,
        })
    };
    json!({ "generated_at": now, "revoked": revoked.iter().map(entry).collect::<Vec<_>>() }).to_string()
}

/// What the lists say, in a hash: unchanged lists are not signed again before they are old.
pub(super) fn content<'a>(issuers: impl Iterator<Item = &'a str>, revoked: &[Revocation]) -> [u8; 32] {
    let mut all: Vec<u8> = issuers.flat_map(|key_id| [key_id.as_bytes(), b"\n"].concat()).collect();
    all.extend(revoked.iter().flat_map(|revocation| *revocation.thumbprint.as_bytes()));
    sha256(&all)
}

/// The entries of the list of one issuer, named by the hex of its key identifier.
pub(super) fn entries(issuer_key_id: &str, revoked: &[Revocation]) -> Vec<Revoked> {
    let entry = |revocation: &Revocation| {
        // What is stored was read from a certificate, so its serial number is hex.
        let serial = hex::decode(&revocation.serial).ok()?;
        Some(Revoked { serial, at: revocation.at, reason: reason(&revocation.reason) })
    };
    let of_issuer = |revocation: &&Revocation| revocation.issuer_ski.as_deref() == Some(issuer_key_id);
    revoked.iter().filter(of_issuer).filter_map(entry).collect()
}

/// Our words as RFC 5280 §5.3.1 has them. Whoever revokes without such a word distrusts the key, and we never accept
/// that key again: to others it is compromised.
fn reason(word: &str) -> Reason {
    match word {
        SUPERSEDED | GRACE_OVER => Reason::Superseded,
        CESSATION => Reason::CessationOfOperation,
        _ => Reason::KeyCompromise,
    }
}
