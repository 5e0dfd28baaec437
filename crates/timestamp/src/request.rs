//! What is asked (RFC 3161 §2.4.1).

use mastio_core::Rng;

use crate::asn1::{magnitude, tag, write};

/// AlgorithmIdentifier of SHA-256, with its NULL.
pub(crate) const SHA_256: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00];

/// A number that the answer must repeat: proof that it was made for this request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonce(u64);

impl Nonce {
    /// Unpredictable, positive, 64 bits long.
    #[must_use]
    pub fn random(rng: &dyn Rng) -> Self {
        let mut bytes = [0; 8];
        rng.fill(&mut bytes);
        // The highest bit of an INTEGER is its sign.
        Self((u64::from_be_bytes(bytes) >> 1).max(1))
    }

    /// The content of its INTEGER.
    pub(crate) fn to_integer(self) -> Vec<u8> {
        let bytes = self.0.to_be_bytes();
        let digits = magnitude(&bytes);
        let sign: &[u8] = if digits.first().is_some_and(|first| first & 0x80 != 0) { &[0] } else { &[] };
        [sign, digits].concat()
    }
}

/// The question when a hash was there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    hash: [u8; 32],
    nonce: Nonce,
}

impl Request {
    /// Asks for the time of `hash`, which is itself the imprint and not hashed again (contract
    /// `audit-and-database.md` §1.9).
    #[must_use]
    pub fn new(hash: &[u8; 32], nonce: Nonce) -> Self {
        Self { hash: *hash, nonce }
    }

    /// TimeStampReq in DER, version 1, that asks for the authority's certificate with the answer. Its media type is
    /// `application/timestamp-query`.
    #[must_use]
    pub fn to_der(&self) -> Vec<u8> {
        let imprint = write(tag::SEQUENCE, &[SHA_256, &write(tag::OCTET_STRING, &[&self.hash])]);
        let nonce = write(tag::INTEGER, &[&self.nonce.to_integer()]);
        let certificates = write(tag::BOOLEAN, &[&[0xff]]);
        write(tag::SEQUENCE, &[&write(tag::INTEGER, &[&[1]]), &imprint, &nonce, &certificates])
    }
}

#[cfg(test)]
mod tests {
    use mastio_core::SeededRng;

    use super::*;

    #[test]
    fn a_request_is_what_the_rfc_says() {
        let hash: [u8; 32] = std::array::from_fn(|at| at as u8);
        let der = Request::new(&hash, Nonce(0x314c_fce4_e065_1827)).to_der();
        let expected = format!(
            "3043020101{}{}{}",
            "3031300d060960864801650304020105000420",
            hex::encode(hash),
            "0208314cfce4e06518270101ff"
        );
        assert_eq!(hex::encode(der), expected);
    }

    #[test]
    fn a_nonce_is_positive_and_in_its_shortest_form() {
        for (nonce, content) in [(1, "01"), (0x7f, "7f"), (0x80, "0080"), (0x1234, "1234")] {
            assert_eq!(hex::encode(Nonce(nonce).to_integer()), content);
        }
        let rng = SeededRng::new(7);
        let nonces: Vec<_> = (0..64).map(|_| Nonce::random(&rng)).collect();
        assert!(nonces.iter().all(|nonce| nonce.0 > 0 && nonce.0 <= i64::MAX as u64));
        assert!(nonces.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
