//! Signed attributes (RFC 5652 §11), and which certificate they name (RFC 2634 §5.4, RFC 5035, RFC 5816).

use aws_lc_rs::digest;
use der::{
    AnyRef, Tag, TagNumber, Tagged,
    asn1::{IntRef, ObjectIdentifier, OctetStringRef},
};
use mastio_pki::Certificate;

use crate::{
    TimestampError,
    asn1::{elements, inside, magnitude, object_id, only, raw_elements},
    cms::{SHA_256, digest_of},
};

const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
const SIGNING_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.12");
const SIGNING_CERTIFICATE_V2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.47");

/// directoryName of a GeneralName: `[4]`, constructed.
const DIRECTORY_NAME: Tag = Tag::ContextSpecific { constructed: true, number: TagNumber::N4 };

/// What is signed besides the content: attributes and their values.
pub(crate) struct Attributes<'a>(Vec<(ObjectIdentifier, Vec<AnyRef<'a>>)>);

impl<'a> Attributes<'a> {
    pub(crate) fn read(set: &'a [u8]) -> Result<Self, TimestampError> {
        let attribute = |attribute: AnyRef<'a>| {
            let fields = inside(attribute, Tag::Sequence)?;
            let values = fields.get(1).ok_or(der::ErrorKind::Failed)?;
            Ok((object_id(attribute)?, inside(*values, Tag::Set)?))
        };
        let read = || only(set).and_then(|set| elements(set.value())?.into_iter().map(attribute).collect());
        read().map(Self).map_err(|_: der::Error| TimestampError::Malformed("the signed attributes"))
    }

    /// The one value of an attribute; `None` if there is no such attribute.
    fn value(&self, id: ObjectIdentifier, name: &'static str) -> Result<Option<AnyRef<'a>>, TimestampError> {
        let mut found = self.0.iter().filter(|(known, _)| *known == id);
        match (found.next(), found.next()) {
            (None, _) => Ok(None),
            (Some((_, values)), None) if values.len() == 1 => Ok(values.first().copied()),
            _ => Err(TimestampError::Attribute(name)),
        }
    }

    pub(crate) fn content_type(&self) -> Result<ObjectIdentifier, TimestampError> {
        let missing = TimestampError::Attribute("content-type");
        self.value(CONTENT_TYPE, "content-type")?.and_then(|value| value.decode_as().ok()).ok_or(missing)
    }

    pub(crate) fn message_digest(&self) -> Result<&'a [u8], TimestampError> {
        let missing = TimestampError::Attribute("message-digest");
        let value = self.value(MESSAGE_DIGEST, "message-digest")?;
        let digest = value.and_then(|value| value.decode_as::<OctetStringRef<'_>>().ok());
        digest.map(|digest| digest.as_bytes()).ok_or(missing)
    }

    /// Whether signing-certificate, in either version, names `certificate` as the one that signed. One of them must
    /// be there; the old one knows SHA-1 only, which is enough here: the signature itself holds the certificate.
    pub(crate) fn name_certificate(&self, certificate: &Certificate) -> Result<bool, TimestampError> {
        let name = "signing-certificate";
        let (old, new) = (self.value(SIGNING_CERTIFICATE, name)?, self.value(SIGNING_CERTIFICATE_V2, name)?);
        if old.is_none() && new.is_none() {
            return Err(TimestampError::Attribute(name));
        }
        for (value, is_new) in [(old, false), (new, true)] {
            let Some(value) = value else { continue };
            let named = CertificateId::read(value, is_new).map_err(|_| TimestampError::Malformed(name))?;
            if !named.is(certificate)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// ESSCertID or ESSCertIDv2.
struct CertificateId<'a> {
    /// `None` is SHA-1.
    algorithm: Option<ObjectIdentifier>,
    hash: &'a [u8],
    /// The issuer's Name in DER, and the serial number.
    issuer: Option<(&'a [u8], &'a [u8])>,
}

impl<'a> CertificateId<'a> {
    /// The first of a SigningCertificate: the signer's. Those behind it may name its path.
    fn read(value: AnyRef<'a>, is_new: bool) -> der::Result<Self> {
        let failed = der::ErrorKind::Failed;
        let signing = inside(value, Tag::Sequence)?;
        let ids = inside(*signing.first().ok_or(failed)?, Tag::Sequence)?;
        let fields = inside(*ids.first().ok_or(failed)?, Tag::Sequence)?;
        let (algorithm, fields) = match fields.as_slice() {
            [algorithm, rest @ ..] if is_new && algorithm.tag() == Tag::Sequence => {
                (Some(object_id(*algorithm)?), rest)
            }
            all => (is_new.then_some(SHA_256), all),
        };
        let (hash, issuer) = fields.split_first().ok_or(failed)?;
        Ok(Self {
            algorithm,
            hash: hash.decode_as::<OctetStringRef<'_>>()?.as_bytes(),
            issuer: issuer.first().map(|issuer| issuer_and_serial(*issuer)).transpose()?.flatten(),
        })
    }

    fn is(&self, certificate: &Certificate) -> Result<bool, TimestampError> {
        let hash = match self.algorithm {
            None => digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, certificate.der()),
            Some(algorithm) => digest_of(algorithm, certificate.der())?,
        };
        let issued = self.issuer.is_none_or(|(issuer, serial)| {
            certificate.issuer_raw() == issuer && certificate.serial() == serial
        });
        Ok(hash.as_ref() == self.hash && issued)
    }
}

/// IssuerSerial, if its issuer is a name of X.509.
fn issuer_and_serial(issuer_serial: AnyRef<'_>) -> der::Result<Option<(&[u8], &[u8])>> {
    let fields = inside(issuer_serial, Tag::Sequence)?;
    let [names, serial] = fields.as_slice() else {
        return Err(der::ErrorKind::Failed.into());
    };
    serial.decode_as::<IntRef<'_>>()?;
    let names = inside(*names, Tag::Sequence)?;
    let name = names.iter().find(|name| name.tag() == DIRECTORY_NAME);
    let name = name.map(|name| raw_elements(name.value())).transpose()?;
    Ok(name.and_then(|name| name.first().copied()).map(|name| (name, magnitude(serial.value()))))
}
