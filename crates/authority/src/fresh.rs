//! Fresh CAs and signing keys: made, and what it takes to keep and to tell them.

use mastio_core::{Event, Kid, OrgId, Rng, Stamp, TrustDomain, event::catalogue};
use mastio_custody::{CaKey, Custody};
use mastio_jose::SigningKey as TokenKey;
use mastio_pki::{Certificate, Issuer, KeyPair, SigningKey, profile};
use secrecy::SecretString;

use crate::Outage;

/// What making takes.
#[derive(Clone, Copy)]
pub(crate) struct Maker<'a> {
    /// For whom.
    pub(crate) org: &'a OrgId,
    /// Its SPIFFE trust domain.
    pub(crate) domain: &'a TrustDomain,
    /// Who wraps private keys.
    pub(crate) custody: &'a dyn Custody,
    /// Now.
    pub(crate) now: Stamp,
    /// For serial numbers.
    pub(crate) rng: &'a dyn Rng,
}

/// A signing key that no row has yet.
pub(crate) struct FreshSigningKey {
    /// Its name in tokens.
    pub(crate) kid: Kid,
    /// The public key in PEM.
    pub(crate) public_pem: String,
    /// The private key as custody wraps it.
    pub(crate) private: SecretString,
    /// Its certificate.
    pub(crate) leaf: Certificate,
}

impl FreshSigningKey {
    /// What tells of it.
    pub(crate) fn event(&self) -> Event {
        Event::new(&catalogue::SigningKeyMinted { kid: self.kid.clone(), not_after: self.leaf.not_after() })
    }
}

impl Maker<'_> {
    /// An intermediate below `root`, and what tells of it.
    pub(crate) fn intermediate<K: SigningKey>(&self, root: &Issuer<K>) -> Result<(CaKey, Event), Outage> {
        let key = KeyPair::generate_p256().map_err(Outage::internal)?;
        let certificate = profile::intermediate(root, self.org, key.spki_der(), self.now, self.rng)
            .map_err(Outage::internal)?;
        let event = Event::new(&catalogue::IntermediateMinted {
            fingerprint_sha256: certificate.thumbprint(),
            subject: certificate.subject().to_owned(),
            not_after: certificate.not_after(),
        });
        Ok((CaKey { certificate, key }, event))
    }

    /// A signing key certified by `issuer`.
    pub(crate) fn signing_key<K: SigningKey>(&self, issuer: &Issuer<K>) -> Result<FreshSigningKey, Outage> {
        let pair = KeyPair::generate_p256().map_err(Outage::internal)?;
        let leaf = profile::mastio_leaf(issuer, self.domain, self.org, pair.spki_der(), self.now, self.rng)
            .map_err(Outage::internal)?;
        let kid = TokenKey::from_pkcs8_der(&pair.to_pkcs8_der()).map_err(Outage::internal)?.kid();
        let private = self.custody.wrap(kid.as_str(), &pair.to_pkcs8_pem()).map_err(Outage::internal)?;
        Ok(FreshSigningKey { public_pem: pair.spki_pem(), kid, private, leaf })
    }
}
