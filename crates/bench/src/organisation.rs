//! Whose Mastio it is: its root CA, made here so that certificates can be issued here, and its agents.

use std::{path::Path, time::Duration};

use mastio_client::Identity;
use mastio_core::{AgentId, AgentName, Clock, OrgId, SpiffeId, SystemClock, SystemRng, TrustDomain};
use mastio_pki::{Issuer, KeyPair, profile};
use secrecy::{ExposeSecret, SecretString};

use crate::error::BenchError;

const ORG: &str = "bench";
const TRUST_DOMAIN: &str = "cullis.local";
const AGENT_LIFETIME: Duration = Duration::from_secs(7 * 86_400);

/// The organisation that is served.
pub(crate) struct Organisation {
    pub(crate) id: OrgId,
    pub(crate) admin_secret: SecretString,
    root: Issuer<KeyPair>,
    trust_domain: TrustDomain,
}

impl Organisation {
    pub(crate) fn new(clock: &SystemClock) -> Result<Self, BenchError> {
        use mastio_core::Rng;
        let id = OrgId::parse(ORG)?;
        let key = KeyPair::generate_p256()?;
        let certificate = profile::root(&id, &key, clock.now(), &SystemRng)?;
        Ok(Self {
            id,
            admin_secret: SystemRng.uuid().to_string().into(),
            root: Issuer::new(certificate, key)?,
            trust_domain: TrustDomain::parse(TRUST_DOMAIN)?,
        })
    }

    /// What clients trust.
    pub(crate) fn ca_pem(&self) -> String {
        self.root.certificate().pem()
    }

    /// Lays the root where a first boot takes it over (design decision 5).
    pub(crate) fn install(&self, dir: &Path) -> Result<(), BenchError> {
        let folder = dir.join("nginx-certs");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("org-ca.crt"), self.ca_pem())?;
        std::fs::write(folder.join("org-ca.key"), self.root.key().to_pkcs8_pem().expose_secret())?;
        Ok(())
    }

    /// The id of an agent.
    pub(crate) fn agent(&self, name: &str) -> Result<AgentId, BenchError> {
        Ok(AgentId::new(&self.id, &AgentName::parse(name)?))
    }

    /// The SPIFFE id of an agent.
    pub(crate) fn spiffe(&self, name: &str) -> Result<SpiffeId, BenchError> {
        Ok(SpiffeId::of_agent(&self.trust_domain, &self.id, &AgentName::parse(name)?))
    }

    /// An agent with a key of its own and a certificate of the root, not enrolled yet.
    pub(crate) fn identity(&self, name: &str, clock: &SystemClock) -> Result<Identity, BenchError> {
        let (id, spiffe, key) = (self.agent(name)?, self.spiffe(name)?, KeyPair::generate_p256()?);
        let leaf = profile::agent(
            &self.root,
            &id,
            &spiffe,
            key.spki_der(),
            AGENT_LIFETIME,
            clock.now(),
            &SystemRng,
        )?;
        Ok(Identity::new(&leaf.pem(), key)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_named_by_id_and_spiffe_id() {
        let clock = SystemClock::default();
        let organisation = Organisation::new(&clock).unwrap();
        let alice = organisation.identity("alice", &clock).unwrap();
        assert_eq!(*alice.agent_id(), organisation.agent("alice").unwrap());
        assert_eq!(organisation.spiffe("alice").unwrap().as_str(), "spiffe://cullis.local/bench/alice");
    }

    #[test]
    fn the_root_lies_where_a_first_boot_looks() {
        let (dir, organisation) =
            (tempfile::tempdir().unwrap(), Organisation::new(&SystemClock::default()).unwrap());
        organisation.install(dir.path()).unwrap();
        let read = |name: &str| std::fs::read_to_string(dir.path().join("nginx-certs").join(name)).unwrap();
        let certificate = mastio_pki::Certificate::from_pem(&read("org-ca.crt")).unwrap();
        assert!(KeyPair::from_pem(&read("org-ca.key")).unwrap().matches(&certificate));
    }
}
