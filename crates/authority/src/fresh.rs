//! Fresh CAs and signing keys: made, and what it takes to keep and to tell them.

use mastio_core::{Event, Kid, OrgId, Rng, Stamp, TrustDomain, event::catalogue};
use mastio_custody::{CaKey, Custody};
use mastio_jose::{ContinuityProof, SigningKey as TokenKey};
use mastio_pki::{Certificate, Issuer, KeyPair, SigningKey, profile};
use mastio_store::{Statement, Unit, keys};
use secrecy::SecretString;

use crate::{
    Authority, Outage,
    trust::{Signer, Trust},
};

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

/// How one signing key follows another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Succession<'a> {
    /// The active key.
    pub(crate) old: &'a Signer,
    /// Until when tokens of the old key are accepted.
    pub(crate) grace_until: Stamp,
    /// Why it follows: `operator`, `expiry`, `intermediate`, `staged`.
    pub(crate) trigger: &'static str,
    /// Who asked for it.
    pub(crate) by: &'a str,
    /// Now.
    pub(crate) now: Stamp,
}

impl Succession<'_> {
    /// The old key leaves its place to the key of `kid`, and vouches for it. Put the new one there with the same unit.
    pub(crate) fn unit(&self, kid: &Kid, public_pem: &str) -> Result<(Unit, ContinuityProof), Outage> {
        let old = self.old;
        let proof = ContinuityProof::sign(&old.key, kid, public_pem, self.now).map_err(Outage::internal)?;
        let event = catalogue::SigningKeyRotated {
            old_kid: old.kid.clone(),
            new_kid: kid.clone(),
            new_public_key: public_pem.to_owned(),
            issued_at: proof.issued_at.clone(),
            old_key_signature: proof.signature_b64u.clone(),
            grace_expires_at: self.grace_until,
            trigger: self.trigger,
            by: self.by.to_owned(),
        };
        let leaves = keys::deprecate_signing_key(&old.kid, self.now, self.grace_until);
        Ok((Unit::of(Event::new(&event)).write(leaves), proof))
    }
}

impl FreshSigningKey {
    /// What keeps it, active at once.
    pub(crate) fn insert(&self, at: Stamp) -> Statement {
        keys::insert_signing_key(&self.kid, &self.public_pem, &self.private, &self.leaf.pem(), at)
    }

    /// It takes the place of the active key, unless another is staged.
    pub(crate) fn succeed(&self, how: &Succession<'_>) -> Result<(Unit, ContinuityProof), Outage> {
        let (unit, proof) = how.unit(&self.kid, &self.public_pem)?;
        Ok((self.enter(unit, how.now), proof))
    }

    /// It takes a place that is free.
    pub(crate) fn enter(&self, unit: Unit, now: Stamp) -> Unit {
        unit.write(keys::no_signing_key_in_place()).write(self.insert(now)).tell(self.event())
    }

    /// What tells of it.
    pub(crate) fn event(&self) -> Event {
        Event::new(&catalogue::SigningKeyMinted { kid: self.kid.clone(), not_after: self.leaf.not_after() })
    }
}

impl Maker<'_> {
    /// An intermediate below `root`, and what tells of it.
    pub(crate) fn intermediate<K: SigningKey>(&self, root: &Issuer<K>) -> Result<(CaKey, Event), Outage> {
        let key = KeyPair::generate_p256().map_err(Outage::internal)?;
        let certificate = profile::intermediate(root, self.org, key.spki_der(), self.now, self.rng)?;
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
        let leaf = profile::mastio_leaf(issuer, self.domain, self.org, pair.spki_der(), self.now, self.rng)?;
        let kid = TokenKey::from_pkcs8_der(&pair.to_pkcs8_der()).map_err(Outage::internal)?.kid();
        let private = self.custody.wrap(kid.as_str(), &pair.to_pkcs8_pem()).map_err(Outage::internal)?;
        Ok(FreshSigningKey { public_pem: pair.spki_pem(), kid, private, leaf })
    }
}

impl Authority {
    /// Makes for the organisation of `trust`.
    pub(crate) fn maker<'a>(&'a self, trust: &'a Trust) -> Maker<'a> {
        Maker {
            org: &trust.org,
            domain: &trust.domain,
            custody: self.custody.as_ref(),
            now: self.clock.now(),
            rng: self.rng.as_ref(),
        }
    }
}
