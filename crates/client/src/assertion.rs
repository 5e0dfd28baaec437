//! Client assertions (contract `auth.md` §4).

use base64::{Engine, engine::general_purpose::STANDARD};
use mastio_core::Stamp;
use mastio_jose::{
    SigningError,
    assertion::{AUDIENCE, MAX_LIFETIME},
    jws,
};
use serde::Serialize;

use crate::Identity;

#[derive(Serialize)]
struct Header {
    alg: &'static str,
    typ: &'static str,
    x5c: Vec<String>,
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    iss: &'a str,
    aud: &'static str,
    iat: i64,
    exp: i64,
    jti: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
}

/// The JWT by which an agent logs in: signed by its certificate's key, with all its certificates, valid for 300 s from
/// `iat`. `nonce` answers a login challenge; `jti` was never used before by this agent.
///
/// # Errors
/// When the cryptographic library fails.
pub fn assertion(
    identity: &Identity,
    nonce: Option<&str>,
    jti: &str,
    iat: Stamp,
) -> Result<String, SigningError> {
    let x5c = identity.chain().iter().map(|certificate| STANDARD.encode(certificate.der())).collect();
    let header = Header { alg: "ES256", typ: "JWT", x5c };
    let id = identity.agent_id().as_str();
    let exp = iat.plus(MAX_LIFETIME).unix();
    jws::sign(
        identity.signer(),
        &header,
        &Claims { sub: id, iss: id, aud: AUDIENCE, iat: iat.unix(), exp, jti, nonce },
    )
}

#[cfg(test)]
mod tests {
    use mastio_jose::{Assertion, VerifyingKey};
    use mastio_pki::KeyPair;

    use super::*;
    use crate::testing::{NOW, Pki, vectors};

    #[test]
    fn what_is_made_here_verifies_there() {
        let alice = Pki::new().identity("alice");
        let text = assertion(&alice, Some("challenge"), "jti-1", NOW).unwrap();
        let read = Assertion::parse(&text).unwrap();
        assert_eq!(read.x5c(), [alice.chain()[0].der(), alice.chain()[1].der()]);
        let leaf_key = VerifyingKey::from_spki_der(alice.chain()[0].spki_der()).unwrap();
        let claims = read.verify(&leaf_key, NOW).unwrap();
        assert_eq!(claims.sub, "acme::alice");
        assert_eq!((claims.jti.as_deref(), claims.nonce.as_deref()), (Some("jti-1"), Some("challenge")));
        let another =
            VerifyingKey::from_spki_der(Pki::new().identity("alice").chain()[0].spki_der()).unwrap();
        assert!(read.verify(&another, NOW).is_err());
    }

    #[test]
    fn the_signed_part_is_the_vectors_byte_for_byte() {
        let vectors = vectors();
        let text = |pointer: &str| vectors.pointer(pointer).unwrap().as_str().unwrap().to_owned();
        let chain = text("/certs/agent_leaf/pem") + &text("/certs/intermediate/pem");
        let key = KeyPair::from_pem(&text("/keys/agent/pkcs8_pem")).unwrap();
        let identity = Identity::new(&chain, key).unwrap();
        let nonce = text("/client_assertion/login_challenge_nonce");
        let ours = assertion(&identity, Some(&nonce), "0f9a3a54-9a53-4a0f-8f41-6a4c00000001", NOW).unwrap();
        let theirs = text("/client_assertion/with_nonce/jwt");
        assert_eq!(ours.rsplit_once('.').unwrap().0, theirs.rsplit_once('.').unwrap().0);
    }
}
