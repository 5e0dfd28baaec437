//! No input makes a parser panic: random text, random structures, and mutations of the contract's vectors, which get
//! further than noise does.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use mastio_jose::fuzz;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Every text in the vectors file.
fn corpus() -> Vec<String> {
    fn collect(value: &Value, texts: &mut Vec<String>) {
        match value {
            Value::String(text) => texts.push(text.clone()),
            Value::Array(items) => items.iter().for_each(|item| collect(item, texts)),
            Value::Object(members) => {
                texts.push(value.to_string());
                members.values().for_each(|member| collect(member, texts));
            }
            _ => {}
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/auth-vectors.json");
    let mut texts = Vec::new();
    collect(&serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap(), &mut texts);
    texts
}

fn all(data: &[u8]) {
    fuzz::dpop(data);
    fuzz::jwt(data);
    fuzz::jwk(data);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!("ES256")),
        Just(json!("dpop+jwt")),
        Just(json!("agent-trust-broker")),
        Just(json!(1_767_225_600)),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        let names = prop::sample::select(vec!["kty", "crv", "x", "y", "n", "e", "d", "jkt", "AAAA"]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((names, inner), 0..6).prop_map(|members| members
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()),
        ]
    })
}

/// A JWS that is in order but for up to three members of its header and claims, so that checks behind the first one
/// are reached.
fn nearly(header: Value, claims: Value) -> impl Strategy<Value = String> {
    [nearly_object(header), nearly_object(claims)].prop_map(|parts| {
        let [header, claims] = parts.map(|json| URL_SAFE_NO_PAD.encode(json.to_string()));
        format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode([1; 64]))
    })
}

fn nearly_object(valid: Value) -> impl Strategy<Value = Value> {
    let names: Vec<String> = valid.as_object().unwrap().keys().cloned().chain(["crit".to_owned()]).collect();
    prop::collection::vec((prop::sample::select(names), any_json()), 0..3).prop_map(move |changes| {
        let mut object = valid.clone();
        changes.into_iter().for_each(|(name, value)| object[name] = value);
        object
    })
}

const NOW: i64 = 1_767_225_600;

fn nearly_proof() -> impl Strategy<Value = String> {
    let jwk = json!({
        "kty": "EC", "crv": "P-256",
        "x": "7ZGSB6SZLFwda7b8i_5Zk-vijfTtaVD_30wHtZdho4A", "y": "jI6FChZup4mAXjbOuoLyKoeiThfbG9hjAgM5uoUrRug",
    });
    nearly(
        json!({ "alg": "ES256", "typ": "dpop+jwt", "jwk": jwk }),
        json!({
            "jti": "1", "htm": "POST", "htu": "https://mastio.example.com:9443/v1/auth/token", "iat": NOW, "nbf": NOW,
            "ath": "", "nonce": "",
        }),
    )
}

fn nearly_assertion() -> impl Strategy<Value = String> {
    nearly(
        json!({ "alg": "ES256", "typ": "JWT", "x5c": ["AAAA"] }),
        json!({
            "sub": "acme::a", "aud": "agent-trust-broker", "iat": NOW, "nbf": NOW, "exp": NOW + 300, "jti": "1",
            "nonce": "n",
        }),
    )
}

fn nearly_token() -> impl Strategy<Value = String> {
    nearly(
        json!({ "alg": "ES256", "typ": "JWT", "kid": "mastio-0bcc8908c3cc5f2c" }),
        json!({
            "iss": "cullis-mastio:acme", "aud": "cullis-local", "sub": "acme::a", "scope": "local", "iat": NOW,
            "exp": NOW + 300, "jti": "1", "cnf": { "jkt": "WGrhTegv5JimX2KTb5QJ6Qx_EGJ714eFal3EgMDPrAI" }, "ep": 1,
        }),
    )
}

proptest! {
    #[test]
    fn random_bytes(data in prop::collection::vec(any::<u8>(), 0..512), text in ".{0,256}") {
        all(&data);
        all(text.as_bytes());
    }

    #[test]
    fn random_structures(
        proof in nearly_proof(),
        assertion in nearly_assertion(),
        token in nearly_token(),
        jwk in any_json(),
    ) {
        for text in [proof, assertion, token, jwk.to_string()] {
            all(text.as_bytes());
        }
    }

    #[test]
    fn mutated_vectors(
        entry in prop::sample::select(corpus()),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut data = entry.into_bytes();
        prop_assume!(!data.is_empty());
        let at = at.index(data.len());
        data[at] = byte;
        all(&data);
        data.truncate(cut.index(data.len()));
        all(&data);
    }
}
