//! Public keys in their JSON form (RFC 7517, RFC 7518 §6).

use mastio_core::{Jkt, sha256};
use serde::Deserialize;
use serde_json::{Value, json};
use x509_parser::{
    oid_registry::{OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521},
    prelude::FromDer,
    public_key::PublicKey,
    x509::SubjectPublicKeyInfo,
};

use crate::{
    base64url,
    member::Member,
    verify::{Curve, KeyKind, VerifyingKey},
};

/// Why a public key was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwkError {
    /// `kty` is neither EC nor RSA; holds at most 32 of its characters.
    #[error("key type '{0}' is not supported: use 'EC' (P-256) or 'RSA'")]
    UnsupportedKeyType(String),
    /// The private half was sent along.
    #[error("private key material must stay with its owner: send the public members only")]
    PrivateMaterial,
    /// A member is missing or wrong.
    #[error("{0}")]
    Malformed(&'static str),
}

/// A public key that verifies: the point lies on its curve, the modulus has 2048 to 8192 bits.
#[derive(Debug, Clone)]
pub struct Jwk {
    numbers: Numbers,
    key: VerifyingKey,
}

/// Big-endian: coordinates at full length, RSA numbers without leading zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Numbers {
    Ec { curve: Curve, x: Vec<u8>, y: Vec<u8> },
    Rsa { n: Vec<u8>, e: Vec<u8> },
}

/// The members that matter; others are ignored (RFC 7517 §4), those of private and symmetric keys are refused.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Members<'a> {
    #[serde(borrow)]
    kty: Member<'a>,
    #[serde(borrow)]
    crv: Member<'a>,
    #[serde(borrow)]
    x: Member<'a>,
    #[serde(borrow)]
    y: Member<'a>,
    #[serde(borrow)]
    n: Member<'a>,
    #[serde(borrow)]
    e: Member<'a>,
    d: Present,
    p: Present,
    q: Present,
    dp: Present,
    dq: Present,
    qi: Present,
    oth: Present,
    k: Present,
}

/// Whether a member is there at all, whatever it holds.
#[derive(Default)]
struct Present(bool);

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self(true))
    }
}

impl Members<'_> {
    fn has_private(&self) -> bool {
        let private = [&self.d, &self.p, &self.q, &self.dp, &self.dq, &self.qi, &self.oth, &self.k];
        private.into_iter().any(|member| member.0)
    }
}

impl Jwk {
    /// Reads the JWK of a DPoP key: EC P-256 or RSA (contract `auth.md` §3, `enrollment.md` §4).
    ///
    /// # Errors
    /// [`JwkError`], in the order private material, key type, numbers.
    pub fn from_value(value: &Value) -> Result<Self, JwkError> {
        if !value.is_object() {
            return Err(JwkError::Malformed("expected a JSON object"));
        }
        Self::from_members(&Members::deserialize(value).map_err(|_| UNREADABLE)?)
    }

    /// Reads the text of a JWK, as [`Self::from_value`] does, without building a tree.
    ///
    /// # Errors
    /// As [`Self::from_value`].
    pub fn from_json(text: &str) -> Result<Self, JwkError> {
        if !text.trim_ascii_start().starts_with('{') {
            return Err(JwkError::Malformed("expected a JSON object"));
        }
        Self::from_members(&serde_json::from_str(text).map_err(|_| UNREADABLE)?)
    }

    fn from_members(members: &Members<'_>) -> Result<Self, JwkError> {
        if members.has_private() {
            return Err(JwkError::PrivateMaterial);
        }
        match members.kty.text() {
            Some("EC") if members.crv.text() != Some(Curve::P256.name()) => {
                Err(JwkError::Malformed("crv must be 'P-256'"))
            }
            Some("EC") => Self::from_point(Curve::P256, decode(&members.x)?, decode(&members.y)?),
            Some("RSA") => Self::from_rsa(decode(&members.n)?, decode(&members.e)?),
            other => Err(JwkError::UnsupportedKeyType(other.unwrap_or_default().chars().take(32).collect())),
        }
    }

    /// Reads a SubjectPublicKeyInfo in DER (RFC 5280 §4.1): EC P-256, P-384, P-521 or RSA. Only the one encoding that
    /// DER prescribes is taken, since thumbprints are computed over it.
    ///
    /// # Errors
    /// [`JwkError::UnsupportedKeyType`] for other algorithms and curves, else [`JwkError::Malformed`].
    pub fn from_spki_der(der: &[u8]) -> Result<Self, JwkError> {
        const NOT_DER: JwkError = JwkError::Malformed("expected a SubjectPublicKeyInfo in DER");
        let (_, spki) = SubjectPublicKeyInfo::from_der(der).map_err(|_| NOT_DER)?;
        let jwk = match spki.parsed().map_err(|_| NOT_DER)? {
            PublicKey::EC(point) => {
                let curve = named_curve(&spki)?;
                let (x, y) = match point.data() {
                    [4, numbers @ ..] if numbers.len() == 2 * curve.coordinate_len() => {
                        numbers.split_at(curve.coordinate_len())
                    }
                    _ => return Err(JwkError::Malformed("expected an uncompressed point")),
                };
                Self::from_point(curve, x.to_vec(), y.to_vec())?
            }
            PublicKey::RSA(key) => {
                Self::from_rsa(unsigned(key.modulus).to_vec(), unsigned(key.exponent).to_vec())?
            }
            _ => return Err(JwkError::UnsupportedKeyType(spki.algorithm.algorithm.to_id_string())),
        };
        if jwk.key.spki_der().is_some_and(|canonical| canonical.as_ref() == der) {
            Ok(jwk)
        } else {
            Err(NOT_DER)
        }
    }

