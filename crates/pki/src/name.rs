//! Distinguished names: as text for people, and as values for the certificate writer.

use std::fmt::Write;

use mastio_core::is_deceptive;
use rcgen::{DistinguishedName, DnType, DnValue};
use x509_parser::{
    asn1_rs::Tag,
    prelude::FromDer,
    x509::{AttributeTypeAndValue, X509Name},
};

/// Why a name cannot be written into a certificate exactly as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a Name in DER.
    #[error("the distinguished name cannot be read")]
    Malformed,
    /// A shape that the writer does not know. Writing something similar instead would break every chain through it.
    #[error(
        "the distinguished name {0}: use a CA or request whose name has each attribute once, as plain text"
    )]
    Unsupported(&'static str),
}

/// Longest common name or organisation of RFC 5280 (ub-common-name, ub-organization-name), in characters.
const LONGEST: usize = 64;

/// `CN`, then `O`, both UTF8String. A part that RFC 5280 calls too long is left out: agents are known by their SAN.
pub(crate) fn subject(common_name: &str, organization: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    for (kind, text) in [(DnType::CommonName, common_name), (DnType::OrganizationName, organization)] {
        if text.chars().count() <= LONGEST {
            name.push(kind, text);
        }
    }
    name
}

/// `CN=<org> <what>, O=<org>` for a CA, whose name must never be empty: a long organisation is left out of both.
pub(crate) fn ca_subject(org: &str, what: &str) -> DistinguishedName {
    let full = format!("{org} {what}");
    if full.chars().count() <= LONGEST { subject(&full, org) } else { subject(what, org) }
}

/// Reads a Name in DER for writing it again.
pub(crate) fn from_der(raw: &[u8]) -> Result<DistinguishedName, NameError> {
    let (_, name) = X509Name::from_der(raw).map_err(|_| NameError::Malformed)?;
    let mut written = DistinguishedName::new();
    for rdn in name.iter() {
        let mut attributes = rdn.iter();
        let (Some(attribute), None) = (attributes.next(), attributes.next()) else {
            return Err(NameError::Unsupported("has several attributes in one component"));
        };
        let kind = kind(attribute)?;
        if written.get(&kind).is_some() {
            return Err(NameError::Unsupported("has an attribute twice"));
        }
        written.push(kind, value(attribute)?);
    }
    Ok(written)
}

fn kind(attribute: &AttributeTypeAndValue<'_>) -> Result<DnType, NameError> {
    let arcs = attribute.attr_type().iter().ok_or(NameError::Malformed)?.collect::<Vec<_>>();
    Ok(DnType::from_oid(&arcs))
}

fn value(attribute: &AttributeTypeAndValue<'_>) -> Result<DnValue, NameError> {
    let unsupported = NameError::Unsupported("has a value that is not plain text");
    let text = std::str::from_utf8(attribute.attr_value().data).map_err(|_| unsupported)?;
    match attribute.attr_value().tag() {
        Tag::Utf8String => Ok(DnValue::Utf8String(text.to_owned())),
        Tag::PrintableString => text.try_into().map(DnValue::PrintableString).map_err(|_| unsupported),
        Tag::Ia5String => text.try_into().map(DnValue::Ia5String).map_err(|_| unsupported),
        _ => Err(unsupported),
    }
}

/// `CN=…, O=…` in the order of the certificate, with the escapes of RFC 4514 §2.4; what a terminal or a page would obey and
/// bytes that are no text appear as `\XX`, so the result is always one line that shows what it says.
pub(crate) fn display(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    for attribute in name.iter_attributes() {
        if !text.is_empty() {
            text.push_str(", ");
        }
        let oid = attribute.attr_type().to_id_string();
        text.push_str(match oid.as_str() {
            "2.5.4.3" => "CN",
            "2.5.4.5" => "serialNumber",
            "2.5.4.6" => "C",
            "2.5.4.7" => "L",
            "2.5.4.8" => "ST",
            "2.5.4.10" => "O",
            "2.5.4.11" => "OU",
            "0.9.2342.19200300.100.1.25" => "DC",
            "1.2.840.113549.1.9.1" => "emailAddress",
            other => other,
        });
        text.push('=');
        escape(&mut text, attribute.as_slice());
    }
    text
}

fn escape(text: &mut String, value: &[u8]) {
    for chunk in value.utf8_chunks() {
        for (index, character) in chunk.valid().char_indices() {
            match character {
                '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=' => text.extend(['\\', character]),
                '#' if index == 0 => text.push_str("\\#"),
                hidden if is_deceptive(hidden) => {
                    hidden.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| escape_byte(text, byte));
                }
                plain => text.push(plain),
            }
        }
        chunk.invalid().iter().for_each(|byte| escape_byte(text, *byte));
    }
}

fn escape_byte(text: &mut String, byte: u8) {
    // Writing to a string cannot fail.
    let _ = write!(text, "\\{byte:02X}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(value: &[u8]) -> String {
        let mut text = String::new();
        escape(&mut text, value);
        text
    }

    #[test]
    fn a_name_stays_one_printable_line() {
        assert_eq!(escaped(b"acme::kyc-screener"), "acme::kyc-screener");
        assert_eq!(escaped(b"a, O=evil\n\xff"), "a\\, O\\=evil\\0A\\FF");
        assert_eq!(escaped("\u{202e}gro".as_bytes()), "\\E2\\80\\AEgro");
    }

    #[test]
    fn parts_that_are_too_long_are_left_out() {
        let long = "x".repeat(65);
        let types = |name: DistinguishedName| name.iter().map(|(kind, _)| kind.clone()).collect::<Vec<_>>();
        assert_eq!(types(subject("a::b", "a")), [DnType::CommonName, DnType::OrganizationName]);
        assert_eq!(types(subject(&long, "a")), [DnType::OrganizationName]);
        assert_eq!(types(subject(&long, &long)), []);
        assert_eq!(types(ca_subject(&long, "Mastio CA 01020304")), [DnType::CommonName]);
    }
}
