//! The contract's vectors (`fixtures/auth-vectors.json`).

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use base64::{Engine, engine::general_purpose::STANDARD};
use mastio_core::{Kid, Stamp};
use mastio_jose::{
    Assertion, AssertionError, Compact, DpopError, Expectation, HtuSet, Jwk, JwkSet, NonceCheck, Proof,
    SigningKey, VerifiedProof, VerifyingKey, Window, ath, token,
};
use serde_json::Value;

fn vectors() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/auth-vectors.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn now(vectors: &Value) -> Stamp {
    Stamp::from_unix(vectors["now"].as_i64().unwrap())
}

fn der(pem: &Value) -> Vec<u8> {
    let body: String = text(pem).lines().filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(body).unwrap()
}

fn key(vectors: &Value, name: &str) -> VerifyingKey {
    VerifyingKey::from_spki_der(&der(&vectors["keys"][name]["spki_pem"])).unwrap()
}

fn verify_proof(vectors: &Value, case: &Value) -> Result<VerifiedProof, DpopError> {
    let public = text(&vectors["public_url"]);
    let htu = HtuSet::new([public]).unwrap();
    let path = text(&case["request_url"]).strip_prefix(public).unwrap().split('?').next().unwrap();
    let nonce = text(&vectors["server_nonce_current"]);
    let accepts = |presented: &str| presented == nonce;
    Proof::parse(text(&case["proof"]))?.verify(&Expectation {
        method: text(&case["request_method"]),
        htu: &htu,
        path,
        // The vector says that the token is the one minted below.
        access_token: case.get("access_token").map(|_| text(&vectors["local_token"]["jwt"])),
        nonce: if case["require_nonce"] == true {
            NonceCheck::Required(&accepts)
        } else {
            NonceCheck::NotRequired
        },
        now: now(vectors),
        window: Window::default(),
    })
}

#[test]
fn dpop_cases_end_as_the_contract_says() {
    let vectors = vectors();
    let cases = vectors["dpop"].as_object().unwrap();
    assert_eq!(cases.len(), 27);
    for (name, case) in cases {
        let verdict = verify_proof(&vectors, case);
        match (text(&case["expect"]), verdict) {
            ("ok", Ok(proof)) => {
                assert!(!proof.jti.is_empty(), "{name}");
                if let Some(jkt) = case.get("jkt") {
                    assert_eq!(proof.jkt.to_string(), text(jkt), "{name}");
                }
            }
            // A valid proof of another key: the caller compares.
            ("DPoP proof was signed by a key not registered for this agent.", Ok(proof)) => {
                assert_ne!(proof.jkt.to_string(), text(&case["pinned_jkt"]), "{name}");
            }
            ("any 401", Err(_)) => {}
            (expected, Err(error)) => assert_eq!(error.to_string(), expected, "{name}"),
            (expected, Ok(_)) => panic!("{name} was accepted, expected: {expected}"),
        }
    }
}

#[test]
fn type_confusion_is_refused_by_name() {
    let vectors = vectors();
    let verdict = |name: &str| verify_proof(&vectors, &vectors["dpop"][name]).unwrap_err();
    assert_eq!(verdict("must_not_500_htm_number"), DpopError::Method);
    assert_eq!(verdict("must_not_500_iat_string"), DpopError::IatMissing);
    assert_eq!(verdict("htu_mismatch_port").reason(), "dpop_htu_mismatch");
}

#[test]
fn keys_have_the_contracts_thumbprints() {
    let vectors = vectors();
    for (name, entry) in vectors["keys"].as_object().unwrap() {
        let public = Jwk::from_spki_der(&der(&entry["spki_pem"])).unwrap();
        assert_eq!(public.thumbprint().to_string(), text(&entry["jkt"]), "{name}");
        let private = SigningKey::from_pkcs8_der(&der(&entry["pkcs8_pem"])).unwrap();
        assert_eq!(private.public_jwk(), public, "{name}");
        assert_eq!(private.spki_pem(), text(&entry["spki_pem"]), "{name}");
        assert!(Jwk::from_value(&entry["private_jwk"]).is_err(), "{name}");
    }
}

