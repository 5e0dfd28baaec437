//! Access tokens, the LOCAL_TOKEN of clients, to whom they are opaque (contract `auth.md` §6; design decisions 10, 11).

use std::time::Duration;

use mastio_core::{Jkt, Kid, Principal, Stamp, Thumbprint};
use serde::{Deserialize, Serialize};

use crate::{
    Algorithm, Compact, JwsError, SignatureError, SigningError, SigningKey, VerifyingKey, base64url, jws,
    member::Member,
};

/// The `aud` of every token.
pub const AUDIENCE: &str = "cullis-local";
/// How far clocks may be apart.
pub const LEEWAY: Duration = Duration::from_secs(30);

/// Why a token was refused. `Display` is for the log, [`Self::detail`] for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a compact JWS.
    #[error("token malformed: {0}")]
    Malformed(#[from] JwsError),
    /// Not ES256.
    #[error("token is not signed with ES256")]
    Algorithm,
    /// No `kid`, or none of ours: the token may be somebody else's.
    #[error("token names no signing key of this mastio")]
    UnknownKey,
    /// Not signed by the key it names.
    #[error("token {0}")]
    Signature(#[from] SignatureError),
    /// `iss` is another Mastio.
    #[error("token issued by somebody else")]
    Issuer,
    /// `aud` is not [`AUDIENCE`].
    #[error("token meant for another audience")]
    Audience,
    /// This claim is missing or has the wrong type.
    #[error("token claim {0} missing or wrong")]
    Claim(&'static str),
    /// Its time is over.
    #[error("token expired")]
    Expired,
    /// Its time is to come.
    #[error("token not yet valid")]
    NotYetValid,
    /// Bound to no key and no certificate: anybody could use it.
    #[error("token not bound to a key or certificate")]
    Unbound,
}

impl TokenError {
    /// The `detail` of the 401.
    #[must_use]
    pub fn detail(&self) -> &'static str {
        match self {
            Self::Unbound => "LOCAL_TOKEN missing cnf.jkt — re-login required",
            _ => "local token rejected",
        }
    }

    /// The code in denial records and metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "token_malformed",
            Self::Algorithm => "token_alg_unsupported",
            Self::UnknownKey => "token_kid_unknown",
            Self::Signature(_) => "token_signature_invalid",
            Self::Issuer => "token_iss_mismatch",
            Self::Audience => "token_aud_mismatch",
            Self::Claim(_) => "token_claim_invalid",
            Self::Expired => "token_expired",
            Self::NotYetValid => "token_not_yet_valid",
            Self::Unbound => "token_unbound",
        }
    }
}

/// What the bearer must prove to hold; with both, either proof will do (design decision 11). At least one is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Confirmation {
    /// A DPoP key (RFC 9449 §6).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jkt: Option<Jkt>,
    /// A TLS client certificate (RFC 8705 §3.1): on the wire base64url of the SHA-256 of its DER.
    #[serde(rename = "x5t#S256", skip_serializing_if = "Option::is_none", serialize_with = "as_base64url")]
    pub x5t_s256: Option<Thumbprint>,
}

/// What a token says. `aud` is always [`AUDIENCE`]; `principal_type` and `org` follow from `sub`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenClaims {
    /// `cullis-mastio:<org>`.
    pub iss: String,
    /// Whom it speaks for.
    pub sub: Principal,
    /// `local`.
    pub scope: String,
    /// When it was minted; whole seconds on the wire.
    pub iat: Stamp,
    /// When it ends; whole seconds on the wire.
    pub exp: Stamp,
    /// Its id.
    pub jti: String,
    /// What it is bound to.
    pub cnf: Confirmation,
    /// The agent's epoch when it was minted: it must still be that (design decision 10). 0 if the token has none.
    pub ep: i64,
}

/// The header and claims on the wire, in the contract's order.
#[derive(Serialize)]
struct WireHeader<'a> {
    alg: &'static str,
    kid: &'a Kid,
    typ: &'static str,
}

#[derive(Serialize)]
struct Wire<'a> {
    iss: &'a str,
    aud: &'static str,
    sub: String,
    scope: &'a str,
    iat: i64,
    exp: i64,
    jti: &'a str,
    cnf: &'a Confirmation,
    principal_type: &'static str,
    org: &'a str,
    ep: i64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Read<'a> {
    #[serde(borrow)]
    iss: Member<'a>,
    #[serde(borrow)]
    aud: Member<'a>,
    #[serde(borrow)]
    sub: Member<'a>,
    #[serde(borrow)]
    scope: Member<'a>,
    #[serde(borrow)]
    iat: Member<'a>,
    #[serde(borrow)]
    exp: Member<'a>,
    #[serde(borrow)]
    jti: Member<'a>,
    #[serde(borrow)]
    cnf: ReadConfirmation<'a>,
    #[serde(borrow)]
    ep: Member<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ReadConfirmation<'a> {
    #[serde(borrow)]
    jkt: Member<'a>,
    #[serde(borrow, rename = "x5t#S256")]
    x5t_s256: Member<'a>,
}

