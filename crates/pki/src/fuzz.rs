//! One plain function per parser that sees bytes before anybody is authenticated. A run that returns is a success; the
//! corpus runner calls them, and so can libFuzzer.

use mastio_core::{SpiffeId, Stamp};

use crate::{Anchors, Certificate, KeyPair, PublicKey, SigningRequest, pem};

/// Every reader of PEM text.
pub fn pem(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = pem::certificates(&text);
    let _ = KeyPair::from_pem(&text);
    let _ = PublicKey::from_pem(&text);
    let _ = SigningRequest::from_pem(&text);
}

/// Every reader of DER.
pub fn x509(data: &[u8]) {
    let _ = Certificate::from_der(data.to_vec());
    let _ = PublicKey::from_spki_der(data);
    let _ = SigningRequest::from_der(data);
}

/// SPIFFE ids.
pub fn spiffe(data: &[u8]) {
    let _ = SpiffeId::parse(&String::from_utf8_lossy(data)).map(|id| id.principal());
}

/// Path validation: the first certificate of a PEM text is the leaf, the others are presented with it, and the last
/// is the anchor.
pub fn path(data: &[u8]) {
    let Ok(certificates) = pem::certificates(&String::from_utf8_lossy(data)) else {
        return;
    };
    let [leaf, presented @ ..] = certificates.as_slice() else {
        return;
    };
    if let Ok(anchors) = Anchors::builder().org(certificates.last().cloned()).build() {
        let _ = anchors.validate(leaf, presented, Stamp::from_unix(1_800_000_000));
    }
}