#[test]
fn the_token_verifies_and_counts_as_epoch_0() {
    let vectors = vectors();
    let (local, now) = (&vectors["local_token"], now(&vectors));
    let jwt = text(&local["jwt"]);
    assert_eq!(ath(jwt), "8X16nHa18G33_yiJ2xx-GDiaePe1Ec2ueJtFsKe1w3s");
    assert_eq!(token::peek_kid(jwt).unwrap().as_str(), text(&local["kid"]));

    let lookup = |kid: &str| (kid == text(&local["kid"])).then(|| key(&vectors, "mastio_signer"));
    let claims = token::verify(jwt, lookup, "cullis-mastio:acme", now).unwrap();
    let expected = &local["claims"];
    assert_eq!(claims.sub.to_string(), text(&expected["sub"]));
    assert_eq!(claims.sub.kind.as_str(), text(&expected["principal_type"]));
    assert_eq!(claims.sub.org.as_str(), text(&expected["org"]));
    assert_eq!(claims.jti, text(&expected["jti"]));
    assert_eq!(claims.cnf.jkt.unwrap().to_string(), text(&expected["cnf"]["jkt"]));
    assert_eq!((claims.iat.unix(), claims.exp.unix()), (1_767_225_600, 1_767_226_500));
    assert_eq!(claims.ep, 0);

    // Minted again it says the same, with the epoch at the end.
    let signer = SigningKey::from_pkcs8_der(&der(&vectors["keys"]["mastio_signer"]["pkcs8_pem"])).unwrap();
    assert_eq!(signer.kid().as_str(), text(&local["kid"]));
    let again = claims.mint(&signer, &signer.kid()).unwrap();
    let json = |jwt: &str| {
        let part =
            |n| base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(jwt.split('.').nth(n).unwrap());
        [0, 1].map(|n| String::from_utf8(part(n).unwrap()).unwrap())
    };
    let ([header, old], [header_again, new]) = (json(jwt), json(&again));
    assert_eq!(header_again, header);
    assert_eq!(new, format!("{},\"ep\":0}}", old.strip_suffix('}').unwrap()));
}

#[test]
fn the_published_key_has_the_contracts_etag() {
    let vectors = vectors();
    let local = &vectors["local_token"];
    let public = Jwk::from_spki_der(&der(&vectors["keys"]["mastio_signer"]["spki_pem"])).unwrap();
    let set = JwkSet::new([(Kid::from_text(text(&local["kid"])), public)]);
    assert_eq!(set.etag(), text(&local["jwks_etag"]));
    let document: Value = serde_json::from_str(set.document()).unwrap();
    assert_eq!(document["keys"][0], local["jwks_entry"]);
}

/// Which key signed each assertion, and what this crate says to it. Cases that only path validation or a comparison
/// with the leaf's identity can refuse are accepted here: they are tested again with the `pki` crate and at the mint.
#[test]
fn assertions_end_as_the_contract_says() {
    type Verdict = Result<&'static str, AssertionError>;
    let expected: [(&str, &str, usize, Verdict); 9] = [
        ("plain_chain", "agent", 2, Ok("acme::kyc-screener")),
        ("with_nonce", "agent", 2, Ok("acme::kyc-screener")),
        ("leaf_only_x5c", "agent", 1, Ok("acme::kyc-screener")),
        ("user_principal", "agent", 2, Ok("acme::user::alice")),
        ("sub_mismatch", "agent", 2, Ok("acme::victim")),
        ("leaf_used_as_ca", "dpop_other", 3, Ok("acme::victim")),
        ("lifetime_10y", "agent", 2, Err(AssertionError::Lifetime)),
        ("wrong_aud", "agent", 2, Err(AssertionError::Audience)),
        ("expired_beyond_leeway", "agent", 2, Err(AssertionError::Expired)),
    ];
    let vectors = vectors();
    let cases = &vectors["client_assertion"];
    let jwts = cases.as_object().unwrap().values().filter(|case| case.get("jwt").is_some()).count();
    assert_eq!(jwts, expected.len());
    for (name, signer, certificates, verdict) in expected {
        let assertion = Assertion::parse(text(&cases[name]["jwt"])).unwrap();
        assert_eq!(assertion.x5c().len(), certificates, "{name}");
        let claims = assertion.verify(&key(&vectors, signer), now(&vectors));
        assert_eq!(
            claims.as_ref().map(|claims| claims.sub.as_str()),
            verdict.as_ref().map(|sub| *sub),
            "{name}"
        );
        let foreign = assertion.verify(&key(&vectors, "org_root"), now(&vectors));
        assert!(matches!(foreign, Err(AssertionError::Signature(_))), "{name}");
    }
    let with_nonce = Assertion::parse(text(&cases["with_nonce"]["jwt"])).unwrap();
    let claims = with_nonce.verify(&key(&vectors, "agent"), now(&vectors)).unwrap();
    assert_eq!(claims.nonce.as_deref(), Some(text(&cases["login_challenge_nonce"])));
    assert_eq!(
        with_nonce.x5c()[0],
        STANDARD.decode(text(&vectors["certs"]["agent_leaf"]["der_b64"])).unwrap()
    );
}