impl TokenClaims {
    /// Signs the claims with the Mastio's key `kid`.
    ///
    /// # Errors
    /// [`SigningError`], when the cryptographic library fails.
    pub fn mint(&self, key: &SigningKey, kid: &Kid) -> Result<String, SigningError> {
        let header = WireHeader { alg: Algorithm::Es256.name(), kid, typ: "JWT" };
        let claims = Wire {
            iss: &self.iss,
            aud: AUDIENCE,
            sub: self.sub.to_string(),
            scope: &self.scope,
            iat: self.iat.unix(),
            exp: self.exp.unix(),
            jti: &self.jti,
            cnf: &self.cnf,
            principal_type: self.sub.kind.as_str(),
            org: self.sub.org.as_str(),
            ep: self.ep,
        };
        jws::sign(key, &header, &claims)
    }

    pub(crate) fn read(jws: &Compact<'_>, issuer: &str, now: Stamp) -> Result<Self, TokenError> {
        let claims: Read<'_> = jws.claims()?;
        let text = |member: &Member<'_>, name| match member.text() {
            Some(text) if !text.is_empty() => Ok(text.to_owned()),
            _ => Err(TokenError::Claim(name)),
        };
        let instant = |member: &Member<'_>, name| member.instant().ok_or(TokenError::Claim(name));
        if claims.iss.text() != Some(issuer) {
            return Err(TokenError::Issuer);
        }
        if claims.aud.text() != Some(AUDIENCE) {
            return Err(TokenError::Audience);
        }
        let (iat, exp) = (instant(&claims.iat, "iat")?, instant(&claims.exp, "exp")?);
        if exp.plus(LEEWAY) <= now {
            return Err(TokenError::Expired);
        }
        if iat > now.plus(LEEWAY) {
            return Err(TokenError::NotYetValid);
        }
        Ok(Self {
            iss: issuer.to_owned(),
            sub: Principal::parse(&text(&claims.sub, "sub")?).map_err(|_| TokenError::Claim("sub"))?,
            scope: text(&claims.scope, "scope")?,
            iat,
            exp,
            jti: text(&claims.jti, "jti")?,
            cnf: claims.cnf.read()?,
            ep: match claims.ep {
                Member::Absent => 0,
                _ => claims.ep.count().ok_or(TokenError::Claim("ep"))?,
            },
        })
    }
}

impl ReadConfirmation<'_> {
    fn read(&self) -> Result<Confirmation, TokenError> {
        let jkt = match &self.jkt {
            Member::Absent => None,
            jkt => {
                Some(jkt.text().and_then(|text| Jkt::parse(text).ok()).ok_or(TokenError::Claim("cnf.jkt"))?)
            }
        };
        let x5t_s256 = match &self.x5t_s256 {
            Member::Absent => None,
            x5t => Some(x5t.text().and_then(thumbprint).ok_or(TokenError::Claim("cnf.x5t#S256"))?),
        };
        if jkt.is_none() && x5t_s256.is_none() {
            return Err(TokenError::Unbound);
        }
        Ok(Confirmation { jkt, x5t_s256 })
    }
}

fn as_base64url<S: serde::Serializer>(pin: &Option<Thumbprint>, serializer: S) -> Result<S::Ok, S::Error> {
    pin.map(|pin| base64url::encode(pin.as_bytes())).serialize(serializer)
}

fn thumbprint(text: &str) -> Option<Thumbprint> {
    Thumbprint::parse(&hex::encode(base64url::decode(text)?)).ok()
}

/// The `kid` in the header of a token that is not verified yet: to see whether it is one of ours at all.
#[must_use]
pub fn peek_kid(token: &str) -> Option<Kid> {
    jws::peek_kid(token).map(|kid| Kid::from_text(&kid))
}

