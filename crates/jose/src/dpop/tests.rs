use serde_json::{Value, json};

use super::*;
use crate::{SigningKey, jws, test_keys};

const NOW: Stamp = Stamp::from_unix(1_767_225_600);

fn claims() -> Value {
    json!({ "jti": "1", "htm": "POST", "htu": "https://mastio.example.com/v1/mcp", "iat": NOW.unix() })
}

fn signed(key: &SigningKey, claims: &Value) -> String {
    let header = json!({ "alg": "ES256", "typ": "dpop+jwt", "jwk": key.public_jwk().to_value() });
    jws::sign(key, &header, claims).unwrap()
}

fn verify(proof: &str, now: Stamp) -> Result<VerifiedProof, DpopError> {
    let htu = HtuSet::new(["https://mastio.example.com"]).unwrap();
    Proof::parse(proof)?.verify(&Expectation {
        method: "post",
        htu: &htu,
        path: "/v1/mcp",
        access_token: None,
        nonce: NonceCheck::NotRequired,
        now,
        window: Window::default(),
    })
}

fn with(member: &str, value: Value) -> Result<VerifiedProof, DpopError> {
    let mut claims = claims();
    claims[member] = value;
    verify(&signed(&test_keys::k1(), &claims), NOW)
}

#[test]
fn claims_of_the_wrong_type_are_refused_by_name() {
    for (member, value, error) in [
        ("jti", json!(5), DpopError::Signature),
        ("jti", json!(null), DpopError::JtiMissing),
        ("jti", json!(""), DpopError::JtiMissing),
        ("jti", json!("x".repeat(257)), DpopError::JtiTooLong),
        ("iat", json!("1767225600"), DpopError::IatMissing),
        ("iat", json!([1_767_225_600]), DpopError::IatMissing),
        ("iat", json!(1e300), DpopError::IatOutOfWindow),
        ("iat", json!(-1e300), DpopError::IatOutOfWindow),
        ("htm", json!(5), DpopError::Method),
        ("nbf", json!(NOW.unix() + 1), DpopError::Signature),
        ("nbf", json!("soon"), DpopError::Signature),
    ] {
        assert_eq!(with(member, value.clone()), Err(error), "{member} {value}");
    }
    assert!(matches!(with("htu", json!({})), Err(DpopError::Url { got, .. }) if got.is_empty()));
    assert!(with("jti", json!("x".repeat(256))).is_ok());
    assert!(with("nbf", json!(NOW.unix())).is_ok());
    assert!(with("exp", json!(1)).is_ok(), "exp is not a claim of proofs");
}

#[test]
fn the_window_includes_both_ends_to_the_microsecond() {
    let proof = signed(&test_keys::k1(), &claims());
    let micro = Duration::from_micros(1);
    let Window { past, future } = Window::default();
    assert!(verify(&proof, NOW.plus(past)).is_ok());
    assert_eq!(verify(&proof, NOW.plus(past + micro)), Err(DpopError::IatOutOfWindow));
    assert!(verify(&proof, NOW.minus(future)).is_ok());
    assert_eq!(verify(&proof, NOW.minus(future + micro)), Err(DpopError::IatOutOfWindow));
    assert!(with("iat", json!(1_767_225_599.5)).is_ok(), "fractions are allowed");
}

#[test]
fn an_htu_mismatch_names_both_urls() {
    let error = with("htu", json!("https://other.example.com/v1/mcp")).unwrap_err();
    let expected = "https://mastio.example.com/v1/mcp".to_owned();
    assert_eq!(error, DpopError::Url { expected, got: "https://other.example.com/v1/mcp".into() });
    assert_eq!(error.to_string(), "Invalid DPoP proof: htu mismatch");
}

#[test]
fn the_header_is_checked_before_the_signature() {
    let key = test_keys::k1();
    let jwk = key.public_jwk().to_value();
    for (header, error) in [
        (json!({ "alg": "ES256", "typ": "DPoP+jwt", "jwk": jwk }), DpopError::Type),
        (json!({ "alg": "ES256", "typ": 5, "jwk": jwk }), DpopError::Type),
        (json!({ "alg": "RS256", "typ": "dpop+jwt", "jwk": jwk }), DpopError::Algorithm("'RS256'".into())),
        (json!({ "alg": "'\n", "typ": "dpop+jwt" }), DpopError::Algorithm("''".into())),
        (json!({ "alg": 5, "typ": "dpop+jwt" }), DpopError::Algorithm("None".into())),
        (json!({ "alg": "ES256", "typ": "dpop+jwt", "jwk": "k" }), DpopError::KeyMissing),
        (json!({ "alg": "ES256", "typ": "dpop+jwt", "jwk": {} }), DpopError::KeyInvalid),
        (json!({ "alg": "PS256", "typ": "dpop+jwt", "jwk": jwk }), DpopError::Signature),
    ] {
        let proof = jws::sign(&key, &header, &claims()).unwrap();
        assert_eq!(verify(&proof, NOW), Err(error), "{header}");
    }
}

#[test]
fn replay_keys_depend_on_key_and_jti() {
    let (one, other) = (Jkt::new([1; 32]), Jkt::new([2; 32]));
    assert_eq!(replay_key(&one, "a"), replay_key(&one, "a"));
    assert_ne!(replay_key(&one, "a"), replay_key(&other, "a"));
    assert_ne!(replay_key(&one, "a"), replay_key(&one, "b"));
}
