//! The document at `/.well-known/jwks-local.json` (contract `auth.md` §7, `pki.md` §1).

use mastio_core::{Kid, sha256};
use serde_json::{Value, json};

use crate::Jwk;

/// The public keys whose tokens are still valid, and the document's ETag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwkSet {
    document: String,
    etag: String,
}

impl JwkSet {
    /// The set of these ES256 keys; their order does not matter.
    #[must_use]
    pub fn new(keys: impl IntoIterator<Item = (Kid, Jwk)>) -> Self {
        let mut keys: Vec<(Kid, Jwk)> = keys.into_iter().collect();
        keys.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let keys: Vec<Value> = keys.iter().map(|(kid, key)| entry(kid, key)).collect();
        // The ETag is over the array with sorted members, so that is how it is written. All of it is ASCII.
        let array = Value::from(keys).to_string();
        let digest = hex::encode(sha256(array.as_bytes()));
        Self { document: format!(r#"{{"keys":{array}}}"#), etag: format!("\"{}\"", &digest[..32]) }
    }

    /// The body, `application/json`.
    #[must_use]
    pub fn document(&self) -> &str {
        &self.document
    }

    /// The value of the `ETag` header, quotes included.
    #[must_use]
    pub fn etag(&self) -> &str {
        &self.etag
    }
}

/// Members in lexical order, whichever map `serde_json` was built with.
fn entry(kid: &Kid, key: &Jwk) -> Value {
    let jwk = key.to_value();
    json!({
        "alg": "ES256",
        "crv": jwk["crv"],
        "kid": kid,
        "kty": jwk["kty"],
        "use": "sig",
        "x": jwk["x"],
        "y": jwk["y"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_keys;

    fn published(pem: &str) -> (Kid, Jwk) {
        (Kid::of_pem(pem), Jwk::from_spki_der(&test_keys::spki_der(pem)).unwrap())
    }

    #[test]
    fn etags_match_the_contract() {
        let (k1, k2) = (published(test_keys::K1_PEM), published(test_keys::K2_PEM));
        assert_eq!(JwkSet::new([k1.clone()]).etag(), "\"94b88541ea288ec64f5aa0deb59e7303\"");
        let both = JwkSet::new([k2, k1]);
        assert_eq!(both.etag(), "\"3451e35ee3370b38ba3a8e18486d8234\"");
        let document: Value = serde_json::from_str(both.document()).unwrap();
        assert_eq!(document["keys"][0]["kid"], "mastio-0bcc8908c3cc5f2c");
        assert_eq!(document["keys"][1]["use"], "sig");
    }
}
