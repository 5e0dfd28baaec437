//! What clients with strict rules refuse although every signature holds: `openssl verify -x509_strict`, and Python since
//! 3.13 by default (RFC 5280 §4.2.1; contract `pki.md`, gap 12).

use crate::extensions::Extensions;

/// A rule of RFC 5280 that a certificate breaks and strict clients insist on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StrictFault {
    /// §4.2.1.9.
    #[error("a CA whose basic constraints are not critical")]
    ConstraintsNotCritical,
    /// §4.2.1.3.
    #[error("a CA without key usage")]
    NoKeyUsage,
    /// §4.2.1.9: keyCertSign on what is not a CA.
    #[error("not a CA, and its key usage says that it signs certificates")]
    SignsWithoutCa,
    /// §4.2.1.2.
    #[error("a CA without subject key identifier")]
    NoSubjectKeyId,
    /// §4.2.1.1. Roots need none.
    #[error("without authority key identifier")]
    NoAuthorityKeyId,
    /// §4.2.1.1, of a certificate that signed itself: clients look for that other issuer, and find none.
    #[error("signed by itself, and its authority key identifier is that of another certificate")]
    OtherAuthority,
    /// §4.2.1.6.
    #[error("an empty subject, and alternative names that are not critical")]
    NamesNotCritical,
}

pub(crate) fn faults(extensions: &Extensions, empty_subject: bool, self_issued: bool) -> Vec<StrictFault> {
    let is_ca = extensions.is_ca;
    let signs = extensions.key_usage.as_ref().is_some_and(|usage| usage.certificate_sign);
    let rules = [
        (is_ca && !extensions.constraints_critical, StrictFault::ConstraintsNotCritical),
        (is_ca && extensions.key_usage.is_none(), StrictFault::NoKeyUsage),
        (!is_ca && signs, StrictFault::SignsWithoutCa),
        (is_ca && extensions.key_id.is_none(), StrictFault::NoSubjectKeyId),
        (!self_issued && extensions.authority_key_id.is_none(), StrictFault::NoAuthorityKeyId),
        (empty_subject && !extensions.names_critical, StrictFault::NamesNotCritical),
    ];
    rules.into_iter().filter_map(|(broken, fault)| broken.then_some(fault)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Certificate,
        testing::{Pki, vectors},
    };

    #[test]
    fn ours_are_clean_and_those_of_the_reference_are_told_apart() {
        let pki = Pki::new();
        for ours in [pki.root.certificate(), pki.intermediate.certificate(), &pki.agent("alice")] {
            assert_eq!(ours.strict_faults(), [], "{ours:?}");
        }
        let vectors = vectors();
        let faults = |pointer: &str| {
            Certificate::from_pem(vectors.pointer(pointer).unwrap().as_str().unwrap())
                .unwrap()
                .strict_faults()
        };
        assert_eq!(faults("/reference/root"), []);
        assert_eq!(faults("/reference/intermediate"), [StrictFault::NoAuthorityKeyId]);
        assert_eq!(faults("/reference/dashboard_rsa_root"), [StrictFault::NoSubjectKeyId]);
        let user = [StrictFault::NoAuthorityKeyId, StrictFault::NamesNotCritical];
        assert_eq!(faults("/reference/user_chain"), user);
        assert_eq!(faults("/reference/nginx/mastio-server.crt"), []);
    }
}
