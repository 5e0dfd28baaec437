//! Whether the signer leads to an authority that is trusted.

use std::time::Duration;

use mastio_core::Stamp;
use mastio_pki::{Certificate, CertificateError};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime, pem::PemObject};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use crate::TimestampError;

/// id-kp-timeStamping, as the content of its OBJECT IDENTIFIER.
const TIME_STAMPING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08];

/// Longest file of anchors, in bytes: a system's bundle of public roots fits.
const MAX_TEXT: usize = 1024 * 1024;

/// Why a file cannot say whom to trust.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnchorsError {
    /// Longer than 1 MiB.
    #[error("longer than {MAX_TEXT} bytes: keep only the roots of time stamping authorities")]
    TooLong,
    /// Not PEM.
    #[error("the PEM text is damaged: check that it was copied whole, with its BEGIN and END lines")]
    Damaged,
    /// No certificate in it.
    #[error("no CERTIFICATE found in the PEM text")]
    Empty,
    /// A section that is no certificate. Positions count from 1.
    #[error("certificate {position}: {source}")]
    Certificate {
        /// Which one.
        position: usize,
        /// What is wrong with it.
        source: CertificateError,
    },
    /// A certificate that may not sign others.
    #[error("{0} is not a CA: take the root of the time stamping authority, not its own certificate")]
    NotCa(String),
}

/// The roots of time stamping authorities that are trusted.
#[derive(Debug, Clone, Default)]
pub struct Anchors {
    certificates: Vec<Certificate>,
    /// The same, as the path verifier wants them, index for index.
    trusted: Vec<TrustAnchor<'static>>,
}

impl Anchors {
    /// These CAs. Dates are looked at when a time stamp is verified: its time counts, not today's.
    ///
    /// # Errors
    /// [`AnchorsError::NotCa`].
    pub fn new(certificates: Vec<Certificate>) -> Result<Self, AnchorsError> {
        let trusted = |certificate: &Certificate| {
            let not_ca = || AnchorsError::NotCa(certificate.subject().to_owned());
            if !certificate.is_ca() || !certificate.may_sign_certificates() {
                return Err(not_ca());
            }
            let der = CertificateDer::from(certificate.der());
            webpki::anchor_from_trusted_cert(&der).map(|anchor| anchor.to_owned()).map_err(|_| not_ca())
        };
        let trusted = certificates.iter().map(trusted).collect::<Result<_, _>>()?;
        Ok(Self { certificates, trusted })
    }

    /// Reads a PEM text with at least one CA.
    ///
    /// # Errors
    /// [`AnchorsError`]; a single bad certificate spoils the text.
    pub fn from_pem(text: &str) -> Result<Self, AnchorsError> {
        if text.len() > MAX_TEXT {
            return Err(AnchorsError::TooLong);
        }
        let sections = CertificateDer::pem_slice_iter(text.as_bytes());
        let read = |(index, section): (usize, Result<CertificateDer<'_>, _>)| {
            let der = section.map_err(|_| AnchorsError::Damaged)?;
            Certificate::from_der(der.to_vec())
                .map_err(|source| AnchorsError::Certificate { position: index + 1, source })
        };
        let certificates = sections.enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
        if certificates.is_empty() {
            return Err(AnchorsError::Empty);
        }
        Self::new(certificates)
    }

    /// The path from `signer` by way of `presented` to an anchor, both ends included, as it was at `time`.
    pub(crate) fn path(
        &self,
        signer: &Certificate,
        presented: &[&Certificate],
        time: Stamp,
    ) -> Result<Vec<Certificate>, TimestampError> {
        let der = CertificateDer::from(signer.der());
        let leaf = EndEntityCert::try_from(&der).map_err(|error| refusal(signer, &error))?;
        let above: Vec<_> =
            presented.iter().filter(|ca| **ca != signer).map(|ca| CertificateDer::from(ca.der())).collect();
        let check = |path: &VerifiedPath<'_>| {
            let candidate = self.candidate(path, signer, presented);
            if candidate.is_some_and(|path| holds(&path, time)) {
                Ok(())
            } else {
                Err(webpki::Error::UnknownIssuer)
            }
        };
        let verified = leaf.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &self.trusted,
            &above,
            UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(time.unix()).unwrap_or(0))),
            // Of the signer it was asked exactly before; its CAs need not have the extension.
            KeyUsage::required_if_present(TIME_STAMPING),
            None,
            Some(&check),
        );
        let path = verified.map_err(|error| refusal(signer, &error))?;
        self.candidate(&path, signer, presented)
            .map(|path| path.into_iter().cloned().collect())
            .ok_or_else(|| TimestampError::Untrusted(signer.subject().to_owned()))
    }

    /// A path whose signatures hold, in our own terms.
    fn candidate<'a>(
        &'a self,
        path: &VerifiedPath<'_>,
        signer: &'a Certificate,
        presented: &[&'a Certificate],
    ) -> Option<Vec<&'a Certificate>> {
        // By address: anchors that differ only in dates or path length look the same to the verifier.
        let index = self.trusted.iter().position(|anchor| std::ptr::eq(anchor, path.anchor()))?;
        let ours =
            |ca: &webpki::Cert<'_>| presented.iter().copied().find(|known| known.der() == ca.der().as_ref());
        let mut found = vec![signer];
        for ca in path.intermediate_certificates() {
            found.push(ours(ca)?);
        }
        found.push(self.certificates.get(index)?);
        Some(found)
    }
}

/// What the path verifier leaves out: keyCertSign on every CA, and the dates and path length of the anchor.
fn holds(path: &[&Certificate], time: Stamp) -> bool {
    let [_, intermediates @ .., anchor] = path else { return false };
    let below = intermediates.iter().filter(|ca| !ca.is_self_issued()).count();
    intermediates.iter().all(|ca| ca.is_ca() && ca.may_sign_certificates())
        && anchor.path_len().is_none_or(|limit| below <= limit as usize)
        && anchor.not_before() <= time
        // Certificates are valid through the whole last second.
        && time.unix() <= anchor.not_after().unix()
}

/// The verifier's error in our words.
fn refusal(signer: &Certificate, error: &webpki::Error) -> TimestampError {
    use webpki::Error;
    let subject = signer.subject().to_owned();
    match error {
        Error::UnknownIssuer
        | Error::InvalidSignatureForPublicKey
        | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => TimestampError::Untrusted(subject),
        Error::CertExpired { .. } => TimestampError::Expired(subject),
        Error::CertNotValidYet { .. } => TimestampError::NotYetValid(subject),
        other => TimestampError::Path { signer: subject, why: format!("{other:?}") },
    }
}
