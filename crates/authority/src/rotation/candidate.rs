//! A root that may take the place of the active one, with its key: made here, or brought and looked at.

use mastio_core::{OrgId, Rng, Stamp, Thumbprint, TrustDomain};
use mastio_custody::CaKey;
use mastio_pki::{
    AnchorError, Anchors, Certificate, Group, IssueError, Issuer, IssuerError, KeyError, KeyPair, PemError,
    pem, profile,
};
use mastio_store::{
    agents,
    cas::CaState,
    keys::{self, CaKind},
    rotations::Mode,
    sqlite::Database,
};
use secrecy::{ExposeSecret, SecretString};

use super::{RotationError, TrialFault};
use crate::{Outage, Refusal, trust::Trust};

/// The longest file or text of an upload that is read, in bytes.
pub const MAX_UPLOAD: usize = pem::MAX_TEXT;

/// What an operator brings.
#[derive(Debug, Clone)]
pub struct Upload {
    /// The new root in PEM; more certificates may follow if each is signed by the next.
    pub certificates: String,
    /// Its private key in PEM, unencrypted.
    pub key: SecretString,
}

/// A root that nothing speaks against.
#[derive(Debug)]
pub struct Candidate {
    mode: Mode,
    ca: CaKey,
}

/// Why a root is not taken (contract `pki.md` §5, "Refuse").
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CandidateError {
    /// Not certificates in PEM.
    #[error("ca_cert: {0}")]
    Certificate(PemError),
    /// Not a private key in PEM that we work with.
    #[error("ca_key: {0}")]
    Key(KeyError),
    /// More than one private key.
    #[error("ca_key must hold one private key, and ca_cert none; {0} were found")]
    SeveralKeys(usize),
    /// Too weak, or of a kind that verifiers do not know.
    #[error("the key of the new CA is too weak: use EC P-256, P-384 or P-521, or RSA with 2048 to 8192 bits")]
    WeakKey,
    /// Certificate and key are not of one pair.
    #[error(
        "ca_key does not belong to the first certificate of ca_cert; put the certificate of that key first"
    )]
    KeyMismatch,
    /// BasicConstraints do not say CA.
    #[error("the certificate is not a CA certificate: its basic constraints lack CA:TRUE")]
    NotACa,
    /// KeyUsage without keyCertSign.
    #[error("the certificate may not sign certificates: its key usage lacks keyCertSign")]
    NoCertSign,
    /// Past its end.
    #[error("the certificate expired at {0}")]
    Expired(Stamp),
    /// Before its begin.
    #[error("the certificate is not valid before {0}; check the clocks, or wait")]
    NotYetValid(Stamp),
    /// No intermediate could stand below it.
    #[error(
        "the certificate has path length 0, so no intermediate below it can be verified; make it with pathlen:1 or none"
    )]
    PathLenZero,
    /// A certificate of the bundle is not signed by the next.
    #[error(
        "certificate {0} of ca_cert is not signed by the one that follows it, or by itself if it is the last"
    )]
    Unchained(usize),
    /// It chains, but to somebody else's root.
    #[error(
        "the certificate is signed by {0} and not by itself; clients that pin the Org CA could not verify it: bring a self-signed root"
    )]
    NotSelfSigned(String),
    /// Its key is that of the active root, or of an earlier one.
    #[error("the new CA has the key of a CA that was here before ({0}); make a new key")]
    KeyReused(Thumbprint),
    /// Its key does something else here.
    #[error("the key of the new CA is that of {0} here; make a new key that does nothing else")]
    KeyInUse(&'static str),
    /// SPIFFE agents of that trust domain would be taken for ours, and refused.
    #[error("the new CA is in the SPIRE bundle of {0}, whose agents would be locked out; bring another root")]
    InSpireBundle(TrustDomain),
    /// What it certifies would be refused by verifiers that are not ours.
    #[error("the new CA has {0}, so clients might refuse what it certifies; bring a root without")]
    Restricted(&'static str),
    /// It was tried out, and something of ours below it would be refused.
    #[error("the new CA was tried out, and {0} {1}; bring another root")]
    Trial(&'static str, TrialFault),
    /// Constraints that the verifier cannot evaluate.
    #[error("the new CA cannot be trusted: {0}")]
    Untrustable(AnchorError),
    /// A name that could not be repeated as the issuer of what it signs.
    #[error("the subject of the new CA cannot be used: {0}")]
    Subject(String),
}

impl Refusal for CandidateError {
    fn status(&self) -> u16 {
        400
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Certificate(_) => "ca_cert_invalid",
            Self::Key(_) => "ca_key_invalid",
            Self::SeveralKeys(_) => "several_keys",
            Self::WeakKey => "weak_key",
            Self::KeyMismatch => "key_mismatch",
            Self::NotACa => "not_a_ca",
            Self::NoCertSign => "no_cert_sign",
            Self::Expired(_) => "expired",
            Self::NotYetValid(_) => "not_yet_valid",
            Self::PathLenZero => "path_len_zero",
            Self::Unchained(_) => "bundle_does_not_chain",
            Self::NotSelfSigned(_) => "not_self_signed",
            Self::KeyReused(_) => "key_reused",
            Self::KeyInUse(_) => "key_in_use",
            Self::InSpireBundle(_) => "in_spire_bundle",
            Self::Restricted(_) => "restricted",
            Self::Trial(..) => "trial_failed",
            Self::Untrustable(_) => "not_trustable",
            Self::Subject(_) => "subject_unusable",
        }
    }

    fn detail(&self) -> serde_json::Value {
        let mut detail = serde_json::json!({
            "reason": self.reason(), "hint": self.to_string(), "docs": "docs/rotate-ca.md"
        });
        if let Self::Trial(what, fault) = self {
            detail["failed"] = serde_json::json!({ "what": what, "reason": fault.reason() });
        }
        detail
    }
}

impl Candidate {
    /// A fresh P-256 root with the name of the active one, so that a link certificate can lead to it; with our own name
    /// if that one cannot be repeated.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub(crate) fn minted(trust: &Trust, org: &OrgId, now: Stamp, rng: &dyn Rng) -> Result<Self, Outage> {
        let key = KeyPair::generate_p256().map_err(Outage::internal)?;
        let not_after = now.plus(profile::ROOT_LIFETIME);
        let certificate = match profile::successor(&trust.root, &key, not_after, now, rng) {
            Err(IssueError::Name(_) | IssueError::ReadBack) => profile::root(org, &key, now, rng),
            made => made,
        };
        let certificate = certificate.map_err(Outage::internal)?;
        Ok(Self { mode: Mode::Mint, ca: CaKey { certificate, key } })
    }

    /// What the operator brings, if nothing speaks against it.
    ///
    /// # Errors
    /// The first thing that does.
    pub(crate) fn uploaded(upload: &Upload, trust: &Trust, now: Stamp) -> Result<Self, CandidateError> {
        let chain = pem::certificates(&upload.certificates).map_err(CandidateError::Certificate)?;
        let certificate = chain[0].clone();
        if !certificate.key_strength_ok() {
            return Err(CandidateError::WeakKey);
        }
        let key = only_key(upload)?;
        if !key.matches(&certificate) {
            return Err(CandidateError::KeyMismatch);
        }
        may_be_root(&certificate, now)?;
        chains(&chain)?;
        not_used_before(&certificate, trust)?;
        can_issue(&certificate, &key)?;
        Ok(Self { mode: Mode::Upload, ca: CaKey { certificate, key } })
    }

    /// Whether nothing has come to speak against it since it was made.
    pub(crate) fn still_good(&self, trust: &Trust, now: Stamp) -> Result<(), CandidateError> {
        may_be_root(&self.ca.certificate, now)?;
        not_used_before(&self.ca.certificate, trust)
    }

    /// Where it comes from.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.ca.certificate
    }

    /// Certificate and key.
    pub(crate) fn ca(&self) -> &CaKey {
        &self.ca
    }
}