    /// The point `x`, `y`; checks lengths and that it lies on the curve.
    pub(crate) fn from_point(curve: Curve, x: Vec<u8>, y: Vec<u8>) -> Result<Self, JwkError> {
        if [&x, &y].into_iter().any(|coordinate| coordinate.len() != curve.coordinate_len()) {
            return Err(JwkError::Malformed("x and y must have the length of the curve's field"));
        }
        let key = VerifyingKey::from_point(curve, &x, &y)
            .ok_or(JwkError::Malformed("the point does not lie on the curve"))?;
        Ok(Self { numbers: Numbers::Ec { curve, x, y }, key })
    }

    fn from_rsa(n: Vec<u8>, e: Vec<u8>) -> Result<Self, JwkError> {
        let odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
        let bits = n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
        if !(2048..=8192).contains(&bits) || n.starts_with(&[0]) || !odd(&n) {
            return Err(JwkError::Malformed(
                "n must be an RSA modulus of 2048 to 8192 bits without leading zeros",
            ));
        }
        // Above 32 bits an exponent only costs time.
        if e.len() > 4 || e.starts_with(&[0]) || !odd(&e) || e == [1] {
            return Err(JwkError::Malformed("e must be an odd number from 3 to 2^32 without leading zeros"));
        }
        let key = VerifyingKey::from_rsa(&n, &e).ok_or(JwkError::Malformed("not an RSA public key"))?;
        Ok(Self { numbers: Numbers::Rsa { n, e }, key })
    }

    /// The key, ready to verify.
    #[must_use]
    pub fn verifying_key(&self) -> VerifyingKey {
        self.key.clone()
    }

    /// What kind of key it is.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.key.kind()
    }

    /// The thumbprint over the required members in lexical order (RFC 7638 §3).
    #[must_use]
    pub fn thumbprint(&self) -> Jkt {
        let canonical = match &self.numbers {
            Numbers::Ec { curve, x, y } => format!(
                r#"{{"crv":"{}","kty":"EC","x":"{}","y":"{}"}}"#,
                curve.name(),
                base64url::encode(x),
                base64url::encode(y)
            ),
            Numbers::Rsa { n, e } => {
                format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, base64url::encode(e), base64url::encode(n))
            }
        };
        Jkt::new(sha256(canonical.as_bytes()))
    }

    /// The JSON form, with the required members only, in lexical order.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match &self.numbers {
            Numbers::Ec { curve, x, y } => {
                let (x, y) = (base64url::encode(x), base64url::encode(y));
                json!({ "crv": curve.name(), "kty": "EC", "x": x, "y": y })
            }
            Numbers::Rsa { n, e } => {
                json!({ "e": base64url::encode(e), "kty": "RSA", "n": base64url::encode(n) })
            }
        }
    }
}

impl PartialEq for Jwk {
    fn eq(&self, other: &Self) -> bool {
        self.numbers == other.numbers
    }
}

impl Eq for Jwk {}

const UNREADABLE: JwkError = JwkError::Malformed("not readable JSON, or a member is there twice");

fn decode(member: &Member<'_>) -> Result<Vec<u8>, JwkError> {
    member
        .text()
        .and_then(base64url::decode_lenient)
        .ok_or(JwkError::Malformed("a number of the key is missing or not canonical base64url"))
}

/// A DER integer without the zero that keeps it positive.
fn unsigned(integer: &[u8]) -> &[u8] {
    integer.strip_prefix(&[0]).unwrap_or(integer)
}

