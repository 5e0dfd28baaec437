//! A time stamp: who says that a hash was there, and when.

use mastio_pki::Certificate;

use crate::{
    Expectation, MAX_CERTIFICATES, MAX_LENGTH, TimeStamp, TimestampError, cms::SignedData, info::Info,
};

/// A TimeStampToken (RFC 3161 §2.4.2) that was read. Nothing in it is true before [`Token::verify`] says so.
#[derive(Debug, Clone)]
pub struct Token {
    der: Vec<u8>,
    signed: SignedData,
    info: Info,
}

impl Token {
    /// Reads a token in DER.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn from_der(der: Vec<u8>) -> Result<Self, TimestampError> {
        if der.len() > MAX_LENGTH {
            return Err(TimestampError::TooLong);
        }
        let signed = SignedData::read(&der)?;
        let info = Info::read(&signed.content)?;
        Ok(Self { der, signed, info })
    }

    /// The token in DER, as it came.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The certificates that came in it, in its order.
    #[must_use]
    pub fn certificates(&self) -> &[Certificate] {
        &self.signed.certificates
    }

    /// The hash that it claims to be over, if that is a SHA-256.
    pub(crate) fn hash(&self) -> Option<&[u8; 32]> {
        self.info.hash.as_ref()
    }

    /// Whether the token is what `expected` asks for: the hash, the nonce, the one signature over it by a certificate
    /// that is for time stamping alone and leads to an anchor, and the time.
    ///
    /// # Errors
    /// [`TimestampError`], for the first that is not.
    pub fn verify(&self, expected: &Expectation<'_>) -> Result<TimeStamp, TimestampError> {
        if self.info.hash.as_ref() != Some(expected.hash) {
            return Err(TimestampError::OtherHash);
        }
        if expected.nonce.is_some_and(|nonce| self.info.nonce != Some(nonce.to_integer())) {
            return Err(TimestampError::OtherNonce);
        }
        let known: Vec<_> = self.signed.certificates.iter().chain(expected.certificates).collect();
        if known.len() > MAX_CERTIFICATES {
            return Err(TimestampError::TooManyCertificates);
        }
        let signer = self.signed.signer.find(known.iter().copied()).ok_or(TimestampError::SignerUnknown)?;
        self.signed.signer.verify(&self.signed.content, signer)?;
        if !signer.may_only_time_stamp() {
            return Err(TimestampError::NotForTimeStamping(signer.subject().to_owned()));
        }
        let chain = match expected.anchors {
            Some(anchors) => anchors.path(signer, &known, self.info.gen_time)?,
            None => unanchored(signer, &known),
        };
        self.check_time(expected)?;
        Ok(TimeStamp {
            gen_time: self.info.gen_time,
            accuracy: self.info.accuracy,
            serial: self.info.serial.clone(),
            policy: self.info.policy.clone(),
            authority: signer.subject().to_owned(),
            chain,
        })
    }

    fn check_time(&self, expected: &Expectation<'_>) -> Result<(), TimestampError> {
        let Some((clock, skew)) = expected.near else { return Ok(()) };
        let stamped = self.info.gen_time;
        let apart = stamped.since(clock).max(clock.since(stamped));
        if apart > skew.saturating_add(self.info.accuracy) {
            return Err(TimestampError::Skew { stamped, clock });
        }
        Ok(())
    }
}

fn unanchored(signer: &Certificate, known: &[&Certificate]) -> Vec<Certificate> {
    let others = known.iter().copied().filter(|certificate| *certificate != signer);
    std::iter::once(signer).chain(others).cloned().collect()
}
