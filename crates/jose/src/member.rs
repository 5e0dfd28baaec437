//! A member of a JSON object that somebody untrusted wrote.

use std::{borrow::Cow, fmt};

use mastio_core::Stamp;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A member that may have any type. Reading never fails on the wrong one, so that a check can say which member is
/// wrong, in the order that the contract prescribes.
#[derive(Debug, Clone, Default)]
pub(crate) enum Member<'a> {
    /// Not there, or null.
    #[default]
    Absent,
    Text(Cow<'a, str>),
    Number(f64),
    /// A type that no claim of ours has.
    Other,
}

impl Member<'_> {
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A NumericDate (RFC 7519 §2): seconds since the epoch, with or without a fraction.
    pub(crate) fn instant(&self) -> Option<Stamp> {
        match self {
            // A float becomes the nearest integer there is, so the far future stays the far future.
            Self::Number(seconds) => Some(Stamp::from_unix_micros((seconds * 1e6) as i64)),
            _ => None,
        }
    }

    /// A count: a whole number that a double holds exactly.
    pub(crate) fn count(&self) -> Option<i64> {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        match self {
            Self::Number(number) if number.fract() == 0.0 && (0.0..EXACT).contains(number) => {
                Some(*number as i64)
            }
            _ => None,
        }
    }

    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Member<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyType)
    }
}

struct AnyType;

impl<'de> Visitor<'de> for AnyType {
    type Value = Member<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Member::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Member::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Member::Number(number))
    }

    // Claims that are numbers are seconds; beyond 2^53 the loss of precision changes no verdict.
    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Member::Number(number as f64))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Member::Number(number as f64))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Member::Other)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Member::Absent)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Member::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Member::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_read_and_only_the_right_one_is_believed() {
        let read = |json| serde_json::from_str::<Member<'_>>(json).unwrap();
        assert_eq!(read(r#""a\n""#).text(), Some("a\n"));
        assert_eq!(read("1767225600.5").instant(), Some(Stamp::from_unix_micros(1_767_225_600_500_000)));
        assert_eq!(read("-5").instant(), Some(Stamp::from_unix(-5)));
        assert_eq!(read("1e300").instant(), Some(Stamp::from_unix_micros(i64::MAX)));
        assert_eq!(read("7").count(), Some(7));
        for json in ["-1", "0.5", "1e300", "9007199254740992", "\"7\""] {
            assert_eq!(read(json).count(), None, "{json}");
        }
        assert!(read("null").is_absent());
        for json in ["true", "[1,[2]]", r#"{"a":{"b":1}}"#] {
            let member = read(json);
            assert!(member.text().is_none() && member.instant().is_none() && !member.is_absent(), "{json}");
        }
        assert!(read("5").text().is_none());
        assert!(read(r#""5""#).instant().is_none());
    }
}
