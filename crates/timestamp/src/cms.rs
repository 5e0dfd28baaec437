//! SignedData (RFC 5652 §5), as far as a time stamp is one.

use aws_lc_rs::digest;
use der::{
    AnyRef, Tag, Tagged,
    asn1::{IntRef, ObjectIdentifier, OctetStringRef},
};
use mastio_pki::Certificate;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm};
use webpki::{EndEntityCert, aws_lc_rs as algorithms};

use crate::{
    MAX_CERTIFICATES, TimestampError,
    asn1::{FIELD_0, VALUE_0, elements, field, inside, magnitude, object_id, only, raw_elements},
    attributes::Attributes,
};

const ID_SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
/// id-ct-TSTInfo (RFC 3161 §2.4.2).
pub(crate) const ID_TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// Content, the certificates beside it, and its one signature.
#[derive(Debug, Clone)]
pub(crate) struct SignedData {
    /// What is signed: TSTInfo in DER.
    pub(crate) content: Vec<u8>,
    pub(crate) certificates: Vec<Certificate>,
    pub(crate) signer: Signer,
}

impl SignedData {
    /// Reads a ContentInfo.
    pub(crate) fn read(der: &[u8]) -> Result<Self, TimestampError> {
        let malformed = |_| TimestampError::Malformed("SignedData");
        let fields = signed_data(der).map_err(malformed)?;
        let [_version, _digests, content, optional @ .., signers] = fields.as_slice() else {
            return Err(TimestampError::Malformed("SignedData"));
        };
        let signers = inside(*signers, Tag::Set).map_err(malformed)?;
        let [signer] = signers.as_slice() else {
            return Err(TimestampError::Signers(signers.len()));
        };
        if object_id(*content) != Ok(ID_TST_INFO) {
            return Err(TimestampError::OtherContent);
        }
        Ok(Self {
            content: encapsulated(*content).map_err(malformed)?,
            certificates: field(optional, FIELD_0).map(certificates).transpose()?.unwrap_or_default(),
            signer: Signer::read(*signer).map_err(|_| TimestampError::Malformed("SignerInfo"))?,
        })
    }
}

fn signed_data(der: &[u8]) -> der::Result<Vec<AnyRef<'_>>> {
    let fields = inside(only(der)?, Tag::Sequence)?;
    let [kind, content] = fields.as_slice() else {
        return Err(der::ErrorKind::Failed.into());
    };
    if kind.decode_as::<ObjectIdentifier>()? != ID_SIGNED_DATA {
        return Err(der::ErrorKind::Failed.into());
    }
    content.tag().assert_eq(FIELD_0)?;
    inside(only(content.value())?, Tag::Sequence)
}