fn only_key(upload: &Upload) -> Result<KeyPair, CandidateError> {
    let key = upload.key.expose_secret();
    let count = |text: &str| pem::private_keys(text).map_err(|error| CandidateError::Key(error.into()));
    match count(key)? + count(&upload.certificates)? {
        0 | 1 => {}
        several => return Err(CandidateError::SeveralKeys(several)),
    }
    KeyPair::from_pem(key).map_err(|error| match error {
        KeyError::NotAccepted => CandidateError::WeakKey,
        other => CandidateError::Key(other),
    })
}

fn may_be_root(certificate: &Certificate, now: Stamp) -> Result<(), CandidateError> {
    if !certificate.is_ca() {
        Err(CandidateError::NotACa)
    } else if !certificate.may_sign_certificates() {
        Err(CandidateError::NoCertSign)
    } else if certificate.not_after() <= now {
        Err(CandidateError::Expired(certificate.not_after()))
    } else if certificate.not_before() > now {
        Err(CandidateError::NotYetValid(certificate.not_before()))
    } else if certificate.path_len() == Some(0) {
        Err(CandidateError::PathLenZero)
    } else {
        certificate.restriction().map_or(Ok(()), |what| Err(CandidateError::Restricted(what)))
    }
}

/// Each is signed by the next and the last by itself; and the first is the last.
fn chains(chain: &[Certificate]) -> Result<(), CandidateError> {
    for (index, certificate) in chain.iter().enumerate() {
        let issuer = chain.get(index + 1).unwrap_or(certificate);
        if !certificate.is_signed_by(issuer) {
            return Err(CandidateError::Unchained(index + 1));
        }
    }
    match chain {
        [_, issuer, ..] => Err(CandidateError::NotSelfSigned(issuer.subject().to_owned())),
        _ => Ok(()),
    }
}

