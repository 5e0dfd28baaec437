//! Why a time stamp is not believed.

/// Why a time stamp is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    /// Longer than [`crate::MAX_LENGTH`].
    #[error("longer than {} bytes: no time stamp is", crate::MAX_LENGTH)]
    TooLong,
    /// Not the DER that it should be; which part.
    #[error("not a time stamp in DER: {0} cannot be read")]
    Malformed(&'static str),
    /// The authority gave none; its words.
    #[error("the authority refused to stamp: {0}")]
    Refused(String),
    /// Signed content of another kind.
    #[error("what is signed is not a time stamp (TSTInfo)")]
    OtherContent,
    /// The imprint differs.
    #[error("the time stamp is over another hash")]
    OtherHash,
    /// The nonce differs or is missing.
    #[error("the time stamp answers another request: its nonce differs")]
    OtherNonce,
    /// Not exactly one SignerInfo.
    #[error("the time stamp has {0} signatures; exactly one is allowed")]
    Signers(usize),
    /// A signed attribute that must be there once; its name.
    #[error("the signed attribute {0} is missing or there more than once")]
    Attribute(&'static str),
    /// The message-digest is not that of the content.
    #[error("the time stamp was changed: its content does not have the digest that was signed")]
    Changed,
    /// The signature does not verify.
    #[error("the time stamp's signature is wrong")]
    Signature,
    /// An algorithm that we do not verify; its object identifier.
    #[error("the algorithm {0} is not accepted: RSA or ECDSA with SHA-256, SHA-384 or SHA-512 is")]
    Algorithm(String),
    /// An extension of the TSTInfo that must be understood.
    #[error("the time stamp has a critical extension that is not known ({0})")]
    CriticalExtension(String),
    /// The certificate of the signer is neither in the token nor passed beside it.
    #[error(
        "the certificate that signed is not in the time stamp: pass the authority's certificates with it"
    )]
    SignerUnknown,
    /// More than [`crate::MAX_CERTIFICATES`].
    #[error("more than {} certificates: pass those of this authority only", crate::MAX_CERTIFICATES)]
    TooManyCertificates,
    /// signing-certificate names another one (RFC 5816).
    #[error("the time stamp says that another certificate signed it (signing-certificate)")]
    OtherCertificate,
    /// The signer's certificate is not for time stamping alone (RFC 3161 §2.3).
    #[error("{0} may not stamp: its extended key usage must be critical and timeStamping alone")]
    NotForTimeStamping(String),
    /// The path ends at nobody who is trusted.
    #[error("{0} does not lead to a trusted authority: add the root of the time stamping authority")]
    Untrusted(String),
    /// A certificate of the path had ended at the time that is stamped.
    #[error("a certificate of {0} had expired at the time that is stamped")]
    Expired(String),
    /// A certificate of the path had not begun at the time that is stamped.
    #[error("a certificate of {0} was not valid yet at the time that is stamped")]
    NotYetValid(String),
    /// The path breaks another rule of RFC 5280.
    #[error("the certificates of {signer} cannot be verified: {why}")]
    Path {
        /// Who signed.
        signer: String,
        /// Which rule.
        why: String,
    },
    /// genTime is too far from the clock.
    #[error("the time stamp says {stamped} at {clock}: check the clock here, or the authority's")]
    Skew {
        /// What the stamp says.
        stamped: mastio_core::Stamp,
        /// What our clock said.
        clock: mastio_core::Stamp,
    },
}
