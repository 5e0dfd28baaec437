//! Keys that unit tests share. Their private halves are public knowledge.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::SigningKey;

/// The public key of private scalar 1 (contract `pki.md` §1).
pub(crate) const K1_PEM: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt\n6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==\n-----END PUBLIC KEY-----\n";

/// The public key of private scalar 2 (contract `pki.md` §1).
pub(crate) const K2_PEM: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEfPJ7GI0DT36KUjgDBLUaw8CJaeJ3\n8hs1pgtI/EdmmXgHd1UQ247QQCk9msafdDDbun2t5jzpgimeBLedInhz0Q==\n-----END PUBLIC KEY-----\n";

/// The DER inside a PEM text.
pub(crate) fn spki_der(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(body).unwrap()
}

/// The key of private scalar 1.
pub(crate) fn k1() -> SigningKey {
    let mut der = hex::decode(
        "308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420\
         0000000000000000000000000000000000000000000000000000000000000001a144034200",
    )
    .unwrap();
    der.extend(&spki_der(K1_PEM)[26..]);
    SigningKey::from_pkcs8_der(&der).unwrap()
}

/// The example of RFC 7638 §3.1.
pub(crate) fn rfc7638_rsa() -> Value {
    json!({
        "kty": "RSA",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
        "e": "AQAB", "alg": "RS256", "kid": "2011-04-29",
    })
}
