//! Paths that must hold, and paths that must not.

mod anchors;
mod chains;
mod deck;
mod servers;

use mastio_core::{AgentId, OrgId, SpiffeId, SystemRng, TrustDomain};
use secrecy::ExposeSecret;

use super::*;
use crate::{
    AnchorError, Issuer, KeyPair, profile,
    testing::{Pki, domain, now, openssl_with},
};

const DAY: Duration = Duration::from_secs(86_400);

fn anchors(certificates: &[&Certificate]) -> Anchors {
    Anchors::builder().org(certificates.iter().copied().cloned()).build().unwrap()
}

/// A certificate for `key` with the extensions given in OpenSSL's words, signed by `issuer` or by itself.
fn made(
    subject: &str,
    key: &KeyPair,
    issuer: Option<(&Certificate, &KeyPair)>,
    extensions: &[&str],
) -> Certificate {
    let files = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let own = write("key.pem", key.to_pkcs8_pem().expose_secret());
    let mut arguments = vec!["req", "-x509", "-new", "-key", &own, "-subj", subject, "-days", "3650"];
    for extension in extensions {
        arguments.extend(["-addext", extension]);
    }
    let ca = issuer
        .map(|(ca, key)| [write("ca.pem", &ca.pem()), write("ca.key", key.to_pkcs8_pem().expose_secret())]);
    if let Some([ca, ca_key]) = &ca {
        arguments.extend(["-CA", ca, "-CAkey", ca_key]);
    }
    Certificate::from_pem(&openssl_with(&arguments, "")).unwrap()
}

/// When certificates of [`made`] are valid: OpenSSL dates them by the machine's clock.
fn made_at(certificate: &Certificate) -> Stamp {
    certificate.not_before().plus(DAY)
}

fn key() -> KeyPair {
    KeyPair::generate_p256().unwrap()
}
