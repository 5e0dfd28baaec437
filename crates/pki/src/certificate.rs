//! A certificate, read once: its bytes and the facts that the rest of Mastio asks for.

mod facts;

use std::{fmt, net::IpAddr, sync::Arc};

use mastio_core::{Principal, SpiffeId, Stamp, Thumbprint, sha256};
use rustls_pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use self::facts::Facts;
pub(crate) use self::facts::strip_zeros;
use crate::{KeyKind, PemError, PublicKey, PublicKeyError, StrictFault, pem, public_key, strict};

/// Longest certificate that is read, in bytes of DER.
const MAX_DER: usize = 32 * 1024;

/// Why bytes are not a certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Longer than 32 KiB.
    #[error("certificate is longer than {MAX_DER} bytes")]
    TooLong,
    /// Not an X.509 certificate in DER, or something behind it.
    #[error("not an X.509 certificate in DER")]
    Malformed,
    /// An extension that matters is unreadable, or there twice.
    #[error("certificate has an unreadable or repeated extension ({0})")]
    Extension(String),
}

/// An X.509 certificate. Cheap to clone; equal when the bytes are.
#[derive(Clone)]
pub struct Certificate(Arc<Read>);

struct Read {
    der: Vec<u8>,
    thumbprint: Thumbprint,
    facts: Facts,
}

