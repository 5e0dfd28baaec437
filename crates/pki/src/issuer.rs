//! A CA that signs: its certificate, its key, and the one place where a certificate of ours is put together.

use std::{fmt, time::Duration};

use mastio_core::{Rng, Stamp};
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod,
    KeyUsagePurpose, SanType, SerialNumber, SigningKey, SubjectPublicKeyInfo,
};

use crate::{Certificate, NameError, PublicKey, PublicKeyError, name, public_key::key_identifier};

/// How far certificates are dated back, for clocks that are behind ours.
const BACKDATING: Duration = Duration::from_secs(5 * 60);

/// Why a certificate and a key do not make a CA.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssuerError {
    /// BasicConstraints do not say CA.
    #[error("{0} is not a CA certificate")]
    NotCa(String),
    /// KeyUsage without keyCertSign.
    #[error("{0} may not sign certificates: its key usage lacks keyCertSign")]
    MayNotSign(String),
    /// Certificate and key are not of one pair.
    #[error("the private key does not belong to the certificate {0}")]
    KeyMismatch(String),
    /// A subject that cannot be repeated as the issuer of what it signs.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// Why no certificate was issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The issuer is past its end.
    #[error("the issuing CA expired at {0}: rotate it first")]
    IssuerExpired(Stamp),
    /// The issuer's path length, or its name, does not allow a CA below it.
    #[error("the issuing CA allows no CA below it (path length 0): rotate it to one with path length 1")]
    PathLength,
    /// A CA with the name of its issuer could not be told from it.
    #[error("the subject must be neither empty nor the issuing CA's own name")]
    SubjectTaken,
    /// The subject's key.
    #[error(transparent)]
    Key(#[from] PublicKeyError),
    /// A subject that cannot be written as asked.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The writer or the key that should sign failed.
    #[error("signing failed: {0}")]
    Signing(#[from] rcgen::Error),
    /// What was written cannot be read back; nothing was handed out.
    #[error("the certificate written does not read back as intended")]
    ReadBack,
}

/// A CA certificate with a key that signs for it: a [`crate::KeyPair`], or anything else that can sign.
pub struct Issuer<K> {
    certificate: Certificate,
    key: K,
    name: DistinguishedName,
}

impl<K: SigningKey> Issuer<K> {
    /// Joins the two, after checking that they can issue.
    ///
    /// # Errors
    /// [`IssuerError`].
    pub fn new(certificate: Certificate, key: K) -> Result<Self, IssuerError> {
        let subject = || certificate.subject().to_owned();
        if !certificate.is_ca() {
            return Err(IssuerError::NotCa(subject()));
        }
        if !certificate.may_sign_certificates() {
            return Err(IssuerError::MayNotSign(subject()));
        }
        if key.subject_public_key_info() != certificate.spki_der() {
            return Err(IssuerError::KeyMismatch(subject()));
        }
        let name = name::from_der(certificate.subject_raw())?;
        Ok(Self { certificate, key, name })
    }

    /// The CA's certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The key that signs for it.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// The identifier of the CA's key: the one its certificate states, because verifiers compare the two.
    pub(crate) fn key_id(&self) -> Vec<u8> {
        self.certificate.key_id().map_or_else(|| key_identifier(self.certificate.spki_der()), <[u8]>::to_vec)
    }

    /// The CA as the writer wants it.
    pub(crate) fn for_writing(&self) -> rcgen::Issuer<'static, &K> {
        let mut params = CertificateParams::default();
        params.distinguished_name = self.name.clone();
        params.key_identifier_method = KeyIdMethod::PreSpecified(self.key_id());
        rcgen::Issuer::new(params, &self.key)
    }

    /// Signs `draft` for the key in `spki`. It never outlives the CA.
    pub(crate) fn sign(
        &self,
        draft: Draft,
        spki: &[u8],
        now: Stamp,
        rng: &dyn Rng,
    ) -> Result<Certificate, IssueError> {
        let end = self.certificate.not_after();
        if end <= now {
            return Err(IssueError::IssuerExpired(end));
        }
        let subject = PublicKey::from_spki_der(spki)?;
        let not_after = draft.not_after.min(end);
        let params = draft.params(&subject, not_after, now, rng);
        let subject_key = SubjectPublicKeyInfo::from_der(subject.spki_der())?;
        let written = params.signed_by(&subject_key, &self.for_writing())?;
        let certificate = read_back(&written)?;
        // A CA whose name was not repeated byte for byte would have no chain.
        let faithful =
            certificate.issuer_raw() == self.certificate.subject_raw() && certificate.spki_der() == spki;
        if faithful { Ok(certificate) } else { Err(IssueError::ReadBack) }
    }
}

impl<K> fmt::Debug for Issuer<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// What a profile decides about a certificate; the rest is the same for all.
pub(crate) struct Draft {
    pub(crate) subject: DistinguishedName,
    pub(crate) names: Vec<SanType>,
    pub(crate) is_ca: IsCa,
    pub(crate) usages: Vec<KeyUsagePurpose>,
    pub(crate) purposes: Vec<ExtendedKeyUsagePurpose>,
    pub(crate) not_after: Stamp,
    pub(crate) repeats: Repeats,
}

/// What a draft takes over from a certificate that it repeats; by default nothing.
#[derive(Default)]
pub(crate) struct Repeats {
    /// Since when it is valid.
    pub(crate) not_before: Option<Stamp>,
    /// The identifier of the subject's key, which certificates below it name.
    pub(crate) key_id: Option<Vec<u8>>,
    /// The subject alternative names, byte for byte.
    pub(crate) names: Option<CustomExtension>,
}

impl Draft {
    /// Signs the draft with the key that it is for: a root.
    pub(crate) fn self_signed<K: SigningKey>(
        self,
        key: &K,
        now: Stamp,
        rng: &dyn Rng,
    ) -> Result<Certificate, IssueError> {
        let subject = PublicKey::from_spki_der(&key.subject_public_key_info())?;
        let not_after = self.not_after;
        read_back(&self.params(&subject, not_after, now, rng).self_signed(key)?)
    }

    fn params(self, subject: &PublicKey, not_after: Stamp, now: Stamp, rng: &dyn Rng) -> CertificateParams {
        let mut params = CertificateParams::default();
        let not_before = self.repeats.not_before.unwrap_or_else(|| now.minus(BACKDATING));
        let key_id = self.repeats.key_id.unwrap_or_else(|| key_identifier(subject.spki_der()));
        params.not_before = not_before.to_date_time();
        params.not_after = not_after.to_date_time();
        params.serial_number = Some(serial(rng));
        params.distinguished_name = self.subject;
        params.subject_alt_names = self.names;
        params.is_ca = self.is_ca;
        params.key_usages = self.usages;
        params.extended_key_usages = self.purposes;
        params.use_authority_key_identifier_extension = true;
        params.key_identifier_method = KeyIdMethod::PreSpecified(key_id);
        params.custom_extensions = self.repeats.names.into_iter().collect();
        params
    }
}

/// 128 random bits with the top one cleared, so that DER needs no 17th octet (contract `pki.md` §2).
fn serial(rng: &dyn Rng) -> SerialNumber {
    let mut octets = [0; 16];
    rng.fill(&mut octets);
    octets[0] &= 0x7f;
    SerialNumber::from_slice(&octets)
}

fn read_back(written: &rcgen::Certificate) -> Result<Certificate, IssueError> {
    Certificate::from_der(written.der().to_vec()).map_err(|_| IssueError::ReadBack)
}
