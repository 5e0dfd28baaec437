//! DPoP proofs (RFC 9449; contract `auth.md` §3): that the sender of a request holds a private key.
//!
//! The order of checks and the texts of refusals are the contract's. Whether the key is a registered one is asked
//! after [`Proof::verify`], and the `jti` is consumed last of all, by the caller (design decision 12).

use std::time::Duration;

use mastio_core::{Jkt, Stamp, sha256};
use serde::Deserialize;

use crate::{Algorithm, Compact, HtuSet, Jwk, JwkError, JwsError, VerifyingKey, base64url, member::Member};

/// Longest `jti` in bytes: it is hashed, but a client has no reason to send more.
const MAX_JTI: usize = 256;

/// Why a proof was refused. `Display` gives the whole `detail` of the 401.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DpopError {
    /// Not a compact JWS.
    #[error("Invalid DPoP proof: malformed JWT")]
    Malformed(#[from] JwsError),
    /// Another kind of JWT.
    #[error("Invalid DPoP proof: typ must be 'dpop+jwt'")]
    Type,
    /// Neither ES256 nor PS256; holds the name in quotes, or `None`, as the reference prints it.
    #[error("Invalid DPoP proof: unsupported algorithm {0}")]
    Algorithm(String),
    /// No key in the header.
    #[error("Invalid DPoP proof: missing jwk in header")]
    KeyMissing,
    /// The private key in the header.
    #[error("Invalid DPoP proof: jwk contains private key material")]
    KeyPrivate,
    /// A key that is not ours to use, or not in its one encoding.
    #[error("Invalid DPoP proof: cannot compute JWK thumbprint")]
    KeyInvalid,
    /// Not signed by the key in the header; also claims that are no JSON, a `nbf` to come, a `jti` that is no text.
    #[error("Invalid DPoP proof: signature verification failed")]
    Signature,
    /// No `jti`, or an empty one.
    #[error("Invalid DPoP proof: missing jti")]
    JtiMissing,
    /// More than 256 bytes.
    #[error("Invalid DPoP proof: jti longer than {MAX_JTI} bytes")]
    JtiTooLong,
    /// No `iat`, or one that is no number.
    #[error("Invalid DPoP proof: missing iat")]
    IatMissing,
    /// Too old, or from the future.
    #[error("Invalid DPoP proof: iat out of acceptable window")]
    IatOutOfWindow,
    /// For another method.
    #[error("Invalid DPoP proof: htm mismatch")]
    Method,
    /// For another URL. The values are for the log, and for the answer outside production.
    #[error("Invalid DPoP proof: htu mismatch")]
    Url {
        /// The request's path below our public URL.
        expected: String,
        /// The claim, at most 256 characters of it; empty if it is no text.
        got: String,
    },
    /// For another access token.
    #[error("Invalid DPoP proof: ath mismatch")]
    AccessToken,
    /// Without a nonce, or with one that is not valid any more. The answer must carry a fresh one in `DPoP-Nonce`.
    #[error("use_dpop_nonce")]
    UseNonce,
    /// Seen before.
    #[error("DPoP proof replay detected")]
    Replay,
}

impl DpopError {
    /// The code in denial records and metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "dpop_malformed",
            Self::Type => "dpop_typ_wrong",
            Self::Algorithm(_) => "dpop_alg_unsupported",
            Self::KeyMissing => "dpop_jwk_missing",
            Self::KeyPrivate => "dpop_jwk_private",
            Self::KeyInvalid => "dpop_jwk_invalid",
            Self::Signature => "dpop_signature_invalid",
            Self::JtiMissing => "dpop_jti_missing",
            Self::JtiTooLong => "dpop_jti_too_long",
            Self::IatMissing => "dpop_iat_missing",
            Self::IatOutOfWindow => "dpop_iat_out_of_window",
            Self::Method => "dpop_htm_mismatch",
            Self::Url { .. } => "dpop_htu_mismatch",
            Self::AccessToken => "dpop_ath_mismatch",
            Self::UseNonce => "dpop_nonce_required",
            Self::Replay => "dpop_replay",
        }
    }
}