#[test]
fn the_countersignature_verifies() {
    let vectors = vectors();
    let assertion = text(&vectors["client_assertion"]["plain_chain"]["jwt"]).as_bytes();
    let signature = text(&vectors["mastio_countersignature"]["value_der_b64url"]);
    let signer = key(&vectors, "mastio_signer");
    assert_eq!(signer.verify_detached(assertion, signature), Ok(()));
    assert!(signer.verify_detached(&assertion[1..], signature).is_err());
}

#[test]
fn enrolment_proofs_verify() {
    let spki = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE7ZGSB6SZLFwda7b8i/5Zk+vijfTtaVD/30wHtZdho4CMjoUKFm6niYBeNs66gvIqh6JOF9sb2GMCAzm6hStG6A==";
    let key = VerifyingKey::from_spki_der(&STANDARD.decode(spki).unwrap()).unwrap();
    let message = b"enrollment-pop:v1|a16b796d3f154aba7f3c68d190b256c7ea3ee9e60527b734299ae4bc73cdf94b";
    let signature =
        "MEQCIHMZvh8ssuFPp0Ot_s21jGNyuFRuISvSFCI6nMrOC0aHAiBcNDIydXfk-nIFaAyMUNUVH49p5vYrjyV0ydSNo99M_g";
    assert_eq!(key.verify_detached(message, signature), Ok(()));
    assert_eq!(key.verify_detached(message, &format!("{signature}==")), Ok(()), "padding is tolerated");
    let stray_bits = signature.replace("_g", "_h");
    assert!(key.verify_detached(message, &stray_bits).is_err());

    let status = b"enrollment-status:v1|AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
    let proof =
        "MEYCIQCQS8Purg4CgKUGJqcsPJ_16OnNnvTGNm4LKZmFbN0rQQIhANOWDgHsswJY0aAcM-ymud2znmyRmtyAqEQi8S05zU6T";
    assert_eq!(key.verify_detached(status, proof), Ok(()));
}

#[test]
fn the_continuity_proof_verifies() {
    let vectors = vectors();
    let proof = &vectors["key_continuity_proof"];
    let signature = text(&proof["proof"]["signature_b64u"]);
    let signature = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(signature).unwrap();
    let signed = text(&proof["canonical_json"]).as_bytes();
    let verdict = key(&vectors, "mastio_signer").verify(mastio_jose::Algorithm::Es256, signed, &signature);
    assert_eq!(verdict, Ok(()));
}

#[test]
fn a_changed_byte_breaks_every_signature() {
    let vectors = vectors();
    let jwt = text(&vectors["local_token"]["jwt"]);
    let signer = key(&vectors, "mastio_signer");
    for at in 0..jwt.len() {
        let mut changed = jwt.as_bytes().to_vec();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        let verified = Compact::split(&changed)
            .is_ok_and(|jws| jws.verify(&signer, mastio_jose::Algorithm::Es256).is_ok());
        assert!(!verified, "byte {at}");
    }
}
