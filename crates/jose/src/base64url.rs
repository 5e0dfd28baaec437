//! Strict base64url: foreign characters, impossible lengths and non-zero tail bits are refused, so that one value has
//! one text.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::URL_SAFE_NO_PAD},
};

const PADDED_OR_NOT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Without padding, as JWS wants it (RFC 7515 §2).
pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Without padding only.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// With or without padding: some clients pad JWK coordinates and message signatures.
pub(crate) fn decode_lenient(text: &str) -> Option<Vec<u8>> {
    PADDED_OR_NOT.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_has_one_text() {
        assert_eq!(decode("AA"), Some(vec![0]));
        assert_eq!(decode_lenient("AA=="), Some(vec![0]));
        for bad in ["A", "AB", "A+", "A/", "A A", "AA=A", "AAAAA"] {
            assert_eq!(decode(bad), None, "{bad}");
            assert_eq!(decode_lenient(bad), None, "{bad}");
        }
        assert_eq!(decode("AA=="), None);
    }
}
