//! What the authority answers (RFC 3161 §2.4.2).

use der::{AnyRef, Tag, Tagged, asn1::Utf8StringRef};

use crate::{
    MAX_LENGTH, TimestampError, Token,
    asn1::{elements, inside, only, raw_elements, tag, write},
};

impl Token {
    /// Reads a TimeStampResp in DER: the token, if the authority gave one.
    ///
    /// # Errors
    /// [`TimestampError::Refused`] if it did not, else what is wrong with the bytes.
    pub fn from_response(der: &[u8]) -> Result<Self, TimestampError> {
        if der.len() > MAX_LENGTH {
            return Err(TimestampError::TooLong);
        }
        let malformed = |_| TimestampError::Malformed("the answer");
        let answer = only(der).map_err(malformed)?;
        answer.tag().assert_eq(Tag::Sequence).map_err(malformed)?;
        let parts = elements(answer.value()).map_err(malformed)?;
        let status = *parts.first().ok_or(TimestampError::Malformed("the answer"))?;
        granted(status)?;
        match raw_elements(answer.value()).map_err(malformed)?.as_slice() {
            [_, token] => Self::from_der(token.to_vec()),
            _ => Err(TimestampError::Malformed("the answer")),
        }
    }
}

/// A TimeStampResp in DER that grants `token`: what `openssl ts -verify -in` reads.
#[must_use]
pub fn tsr_of(token: &Token) -> Vec<u8> {
    let status = write(tag::SEQUENCE, &[&write(tag::INTEGER, &[&[0]])]);
    write(tag::SEQUENCE, &[&status, token.der()])
}

/// Whether a PKIStatusInfo is one of the two that come with a token: granted, granted with modifications.
fn granted(status: AnyRef<'_>) -> Result<(), TimestampError> {
    let malformed = |_| TimestampError::Malformed("the status");
    let parts = inside(status, Tag::Sequence).map_err(malformed)?;
    let (code, rest) = parts.split_first().ok_or(TimestampError::Malformed("the status"))?;
    let code: u8 = code.decode_as().map_err(malformed)?;
    if code <= 1 {
        return Ok(());
    }
    let mut words = vec![status_word(code).to_owned()];
    for part in rest {
        match part.tag() {
            Tag::BitString => words.extend(failures(part.value()).map(str::to_owned)),
            _ => words.extend(texts(*part)),
        }
    }
    Err(TimestampError::Refused(words.join(", ")))
}

fn status_word(code: u8) -> &'static str {
    match code {
        2 => "rejection",
        3 => "waiting",
        4 => "revocation warning",
        5 => "revocation notification",
        _ => "an unknown status",
    }
}

/// The names of PKIFailureInfo (RFC 3161 §2.4.2) by bit.
const FAILURES: [(usize, &str); 8] = [
    (0, "badAlg"),
    (2, "badRequest"),
    (5, "badDataFormat"),
    (14, "timeNotAvailable"),
    (15, "unacceptedPolicy"),
    (16, "unacceptedExtension"),
    (17, "addInfoNotAvailable"),
    (25, "systemFailure"),
];

fn failures(bit_string: &[u8]) -> impl Iterator<Item = &'static str> {
    // The first byte counts the unused bits of the last.
    let bits = bit_string.get(1..).unwrap_or_default();
    FAILURES.into_iter().filter_map(move |(bit, name)| {
        let byte = bits.get(bit / 8)?;
        (byte & (0x80 >> (bit % 8)) != 0).then_some(name)
    })
}

/// What a PKIFreeText says, printable and short: it ends in a log line.
fn texts(free_text: AnyRef<'_>) -> Vec<String> {
    let parts = inside(free_text, Tag::Sequence).unwrap_or_default();
    let text = |part: &AnyRef<'_>| {
        let text: Utf8StringRef<'_> = part.decode_as().ok()?;
        Some(text.as_str().chars().filter(|letter| !letter.is_control()).take(200).collect())
    };
    parts.iter().filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_the_authoritys_words() {
        // status 2, text "policy\n", failInfo unacceptedPolicy (bit 15)
        let der =
            hex::decode("301630140201023009 0c07706f6c6963790a 0304 00000100".replace(' ', "")).unwrap();
        let refused = Token::from_response(&der).unwrap_err();
        assert_eq!(refused, TimestampError::Refused("rejection, policy, unacceptedPolicy".to_owned()));
    }

    #[test]
    fn other_bytes_are_not_an_answer() {
        for bytes in [&b""[..], b"<html>", &[0x30, 0x00], &[0x30, 0x05, 0x30, 0x03, 0x02, 0x01, 0x00]] {
            assert!(matches!(Token::from_response(bytes), Err(TimestampError::Malformed(_))), "{bytes:x?}");
        }
        assert_eq!(Token::from_response(&vec![0x30; MAX_LENGTH + 1]).unwrap_err(), TimestampError::TooLong);
    }
}