fn named_curve(spki: &SubjectPublicKeyInfo<'_>) -> Result<Curve, JwkError> {
    let oid = spki.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    match oid {
        Some(oid) if oid == OID_EC_P256 => Ok(Curve::P256),
        Some(oid) if oid == OID_NIST_EC_P384 => Ok(Curve::P384),
        Some(oid) if oid == OID_NIST_EC_P521 => Ok(Curve::P521),
        other => {
            Err(JwkError::UnsupportedKeyType(other.map_or_else(|| "EC".to_owned(), |oid| oid.to_id_string())))
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        encoding::AsDer,
        rsa::KeySize,
        signature::{KeyPair, RsaKeyPair},
    };

    use super::*;
    use crate::test_keys;

    fn ec() -> Value {
        json!({
            "kty": "EC", "crv": "P-256", "use": "sig",
            "x": "7ZGSB6SZLFwda7b8i_5Zk-vijfTtaVD_30wHtZdho4A",
            "y": "jI6FChZup4mAXjbOuoLyKoeiThfbG9hjAgM5uoUrRug",
        })
    }

    fn with(mut jwk: Value, member: &str, value: impl Into<Value>) -> Result<Jwk, JwkError> {
        jwk[member] = value.into();
        let parsed = Jwk::from_value(&jwk);
        assert_eq!(Jwk::from_json(&jwk.to_string()), parsed, "both readers agree");
        parsed
    }

    #[test]
    fn thumbprints_match_the_contract_and_rfc_7638() {
        let jkt = Jwk::from_value(&ec()).unwrap().thumbprint().to_string();
        assert_eq!(jkt, "9Y7L6jMHsye3aRelgk-7-Pmrl7JcVjw6qLvJMUu-Tz8");
        let rsa = Jwk::from_value(&test_keys::rfc7638_rsa()).unwrap();
        assert_eq!(rsa.thumbprint().to_string(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn refusals_tell_the_three_cases_apart() {
        for member in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
            assert_eq!(with(ec(), member, Value::Null), Err(JwkError::PrivateMaterial), "{member}");
        }
        for kty in ["oct", "OKP", "ec", ""] {
            assert_eq!(with(ec(), "kty", kty), Err(JwkError::UnsupportedKeyType(kty.into())));
        }
        assert_eq!(with(ec(), "kty", 5), Err(JwkError::UnsupportedKeyType(String::new())));
        for (member, value) in [
            ("crv", json!("P-384")),
            ("crv", json!(256)),
            ("x", json!("7ZGSB6SZLFwda7b8i_5Zk-vijfTtaVD_30wHtZdho4B")),
            ("x", json!("7ZGSB6SZLFwda7b8i/5Zk+vijfTtaVD/30wHtZdho4A")),
            ("x", json!("7ZGSB6SZLFwda7b8i_5Zk-vijfTtaVD_30wHtZdho4AAA")),
            ("x", json!("AAAA")),
            ("y", json!("7ZGSB6SZLFwda7b8i_5Zk-vijfTtaVD_30wHtZdho4A")),
            ("y", json!(null)),
            ("y", json!(["jI6FChZup4mAXjbOuoLyKoeiThfbG9hjAgM5uoUrRug"])),
        ] {
            assert!(
                matches!(with(ec(), member, value.clone()), Err(JwkError::Malformed(_))),
                "{member} {value}"
            );
        }
        for text in ["[]", "null", "", "{", r#"{"kty":"EC","kty":"EC"}"#, r#"["EC","P-256"]"#] {
            assert!(matches!(Jwk::from_json(text), Err(JwkError::Malformed(_))), "{text}");
        }
    }

    #[test]
    fn padding_is_tolerated_and_is_the_same_key() {
        let padded = with(ec(), "x", "7ZGSB6SZLFwda7b8i_5Zk-vijfTtaVD_30wHtZdho4A=").unwrap();
        assert_eq!(padded, Jwk::from_value(&ec()).unwrap());
    }

    #[test]
    fn rsa_keys_are_bounded() {
        let rsa = test_keys::rfc7638_rsa();
        let modulus = |bytes: usize| {
            let mut n = vec![0xff; bytes];
            n[0] = 0x80;
            base64url::encode(&n)
        };
        assert!(with(rsa.clone(), "n", modulus(1024)).is_ok());
        for n in
            [modulus(128), modulus(255), modulus(1025), base64url::encode(&[&[0], &[0xff; 256][..]].concat())]
        {
            assert!(matches!(with(rsa.clone(), "n", n), Err(JwkError::Malformed(_))));
        }
        for e in ["", "AA", "AQ", "Ag", "AAEAAQ", "AQAAAAE"] {
            assert!(matches!(with(rsa.clone(), "e", e), Err(JwkError::Malformed(_))), "{e}");
        }
    }

    #[test]
    fn certificates_keys_have_one_encoding() {
        let der = test_keys::spki_der(test_keys::K1_PEM);
        let key = Jwk::from_spki_der(&der).unwrap();
        assert_eq!(Jwk::from_value(&key.to_value()).unwrap(), key);
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let rsa = Jwk::from_spki_der(rsa.public_key().as_der().unwrap().as_ref()).unwrap();
        assert_eq!(rsa.kind(), KeyKind::Rsa);
        assert_eq!(Jwk::from_value(&rsa.to_value()).unwrap(), rsa);

        assert!(Jwk::from_spki_der(&[&der[..], &[0]].concat()).is_err(), "trailing byte");
        let mut off_curve = der.clone();
        *off_curve.last_mut().unwrap() ^= 1;
        assert!(Jwk::from_spki_der(&off_curve).is_err());
        let point_only = &der[26..];
        assert!(Jwk::from_spki_der(point_only).is_err());
    }
}
