//! What is signed: TSTInfo (RFC 3161 §2.4.2).

use std::time::Duration;

use der::{
    AnyRef, Tag, Tagged,
    asn1::{IntRef, ObjectIdentifier, OctetStringRef},
};
use mastio_core::Stamp;

use crate::{
    TimestampError,
    asn1::{FIELD_1, VALUE_0, VALUE_1, elements, field, inside, magnitude, object_id, only},
};

const SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");

/// What an authority says by a time stamp.
#[derive(Debug, Clone)]
pub(crate) struct Info {
    pub(crate) policy: String,
    /// The hash that was there, if it is a SHA-256.
    pub(crate) hash: Option<[u8; 32]>,
    /// Big-endian, in hex.
    pub(crate) serial: String,
    pub(crate) gen_time: Stamp,
    /// How far off genTime may be, either way.
    pub(crate) accuracy: Duration,
    /// The content of the INTEGER.
    pub(crate) nonce: Option<Vec<u8>>,
}

impl Info {
    pub(crate) fn read(der: &[u8]) -> Result<Self, TimestampError> {
        Self::parse(der).map_err(|_| TimestampError::Malformed("TSTInfo")).and_then(|(info, unknown)| {
            unknown
                .map_or(Ok(info), |extension| Err(TimestampError::CriticalExtension(extension.to_string())))
        })
    }

    /// The critical extension, if there is one, stands beside it: none are known.
    fn parse(der: &[u8]) -> der::Result<(Self, Option<ObjectIdentifier>)> {
        let fields = inside(only(der)?, Tag::Sequence)?;
        let [version, policy, imprint, serial, gen_time, optional @ ..] = fields.as_slice() else {
            return Err(der::ErrorKind::Failed.into());
        };
        if version.decode_as::<u8>()? != 1 {
            return Err(der::ErrorKind::Failed.into());
        }
        let accuracy = field(optional, Tag::Sequence).map(accuracy).transpose()?;
        let nonce = field(optional, Tag::Integer).map(integer).transpose()?;
        let info = Self {
            policy: policy.decode_as::<ObjectIdentifier>()?.to_string(),
            hash: sha256_imprint(*imprint)?,
            serial: hex::encode(magnitude(integer(*serial)?)),
            gen_time: generalized_time(*gen_time)?,
            accuracy: accuracy.unwrap_or_default(),
            nonce: nonce.map(<[u8]>::to_vec),
        };
        let critical = field(optional, FIELD_1).map(critical_extension).transpose()?.flatten();
        Ok((info, critical))
    }
}

fn integer(element: AnyRef<'_>) -> der::Result<&[u8]> {
    element.decode_as::<IntRef<'_>>()?;
    Ok(element.value())
}

fn sha256_imprint(imprint: AnyRef<'_>) -> der::Result<Option<[u8; 32]>> {
    let fields = inside(imprint, Tag::Sequence)?;
    let [algorithm, hashed] = fields.as_slice() else {
        return Err(der::ErrorKind::Failed.into());
    };
    let hash = <[u8; 32]>::try_from(hashed.decode_as::<OctetStringRef<'_>>()?.as_bytes()).ok();
    Ok(hash.filter(|_| object_id(*algorithm) == Ok(SHA_256)))
}

/// `YYYYMMDDhhmmss[.f…]Z`: unlike certificates, time stamps may tell fractions of a second.
fn generalized_time(element: AnyRef<'_>) -> der::Result<Stamp> {
    element.tag().assert_eq(Tag::GeneralizedTime)?;
    let bad = || Tag::GeneralizedTime.value_error();
    let text = std::str::from_utf8(element.value()).map_err(|_| bad())?;
    let (Some(digits), Some(fraction)) =
        (text.get(..14), text.get(14..).and_then(|rest| rest.strip_suffix('Z')))
    else {
        return Err(bad());
    };
    let fraction_ok = fraction.strip_prefix('.').map_or(fraction.is_empty(), |digits| {
        !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit())
    });
    if !fraction_ok || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(bad());
    }
    let (date, time) = digits.split_at(8);
    let iso = format!(
        "{}-{}-{}T{}:{}:{}{fraction}Z",
        &date[..4],
        &date[4..6],
        &date[6..],
        &time[..2],
        &time[2..4],
        &time[4..]
    );
    Stamp::parse(&iso).map_err(|_| bad())
}

fn accuracy(element: AnyRef<'_>) -> der::Result<Duration> {
    let fields = elements(element.value())?;
    let seconds = field(&fields, Tag::Integer).map(AnyRef::decode_as::<u32>).transpose()?;
    let thousandths = |tag| -> der::Result<u64> {
        // IMPLICIT (1..999): the content of an INTEGER of one or two bytes.
        field(&fields, tag).map_or(Ok(0), |number| match number.value() {
            [low] => Ok(u64::from(*low)),
            [high, low] => Ok(u64::from(u16::from_be_bytes([*high, *low]))),
            _ => Err(der::ErrorKind::Failed.into()),
        })
    };
    Ok(Duration::from_secs(seconds.unwrap_or_default().into())
        + Duration::from_millis(thousandths(VALUE_0)?)
        + Duration::from_micros(thousandths(VALUE_1)?))
}

/// The first extension that must be understood.
fn critical_extension(extensions: AnyRef<'_>) -> der::Result<Option<ObjectIdentifier>> {
    for extension in elements(extensions.value())? {
        let fields = inside(extension, Tag::Sequence)?;
        if field(&fields, Tag::Boolean).is_some_and(|critical| critical.value() != [0]) {
            return object_id(extension).map(Some);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> der::Result<Stamp> {
        generalized_time(AnyRef::new(Tag::GeneralizedTime, text.as_bytes()).unwrap())
    }

    #[test]
    fn times_may_have_fractions() {
        let whole = time("20270115080000Z").unwrap();
        assert_eq!(whole, Stamp::from_unix(1_800_000_000));
        assert_eq!(time("20270115080000.25Z").unwrap(), whole.plus(Duration::from_millis(250)));
        assert_eq!(time("20270115080000.1234567Z").unwrap(), whole.plus(Duration::from_micros(123_456)));
        for bad in [
            "20270115080000",
            "202701150800Z",
            "20270115080000.Z",
            "20271315080000Z",
            "2027011508000éZ",
            "20270115080000+0100",
        ] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
