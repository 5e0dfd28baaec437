//! Certificate revocation lists (RFC 5280 §5), one per intermediate (design decision 9).

use std::time::Duration;

use mastio_core::Stamp;
use rcgen::{
    CertificateRevocationListParams, KeyIdMethod, RevocationReason, RevokedCertParams, SerialNumber,
    SigningKey,
};

use crate::{Issuer, pem};

/// How long a list is good for.
pub const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// One revoked certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// Its serial number, big-endian: [`crate::Certificate::serial`].
    pub serial: Vec<u8>,
    /// When it was revoked.
    pub at: Stamp,
    /// Why.
    pub reason: Reason,
}

/// Why a certificate was revoked (RFC 5280 §5.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Not said.
    Unspecified,
    /// Its private key is known to somebody else.
    KeyCompromise,
    /// Another certificate took its place.
    Superseded,
    /// What it was for is over.
    CessationOfOperation,
}

/// Why no list was signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CrlError {
    /// KeyUsage without cRLSign.
    #[error("{0} may not sign revocation lists: its key usage lacks cRLSign")]
    MayNotSign(String),
    /// The writer or the key that should sign failed.
    #[error("signing the revocation list failed: {0}")]
    Signing(#[from] rcgen::Error),
}

/// Signs the list of `issuer` as an `X509 CRL` PEM section, good for [`LIFETIME`]. `number` must grow with each list
/// of one issuer.
///
/// # Errors
/// [`CrlError`].
pub fn sign<K: SigningKey>(
    issuer: &Issuer<K>,
    number: u64,
    revoked: &[Revoked],
    now: Stamp,
) -> Result<String, CrlError> {
    if !issuer.certificate().may_sign_crls() {
        return Err(CrlError::MayNotSign(issuer.certificate().subject().to_owned()));
    }
    let list = CertificateRevocationListParams {
        this_update: now.to_date_time(),
        next_update: now.plus(LIFETIME).to_date_time(),
        crl_number: SerialNumber::from(number),
        issuing_distribution_point: None,
        revoked_certs: revoked.iter().map(entry).collect(),
        key_identifier_method: KeyIdMethod::PreSpecified(issuer.key_id()),
    };
    Ok(pem::encode("X509 CRL", list.signed_by(&issuer.for_writing())?.der()))
}

fn entry(revoked: &Revoked) -> RevokedCertParams {
    RevokedCertParams {
        serial_number: SerialNumber::from_slice(&revoked.serial),
        revocation_time: revoked.at.to_date_time(),
        reason_code: match revoked.reason {
            // RFC 5280 §5.3.1: leave it out rather than say "unspecified".
            Reason::Unspecified => None,
            Reason::KeyCompromise => Some(RevocationReason::KeyCompromise),
            Reason::Superseded => Some(RevocationReason::Superseded),
            Reason::CessationOfOperation => Some(RevocationReason::CessationOfOperation),
        },
        invalidity_date: None,
    }
}
