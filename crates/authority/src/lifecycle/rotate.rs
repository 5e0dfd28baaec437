//! Another certificate for an agent that stays who it is (contract `enrollment.md` §6, seed 003 §1).

use std::time::Duration;

use mastio_core::{AgentId, AgentName, Jkt, SpiffeId, Stamp, Thumbprint};
use mastio_jose::SigningKey;
use mastio_pki::{Certificate, KeyPair, SigningRequest, pem};
use mastio_store::{
    Rejection, WriteError,
    agents::{self, AgentRow, DpopChange, Method},
};
use secrecy::SecretString;

use super::{ATTEMPTS, LifecycleError, replace::Replacement};
use crate::{
    Authority, Outage, admin::Operator, certified::Certified, lifetime::Lifetime, possession::HeldKey,
};

/// How an agent's certificate is rotated. The default makes a key, keeps the DPoP key, and ends the old certificate.
#[derive(Debug, Clone, Default)]
pub struct Rotation {
    /// A certificate request of the client's own key. Without one the key is made here.
    pub csr_pem: Option<String>,
    /// The client's own key, in place of a request.
    pub proven_key: Option<ProvenKey>,
    /// Whether another DPoP key is made too.
    pub dpop: bool,
    /// How long the old certificate is accepted beside the new one, if it is accepted now; not at all by default.
    pub grace: Option<Duration>,
}

/// A public key with the proof that the sender holds the private one.
#[derive(Debug, Clone)]
pub struct ProvenKey {
    /// `PUBLIC KEY` in PEM.
    pub public_key_pem: String,
    /// See [`HeldKey::proves_possession`].
    pub pop_signature: String,
}

impl ProvenKey {
    fn spki_der(&self) -> Result<Vec<u8>, LifecycleError> {
        let key = HeldKey::from_pem(&self.public_key_pem)?;
        key.proves_possession(&self.pop_signature).map_err(|_| LifecycleError::Possession)?;
        Ok(key.spki_der().to_vec())
    }
}

/// An agent's new certificate.
#[derive(Debug)]
pub struct Rotated {
    /// Whose.
    pub agent: AgentId,
    /// Leaf and intermediate in PEM.
    pub certificates: String,
    /// Its key in PEM, if it was made here: shown once.
    pub key: Option<SecretString>,
    /// The new pin.
    pub thumbprint: Thumbprint,
    /// The pin of before.
    pub previous: Option<Thumbprint>,
    /// When the new certificate ends.
    pub not_after: Stamp,
    /// The DPoP key that counts from now on.
    pub dpop_jkt: Option<Jkt>,
    /// That key as a JWK: the private one if it was made here, else the public one if it is known.
    pub dpop_jwk: Option<SecretString>,
}

impl Authority {
    /// Gives an agent a new certificate, switching it on if it was off or revoked. The old certificate is revoked
    /// before this returns, unless grace was asked for. Of several at once, one wins.
    ///
    /// # Errors
    /// When there is no such agent, nothing can be issued for it, or somebody else changed it meanwhile.
    pub async fn rotate_certificate(
        &self,
        id: &AgentId,
        rotation: &Rotation,
        operator: &Operator,
    ) -> Result<Rotated, LifecycleError> {
        for _ in 0..ATTEMPTS {
            if let Some(rotated) = self.try_to_rotate(id, rotation, operator).await? {
                return Ok(rotated);
            }
        }
        Err(Outage::Contended.into())
    }

    /// `None` when a rotation of the Org CA has cut off meanwhile what issued the certificate.
    async fn try_to_rotate(
        &self,
        id: &AgentId,
        rotation: &Rotation,
        operator: &Operator,
    ) -> Result<Option<Rotated>, LifecycleError> {
        let agent = self.row(id, "agent not found").await?;
        if agent.method == Some(Method::Spiffe) {
            return Err(LifecycleError::OwnedBySpire(id.clone()));
        }
        let grace = self.rotation_grace(&agent, rotation.grace)?;
        let (new, key) = self.reissue(&agent, rotation)?;
        let made = rotation.dpop.then(SigningKey::generate).transpose().map_err(Outage::internal)?;
        let made_jkt = made.as_ref().map(|key| key.public_jwk().thumbprint());
        let dpop = made_jkt.map_or(DpopChange::Keep, |jkt| DpopChange::Replace(Some(jkt)));
        let keep =
            |key: &SigningKey| agents::keep_jwk(key.public_jwk().thumbprint(), &key.public_jwk().to_value());
        let replacement = Replacement {
            agent: &agent,
            new: &new,
            dpop,
            grace,
            source: "rotate-cert",
            session: None,
            by: &operator.fingerprint,
        };
        let unit = self.replacement(&replacement).write_all(made.as_ref().map(keep));
        match self.commit(unit).await {
            Ok(_) => {}
            Err(error) if self.is_overtaken(&error) => return Ok(None),
            Err(WriteError::Rejected(Rejection::Rows { .. })) => {
                return Err(self.why_not_pinned(&agent.id, &new.leaf)?);
            }
            Err(error) => return Err(Outage::from(error).into()),
        }
        let dpop_jkt = made_jkt.or(agent.dpop_jkt);
        let dpop_jwk = match &made {
            Some(key) => Some(key.private_jwk().map_err(Outage::internal)?.as_str().into()),
            None => self.public_jwk(dpop_jkt).await?,
        };
        Ok(Some(Rotated {
            agent: agent.id.clone(),
            certificates: new.certificates,
            key,
            thumbprint: new.leaf.thumbprint(),
            previous: super::current_leaf(&agent).map(|leaf| leaf.thumbprint()),
            not_after: new.leaf.not_after(),
            dpop_jkt,
            dpop_jwk,
        }))
    }

