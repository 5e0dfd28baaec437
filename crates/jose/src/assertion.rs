//! Client assertions (contract `auth.md` §4): an agent logs in with a JWT signed by its certificate's key.
//!
//! The certificates travel in `x5c`. Whether they lead to an anchor of ours, and whose they are, is for the `pki`
//! crate and the caller; here the leaf's key is an argument.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use mastio_core::Stamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{Algorithm, Compact, JwsError, SignatureError, VerifyingKey, member::Member};

/// The `aud` of every assertion.
pub const AUDIENCE: &str = "agent-trust-broker";
/// Most certificates in `x5c`.
pub const MAX_CHAIN: usize = 6;
/// Longest time from `iat` to `exp`.
pub const MAX_LIFETIME: Duration = Duration::from_secs(300);
/// How far the client's clock may be off.
pub const LEEWAY: Duration = Duration::from_secs(30);
const MAX_JTI: usize = 256;

/// Why an assertion was refused. `Display` gives the `detail` of the 401 (contract `auth.md` §5).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssertionError {
    /// Not a compact JWS.
    #[error("assertion: malformed JWT: {0}")]
    Malformed(#[from] JwsError),
    /// `alg` is missing or none of ours.
    #[error("assertion: unsupported algorithm: use ES256, ES384, ES512, RS256 or PS256")]
    Algorithm,
    /// `x5c` is missing, empty, too long or not a list of certificates.
    #[error("x509 chain: x5c must be a list of 1 to {MAX_CHAIN} certificates in standard base64")]
    Chain,
    /// Not signed by the leaf's key.
    #[error("assertion: {0}")]
    Signature(#[from] SignatureError),
    /// Meant for somebody else.
    #[error("assertion: aud must be '{AUDIENCE}'")]
    Audience,
    /// No `sub`.
    #[error("assertion missing sub")]
    SubMissing,
    /// This claim is missing or has the wrong type.
    #[error("assertion: missing or wrong {0}")]
    Claim(&'static str),
    /// Its time is over.
    #[error("assertion: expired")]
    Expired,
    /// Its time is to come.
    #[error("assertion: not yet valid")]
    NotYetValid,
    /// Valid for longer than we accept.
    #[error("assertion lifetime must be ≤ {}s", MAX_LIFETIME.as_secs())]
    Lifetime,
}

impl AssertionError {
    /// The code in denial records and metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "assertion_malformed",
            Self::Algorithm => "assertion_alg_unsupported",
            Self::Chain => "assertion_x5c_invalid",
            Self::Signature(_) => "assertion_signature_invalid",
            Self::Audience => "assertion_aud_mismatch",
            Self::SubMissing => "assertion_sub_missing",
            Self::Claim(_) => "assertion_claim_invalid",
            Self::Expired => "assertion_expired",
            Self::NotYetValid => "assertion_not_yet_valid",
            Self::Lifetime => "assertion_lifetime_too_long",
        }
    }
}

/// An assertion whose header is in order. Its claims can be had only through [`Self::verify`].
#[derive(Debug)]
pub struct Assertion<'a> {
    jws: Compact<'a>,
    alg: Algorithm,
    chain: Vec<Vec<u8>>,
}

/// What an assertion says, once its signature and times were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssertionClaims {
    /// Who logs in. The caller compares it with the leaf's identity.
    pub sub: String,
    /// When it was made.
    pub iat: Stamp,
    /// Until when it may be used; a `jti` is remembered until then plus [`LEEWAY`].
    pub exp: Stamp,
    /// Its id, 1 to 256 bytes, if it has one.
    pub jti: Option<String>,
    /// The login challenge that it answers, if any.
    pub nonce: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Claims<'a> {
    #[serde(borrow)]
    sub: Member<'a>,
    #[serde(borrow)]
    aud: Option<&'a RawValue>,
    #[serde(borrow)]
    iat: Member<'a>,
    #[serde(borrow)]
    exp: Member<'a>,
    #[serde(borrow)]
    nbf: Member<'a>,
    #[serde(borrow)]
    jti: Member<'a>,
    #[serde(borrow)]
    nonce: Member<'a>,
}

