//! What each certificate of ours looks like: the recommended profiles of contract `pki.md` §2.
//!
//! All carry subject and authority key identifiers, critical BasicConstraints and a critical KeyUsage, begin five
//! minutes before `now`, have a random 128-bit serial number, and never outlive their issuer. They pass
//! `openssl verify -x509_strict` and the default context of Python 3.13.

mod again;

use std::time::Duration;

use mastio_core::{AgentId, OrgId, Rng, SpiffeId, Stamp, TrustDomain};
use rcgen::{
    BasicConstraints, DistinguishedName, ExtendedKeyUsagePurpose as Purpose, IsCa, KeyUsagePurpose as Usage,
    SanType, SigningKey,
};

use crate::{
    Certificate, IssueError, Issuer, ServerName, ServerNames,
    issuer::{Draft, Repeats},
    name::{self, ca_subject, subject},
    public_key::key_identifier,
};

pub use self::again::{intermediate_again, leaf_again};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a root lives: 15 years of 365 days.
pub const ROOT_LIFETIME: Duration = DAY.saturating_mul(15 * 365);
/// How long an intermediate lives: 5 years of 365 days.
pub const INTERMEDIATE_LIFETIME: Duration = DAY.saturating_mul(5 * 365);
/// How long an agent's certificate lives, unless asked otherwise: 365 days. Server and Mastio leaves live as long.
pub const LEAF_LIFETIME: Duration = DAY.saturating_mul(365);
/// How long the certificate of a user lives: one hour.
pub const USER_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// The path length of a link: room for the links of later rotations below it, and an intermediate. Some verifiers count
/// CAs that signed their own name, RFC 5280 §4.2.1.9 notwithstanding. What the link may do is bounded by the root above.
const LINK_PATH_LEN: u8 = 3;

/// The common name of a root that we mint; the organisation is in `O`.
const ROOT_NAME: &str = "Cullis Org CA";

/// A fresh root: `CN=Cullis Org CA, O=<org>`, path length 1, self-signed.
///
/// # Errors
/// [`IssueError`]: the key is not accepted or does not sign.
pub fn root<K: SigningKey>(
    org: &OrgId,
    key: &K,
    now: Stamp,
    rng: &dyn Rng,
) -> Result<Certificate, IssueError> {
    ca(subject(ROOT_NAME, org.as_str()), 1, now.plus(ROOT_LIFETIME)).self_signed(key, now, rng)
}

/// A root with the name of `old` and path length 1, self-signed by `key`: with the same key a repair that keeps every
/// chain below it, with another key a rotation (contract `pki.md`, "better than both" 1 and §5).
///
/// # Errors
/// [`IssueError`]; [`IssueError::Name`] if the old name cannot be repeated exactly.
pub fn successor<K: SigningKey>(
    old: &Certificate,
    key: &K,
    not_after: Stamp,
    now: Stamp,
    rng: &dyn Rng,
) -> Result<Certificate, IssueError> {
    // What the same key has certified names it by the identifier that the old certificate states.
    let same_key = key.subject_public_key_info() == old.spki_der();
    let repeats =
        Repeats { key_id: old.key_id().filter(|_| same_key).map(<[u8]>::to_vec), ..Repeats::default() };
    let draft = Draft { repeats, ..ca(name::from_der(old.subject_raw())?, 1, not_after) };
    named(draft.self_signed(key, now, rng)?, old.subject_raw())
}

/// The new root's name and key, signed by the superseded root: what a client that trusts only the old one needs to
/// believe the new one. Possible only if the names are equal or the old path length leaves room (design decision 3).
///
/// # Errors
/// [`IssueError::PathLength`] if the old root leaves no room, else as [`root`].
pub fn link<K: SigningKey>(
    superseded: &Issuer<K>,
    new_root: &Certificate,
    now: Stamp,
    rng: &dyn Rng,
) -> Result<Certificate, IssueError> {
    let old = superseded.certificate();
    // Below the old root stand the link, unless it is self-issued, and an intermediate.
    let below = if old.subject_raw() == new_root.subject_raw() { 1 } else { 2 };
    if old.path_len().is_some_and(|limit| limit < below) {
        return Err(IssueError::PathLength);
    }
    // What the new root has certified names its key by the identifier that the root states, whoever computed it.
    let repeats = Repeats { key_id: new_root.key_id().map(<[u8]>::to_vec), ..Repeats::default() };
    let subject = name::from_der(new_root.subject_raw())?;
    let draft = Draft { repeats, ..ca(subject, LINK_PATH_LEN, new_root.not_after()) };
    named(superseded.sign(draft, new_root.spki_der(), now, rng)?, new_root.subject_raw())
}

/// An intermediate that issues leaves: `CN=<org> Mastio CA <8 hex of its key identifier>, O=<org>`, path length 0.
/// Two of one organisation never share a name (design decision 2). A root with path length 0 is not refused, because
/// the intermediate is an anchor of its own to us; strict clients will not follow it.
///
/// # Errors
/// [`IssueError`].
pub fn intermediate<K: SigningKey>(
    issuer: &Issuer<K>,
    org: &OrgId,
    subject_spki: &[u8],
    now: Stamp,
    rng: &dyn Rng,
) -> Result<Certificate, IssueError> {
    let what = format!("Mastio CA {}", hex::encode(&key_identifier(subject_spki)[..4]));
    let draft = ca(ca_subject(org.as_str(), &what), 0, now.plus(INTERMEDIATE_LIFETIME));
    issuer.sign(draft, subject_spki, now, rng)
}