    /// Only an active agent whose certificate is believed has credentials that could go on for a while.
    fn rotation_grace(
        &self,
        agent: &AgentRow,
        asked: Option<Duration>,
    ) -> Result<Option<Stamp>, LifecycleError> {
        let most = self.settings.agent_cert_grace;
        match asked.filter(|asked| !asked.is_zero()) {
            Some(asked) if asked > most => Err(LifecycleError::Grace { most: most.as_secs() / 3600 }),
            Some(asked) if agent.is_active() && self.is_believed(agent) => {
                Ok(Some(self.clock.now().plus(asked)))
            }
            _ => Ok(None),
        }
    }

    /// Whether the pinned certificate leads to a CA of today: a cut of the Org CA ends it, and time does.
    fn is_believed(&self, agent: &AgentRow) -> bool {
        let (trust, now) = (self.trust(), self.clock.now());
        let chain = agent.certificates.as_deref().and_then(|chain| pem::certificates(chain).ok());
        let chain = chain.unwrap_or_default();
        let path = chain.split_first().map(|(leaf, above)| self.paths.validate(&trust, leaf, above, now));
        path.is_some_and(|path| path.is_ok())
    }

    /// The next certificate, with its key if that is made here.
    fn reissue(
        &self,
        agent: &AgentRow,
        rotation: &Rotation,
    ) -> Result<(Certified, Option<SecretString>), LifecycleError> {
        let (spki, key) = match (&rotation.csr_pem, &rotation.proven_key) {
            (Some(_), Some(_)) => return Err(LifecycleError::TwoKeys),
            (Some(pem), None) => (SigningRequest::from_pem(pem)?.public().spki_der().to_vec(), None),
            (None, Some(proven)) => (proven.spki_der()?, None),
            (None, None) => {
                let key = KeyPair::generate_p256().map_err(Outage::internal)?;
                (key.spki_der().to_vec(), Some(key.to_pkcs8_pem()))
            }
        };
        Ok((self.certify(&agent.id, &spki, agent.lifetime.unwrap_or(Lifetime::MOST))?, key))
    }

    /// A certificate of ours for an agent's next key.
    pub(crate) fn certify(
        &self,
        id: &AgentId,
        spki: &[u8],
        lifetime: Duration,
    ) -> Result<Certified, LifecycleError> {
        let trust = self.trust();
        if id.org() != trust.org.as_str() {
            return Err(LifecycleError::OtherOrganisation { agent: id.clone(), ours: trust.org.clone() });
        }
        if let Some(halt) = trust.halt_of_certifying() {
            return Err(halt.into());
        }
        let issuer = trust.issuer.as_ref().ok_or(LifecycleError::NoIssuer)?;
        let name = AgentName::parse(id.name()).map_err(Outage::internal)?;
        let spiffe = SpiffeId::of_agent(&trust.domain, &trust.org, &name);
        let now = self.clock.now();
        Ok(Certified::by(issuer, (id, &spiffe), spki, lifetime, now, self.rng.as_ref())?)
    }

    /// The public JWK behind `jkt`, if it was kept.
    pub(crate) async fn public_jwk(&self, jkt: Option<Jkt>) -> Result<Option<SecretString>, Outage> {
        let Some(jkt) = jkt else { return Ok(None) };
        Ok(agents::jwk(&self.store, jkt).await?.map(Into::into))
    }

    /// Why `leaf` was not pinned: `id` may not have its key, or changed meanwhile.
    pub(crate) fn why_not_pinned(&self, id: &AgentId, leaf: &Certificate) -> Result<LifecycleError, Outage> {
        let trouble = self.key_trouble(leaf.spki_der(), id)?;
        Ok(trouble.map_or_else(|| Outage::Contended.into(), LifecycleError::from))
    }
}
