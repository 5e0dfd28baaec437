//! What the tests of this crate share.

use std::{sync::Arc, time::Duration};

use mastio_core::{AgentId, AgentName, Clock, OrgId, SpiffeId, Stamp, SystemClock, SystemRng, TrustDomain};
use mastio_jose::SigningKey;
use mastio_pki::{Certificate, Issuer, KeyPair, ServerNames, issued_chain, profile};
use serde_json::Value;

use crate::Identity;

pub(crate) mod server;

/// The time of the vectors.
pub(crate) const NOW: Stamp = Stamp::from_unix(1_767_225_600);

pub(crate) fn vectors() -> Value {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/auth-vectors.json");
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

pub(crate) fn key(vectors: &Value, name: &str) -> SigningKey {
    let pem = vectors["keys"][name]["pkcs8_pem"].as_str().unwrap();
    SigningKey::from_pkcs8_der(&KeyPair::from_pem(pem).unwrap().to_pkcs8_der()).unwrap()
}

/// The root and intermediate of `acme`, valid now, since TLS asks the machine's clock.
#[derive(Clone)]
pub(crate) struct Pki {
    root: Arc<Issuer<KeyPair>>,
    intermediate: Arc<Issuer<KeyPair>>,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let (org, now) = (OrgId::parse("acme").unwrap(), SystemClock::default().now());
        let key = KeyPair::generate_p256().unwrap();
        let root = Issuer::new(profile::root(&org, &key, now, &SystemRng).unwrap(), key).unwrap();
        let key = KeyPair::generate_p256().unwrap();
        let certificate = profile::intermediate(&root, &org, key.spki_der(), now, &SystemRng).unwrap();
        let intermediate = Issuer::new(certificate, key).unwrap();
        Self { root: Arc::new(root), intermediate: Arc::new(intermediate) }
    }

    pub(crate) fn identity(&self, name: &str) -> Identity {
        self.identity_of(name, KeyPair::generate_p256().unwrap())
    }

    pub(crate) fn identity_of(&self, name: &str, key: KeyPair) -> Identity {
        Identity::new(&self.certified(name, key.spki_der()), key).unwrap()
    }

    /// Leaf and intermediate in PEM, for an hour.
    pub(crate) fn certified(&self, name: &str, spki: &[u8]) -> String {
        let (org, name) = (OrgId::parse("acme").unwrap(), AgentName::parse(name).unwrap());
        let spiffe = SpiffeId::of_agent(&TrustDomain::parse("cullis.local").unwrap(), &org, &name);
        let leaf = profile::agent(
            &self.intermediate,
            &AgentId::new(&org, &name),
            &spiffe,
            spki,
            Duration::from_secs(3600),
            SystemClock::default().now(),
            &SystemRng,
        )
        .unwrap();
        issued_chain(&leaf, &[self.intermediate.certificate().clone()])
    }

    pub(crate) fn root_and_key(&self) -> (Certificate, KeyPair) {
        let key = KeyPair::from_pkcs8_der(&self.root.key().to_pkcs8_der()).unwrap();
        (self.root.certificate().clone(), key)
    }

    /// A certificate for `localhost`, with the intermediate, and its key.
    pub(crate) fn server(&self) -> (Vec<Certificate>, KeyPair) {
        let key = KeyPair::generate_p256().unwrap();
        let names = ServerNames::from_settings("localhost", None).unwrap();
        let (org, now) = (OrgId::parse("acme").unwrap(), SystemClock::default().now());
        let leaf =
            profile::server(&self.intermediate, &names, &org, key.spki_der(), now, &SystemRng).unwrap();
        (vec![leaf, self.intermediate.certificate().clone()], key)
    }
}
