//! PEM (RFC 7468): bounded, tolerant of text and sections it does not know, strict about the ones it does.

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls_pki_types::{
    CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, SubjectPublicKeyInfoDer,
    pem::{Error, PemObject},
};
use zeroize::Zeroize;

use crate::{Certificate, CertificateError};

/// Longest PEM text that is read, in bytes.
pub const MAX_TEXT: usize = 64 * 1024;

/// Most certificates that one text may hold.
pub const MAX_CERTIFICATES: usize = 16;

/// Why a text is not the PEM that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// Longer than [`MAX_TEXT`].
    #[error("PEM text is longer than {MAX_TEXT} bytes: send only what was asked for")]
    TooLong,
    /// No section of the wanted kind.
    #[error("no {0} found in the PEM text")]
    Missing(&'static str),
    /// A section without end, or with something else than base64 in it.
    #[error("PEM text is damaged: check that it was copied whole, with its BEGIN and END lines")]
    Damaged,
    /// More than [`MAX_CERTIFICATES`].
    #[error("PEM text holds more than {MAX_CERTIFICATES} certificates")]
    TooMany,
    /// A section that decodes, and does not hold a certificate. Positions count from 1.
    #[error("certificate {position} of the PEM text: {source}")]
    Certificate {
        /// Which certificate of the text.
        position: usize,
        /// What is wrong with it.
        source: CertificateError,
    },
}

/// What is wanted for a private key.
const UNENCRYPTED: &str = "unencrypted PRIVATE KEY";

/// Reads every `CERTIFICATE` section, at least one, in order.
///
/// # Errors
/// [`PemError`]; a single bad certificate spoils the text.
pub fn certificates(pem: &str) -> Result<Vec<Certificate>, PemError> {
    let mut found = Vec::new();
    for der in sections::<CertificateDer<'_>>(pem)? {
        if found.len() == MAX_CERTIFICATES {
            return Err(PemError::TooMany);
        }
        found.push(certificate(&der?, found.len() + 1)?);
    }
    if found.is_empty() { Err(PemError::Missing("CERTIFICATE")) } else { Ok(found) }
}

/// Reads the first `CERTIFICATE` section and nothing behind it (a chain's leaf; contract `pki.md` §1).
///
/// # Errors
/// [`PemError`].
pub fn first_certificate(pem: &str) -> Result<Certificate, PemError> {
    certificate(&first::<CertificateDer<'_>>(pem, "CERTIFICATE")?, 1)
}

/// Reads the first private key: PKCS#8 `PRIVATE KEY`, SEC1 `EC PRIVATE KEY` or PKCS#1 `RSA PRIVATE KEY`, unencrypted.
///
/// # Errors
/// [`PemError`].
pub fn private_key(pem: &str) -> Result<PrivateKeyDer<'static>, PemError> {
    not_encrypted(pem)?;
    first(pem, UNENCRYPTED)
}

/// OpenSSL's old form of an encrypted key has headers where others have base64 (RFC 1421 §4.6.1.1).
fn not_encrypted(pem: &str) -> Result<(), PemError> {
    if pem.contains("\nProc-Type: 4,ENCRYPTED") { Err(PemError::Missing(UNENCRYPTED)) } else { Ok(()) }
}

/// How many private keys a text holds, of any form that [`private_key`] reads.
///
/// # Errors
/// [`PemError`].
pub fn private_keys(pem: &str) -> Result<usize, PemError> {
    not_encrypted(pem)?;
    let mut count = 0;
    for key in sections::<PrivateKeyDer<'_>>(pem)? {
        key?.zeroize();
        count += 1;
    }
    Ok(count)
}

/// Reads the first `PUBLIC KEY` section: the DER of its SubjectPublicKeyInfo.
///
/// # Errors
/// [`PemError`].
pub fn public_key(pem: &str) -> Result<Vec<u8>, PemError> {
    first::<SubjectPublicKeyInfoDer<'_>>(pem, "PUBLIC KEY").map(|der| der.to_vec())
}

