//! What a certificate says, read once.

use mastio_core::{Principal, SpiffeId, Stamp};
use x509_parser::{certificate::TbsCertificate, x509::AttributeTypeAndValue};

use super::CertificateError;
use crate::{KeyKind, extensions::Extensions, name};

pub(super) struct Facts {
    pub(super) spki: Vec<u8>,
    pub(super) key_kind: KeyKind,
    pub(super) serial: Vec<u8>,
    pub(super) subject: String,
    pub(super) subject_raw: Vec<u8>,
    pub(super) issuer_raw: Vec<u8>,
    pub(super) common_name: Option<String>,
    pub(super) organization: Option<String>,
    pub(super) not_before: Stamp,
    pub(super) not_after: Stamp,
    pub(super) extensions: Extensions,
    pub(super) spiffe_id: Option<SpiffeId>,
    pub(super) principal: Option<Principal>,
}

impl Facts {
    pub(super) fn read(tbs: &TbsCertificate<'_>) -> Result<Self, CertificateError> {
        let extensions = Extensions::read(tbs)?;
        let common_name = only_text(tbs.subject.iter_common_name());
        let spiffe_id = spiffe_id(&extensions.uris);
        let from_name = || common_name.as_deref().and_then(|text| Principal::parse(text).ok());
        let principal = spiffe_id.as_ref().and_then(SpiffeId::principal).or_else(from_name);
        Ok(Self {
            spki: tbs.subject_pki.raw.to_vec(),
            key_kind: KeyKind::of(&tbs.subject_pki),
            serial: strip_zeros(tbs.raw_serial()).to_vec(),
            subject: name::display(&tbs.subject),
            subject_raw: tbs.subject.as_raw().to_vec(),
            issuer_raw: tbs.issuer.as_raw().to_vec(),
            organization: only_text(tbs.subject.iter_organization()),
            not_before: Stamp::from_unix(tbs.validity.not_before.timestamp()),
            not_after: Stamp::from_unix(tbs.validity.not_after.timestamp()),
            common_name,
            extensions,
            spiffe_id,
            principal,
        })
    }
}

fn spiffe_id(uris: &[String]) -> Option<SpiffeId> {
    let principal =
        uris.iter().filter_map(|uri| SpiffeId::parse(uri).ok()).find(|id| id.principal().is_some());
    principal.or_else(|| match uris {
        [only] => SpiffeId::parse(only).ok(),
        _ => None,
    })
}

fn only_text<'n, 'a: 'n>(
    mut attributes: impl Iterator<Item = &'n AttributeTypeAndValue<'a>>,
) -> Option<String> {
    match (attributes.next(), attributes.next()) {
        (Some(attribute), None) => attribute.as_str().ok().map(str::to_owned),
        _ => None,
    }
}

pub(crate) fn strip_zeros(number: &[u8]) -> &[u8] {
    let first = number.iter().position(|byte| *byte != 0).unwrap_or(number.len().saturating_sub(1));
    &number[first..]
}