/// Verifies a token under the key that `lookup` finds for its `kid`. Epoch, revocation and binding are checked by the
/// caller, who has them.
///
/// # Errors
/// [`TokenError`].
pub fn verify(
    token: &str,
    lookup: impl Fn(&str) -> Option<VerifyingKey>,
    issuer: &str,
    now: Stamp,
) -> Result<TokenClaims, TokenError> {
    let jws = Compact::split(token)?;
    let header = jws.header()?;
    if header.alg() != Some(Algorithm::Es256.name()) {
        return Err(TokenError::Algorithm);
    }
    let key = header.kid().and_then(lookup).ok_or(TokenError::UnknownKey)?;
    jws.verify(&key, Algorithm::Es256)?;
    TokenClaims::read(&jws, issuer, now)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::test_keys;

    const NOW: Stamp = Stamp::from_unix(1_767_225_600);
    const ISSUER: &str = "cullis-mastio:acme";

    fn claims() -> TokenClaims {
        TokenClaims {
            iss: ISSUER.into(),
            sub: Principal::parse("acme::kyc").unwrap(),
            scope: "local".into(),
            iat: NOW,
            exp: NOW.plus(Duration::from_secs(300)),
            jti: "1".into(),
            cnf: Confirmation {
                jkt: Some(Jkt::new([1; 32])),
                x5t_s256: Some(Thumbprint::of(b"certificate")),
            },
            ep: 7,
        }
    }

    fn check(token: &str, now: Stamp) -> Result<TokenClaims, TokenError> {
        let key = test_keys::k1();
        let kid = key.kid();
        verify(token, |presented| (presented == kid.as_str()).then(|| key.verifying_key()), ISSUER, now)
    }

    /// The token of [`claims`] with one member changed.
    fn with(member: &str, value: Value) -> Result<TokenClaims, TokenError> {
        let key = test_keys::k1();
        let token = claims().mint(&key, &key.kid()).unwrap();
        let mut claims: Value = Compact::split(&token).unwrap().claims().unwrap();
        claims[member] = value;
        let header = json!({ "alg": "ES256", "kid": key.kid() });
        check(&jws::sign(&key, &header, &claims).unwrap(), NOW)
    }

    #[test]
    fn what_is_minted_verifies() {
        let key = test_keys::k1();
        let token = claims().mint(&key, &key.kid()).unwrap();
        assert_eq!(check(&token, NOW), Ok(claims()));
        assert_eq!(peek_kid(&token), Some(key.kid()));

        let json = base64url::decode(token.split('.').nth(1).unwrap()).unwrap();
        let cnf = format!(
            r#"{{"jkt":"{}","x5t#S256":"{}"}}"#,
            Jkt::new([1; 32]),
            base64url::encode(Thumbprint::of(b"certificate").as_bytes())
        );
        let expected = format!(
            r#"{{"iss":"cullis-mastio:acme","aud":"cullis-local","sub":"acme::kyc","scope":"local","iat":1767225600,"exp":1767225900,"jti":"1","cnf":{cnf},"principal_type":"agent","org":"acme","ep":7}}"#
        );
        assert_eq!(std::str::from_utf8(&json).unwrap(), expected);
    }

    #[test]
    fn times_have_thirty_seconds_of_leeway() {
        let key = test_keys::k1();
        let token = claims().mint(&key, &key.kid()).unwrap();
        let at = |seconds| check(&token, Stamp::from_unix(NOW.unix() + seconds)).map(|_| ());
        assert_eq!(at(329), Ok(()));
        assert_eq!(at(330), Err(TokenError::Expired));
        assert_eq!(at(-30), Ok(()));
        assert_eq!(at(-31), Err(TokenError::NotYetValid));
    }

    #[test]
    fn claims_are_checked_one_by_one() {
        for (member, value, error) in [
            ("iss", json!("cullis-mastio:evil"), TokenError::Issuer),
            ("aud", json!("cullis"), TokenError::Audience),
            ("aud", json!(["cullis-local"]), TokenError::Audience),
            ("sub", json!("nobody"), TokenError::Claim("sub")),
            ("scope", json!(null), TokenError::Claim("scope")),
            ("jti", json!(5), TokenError::Claim("jti")),
            ("iat", json!("now"), TokenError::Claim("iat")),
            ("exp", json!(null), TokenError::Claim("exp")),
            ("ep", json!("7"), TokenError::Claim("ep")),
            ("ep", json!(1.5), TokenError::Claim("ep")),
            ("cnf", json!({}), TokenError::Unbound),
            ("cnf", json!({ "jkt": null }), TokenError::Unbound),
            ("cnf", json!({ "jkt": "short" }), TokenError::Claim("cnf.jkt")),
            ("cnf", json!({ "x5t#S256": "AAAA" }), TokenError::Claim("cnf.x5t#S256")),
            ("cnf", json!("none"), TokenError::Malformed(JwsError::Json)),
        ] {
            assert_eq!(with(member, value.clone()), Err(error), "{member} {value}");
        }
        assert_eq!(with("ep", json!(null)).unwrap().ep, 0);
        assert_eq!(TokenError::Unbound.detail(), "LOCAL_TOKEN missing cnf.jkt — re-login required");
    }

    #[test]
    fn only_es256_of_a_known_key_counts() {
        let (key, other) = (test_keys::k1(), SigningKey::generate().unwrap());
        let forged = claims().mint(&other, &key.kid()).unwrap();
        assert_eq!(check(&forged, NOW), Err(TokenError::Signature(SignatureError::Mismatch)));
        let foreign = claims().mint(&other, &other.kid()).unwrap();
        assert_eq!(check(&foreign, NOW), Err(TokenError::UnknownKey));
        for alg in [json!("none"), json!("HS256"), json!("PS256"), json!(null)] {
            let header = json!({ "alg": alg, "kid": key.kid() });
            let token = jws::sign(&key, &header, &json!({})).unwrap();
            assert_eq!(check(&token, NOW), Err(TokenError::Algorithm), "{alg}");
        }
    }
}
