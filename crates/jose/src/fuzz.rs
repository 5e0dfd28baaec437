//! Every parser here that sees bytes before authentication, as a plain function that takes any bytes and must return.
//! A corpus runner or libFuzzer calls them. Claims are read as if signatures held, so that their checks are reached.

use mastio_core::Stamp;
use serde_json::Value;

use crate::{
    Assertion, Compact, Expectation, HtuSet, Jwk, NonceCheck, NonceKey, Proof, TokenClaims, VerifyingKey,
    Window, token,
};

const NOW: Stamp = Stamp::from_unix(1_767_225_600);

/// The value of a `DPoP` header.
pub fn dpop(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(htu) = HtuSet::new(["https://mastio.example.com:9443"]) else { return };
    let nonces = NonceKey::from_bytes([0; 32]);
    let accepts = |nonce: &str| nonces.check(nonce, NOW);
    let expected = Expectation {
        method: "POST",
        htu: &htu,
        path: "/v1/auth/token",
        access_token: Some(&text),
        nonce: NonceCheck::Required(&accepts),
        now: NOW,
        window: Window::default(),
    };
    let _ = htu.matches(&text, &text);
    if let Ok(proof) = Proof::parse(&text) {
        let _ = proof.verify(&expected);
        let _ = proof.check_claims(&expected);
    }
}

/// A client assertion, or an access token.
pub fn jwt(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(assertion) = Assertion::parse(&text) {
        let _ = assertion.check_claims(NOW);
    }
    let _ = token::peek_kid(&text);
    let _ = token::verify(&text, |_| None, "cullis-mastio:acme", NOW);
    if let Ok(jws) = Compact::split(&text) {
        let _ = TokenClaims::read(&jws, "cullis-mastio:acme", NOW);
    }
}

/// A JWK in JSON, a public key in DER, and a signature for it.
pub fn jwk(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(key) = Jwk::from_json(&text) {
        let _ = key.verifying_key().verify_detached(data, &text);
    }
    if let Ok(value) = serde_json::from_slice::<Value>(data) {
        let _ = Jwk::from_value(&value);
    }
    let _ = VerifyingKey::from_spki_der(data);
}
