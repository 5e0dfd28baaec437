//! Compact JWS (RFC 7515 §7.1): split and decoded once, with bounds.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Algorithm, SignatureError, SigningError, SigningKey, VerifyingKey, base64url, member::Member};

/// Longest text that is looked at, in bytes. An assertion with six certificates fits.
pub const MAX_COMPACT: usize = 16 * 1024;

/// Why a text is not a compact JWS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    /// Longer than [`MAX_COMPACT`].
    #[error("longer than {MAX_COMPACT} bytes")]
    TooLong,
    /// Not three parts of unpadded base64url.
    #[error("not three base64url parts separated by dots")]
    Parts,
    /// A part is not a JSON object, or holds a member twice.
    #[error("header or claims are not a JSON object")]
    Json,
    /// The header makes an extension mandatory; we know none (RFC 7515 §4.1.11).
    #[error("header lists critical extensions that are not supported")]
    Critical,
}

/// A compact JWS, decoded but not verified.
#[derive(Debug)]
pub struct Compact<'a> {
    signed: &'a str,
    header: Vec<u8>,
    claims: Vec<u8>,
    signature: Vec<u8>,
}

/// The header members that we use. Types are checked where a member is used.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Header<'a> {
    #[serde(borrow)]
    alg: Member<'a>,
    #[serde(borrow)]
    typ: Member<'a>,
    #[serde(borrow)]
    kid: Member<'a>,
    #[serde(borrow)]
    crit: Member<'a>,
    #[serde(borrow)]
    pub(crate) jwk: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) x5c: Option<&'a RawValue>,
}

impl Header<'_> {
    /// `alg`, if it is a text.
    #[must_use]
    pub fn alg(&self) -> Option<&str> {
        self.alg.text()
    }

    /// `typ`, if it is a text.
    #[must_use]
    pub fn typ(&self) -> Option<&str> {
        self.typ.text()
    }

    /// `kid`, if it is a text.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.text()
    }
}

impl<'a> Compact<'a> {
    /// Splits and decodes.
    ///
    /// # Errors
    /// [`JwsError::TooLong`] or [`JwsError::Parts`].
    pub fn split(text: &'a str) -> Result<Self, JwsError> {
        if text.len() > MAX_COMPACT {
            return Err(JwsError::TooLong);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(JwsError::Parts)?;
        let (header, claims) = signed.split_once('.').ok_or(JwsError::Parts)?;
        // A fourth part would leave a dot in the claims, which base64url refuses.
        let part = |text| base64url::decode(text).ok_or(JwsError::Parts);
        Ok(Self { signed, header: part(header)?, claims: part(claims)?, signature: part(signature)? })
    }

    /// Reads the header.
    ///
    /// # Errors
    /// [`JwsError::Json`] or [`JwsError::Critical`].
    pub fn header(&self) -> Result<Header<'_>, JwsError> {
        let header: Header<'_> = object(&self.header)?;
        if header.crit.is_absent() { Ok(header) } else { Err(JwsError::Critical) }
    }

    /// Reads the claims. Do so after [`Self::verify`].
    ///
    /// # Errors
    /// [`JwsError::Json`].
    pub fn claims<'s, C: Deserialize<'s>>(&'s self) -> Result<C, JwsError> {
        object(&self.claims)
    }

    /// Checks the signature over header and claims.
    ///
    /// # Errors
    /// As [`VerifyingKey::verify`].
    pub fn verify(&self, key: &VerifyingKey, alg: Algorithm) -> Result<(), SignatureError> {
        key.verify(alg, self.signed.as_bytes(), &self.signature)
    }
}

/// The `kid` of a compact JWS; nothing else of it is looked at.
pub(crate) fn peek_kid(text: &str) -> Option<String> {
    let (header, _) = text.split_once('.').filter(|_| text.len() <= MAX_COMPACT)?;
    let header = base64url::decode(header)?;
    object::<Header<'_>>(&header).ok()?.kid().map(str::to_owned)
}

/// A JSON object. Derived readers would also take an array of the members' values.
fn object<'s, T: Deserialize<'s>>(json: &'s [u8]) -> Result<T, JwsError> {
    if !json.trim_ascii_start().starts_with(b"{") {
        return Err(JwsError::Json);
    }
    serde_json::from_slice(json).map_err(|_| JwsError::Json)
}

/// Signs `claims` under `header` with ES256 and writes the compact form. The header must say `ES256`.
///
/// # Errors
/// When they do not serialise, or the library fails.
pub fn sign(
    key: &SigningKey,
    header: &impl Serialize,
    claims: &impl Serialize,
) -> Result<String, SigningError> {
    let part = |json: Vec<u8>| base64url::encode(&json);
    let signed = format!("{}.{}", part(serde_json::to_vec(header)?), part(serde_json::to_vec(claims)?));
    let signature = base64url::encode(&key.sign_jose(signed.as_bytes())?);
    Ok(format!("{signed}.{signature}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::test_keys;

    fn compact(header: &str, claims: &str) -> String {
        format!("{}.{}.AA", base64url::encode(header.as_bytes()), base64url::encode(claims.as_bytes()))
    }

    #[test]
    fn what_is_signed_verifies_and_nothing_else() {
        let key = test_keys::k1();
        let text = sign(&key, &json!({ "alg": "ES256", "kid": "k" }), &json!({ "a": 1 })).unwrap();
        let jws = Compact::split(&text).unwrap();
        assert_eq!(jws.verify(&key.verifying_key(), Algorithm::Es256), Ok(()));
        assert_eq!(jws.header().unwrap().kid(), Some("k"));
        assert_eq!(jws.claims::<serde_json::Value>().unwrap(), json!({ "a": 1 }));
        assert_eq!(peek_kid(&text).as_deref(), Some("k"));

        let other = text.replacen("ey", "ez", 1);
        assert!(Compact::split(&other).unwrap().verify(&key.verifying_key(), Algorithm::Es256).is_err());
    }

    #[test]
    fn the_shape_is_strict() {
        assert_eq!(Compact::split(&"a".repeat(MAX_COMPACT + 1)).unwrap_err(), JwsError::TooLong);
        for text in ["", "..", "AA.AA", "AA.AA.AA.AA", "AA.A.AA", "AA==.AA.AA", "AA .AA.AA", "AB.AA.AA"] {
            let verdict = Compact::split(text).and_then(|jws| jws.header().map(|_| ()));
            assert!(verdict.is_err(), "{text}");
        }
        for header in ["[]", r#"["ES256"]"#, "{", "5", "null", r#"{"alg":"a","alg":"b"}"#, "{}x"] {
            let text = compact(header, "{}");
            assert_eq!(Compact::split(&text).unwrap().header().unwrap_err(), JwsError::Json, "{header}");
        }
        let critical = compact(r#"{"alg":"ES256","crit":["b64"]}"#, "{}");
        assert_eq!(Compact::split(&critical).unwrap().header().unwrap_err(), JwsError::Critical);
    }
}