impl Certificate {
    /// Reads one certificate in DER.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn from_der(der: Vec<u8>) -> Result<Self, CertificateError> {
        if der.len() > MAX_DER {
            return Err(CertificateError::TooLong);
        }
        let (rest, parsed) = X509Certificate::from_der(&der).map_err(|_| CertificateError::Malformed)?;
        if !rest.is_empty() {
            return Err(CertificateError::Malformed);
        }
        // Pins are hashes, so there must be one encoding only. Our parser overlooks the class of a tag, webpki does not.
        webpki::anchor_from_trusted_cert(&CertificateDer::from(der.as_slice()))
            .map_err(|_| CertificateError::Malformed)?;
        let facts = Facts::read(&parsed.tbs_certificate)?;
        Ok(Self(Arc::new(Read { thumbprint: Thumbprint::of(&der), der, facts })))
    }

    /// Reads the first certificate of a PEM text; a chain behind it is not looked at (contract `pki.md` §1).
    ///
    /// # Errors
    /// [`PemError`].
    pub fn from_pem(text: &str) -> Result<Self, PemError> {
        pem::first_certificate(text)
    }

    /// The whole certificate in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// The whole certificate as one PEM section.
    #[must_use]
    pub fn pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.0.der)
    }

    /// SHA-256 of the DER: what agents are pinned by.
    #[must_use]
    pub fn thumbprint(&self) -> Thumbprint {
        self.0.thumbprint
    }

    /// The SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.0.facts.spki
    }

    /// SHA-256 of the SubjectPublicKeyInfo in DER: what revocation and first-use pins name a key by.
    #[must_use]
    pub fn spki_sha256(&self) -> [u8; 32] {
        sha256(&self.0.facts.spki)
    }

    /// The SubjectPublicKeyInfo as PEM.
    #[must_use]
    pub fn spki_pem(&self) -> String {
        pem::encode("PUBLIC KEY", &self.0.facts.spki)
    }

    /// What kind of key it certifies.
    #[must_use]
    pub fn key_kind(&self) -> KeyKind {
        self.0.facts.key_kind
    }

    /// The key, if it is one we accept.
    ///
    /// # Errors
    /// [`PublicKeyError`].
    pub fn public_key(&self) -> Result<PublicKey, PublicKeyError> {
        PublicKey::from_spki_der(self.spki_der())
    }

    /// Whether the key is one we accept.
    #[must_use]
    pub fn key_strength_ok(&self) -> bool {
        self.public_key().is_ok()
    }

    /// The serial number, big-endian, without leading zeros.
    #[must_use]
    pub fn serial(&self) -> &[u8] {
        &self.0.facts.serial
    }

    /// The serial number in lower-case hex, two digits per byte, as OpenSSL prints it but for the case.
    #[must_use]
    pub fn serial_hex(&self) -> String {
        hex::encode(&self.0.facts.serial)
    }

    /// The subject as one printable line, such as `CN=acme::alice, O=acme` (escapes of RFC 4514, order of the
    /// certificate). Empty when the subject is.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.0.facts.subject
    }

    /// The subject's Name in DER.
    #[must_use]
    pub fn subject_raw(&self) -> &[u8] {
        &self.0.facts.subject_raw
    }

    /// The issuer's Name in DER.
    #[must_use]
    pub fn issuer_raw(&self) -> &[u8] {
        &self.0.facts.issuer_raw
    }

    /// The common name, if the subject has exactly one.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        self.0.facts.common_name.as_deref()
    }

    /// The organisation, if the subject has exactly one.
    #[must_use]
    pub fn organization(&self) -> Option<&str> {
        self.0.facts.organization.as_deref()
    }

    /// The first second in which it is valid.
    #[must_use]
    pub fn not_before(&self) -> Stamp {
        self.0.facts.not_before
    }

    /// The last second in which it is valid.
    #[must_use]
    pub fn not_after(&self) -> Stamp {
        self.0.facts.not_after
    }

    /// Whether BasicConstraints say that it is a CA.
    #[must_use]
    pub fn is_ca(&self) -> bool {
        self.0.facts.extensions.is_ca
    }

    /// How many CAs may stand between this one and a leaf; `None` is without limit (RFC 5280 §4.2.1.9).
    #[must_use]
    pub fn path_len(&self) -> Option<u32> {
        self.0.facts.extensions.path_len
    }

    /// Whether KeyUsage is absent or allows to sign certificates.
    #[must_use]
    pub fn may_sign_certificates(&self) -> bool {
        self.0.facts.extensions.key_usage.as_ref().is_none_or(|usage| usage.certificate_sign)
    }

    /// Whether KeyUsage is absent or allows to sign revocation lists.
    #[must_use]
    pub fn may_sign_crls(&self) -> bool {
        self.0.facts.extensions.key_usage.as_ref().is_none_or(|usage| usage.crl_sign)
    }

    /// Whether ExtendedKeyUsage is absent or names clientAuth.
    #[must_use]
    pub fn may_authenticate_client(&self) -> bool {
        self.0.facts.extensions.extended_usage.as_ref().is_none_or(|usage| usage.client)
    }

    /// Whether ExtendedKeyUsage is absent or names serverAuth.
    #[must_use]
    pub fn may_authenticate_server(&self) -> bool {
        self.0.facts.extensions.extended_usage.as_ref().is_none_or(|usage| usage.server)
    }

    /// Whether it is for time stamping and nothing else: its ExtendedKeyUsage is critical and names that purpose alone
    /// (RFC 3161 §2.3), and KeyUsage is absent or allows to sign data.
    #[must_use]
    pub fn may_only_time_stamp(&self) -> bool {
        let extensions = &self.0.facts.extensions;
        extensions.extended_usage.as_ref().is_some_and(|usage| usage.only_time_stamping)
            && extensions.key_usage.as_ref().is_none_or(|usage| usage.data_sign)
    }

    /// The URI names, in order.
    #[must_use]
    pub fn uri_sans(&self) -> &[String] {
        &self.0.facts.extensions.uris
    }

    /// The DNS names, in order.
    #[must_use]
    pub fn dns_sans(&self) -> &[String] {
        &self.0.facts.extensions.dns_names
    }

    /// The IP addresses, in order.
    #[must_use]
    pub fn ip_sans(&self) -> &[IpAddr] {
        &self.0.facts.extensions.addresses
    }

    /// The subject key identifier.
    #[must_use]
    pub fn key_id(&self) -> Option<&[u8]> {
        self.0.facts.extensions.key_id.as_deref()
    }

    /// The key identifier of the issuer.
    #[must_use]
    pub fn authority_key_id(&self) -> Option<&[u8]> {
        self.0.facts.extensions.authority_key_id.as_deref()
    }

    /// What clients with strict rules refuse about it, whatever its signature says.
    #[must_use]
    pub fn strict_faults(&self) -> Vec<StrictFault> {
        let facts = &self.0.facts;
        let mut faults = strict::faults(&facts.extensions, facts.subject.is_empty(), self.is_self_issued());
        if !self.may_be_its_own_issuer() && self.is_signed_by(self) {
            faults.push(StrictFault::OtherAuthority);
        }
        faults
    }

    /// Whether nothing that AuthorityKeyIdentifier says of the issuer is said otherwise here.
    fn may_be_its_own_issuer(&self) -> bool {
        let (facts, of) = (&self.0.facts, &self.0.facts.extensions);
        let is = |said: &Option<Vec<u8>>, own: &[u8]| said.as_ref().is_none_or(|said| said == own);
        self.key_id().is_none_or(|own| is(&of.authority_key_id, own))
            && is(&of.authority_issuer, &facts.issuer_raw)
            && is(&of.authority_serial, &facts.serial)
    }

    /// Why clients might refuse what this CA certifies although [`Anchors::validate`](crate::Anchors::validate) does not:
    /// RFC 5280 §4.2 lets them refuse critical extensions that they do not know, many hold the purposes of a root against
    /// what is below it, and not all evaluate constraints on every kind of name.
    #[must_use]
    pub fn restriction(&self) -> Option<&'static str> {
        self.0.facts.extensions.restriction()
    }

    /// Whether NameConstraints speak of URIs, which the path verifier cannot evaluate.
    #[must_use]
    pub fn has_uri_name_constraints(&self) -> bool {
        self.0.facts.extensions.uri_constraints
    }

    /// The first URI name that is the SPIFFE id of a principal; else the URI name, if it is the only one and a SPIFFE
    /// id.
    #[must_use]
    pub fn spiffe_id(&self) -> Option<&SpiffeId> {
        self.0.facts.spiffe_id.as_ref()
    }

    /// For whom it speaks: the first URI name that is the SPIFFE id of a principal, else the common name split at its
    /// first `::` (contract `enrollment.md` §1). The organisation need not be ours.
    #[must_use]
    pub fn principal(&self) -> Option<&Principal> {
        self.0.facts.principal.as_ref()
    }

    /// Whether subject and issuer have the same name. Such CAs do not count towards a path length (RFC 5280 §4.2.1.9).
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.0.facts.subject_raw == self.0.facts.issuer_raw
    }

    /// Whether `issuer` has the name that this certificate gives for its issuer, and its key made the signature. Says
    /// nothing about dates or whether `issuer` may sign: that is [`crate::Anchors::validate`].
    #[must_use]
    pub fn is_signed_by(&self, issuer: &Self) -> bool {
        let Ok((_, parsed)) = X509Certificate::from_der(&self.0.der) else {
            return false;
        };
        self.0.facts.issuer_raw == issuer.0.facts.subject_raw
            && public_key::verifies(
                issuer.spki_der(),
                &parsed.signature_algorithm,
                parsed.tbs_certificate.as_ref(),
                &parsed.signature_value.data,
            )
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.0.der == other.0.der
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({}, {})", self.0.facts.subject, self.0.thumbprint)
    }
}

#[cfg(test)]
mod tests;