/// A staged root whose rotation was given up never certified anything: it may be brought again, but not while that is
/// open.
fn not_used_before(certificate: &Certificate, trust: &Trust) -> Result<(), CandidateError> {
    let has_key = |other: &Certificate| other.spki_der() == certificate.spki_der();
    let mut roots = trust
        .cas
        .iter()
        .filter(|ca| ca.kind == CaKind::Root && (ca.was_in_use() || ca.state == CaState::Staged));
    if let Some(known) = roots.find(|ca| has_key(&ca.certificate)) {
        return Err(CandidateError::KeyReused(known.certificate.thumbprint()));
    }
    let mut below = trust.cas.iter().filter(|ca| ca.kind == CaKind::Intermediate);
    if below.any(|ca| has_key(&ca.certificate)) {
        return Err(CandidateError::KeyInUse("an intermediate"));
    }
    let spire = trust.anchors.iter().find_map(|(group, anchor)| match group {
        Group::Spire(domain) if has_key(anchor) => Some(domain.clone()),
        Group::Spire(_) | Group::Org => None,
    });
    spire.map_or(Ok(()), |domain| Err(CandidateError::InSpireBundle(domain)))
}

/// Whose key it is, of those that are no CA: the database alone knows them.
pub(crate) fn not_held(certificate: &Certificate, database: &Database) -> Result<(), RotationError> {
    let spki = certificate.spki_der();
    let signs = keys::signing_keys(database).map_err(Outage::from)?;
    if signs.iter().any(|key| pem::public_key(&key.public_pem).is_ok_and(|der| der == spki)) {
        return Err(CandidateError::KeyInUse("a signing key").into());
    }
    match agents::has_key(database, &Thumbprint::of(spki).to_string()).map_err(Outage::from)? {
        true => Err(CandidateError::KeyInUse("an agent").into()),
        false => Ok(()),
    }
}

/// Verifiers compare names as bytes: one that is written in another way would break every chain.
fn can_issue(certificate: &Certificate, key: &KeyPair) -> Result<(), CandidateError> {
    if certificate.subject().is_empty() {
        return Err(CandidateError::Subject("it is empty".into()));
    }
    Anchors::builder().org([certificate.clone()]).build().map_err(CandidateError::Untrustable)?;
    match Issuer::new(certificate.clone(), key) {
        Ok(_) => Ok(()),
        Err(IssuerError::Name(error)) => Err(CandidateError::Subject(error.to_string())),
        Err(IssuerError::NotCa(_)) => Err(CandidateError::NotACa),
        Err(IssuerError::MayNotSign(_)) => Err(CandidateError::NoCertSign),
        Err(IssuerError::KeyMismatch(_)) => Err(CandidateError::KeyMismatch),
    }
}
