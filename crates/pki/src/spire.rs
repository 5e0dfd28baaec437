//! SPIRE bundles: the CAs of one trust domain, as PEM or as the JSON document of the SPIFFE specification
//! (SPIFFE Trust Domain and Bundle §4).

use base64::{Engine, engine::general_purpose::STANDARD};
use mastio_core::TrustDomain;
use serde::Deserialize;

use crate::{Certificate, CertificateError, PemError, pem};

/// Why a text is not a bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Not certificates in PEM.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// Begins like JSON and is not a SPIFFE bundle.
    #[error("not a SPIFFE bundle in JSON: {0}")]
    Json(String),
    /// A key for SVIDs without its one certificate, or with one that cannot be read. Positions count from 1.
    #[error("key {position} of the bundle: {problem}")]
    Key {
        /// Which key of the document.
        position: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// No key of the document is for X.509 SVIDs.
    #[error("the bundle has no key with \"use\": \"x509-svid\"")]
    Empty,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Key>,
}

#[derive(Deserialize)]
struct Key {
    #[serde(rename = "use")]
    usage: Option<String>,
    #[serde(default)]
    x5c: Vec<String>,
}

/// Reads the certificates of a bundle, at least one: JSON when it begins with a brace, else PEM. Keys for other SVIDs
/// than X.509 are passed over. Whether each can be an anchor is for [`crate::AnchorsBuilder::build`] to say.
///
/// # Errors
/// [`BundleError`].
pub fn spire_bundle(text: &str) -> Result<Vec<Certificate>, BundleError> {
    if !text.trim_start().starts_with('{') {
        return Ok(pem::certificates(text)?);
    }
    if text.len() > pem::MAX_TEXT {
        return Err(PemError::TooLong.into());
    }
    let document: Document =
        serde_json::from_str(text).map_err(|error| BundleError::Json(error.to_string()))?;
    let keys = document.keys.iter().enumerate();
    let for_x509 = keys.filter(|(_, key)| key.usage.as_deref() == Some("x509-svid"));
    let certificates = for_x509.map(|(at, key)| key.certificate(at + 1)).collect::<Result<Vec<_>, _>>()?;
    match certificates.len() {
        0 => Err(BundleError::Empty),
        1..=pem::MAX_CERTIFICATES => Ok(certificates),
        _ => Err(PemError::TooMany.into()),
    }
}

impl Key {
    fn certificate(&self, position: usize) -> Result<Certificate, BundleError> {
        let bad = |problem: String| BundleError::Key { position, problem };
        let [only] = self.x5c.as_slice() else {
            return Err(bad("x5c must hold exactly one certificate".to_owned()));
        };
        let der = STANDARD.decode(only).map_err(|_| bad("x5c is not base64".to_owned()))?;
        Certificate::from_der(der).map_err(|error: CertificateError| bad(error.to_string()))
    }
}

/// The trust domain that a CA names in its URI name, as those that SPIRE makes do (`spiffe://<trust domain>`;
/// X.509-SVID §2). CAs of an upstream authority name none.
#[must_use]
pub fn trust_domain_of(ca: &Certificate) -> Option<TrustDomain> {
    let rest = ca.uri_sans().iter().find_map(|uri| uri.strip_prefix("spiffe://"))?;
    TrustDomain::parse(rest.split('/').next()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Pki;

    fn document(keys: &str) -> String {
        format!(r#"{{"keys":[{keys}],"spiffe_sequence":1,"spiffe_refresh_hint":300}}"#)
    }

    #[test]
    fn pem_and_json_give_the_same_certificates() {
        let pki = Pki::new();
        let (one, two) = (pki.root.certificate(), pki.intermediate.certificate());
        let key = |ca: &Certificate| {
            format!(r#"{{"use":"x509-svid","kty":"EC","x5c":["{}"]}}"#, STANDARD.encode(ca.der()))
        };
        let jwt = r#"{"use":"jwt-svid","kty":"EC","kid":"k"}"#;
        let json = document(&[&key(one), jwt, &key(two)].map(ToString::to_string).join(","));
        let both = [one.clone(), two.clone()];
        assert_eq!(spire_bundle(&json).unwrap(), both);
        assert_eq!(spire_bundle(&format!("{}{}", one.pem(), two.pem())).unwrap(), both);
    }

    #[test]
    fn what_is_no_bundle_says_why() {
        assert_eq!(spire_bundle(&document("")), Err(BundleError::Empty));
        assert!(matches!(spire_bundle("{"), Err(BundleError::Json(_))));
        let without = document(r#"{"use":"x509-svid","kty":"EC"}"#);
        assert!(matches!(spire_bundle(&without), Err(BundleError::Key { position: 1, .. })));
        let no_certificate = document(r#"{"use":"x509-svid","x5c":["AAAA"]}"#);
        assert!(matches!(spire_bundle(&no_certificate), Err(BundleError::Key { position: 1, .. })));
        assert!(matches!(spire_bundle("nonsense"), Err(BundleError::Pem(_))));
    }
}