impl<'a> Assertion<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`AssertionError::Malformed`], [`AssertionError::Algorithm`] or [`AssertionError::Chain`].
    pub fn parse(text: &'a str) -> Result<Self, AssertionError> {
        let jws = Compact::split(text)?;
        let header = jws.header()?;
        let alg = header.alg().and_then(Algorithm::from_name).ok_or(AssertionError::Algorithm)?;
        let chain = header.x5c.and_then(certificates).ok_or(AssertionError::Chain)?;
        Ok(Self { alg, chain, jws })
    }

    /// The algorithm it names.
    #[must_use]
    pub fn alg(&self) -> Algorithm {
        self.alg
    }

    /// The certificates in DER, leaf first, 1 to [`MAX_CHAIN`] of them. Not validated, not even parsed.
    #[must_use]
    pub fn x5c(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// Verifies the signature under the leaf's key, then the claims.
    ///
    /// # Errors
    /// Any but those of [`Self::parse`].
    pub fn verify(&self, leaf_key: &VerifyingKey, now: Stamp) -> Result<AssertionClaims, AssertionError> {
        self.jws.verify(leaf_key, self.alg)?;
        self.check_claims(now)
    }

    pub(crate) fn check_claims(&self, now: Stamp) -> Result<AssertionClaims, AssertionError> {
        let claims: Claims<'_> = self.jws.claims()?;
        if !claims.aud.is_some_and(names_us) {
            return Err(AssertionError::Audience);
        }
        let exp = claims.exp.instant().ok_or(AssertionError::Claim("exp"))?;
        let iat = claims.iat.instant().ok_or(AssertionError::Claim("iat"))?;
        let nbf = match claims.nbf {
            Member::Absent => iat,
            _ => claims.nbf.instant().ok_or(AssertionError::Claim("nbf"))?,
        };
        if exp.plus(LEEWAY) <= now {
            return Err(AssertionError::Expired);
        }
        if iat.max(nbf) > now.plus(LEEWAY) {
            return Err(AssertionError::NotYetValid);
        }
        if exp < iat || exp.since(iat) > MAX_LIFETIME {
            return Err(AssertionError::Lifetime);
        }
        let sub = claims.sub.text().filter(|sub| !sub.is_empty()).ok_or(AssertionError::SubMissing)?;
        let jti = optional_text(&claims.jti, "jti")?;
        if jti.as_ref().is_some_and(|jti| !(1..=MAX_JTI).contains(&jti.len())) {
            return Err(AssertionError::Claim("jti"));
        }
        Ok(AssertionClaims {
            sub: sub.to_owned(),
            iat,
            exp,
            jti,
            nonce: optional_text(&claims.nonce, "nonce")?,
        })
    }
}

fn certificates(x5c: &RawValue) -> Option<Vec<Vec<u8>>> {
    let texts: Vec<Member<'_>> = serde_json::from_str(x5c.get()).ok()?;
    if !(1..=MAX_CHAIN).contains(&texts.len()) {
        return None;
    }
    texts.iter().map(|text| STANDARD.decode(text.text()?).ok()).collect()
}

