//! The PEM texts that are handed out.

use crate::Certificate;

/// What every issuing answer returns, and the TLS server serves: the leaf, then the CAs that lead from it towards the
/// root (design decision 2).
#[must_use]
pub fn issued_chain(leaf: &Certificate, above: &[Certificate]) -> String {
    std::iter::once(leaf).chain(above).map(Certificate::pem).collect()
}

/// The trust file, `org-ca.crt` and `/pki/ca.crt`: the root first, because its fingerprint is compared, then the
/// intermediates, then superseded roots and links (contract `pki.md` §4). A certificate appears once.
#[must_use]
pub fn trust_file<'a>(root: &'a Certificate, others: impl IntoIterator<Item = &'a Certificate>) -> String {
    let mut written: Vec<&Certificate> = Vec::new();
    for certificate in std::iter::once(root).chain(others) {
        if !written.contains(&certificate) {
            written.push(certificate);
        }
    }
    written.into_iter().map(Certificate::pem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{pem, testing::Pki};

    #[test]
    fn leaf_or_root_comes_first_and_nothing_twice() {
        let pki = Pki::new();
        let leaf = pki.agent("alice");
        let (root, intermediate) = (pki.root.certificate(), pki.intermediate.certificate());
        let chain = issued_chain(&leaf, std::slice::from_ref(intermediate));
        assert_eq!(pem::certificates(&chain).unwrap(), [leaf, intermediate.clone()]);
        let file = trust_file(root, [intermediate, root, intermediate]);
        assert_eq!(pem::certificates(&file).unwrap(), [root.clone(), intermediate.clone()]);
    }
}
