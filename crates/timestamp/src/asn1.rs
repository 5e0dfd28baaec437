//! DER as slices of its own bytes.

use der::{AnyRef, Reader, SliceReader, Tag, TagNumber, Tagged, asn1::ObjectIdentifier};

/// `[0]`, constructed.
pub(crate) const FIELD_0: Tag = Tag::ContextSpecific { constructed: true, number: TagNumber::N0 };
/// `[1]`, constructed.
pub(crate) const FIELD_1: Tag = Tag::ContextSpecific { constructed: true, number: TagNumber::N1 };
/// `[0]`, primitive.
pub(crate) const VALUE_0: Tag = Tag::ContextSpecific { constructed: false, number: TagNumber::N0 };
/// `[1]`, primitive.
pub(crate) const VALUE_1: Tag = Tag::ContextSpecific { constructed: false, number: TagNumber::N1 };

/// The elements that `bytes` are made of, one behind the other.
pub(crate) fn elements(bytes: &[u8]) -> der::Result<Vec<AnyRef<'_>>> {
    let mut reader = SliceReader::new(bytes)?;
    let mut found = Vec::new();
    while !reader.is_finished() {
        found.push(reader.decode()?);
    }
    Ok(found)
}

/// The same, each as the bytes that it was written as.
pub(crate) fn raw_elements(bytes: &[u8]) -> der::Result<Vec<&[u8]>> {
    let mut reader = SliceReader::new(bytes)?;
    let mut found = Vec::new();
    while !reader.is_finished() {
        found.push(reader.tlv_bytes()?);
    }
    Ok(found)
}

/// The one element that `bytes` are.
pub(crate) fn only(bytes: &[u8]) -> der::Result<AnyRef<'_>> {
    let mut reader = SliceReader::new(bytes)?;
    let element = reader.decode()?;
    reader.finish(element)
}

/// What is in `element`, if it is a `tag`.
pub(crate) fn inside(element: AnyRef<'_>, tag: Tag) -> der::Result<Vec<AnyRef<'_>>> {
    element.tag().assert_eq(tag)?;
    elements(element.value())
}

/// The first element of an AlgorithmIdentifier or Attribute.
pub(crate) fn object_id(sequence: AnyRef<'_>) -> der::Result<ObjectIdentifier> {
    let fields = inside(sequence, Tag::Sequence)?;
    fields.first().ok_or(der::ErrorKind::Failed)?.decode_as()
}

/// One of the optional fields at the end of a sequence.
pub(crate) fn field<'a>(fields: &[AnyRef<'a>], tag: Tag) -> Option<AnyRef<'a>> {
    fields.iter().copied().find(|field| field.tag() == tag)
}

/// A whole number of either sign without the zeros before it, so that it compares with a serial number of X.509.
pub(crate) fn magnitude(integer: &[u8]) -> &[u8] {
    let first = integer.iter().position(|byte| *byte != 0).unwrap_or(integer.len().saturating_sub(1));
    &integer[first..]
}

/// Writes one element: its tag, the shortest form of its length, and `parts`.
pub(crate) fn write(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let digits = length.to_be_bytes();
    let digits = magnitude(&digits);
    let mut out = Vec::with_capacity(length + 2 + digits.len());
    out.push(tag);
    if length >= 0x80 {
        // At most eight digits, whose number fits beside the bit that says so.
        out.push(0x80 | digits.len() as u8);
    }
    out.extend_from_slice(digits);
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

/// Tags that are written.
pub(crate) mod tag {
    pub(crate) const BOOLEAN: u8 = 0x01;
    pub(crate) const INTEGER: u8 = 0x02;
    pub(crate) const OCTET_STRING: u8 = 0x04;
    pub(crate) const SEQUENCE: u8 = 0x30;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_in_their_shortest_form() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let written = write(tag::OCTET_STRING, &[&vec![7; length]]);
            assert_eq!(only(&written).unwrap().value().len(), length);
        }
        assert!(only(&[4, 0x81, 1, 0]).is_err(), "a longer form than needed");
        assert!(only(&[4, 0, 0]).is_err(), "something behind it");
    }
}