fn encapsulated(content: AnyRef<'_>) -> der::Result<Vec<u8>> {
    let fields = inside(content, Tag::Sequence)?;
    let content = field(&fields, FIELD_0).ok_or(der::ErrorKind::Failed)?;
    Ok(only(content.value())?.decode_as::<OctetStringRef<'_>>()?.as_bytes().to_vec())
}

/// The X.509 certificates of a CertificateSet; its other choices cannot have signed.
fn certificates(set: AnyRef<'_>) -> Result<Vec<Certificate>, TimestampError> {
    let malformed = || TimestampError::Malformed("a certificate");
    let choices = raw_elements(set.value()).map_err(|_| malformed())?;
    let x509: Vec<_> = choices.into_iter().filter(|der| der.first() == Some(&0x30)).collect();
    if x509.len() > MAX_CERTIFICATES {
        return Err(TimestampError::TooManyCertificates);
    }
    x509.into_iter().map(|der| Certificate::from_der(der.to_vec()).map_err(|_| malformed())).collect()
}

/// SignerInfo (RFC 5652 §5.3).
#[derive(Debug, Clone)]
pub(crate) struct Signer {
    id: SignerId,
    digest: ObjectIdentifier,
    /// The signed attributes as `[0] IMPLICIT`, header and all.
    signed: Vec<u8>,
    /// The content of the AlgorithmIdentifier.
    algorithm: Vec<u8>,
    signature: Vec<u8>,
}

/// How a SignerInfo names its certificate.
#[derive(Debug, Clone)]
enum SignerId {
    /// The issuer's Name in DER, and the serial number without leading zeros.
    IssuerAndSerial(Vec<u8>, Vec<u8>),
    KeyId(Vec<u8>),
}

impl Signer {
    fn read(info: AnyRef<'_>) -> der::Result<Self> {
        info.tag().assert_eq(Tag::Sequence)?;
        let (fields, raw) = (elements(info.value())?, raw_elements(info.value())?);
        // Signed attributes are optional in CMS and required here: without them the content type is not signed.
        let [_version, id, digest, signed, algorithm, signature, ..] = fields.as_slice() else {
            return Err(der::ErrorKind::Failed.into());
        };
        signed.tag().assert_eq(FIELD_0)?;
        algorithm.tag().assert_eq(Tag::Sequence)?;
        Ok(Self {
            id: SignerId::read(*id)?,
            digest: object_id(*digest)?,
            signed: raw.get(3).copied().unwrap_or_default().to_vec(),
            algorithm: algorithm.value().to_vec(),
            signature: signature.decode_as::<OctetStringRef<'_>>()?.as_bytes().to_vec(),
        })
    }

    /// The certificate that it names.
    pub(crate) fn find<'a>(
        &self,
        mut among: impl Iterator<Item = &'a Certificate>,
    ) -> Option<&'a Certificate> {
        among.find(|certificate| match &self.id {
            SignerId::IssuerAndSerial(issuer, serial) => {
                certificate.issuer_raw() == issuer && certificate.serial() == serial
            }
            SignerId::KeyId(id) => certificate.key_id() == Some(id),
        })
    }

    /// Whether `certificate` signed `content`: by its key, over these attributes, which are about this content and
    /// this certificate.
    pub(crate) fn verify(&self, content: &[u8], certificate: &Certificate) -> Result<(), TimestampError> {
        let attributes = Attributes::read(&self.signed)?;
        if attributes.content_type()? != ID_TST_INFO {
            return Err(TimestampError::OtherContent);
        }
        if attributes.message_digest()? != digest_of(self.digest, content)?.as_ref() {
            return Err(TimestampError::Changed);
        }
        if !attributes.name_certificate(certificate)? {
            return Err(TimestampError::OtherCertificate);
        }
        // What is signed is the SET OF that the implicit tag stands for (RFC 5652 §5.4).
        let mut message = self.signed.clone();
        if let Some(tag) = message.first_mut() {
            *tag = 0x31;
        }
        let der = CertificateDer::from(certificate.der());
        let key = EndEntityCert::try_from(&der).map_err(|_| TimestampError::Malformed("a certificate"))?;
        let candidates = self.algorithms()?;
        let verified = candidates
            .iter()
            .any(|algorithm| key.verify_signature(*algorithm, &message, &self.signature).is_ok());
        if verified { Ok(()) } else { Err(TimestampError::Signature) }
    }

    /// The algorithms that its identifier may mean: for ECDSA one for each curve.
    fn algorithms(&self) -> Result<Vec<&'static dyn SignatureVerificationAlgorithm>, TimestampError> {
        let name = |der: &[u8]| {
            let first = elements(der).ok().and_then(|fields| fields.first().copied());
            first.and_then(|first| first.decode_as::<ObjectIdentifier>().ok())
        };
        let id = name(&self.algorithm).ok_or(TimestampError::Malformed("SignerInfo"))?;
        // Many authorities name the kind of the key only; the digest is then that of the content (RFC 3370 §3.2).
        if id == RSA_ENCRYPTION {
            return Ok(vec![match self.digest {
                SHA_256 => algorithms::RSA_PKCS1_2048_8192_SHA256,
                SHA_384 => algorithms::RSA_PKCS1_2048_8192_SHA384,
                SHA_512 => algorithms::RSA_PKCS1_2048_8192_SHA512,
                other => return Err(TimestampError::Algorithm(other.to_string())),
            }]);
        }
        let meant = |known: &&dyn SignatureVerificationAlgorithm| {
            known.signature_alg_id().as_ref() == self.algorithm.as_slice()
        };
        let found: Vec<_> = webpki::ALL_VERIFICATION_ALGS.iter().copied().filter(meant).collect();
        if found.is_empty() { Err(TimestampError::Algorithm(id.to_string())) } else { Ok(found) }
    }
}

impl SignerId {
    fn read(id: AnyRef<'_>) -> der::Result<Self> {
        if id.tag() == VALUE_0 {
            return Ok(Self::KeyId(id.value().to_vec()));
        }
        let (fields, raw) = (inside(id, Tag::Sequence)?, raw_elements(id.value())?);
        let ([_, serial], [issuer, _]) = (fields.as_slice(), raw.as_slice()) else {
            return Err(der::ErrorKind::Failed.into());
        };
        serial.decode_as::<IntRef<'_>>()?;
        Ok(Self::IssuerAndSerial(issuer.to_vec(), magnitude(serial.value()).to_vec()))
    }
}

pub(crate) const SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA_384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA_512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");

/// The digest of `bytes` by an algorithm that is good enough for signatures.
pub(crate) fn digest_of(algorithm: ObjectIdentifier, bytes: &[u8]) -> Result<digest::Digest, TimestampError> {
    let algorithm = match algorithm {
        SHA_256 => &digest::SHA256,
        SHA_384 => &digest::SHA384,
        SHA_512 => &digest::SHA512,
        other => return Err(TimestampError::Algorithm(other.to_string())),
    };
    Ok(digest::digest(algorithm, bytes))
}
