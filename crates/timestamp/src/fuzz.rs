//! What an authority, or somebody on the way to it, may answer: bytes that nobody vouches for. A run that returns is a
//! success; the corpus runner calls this, and so can libFuzzer.

use std::time::Duration;

use mastio_core::Stamp;

use crate::{Anchors, Expectation, Token};

/// An answer, or a bare token, read and verified as one by anybody, and as one by the CAs that came in it.
pub fn timestamp(data: &[u8]) {
    let answer = Token::from_response(data);
    let Ok(token) = answer.or_else(|_| Token::from_der(data.to_vec())) else {
        return;
    };
    let hash = token.hash().copied().unwrap_or_default();
    let expected = Expectation::of(&hash).near(Stamp::from_unix(1_800_000_000), Duration::MAX);
    let _ = token.verify(&expected);
    let authorities = token.certificates().iter().filter(|certificate| certificate.is_ca()).cloned();
    if let Ok(anchors) = Anchors::new(authorities.collect()) {
        let _ = token.verify(&expected.trusting(&anchors));
    }
}