/// Reads the first `CERTIFICATE REQUEST` section: the DER of its PKCS#10 request.
///
/// # Errors
/// [`PemError`].
pub fn certificate_request(pem: &str) -> Result<Vec<u8>, PemError> {
    first::<CertificateSigningRequestDer<'_>>(pem, "CERTIFICATE REQUEST").map(|der| der.to_vec())
}

/// Writes one section: 64 columns, LF line ends, LF at the end. Kids are hashes over this very text.
#[must_use]
pub fn encode(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut pem = String::with_capacity(body.len() + body.len() / 64 + 2 * label.len() + 36);
    pem.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, behind) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = behind;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

fn certificate(der: &[u8], position: usize) -> Result<Certificate, PemError> {
    Certificate::from_der(der.to_vec()).map_err(|source| PemError::Certificate { position, source })
}

fn first<T: PemObject>(pem: &str, what: &'static str) -> Result<T, PemError> {
    sections(pem)?.next().unwrap_or(Err(PemError::Missing(what)))
}

fn sections<T: PemObject>(pem: &str) -> Result<impl Iterator<Item = Result<T, PemError>>, PemError> {
    if pem.len() > MAX_TEXT {
        return Err(PemError::TooLong);
    }
    Ok(T::pem_slice_iter(pem.as_bytes()).map(|section| {
        section.map_err(|error| match error {
            Error::NoItemsFound => PemError::Missing("PEM section"),
            _ => PemError::Damaged,
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Pki, vectors};

    #[test]
    fn lines_are_64_columns_and_end_with_a_line_feed() {
        assert_eq!(encode("X", &[0; 3]), "-----BEGIN X-----\nAAAA\n-----END X-----\n");
        let exactly_one_line = encode("X", &[0; 48]);
        assert_eq!(exactly_one_line.lines().map(str::len).collect::<Vec<_>>(), [17, 64, 15]);
        assert_eq!(encode("X", &[0; 49]).lines().count(), 4);
    }

    #[test]
    fn texts_of_the_reference_are_written_as_they_were_read() {
        let text = vectors()["reference"]["enrolled_chain"].as_str().unwrap().to_owned();
        let chain = certificates(&text).unwrap();
        assert_eq!(chain.len(), 2);
        assert_eq!(chain.iter().map(Certificate::pem).collect::<String>(), text);
    }

    #[test]
    fn comments_foreign_sections_and_windows_line_ends_are_tolerated() {
        let pki = Pki::new();
        let text = format!("issued for test\n{}{}", encode("X509 CRL", b"x"), pki.root.certificate().pem());
        assert_eq!(certificates(&text.replace('\n', "\r\n")).unwrap(), [pki.root.certificate().clone()]);
    }

    #[test]
    fn what_is_damaged_or_too_much_is_refused() {
        let pem = Pki::new().root.certificate().pem();
        assert_eq!(certificates(""), Err(PemError::Missing("CERTIFICATE")));
        assert_eq!(certificates(&pem.replace("-----END", "")), Err(PemError::Damaged));
        assert_eq!(certificates(&pem.replace("MII", "M!I")), Err(PemError::Damaged));
        assert_eq!(certificates(&pem.repeat(MAX_CERTIFICATES)).unwrap().len(), MAX_CERTIFICATES);
        assert_eq!(certificates(&pem.repeat(MAX_CERTIFICATES + 1)), Err(PemError::TooMany));
        assert_eq!(certificates(&" ".repeat(MAX_TEXT + 1)), Err(PemError::TooLong));
        let second_is_bad = format!("{pem}{}", encode("CERTIFICATE", b"no certificate"));
        assert!(matches!(certificates(&second_is_bad), Err(PemError::Certificate { position: 2, .. })));
        assert!(first_certificate(&second_is_bad).is_ok());
    }

    #[test]
    fn encrypted_keys_are_told_from_damaged_ones() {
        let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n\
            -----END RSA PRIVATE KEY-----\n";
        for encrypted in [old, &encode("ENCRYPTED PRIVATE KEY", b"x")] {
            assert_eq!(private_key(encrypted).unwrap_err(), PemError::Missing(UNENCRYPTED));
        }
        assert_eq!(private_keys(old), Err(PemError::Missing(UNENCRYPTED)));
    }
}