/// How far `iat` may lie from now, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// How old a proof may be: `MCP_PROXY_DPOP_IAT_WINDOW`.
    pub past: Duration,
    /// How far ahead the client's clock may be: `MCP_PROXY_DPOP_CLOCK_SKEW`.
    pub future: Duration,
}

impl Default for Window {
    fn default() -> Self {
        Self { past: Duration::from_secs(60), future: Duration::from_secs(5) }
    }
}

/// Whether the proof must carry a nonce of ours.
#[derive(Clone, Copy)]
pub enum NonceCheck<'a> {
    /// A nonce is not looked at.
    NotRequired,
    /// It must be one that the function accepts, see [`crate::NonceRing::check`].
    Required(&'a (dyn Fn(&str) -> bool + Sync)),
}

/// The request that a proof must be made for.
#[derive(Clone, Copy)]
pub struct Expectation<'a> {
    /// The HTTP method.
    pub method: &'a str,
    /// Our own URLs.
    pub htu: &'a HtuSet,
    /// The request's path as received, without query.
    pub path: &'a str,
    /// The access token beside the proof, to which it must be bound.
    pub access_token: Option<&'a str>,
    /// Whether a nonce is required.
    pub nonce: NonceCheck<'a>,
    /// The server's time.
    pub now: Stamp,
    /// Around it.
    pub window: Window,
}

/// What a proof has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedProof {
    /// The thumbprint of the key that signed it.
    pub jkt: Jkt,
    /// Its id, 1 to 256 bytes, to be consumed after every other check; see [`replay_key`].
    pub jti: String,
    /// When the client made it.
    pub iat: Stamp,
    /// The nonce in it; looked at only where one was required.
    pub nonce: Option<String>,
}

/// The key of a proof and its thumbprint. Cheap to clone: a client proves with the same one again and again.
#[derive(Debug, Clone)]
pub struct ProofKey {
    key: VerifyingKey,
    jkt: Jkt,
}

impl ProofKey {
    /// Reads the text of a `jwk` member.
    ///
    /// # Errors
    /// As [`Jwk::from_json`].
    pub fn from_json(text: &str) -> Result<Self, JwkError> {
        let jwk = Jwk::from_json(text)?;
        Ok(Self { jkt: jwk.thumbprint(), key: jwk.verifying_key() })
    }
}

/// A proof whose header is in order: type, algorithm and key.
#[derive(Debug)]
pub struct Proof<'a> {
    jws: Compact<'a>,
    alg: Algorithm,
    key: ProofKey,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Claims<'a> {
    #[serde(borrow)]
    jti: Member<'a>,
    #[serde(borrow)]
    htm: Member<'a>,
    #[serde(borrow)]
    htu: Member<'a>,
    #[serde(borrow)]
    iat: Member<'a>,
    #[serde(borrow)]
    nbf: Member<'a>,
    #[serde(borrow)]
    ath: Member<'a>,
    #[serde(borrow)]
    nonce: Member<'a>,
}

impl<'a> Proof<'a> {
    /// Reads the value of a `DPoP` header: checks 1 to 5.
    ///
    /// # Errors
    /// From [`DpopError::Malformed`] to [`DpopError::KeyInvalid`].
    pub fn parse(text: &'a str) -> Result<Self, DpopError> {
        Self::parse_with(text, ProofKey::from_json)
    }

