//! What the tests of this crate share.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use mastio_core::{AgentId, AgentName, OrgId, SpiffeId, Stamp, SystemRng, TrustDomain};

use crate::{Certificate, Issuer, KeyPair, profile};

pub(crate) fn now() -> Stamp {
    Stamp::from_unix(1_800_000_000)
}

pub(crate) fn org() -> OrgId {
    OrgId::parse("acme").unwrap()
}

pub(crate) fn domain() -> TrustDomain {
    TrustDomain::parse("cullis.local").unwrap()
}

pub(crate) fn vectors() -> serde_json::Value {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/pki-vectors.json");
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// Runs `openssl` with blank-separated arguments and a text on its standard input.
pub(crate) fn openssl(arguments: &str, input: &str) -> String {
    openssl_with(&arguments.split(' ').collect::<Vec<_>>(), input)
}

pub(crate) fn openssl_with(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A root and an intermediate below it.
pub(crate) struct Pki {
    pub(crate) root: Issuer<KeyPair>,
    pub(crate) intermediate: Issuer<KeyPair>,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate_p256().unwrap();
        let root = Issuer::new(profile::root(&org(), &key, now(), &SystemRng).unwrap(), key).unwrap();
        let intermediate = Self::intermediate_of(&root);
        Self { root, intermediate }
    }

    pub(crate) fn intermediate_of(root: &Issuer<KeyPair>) -> Issuer<KeyPair> {
        let key = KeyPair::generate_p256().unwrap();
        let certificate = profile::intermediate(root, &org(), key.spki_der(), now(), &SystemRng).unwrap();
        Issuer::new(certificate, key).unwrap()
    }

    pub(crate) fn agent(&self, name: &str) -> Certificate {
        self.agent_of(name, &self.intermediate)
    }

    pub(crate) fn agent_of(&self, name: &str, issuer: &Issuer<KeyPair>) -> Certificate {
        let name = AgentName::parse(name).unwrap();
        let key = KeyPair::generate_p256().unwrap();
        let (id, spiffe) = (AgentId::new(&org(), &name), SpiffeId::of_agent(&domain(), &org(), &name));
        let lifetime = profile::LEAF_LIFETIME;
        profile::agent(issuer, &id, &spiffe, key.spki_der(), lifetime, now(), &SystemRng).unwrap()
    }
}
