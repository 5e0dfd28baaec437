//! DPoP proofs (RFC 9449 §4; contract `auth.md` §3).

use http::Method;
use mastio_core::Stamp;
use mastio_jose::{SigningError, SigningKey, jws};
use serde::Serialize;
use serde_json::Value;

#[derive(Serialize)]
struct Header {
    alg: &'static str,
    jwk: Value,
    typ: &'static str,
}

#[derive(Serialize)]
struct Claims<'a> {
    jti: &'a str,
    htm: &'a str,
    htu: &'a str,
    iat: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ath: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
}

/// The value of a `DPoP` header: `key` proves itself for one request.
///
/// `htu` is the request's URL without query, `ath` the hash of the access token beside it ([`mastio_jose::ath`]),
/// `nonce` the last one that the server sent, `jti` never used before with this key.
///
/// # Errors
/// When the cryptographic library fails.
pub fn proof(
    key: &SigningKey,
    method: &Method,
    htu: &str,
    ath: Option<&str>,
    nonce: Option<&str>,
    jti: &str,
    iat: Stamp,
) -> Result<String, SigningError> {
    let header = Header { alg: "ES256", jwk: key.public_jwk().to_value(), typ: "dpop+jwt" };
    let claims = Claims { jti, htm: method.as_str(), htu, iat: iat.unix(), ath, nonce };
    jws::sign(key, &header, &claims)
}

#[cfg(test)]
mod tests {
    use mastio_jose::{Expectation, HtuSet, NonceCheck, Proof, Window};

    use super::*;
    use crate::testing::{NOW, vectors};

    #[test]
    fn what_is_made_here_verifies_there() {
        let key = SigningKey::generate().unwrap();
        let ath = mastio_jose::ath("token");
        let text = proof(
            &key,
            &Method::POST,
            "https://localhost:9443/v1/mcp",
            Some(&ath),
            Some("n-1"),
            "jti-1",
            NOW,
        )
        .unwrap();
        let htu = HtuSet::new(["https://localhost:9443"]).unwrap();
        let nonce = |nonce: &str| nonce == "n-1";
        let expected = Expectation {
            method: "POST",
            htu: &htu,
            path: "/v1/mcp",
            access_token: Some("token"),
            nonce: NonceCheck::Required(&nonce),
            now: NOW,
            window: Window::default(),
        };
        let shown = Proof::parse(&text).unwrap().verify(&expected).unwrap();
        assert_eq!((shown.jkt, shown.jti.as_str()), (key.public_jwk().thumbprint(), "jti-1"));
        let other = Expectation { access_token: Some("another"), ..expected };
        assert!(Proof::parse(&text).unwrap().verify(&other).is_err());
    }

    #[test]
    fn the_signed_part_is_the_vectors_byte_for_byte() {
        let vectors = vectors();
        let key = crate::testing::key(&vectors, "dpop");
        let token = vectors["local_token"]["jwt"].as_str().unwrap();
        let ath = mastio_jose::ath(token);
        let base = "https://mastio.example.com:9443";
        for (name, method, path, ath, nonce, jti) in [
            ("mint_no_nonce", Method::POST, "/v1/auth/token", None, None, "vec-0001"),
            (
                "egress_with_nonce",
                Method::GET,
                "/v1/egress/peers",
                None,
                vectors["server_nonce_current"].as_str(),
                "vec-0002",
            ),
            ("bound_token_with_ath", Method::POST, "/v1/mcp", Some(ath.as_str()), None, "vec-0003"),
        ] {
            let ours = proof(&key, &method, &format!("{base}{path}"), ath, nonce, jti, NOW).unwrap();
            let theirs = vectors["dpop"][name]["proof"].as_str().unwrap();
            assert_eq!(ours.rsplit_once('.').unwrap().0, theirs.rsplit_once('.').unwrap().0, "{name}");
        }
    }
}