    /// The same, with the key read by `read`: [`ProofKey::from_json`], or a memory of its results.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_with(
        text: &'a str,
        read: impl FnOnce(&str) -> Result<ProofKey, JwkError>,
    ) -> Result<Self, DpopError> {
        let jws = Compact::split(text)?;
        let header = jws.header()?;
        if header.typ() != Some("dpop+jwt") {
            return Err(DpopError::Type);
        }
        let alg = header
            .alg()
            .and_then(Algorithm::from_name)
            .filter(|alg| matches!(alg, Algorithm::Es256 | Algorithm::Ps256))
            .ok_or_else(|| DpopError::Algorithm(quoted(header.alg())))?;
        let jwk = header.jwk.map(serde_json::value::RawValue::get).filter(|json| json.starts_with('{'));
        let key = read(jwk.ok_or(DpopError::KeyMissing)?).map_err(|error| match error {
            JwkError::PrivateMaterial => DpopError::KeyPrivate,
            JwkError::UnsupportedKeyType(_) | JwkError::Malformed(_) => DpopError::KeyInvalid,
        })?;
        Ok(Self { alg, key, jws })
    }

    /// The thumbprint of the key that claims to have signed it.
    #[must_use]
    pub fn jkt(&self) -> Jkt {
        self.key.jkt
    }

    /// Verifies the signature and all that the proof says about the request: checks 6 to 12.
    ///
    /// # Errors
    /// From [`DpopError::Signature`] to [`DpopError::UseNonce`].
    pub fn verify(&self, expected: &Expectation<'_>) -> Result<VerifiedProof, DpopError> {
        self.jws.verify(&self.key.key, self.alg).map_err(|_| DpopError::Signature)?;
        self.check_claims(expected)
    }

    pub(crate) fn check_claims(&self, expected: &Expectation<'_>) -> Result<VerifiedProof, DpopError> {
        let claims: Claims<'_> = self.jws.claims().map_err(|_| DpopError::Signature)?;
        let now = expected.now;
        if !claims.nbf.is_absent() && claims.nbf.instant().is_none_or(|nbf| nbf > now) {
            return Err(DpopError::Signature);
        }
        let jti = match (&claims.jti, claims.jti.text()) {
            (Member::Absent, _) | (_, Some("")) => return Err(DpopError::JtiMissing),
            (_, None) => return Err(DpopError::Signature),
            (_, Some(jti)) if jti.len() > MAX_JTI => return Err(DpopError::JtiTooLong),
            (_, Some(jti)) => jti,
        };
        let iat = claims.iat.instant().ok_or(DpopError::IatMissing)?;
        if now.since(iat) > expected.window.past || iat.since(now) > expected.window.future {
            return Err(DpopError::IatOutOfWindow);
        }
        if !claims.htm.text().is_some_and(|htm| htm.eq_ignore_ascii_case(expected.method)) {
            return Err(DpopError::Method);
        }
        let htu = claims.htu.text().unwrap_or_default();
        if !expected.htu.matches(htu, expected.path) {
            return Err(DpopError::Url {
                expected: format!("{}{}", expected.htu.public_url(), expected.path),
                got: htu.chars().take(256).collect(),
            });
        }
        if expected.access_token.is_some_and(|token| claims.ath.text() != Some(&ath(token))) {
            return Err(DpopError::AccessToken);
        }
        match expected.nonce {
            NonceCheck::Required(accepts) if !claims.nonce.text().is_some_and(accepts) => {
                Err(DpopError::UseNonce)
            }
            _ => {
                let nonce = claims.nonce.text().map(str::to_owned);
                Ok(VerifiedProof { jkt: self.key.jkt, jti: jti.to_owned(), iat, nonce })
            }
        }
    }
}

/// The `ath` claim for an access token: base64url of its SHA-256 (RFC 9449 §4.2).
#[must_use]
pub fn ath(token: &str) -> String {
    base64url::encode(&sha256(token.as_bytes()))
}

/// What a replay cache remembers of a proof: half of the SHA-256 over key and `jti`. The key is in it so that one
/// agent cannot use up the predictable `jti` of another.
#[must_use]
pub fn replay_key(jkt: &Jkt, jti: &str) -> [u8; 16] {
    let digest = sha256(&[jkt.as_bytes(), jti.as_bytes()].concat());
    let mut key = [0; 16];
    key.copy_from_slice(&digest[..16]);
    key
}

/// A presented name for an error message: harmless and short, in quotes as Python prints them.
fn quoted(name: Option<&str>) -> String {
    match name {
        Some(name) => {
            let plain = |letter: &char| letter.is_ascii_graphic() && !matches!(letter, '\'' | '\\');
            format!("'{}'", name.chars().filter(plain).take(32).collect::<String>())
        }
        None => "None".to_owned(),
    }
}

#[cfg(test)]
mod tests;
