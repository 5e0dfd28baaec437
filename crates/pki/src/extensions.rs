//! The extensions of a certificate that we understand (RFC 5280 §4.2.1).

use std::net::IpAddr;

use x509_parser::{
    certificate::TbsCertificate,
    extensions::{ExtendedKeyUsage, GeneralName, ParsedExtension, X509Extension},
};

use crate::{CertificateError, certificate::strip_zeros};

/// What the extensions of one certificate say.
#[derive(Default)]
pub(crate) struct Extensions {
    pub(crate) is_ca: bool,
    pub(crate) constraints_critical: bool,
    pub(crate) path_len: Option<u32>,
    pub(crate) key_usage: Option<KeyUsage>,
    pub(crate) extended_usage: Option<ExtendedUsage>,
    pub(crate) uris: Vec<String>,
    pub(crate) dns_names: Vec<String>,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) names_critical: bool,
    pub(crate) key_id: Option<Vec<u8>>,
    pub(crate) authority_key_id: Option<Vec<u8>>,
    /// The Name, in DER, of whoever certified the issuer, where AuthorityKeyIdentifier gives it.
    pub(crate) authority_issuer: Option<Vec<u8>>,
    /// The serial number of the issuer's certificate, likewise, without leading zeros.
    pub(crate) authority_serial: Option<Vec<u8>>,
    /// NameConstraints on other names than hosts, addresses and mail.
    pub(crate) odd_constraints: bool,
    pub(crate) uri_constraints: bool,
    /// Critical, and none that is read here.
    pub(crate) unknown_critical: bool,
}

pub(crate) struct KeyUsage {
    pub(crate) certificate_sign: bool,
    pub(crate) crl_sign: bool,
    pub(crate) data_sign: bool,
}

pub(crate) struct ExtendedUsage {
    pub(crate) client: bool,
    pub(crate) server: bool,
    /// Time stamping and nothing else, in a critical extension.
    pub(crate) only_time_stamping: bool,
}

impl Extensions {
    /// Reads them; one that matters and cannot be read spoils the certificate.
    pub(crate) fn read(tbs: &TbsCertificate<'_>) -> Result<Self, CertificateError> {
        tbs.extensions_map().map_err(|_| CertificateError::Extension("repeated".to_owned()))?;
        let mut read = Self::default();
        for extension in tbs.extensions() {
            let bad = || CertificateError::Extension(extension.oid.to_id_string());
            match extension.parsed_extension() {
                ParsedExtension::BasicConstraints(constraints) => {
                    read.is_ca = constraints.ca;
                    read.constraints_critical = extension.critical;
                    read.path_len = constraints.path_len_constraint.filter(|_| constraints.ca);
                }
                ParsedExtension::KeyUsage(usage) => {
                    read.key_usage = Some(KeyUsage {
                        certificate_sign: usage.key_cert_sign(),
                        crl_sign: usage.crl_sign(),
                        data_sign: usage.digital_signature() || usage.non_repudiation(),
                    });
                }
                ParsedExtension::ExtendedKeyUsage(usage) => {
                    read.extended_usage = Some(ExtendedUsage {
                        client: usage.client_auth,
                        server: usage.server_auth,
                        only_time_stamping: extension.critical && is_only_time_stamping(usage),
                    });
                }
                ParsedExtension::SubjectAlternativeName(names) => {
                    read.names_critical = extension.critical;
                    names
                        .general_names
                        .iter()
                        .try_for_each(|name| read.add_name(name))
                        .map_err(|()| bad())?;
                }
                ParsedExtension::SubjectKeyIdentifier(id) => read.key_id = Some(id.0.to_vec()),
                ParsedExtension::AuthorityKeyIdentifier(authority) => {
                    read.authority_key_id = authority.key_identifier.as_ref().map(|id| id.0.to_vec());
                    let mut names = authority.authority_cert_issuer.iter().flatten();
                    read.authority_issuer = names.find_map(|name| match name {
                        GeneralName::DirectoryName(name) => Some(name.as_raw().to_vec()),
                        _ => None,
                    });
                    read.authority_serial =
                        authority.authority_cert_serial.map(|serial| strip_zeros(serial).to_vec());
                }
                ParsedExtension::NameConstraints(constraints) => {
                    let subtrees = [&constraints.permitted_subtrees, &constraints.excluded_subtrees];
                    for subtree in subtrees.into_iter().flatten().flatten() {
                        match subtree.base {
                            GeneralName::URI(_) => read.uri_constraints = true,
                            GeneralName::Invalid(..) => return Err(bad()),
                            _ => {}
                        }
                        read.odd_constraints |= !is_evaluated(&subtree.base);
                    }
                }
                _ if is_read(extension) => return Err(bad()),
                _ => read.unknown_critical |= extension.critical,
            }
        }
        Ok(read)
    }

    /// What of them might make clients refuse what a CA with them certifies.
    pub(crate) fn restriction(&self) -> Option<&'static str> {
        let purposes = self.extended_usage.as_ref();
        [
            (self.unknown_critical, "a critical extension that clients need not know"),
            (
                purposes.is_some_and(|usage| !usage.client || !usage.server),
                "an extended key usage without TLS clients or servers",
            ),
            (self.odd_constraints, "name constraints on other names than hosts, addresses and mail"),
        ]
        .into_iter()
        .find_map(|(applies, what)| applies.then_some(what))
    }

    fn add_name(&mut self, name: &GeneralName<'_>) -> Result<(), ()> {
        match name {
            GeneralName::URI(uri) => self.uris.push((*uri).to_owned()),
            GeneralName::DNSName(dns) => self.dns_names.push((*dns).to_owned()),
            GeneralName::IPAddress(octets) => self.addresses.push(address(octets).ok_or(())?),
            GeneralName::Invalid(..) => return Err(()),
            _ => {}
        }
        Ok(())
    }
}

/// Whether common verifiers evaluate constraints on such names. Go's `crypto/x509` refuses paths with others, and `webpki`
/// those with a directory name.
fn is_evaluated(constrained: &GeneralName<'_>) -> bool {
    matches!(constrained, GeneralName::DNSName(_) | GeneralName::IPAddress(_) | GeneralName::RFC822Name(_))
}

fn is_only_time_stamping(usage: &ExtendedKeyUsage<'_>) -> bool {
    let others = usage.any
        || usage.server_auth
        || usage.client_auth
        || usage.code_signing
        || usage.email_protection
        || usage.ocsp_signing
        || !usage.other.is_empty();
    usage.time_stamping && !others
}

/// Whether it is one of the extensions that [`Extensions::read`] understands, so that failing to read it matters.
fn is_read(extension: &X509Extension<'_>) -> bool {
    // 2.5.29.x: subjectKeyIdentifier, keyUsage, subjectAltName, basicConstraints, nameConstraints,
    // authorityKeyIdentifier, extKeyUsage.
    matches!(extension.oid.as_bytes(), [0x55, 0x1d, 14 | 15 | 17 | 19 | 30 | 35 | 37])
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}