/// `aud` is a text or a list of texts (RFC 7519 §4.1.3).
fn names_us(aud: &RawValue) -> bool {
    let names = match aud.get().as_bytes().first() {
        Some(b'[') => serde_json::from_str(aud.get()).unwrap_or_default(),
        _ => serde_json::from_str(aud.get()).map(|name| vec![name]).unwrap_or_default(),
    };
    names.iter().any(|name: &Member<'_>| name.text() == Some(AUDIENCE))
}

fn optional_text(member: &Member<'_>, name: &'static str) -> Result<Option<String>, AssertionError> {
    match member {
        Member::Absent => Ok(None),
        _ => member.text().map(|text| Some(text.to_owned())).ok_or(AssertionError::Claim(name)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{jws, test_keys};

    const NOW: Stamp = Stamp::from_unix(1_767_225_600);

    fn claims() -> Value {
        let now = NOW.unix();
        json!({ "sub": "acme::a", "aud": AUDIENCE, "iat": now, "exp": now + 300, "jti": "1" })
    }

    fn verify(header: &Value, claims: &Value) -> Result<AssertionClaims, AssertionError> {
        let key = test_keys::k1();
        let text = jws::sign(&key, header, claims).unwrap();
        Assertion::parse(&text)?.verify(&key.verifying_key(), NOW)
    }

    fn with(member: &str, value: Value) -> Result<AssertionClaims, AssertionError> {
        let mut claims = claims();
        claims[member] = value;
        verify(&json!({ "alg": "ES256", "x5c": ["AAAA"] }), &claims)
    }

    #[test]
    fn claims_are_checked_one_by_one() {
        let now = NOW.unix();
        for (member, value, error) in [
            ("aud", json!("x"), AssertionError::Audience),
            ("aud", json!(["x", 5]), AssertionError::Audience),
            ("aud", json!({ AUDIENCE: 1 }), AssertionError::Audience),
            ("aud", json!(null), AssertionError::Audience),
            ("exp", json!(null), AssertionError::Claim("exp")),
            ("exp", json!("9999999999"), AssertionError::Claim("exp")),
            ("iat", json!(true), AssertionError::Claim("iat")),
            ("nbf", json!("x"), AssertionError::Claim("nbf")),
            ("exp", json!(now - 30), AssertionError::Expired),
            ("iat", json!(now + 31), AssertionError::NotYetValid),
            ("nbf", json!(now + 31), AssertionError::NotYetValid),
            ("exp", json!(now + 301), AssertionError::Lifetime),
            ("exp", json!(now - 1), AssertionError::Lifetime),
            ("exp", json!(1e300), AssertionError::Lifetime),
            ("sub", json!(null), AssertionError::SubMissing),
            ("sub", json!(["acme::a"]), AssertionError::SubMissing),
            ("sub", json!(""), AssertionError::SubMissing),
            ("jti", json!(5), AssertionError::Claim("jti")),
            ("jti", json!(""), AssertionError::Claim("jti")),
            ("jti", json!("x".repeat(257)), AssertionError::Claim("jti")),
            ("nonce", json!(5), AssertionError::Claim("nonce")),
        ] {
            assert_eq!(with(member, value.clone()), Err(error), "{member} {value}");
        }
    }

    #[test]
    fn what_may_vary_varies() {
        let now = NOW.unix();
        assert!(with("aud", json!(["x", AUDIENCE])).is_ok());
        assert_eq!(with("jti", json!(null)).unwrap().jti, None);
        assert_eq!(with("nonce", json!("n")).unwrap().nonce.as_deref(), Some("n"));
        assert!(with("iat", json!(now + 30)).is_ok());
        let mut old = claims();
        (old["iat"], old["exp"]) = (json!(now - 329), json!(now - 29));
        assert!(verify(&json!({ "alg": "ES256", "x5c": ["AAAA"] }), &old).is_ok());
    }

    #[test]
    fn the_header_names_algorithm_and_certificates() {
        for x5c in [
            json!(null),
            json!([]),
            json!("AAAA"),
            json!([5]),
            json!(["A"]),
            json!(["-_-_"]),
            json!(vec!["AAAA"; 7]),
        ] {
            assert_eq!(
                verify(&json!({ "alg": "ES256", "x5c": x5c }), &claims()),
                Err(AssertionError::Chain),
                "{x5c}"
            );
        }
        assert!(verify(&json!({ "alg": "ES256", "x5c": vec!["AAAA"; 6] }), &claims()).is_ok());
        for alg in [json!("none"), json!("HS256"), json!(null), json!(5)] {
            let header = json!({ "alg": alg, "x5c": ["AAAA"] });
            assert_eq!(verify(&header, &claims()), Err(AssertionError::Algorithm), "{alg}");
        }
        let refused = verify(&json!({ "alg": "RS256", "x5c": ["AAAA"] }), &claims());
        assert!(matches!(refused, Err(AssertionError::Signature(SignatureError::Algorithm { .. }))));
    }
}