/// A CA of somebody else below ours, under the name that it asked for, path length 0. It certifies TLS clients only:
/// whoever trusts our root must not believe a server that it vouches for.
pub(crate) fn foreign_ca<K: SigningKey>(
    issuer: &Issuer<K>,
    subject_raw: &[u8],
    subject_spki: &[u8],
    lifetime: Duration,
    now: Stamp,
    rng: &dyn Rng,
) -> Result<Certificate, IssueError> {
    if issuer.certificate().path_len() == Some(0) {
        return Err(IssueError::PathLength);
    }
    let subject = name::from_der(subject_raw)?;
    if subject.iter().next().is_none() || subject_raw == issuer.certificate().subject_raw() {
        return Err(IssueError::SubjectTaken);
    }
    let draft = Draft { purposes: vec![Purpose::ClientAuth], ..ca(subject, 0, now.plus(lifetime)) };
    named(issuer.sign(draft, subject_spki, now, rng)?, subject_raw)
}

/// The Mastio's own leaf, for its signing key: `CN=proxy:<org>`, `spiffe://<td>/proxy/<org>`, TLS client and server.
///
/// # Errors
/// [`IssueError`].
pub fn mastio_leaf<K: SigningKey>(
    issuer: &Issuer<K>,
    domain: &TrustDomain,
    org: &OrgId,
    subject_spki: &[u8],
    now: Stamp,
    rng: &dyn Rng,
) -> Result<Certificate, IssueError> {
    let name = subject(&format!("proxy:{org}"), org.as_str());
    let id = uri(&SpiffeId::of_mastio(domain, org))?;
    let draft = leaf(name, vec![id], &[Purpose::ClientAuth, Purpose::ServerAuth], now.plus(LEAF_LIFETIME));
    issuer.sign(draft, subject_spki, now, rng)
}

/// An agent's certificate: `CN=<org>::<name>, O=<org>`, its SPIFFE id, TLS client only. The key may be the client's
/// own. A name of more than 64 characters stands in the SPIFFE id only, as RFC 5280 wants.
///
/// # Errors
/// [`IssueError`].
pub fn agent<K: SigningKey>(
    issuer: &Issuer<K>,
    id: &AgentId,
    spiffe: &SpiffeId,
    subject_spki: &[u8],
    lifetime: Duration,
    now: Stamp,
    rng: &dyn Rng,
) -> Result<Certificate, IssueError> {
    let draft =
        leaf(subject(id.as_str(), id.org()), vec![uri(spiffe)?], &[Purpose::ClientAuth], now.plus(lifetime));
    issuer.sign(draft, subject_spki, now, rng)
}

/// The certificate of a user or workload: empty subject, its SPIFFE id in a critical SAN, TLS client only.
///
/// # Errors
/// [`IssueError`].
pub fn user<K: SigningKey>(
    issuer: &Issuer<K>,
    spiffe: &SpiffeId,
    subject_spki: &[u8],
    lifetime: Duration,
    now: Stamp,
    rng: &dyn Rng,
) -> Result<Certificate, IssueError> {
    let draft =
        leaf(DistinguishedName::new(), vec![uri(spiffe)?], &[Purpose::ClientAuth], now.plus(lifetime));
    issuer.sign(draft, subject_spki, now, rng)
}

/// The TLS server's certificate: `CN=<first name>, O=<org>`, DNS names, then addresses, TLS server only.
///
/// # Errors
/// [`IssueError`].
pub fn server<K: SigningKey>(
    issuer: &Issuer<K>,
    names: &ServerNames,
    org: &OrgId,
    subject_spki: &[u8],
    now: Stamp,
    rng: &dyn Rng,
) -> Result<Certificate, IssueError> {
    let (addresses, hosts): (Vec<_>, Vec<_>) =
        names.iter().partition(|name| matches!(name, ServerName::Address(_)));
    let sans = hosts.into_iter().chain(addresses).map(|name| match name {
        ServerName::Host(host) => Ok(SanType::DnsName(host.as_str().try_into()?)),
        ServerName::Address(address) => Ok(SanType::IpAddress(*address)),
    });
    let sans = sans.collect::<Result<Vec<_>, rcgen::Error>>()?;
    let name = subject(&names.first().to_string(), org.as_str());
    let draft = leaf(name, sans, &[Purpose::ServerAuth], now.plus(LEAF_LIFETIME));
    issuer.sign(draft, subject_spki, now, rng)
}

fn ca(subject: DistinguishedName, path_len: u8, not_after: Stamp) -> Draft {
    Draft {
        subject,
        names: Vec::new(),
        is_ca: IsCa::Ca(BasicConstraints::Constrained(path_len)),
        usages: vec![Usage::KeyCertSign, Usage::CrlSign],
        purposes: Vec::new(),
        not_after,
        repeats: Repeats::default(),
    }
}

fn leaf(subject: DistinguishedName, names: Vec<SanType>, purposes: &[Purpose], not_after: Stamp) -> Draft {
    Draft {
        subject,
        names,
        is_ca: IsCa::ExplicitNoCa,
        usages: vec![Usage::DigitalSignature],
        purposes: purposes.to_vec(),
        not_after,
        repeats: Repeats::default(),
    }
}

/// The certificate, if the name that it should repeat came out byte for byte: verifiers compare names as bytes.
fn named(certificate: Certificate, subject_raw: &[u8]) -> Result<Certificate, IssueError> {
    if certificate.subject_raw() == subject_raw { Ok(certificate) } else { Err(IssueError::ReadBack) }
}

fn uri(id: &SpiffeId) -> Result<SanType, rcgen::Error> {
    Ok(SanType::URI(id.as_str().try_into()?))
}

#[cfg(test)]
mod tests;
