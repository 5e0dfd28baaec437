//! Logging in with a challenge, and with a key that the Mastio keeps (contract `auth.md` §5, §15).

use std::time::Duration;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use mastio_core::{AgentId, Event, event::catalogue};
use mastio_jose::{Assertion, AssertionError, SigningKey, jws};
use mastio_pki::KeyPair;
use mastio_store::{Unit, agents, config};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    Authority, Outage, Refusal,
    authenticate::{AuthError, Pinned, identity},
};

/// How long a challenge is good for.
pub const CHALLENGE_LIFETIME: Duration = Duration::from_secs(120);
/// How many challenges may be open.
const OPEN_CHALLENGES: u64 = 100_000;

/// The challenges that were given out and not answered.
#[derive(Debug)]
pub struct Challenges {
    /// When each ends, in the time of [`Clock::elapsed`](mastio_core::Clock::elapsed).
    open: moka::sync::Cache<(AgentId, String), Duration>,
}

impl Default for Challenges {
    fn default() -> Self {
        // The cache's own time bounds memory only; our clock says what has run out.
        let cache =
            moka::sync::Cache::builder().max_capacity(OPEN_CHALLENGES).time_to_live(2 * CHALLENGE_LIFETIME);
        Self { open: cache.build() }
    }
}

impl Challenges {
    fn add(&self, agent: &AgentId, nonce: &str, now: Duration) {
        self.open.insert((agent.clone(), nonce.to_owned()), now + CHALLENGE_LIFETIME);
    }

    /// Burns the nonce: whether it was open.
    fn burn(&self, agent: &AgentId, nonce: &str, now: Duration) -> bool {
        self.open.remove(&(agent.clone(), nonce.to_owned())).is_some_and(|end| end > now)
    }
}

/// An assertion with our counter-signature.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SignedAssertion {
    /// The assertion.
    pub client_assertion: String,
    /// Whose it is.
    pub agent_id: AgentId,
    /// `X-Cullis-Mastio-Signature`; null while signing is halted.
    pub mastio_signature: Option<String>,
}

/// Why an assertion was not signed.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The nonce is not one that this agent was given and has not used.
    #[error("challenge nonce invalid, expired, or already consumed")]
    Nonce,
    /// The chain in `x5c`.
    #[error("x509 chain verification failed")]
    Chain,
    /// The assertion.
    #[error("assertion invalid")]
    Assertion,
    /// It lives too long.
    #[error("{0}")]
    Lifetime(AssertionError),
    /// It speaks for somebody else.
    #[error("assertion sub does not match authenticated agent")]
    Subject,
    /// Its nonce is another one.
    #[error("assertion nonce claim does not match request nonce")]
    NonceClaim,
    /// Switched off in the meantime.
    #[error("agent not registered or deactivated")]
    Unknown,
    /// Another certificate is pinned.
    #[error("leaf certificate does not match pinned internal_agents.cert_pem")]
    Pin,
    /// Its certificate is of a CA that was replaced.
    #[error("{0}")]
    CaRotated(AuthError),
    /// The Mastio does not keep this agent's key.
    #[error("agent credentials not available on proxy")]
    NoKey,
    /// Something of ours.
    #[error("{0}")]
    Outage(#[from] Outage),
}

impl Refusal for LoginError {
    fn status(&self) -> u16 {
        match self {
            Self::Lifetime(_) => 400,
            Self::NoKey => 404,
            Self::Outage(outage) => outage.status(),
            _ => 401,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Nonce => "challenge_nonce",
            Self::Chain => "assertion_chain",
            Self::Assertion => "assertion_invalid",
            Self::Lifetime(_) => "assertion_lifetime",
            Self::Subject => "assertion_sub_mismatch",
            Self::NonceClaim => "assertion_nonce_mismatch",
            Self::Unknown => "agent_unknown_or_inactive",
            Self::Pin => "client_cert_pin_mismatch",
            Self::CaRotated(error) => error.reason(),
            Self::NoKey => "agent_key_not_kept",
            Self::Outage(outage) => outage.reason(),
        }
    }

    fn detail(&self) -> serde_json::Value {
        match self {
            Self::CaRotated(error) => error.detail(),
            other => other.to_string().into(),
        }
    }
}

impl Authority {
    /// A nonce for `agent` to put into its next assertion.
    #[must_use]
    pub fn challenge(&self, agent: &AgentId) -> String {
        let mut raw = [0; 32];
        self.rng.fill(&mut raw);
        let nonce = URL_SAFE_NO_PAD.encode(raw);
        self.challenges.add(agent, &nonce, self.clock.elapsed());
        nonce
    }

    /// Checks an assertion that answers a challenge and counter-signs it. The nonce is burnt whatever follows.
    ///
    /// # Errors
    /// What does not hold.
    pub async fn countersign(
        &self,
        pinned: &Pinned,
        text: &str,
        nonce: &str,
    ) -> Result<SignedAssertion, LoginError> {
        if !self.challenges.burn(pinned.agent.id(), nonce, self.clock.elapsed()) {
            return Err(LoginError::Nonce);
        }
        let assertion = Assertion::parse(text).map_err(|_| LoginError::Assertion)?;
        let chain = self.presented(assertion.x5c()).map_err(|_| LoginError::Chain)?;
        let agent = self.pinned(&chain).await.map_err(|error| match error {
            AuthError::PinMismatch { .. } | AuthError::NoPin { .. } => LoginError::Pin,
            AuthError::Unknown { .. } | AuthError::Revoked { .. } => LoginError::Unknown,
            AuthError::Outage(outage) => LoginError::Outage(outage),
            rotated @ AuthError::CaRotated { .. } => LoginError::CaRotated(rotated),
            _ => LoginError::Chain,
        })?;
        let leaf_key =
            mastio_jose::VerifyingKey::from_spki_der(chain.leaf.spki_der()).map_err(|_| LoginError::Chain)?;
        let claims = assertion.verify(&leaf_key, self.clock.now()).map_err(|error| match error {
            AssertionError::Lifetime => LoginError::Lifetime(error),
            _ => LoginError::Assertion,
        })?;
        if claims.sub != pinned.agent.id().as_str() || agent.id() != pinned.agent.id() {
            return Err(LoginError::Subject);
        }
        if claims.nonce.as_deref() != Some(nonce) {
            return Err(LoginError::NonceClaim);
        }
        self.countersigned(text.to_owned(), pinned.agent.id())
    }

    /// Makes and signs an assertion with the agent's key that the Mastio keeps.
    ///
    /// # Errors
    /// When it keeps none.
    pub async fn sign_for(&self, pinned: &Pinned, request_id: &str) -> Result<SignedAssertion, LoginError> {
        let agent = &pinned.agent;
        let name = agents::key_name(agent.id());
        let database = std::sync::Arc::clone(self.store.database());
        let lookup = name.clone();
        let stored = tokio::task::spawn_blocking(move || config::get(&database, &lookup))
            .await
            .map_err(Outage::internal)?
            .map_err(Outage::from)?;
        let stored: SecretString = stored.ok_or(LoginError::NoKey)?.into();
        let pem = self.custody.unwrap(&name, &stored).map_err(Outage::internal)?;
        let pair = KeyPair::from_pem(pem.expose_secret()).map_err(Outage::internal)?;
        let key = SigningKey::from_pkcs8_der(&pair.to_pkcs8_der()).map_err(Outage::internal)?;
        identity(&pinned.leaf, self.trust().org.as_str()).map_err(|_| LoginError::Chain)?;
        let jti = self.rng.uuid().to_string();
        let assertion = self.assertion(&key, agent.id(), &self.chain_with_issuer(agent), &jti)?;
        let event = catalogue::AssertionSigned { jti, request_id: request_id.to_owned() };
        self.commit(Unit::of(Event::new(&event).about(agent.id().as_str()))).await.map_err(Outage::from)?;
        self.countersigned(assertion, agent.id())
    }

    /// The agent's certificates; a lone leaf, as older systems stored it, gets the intermediate that issued it.
    fn chain_with_issuer(&self, agent: &crate::registry::Agent) -> Vec<mastio_pki::Certificate> {
        let mut chain = agent.certificates.clone();
        if let ([leaf], Some(issuer)) = (chain.as_slice(), &self.trust().issuer)
            && leaf.is_signed_by(issuer.certificate())
        {
            chain.push(issuer.certificate().clone());
        }
        chain
    }

    fn assertion(
        &self,
        key: &SigningKey,
        id: &AgentId,
        chain: &[mastio_pki::Certificate],
        jti: &str,
    ) -> Result<String, LoginError> {
        let now = self.clock.now().unix();
        let x5c: Vec<String> = chain.iter().map(|certificate| STANDARD.encode(certificate.der())).collect();
        let header = serde_json::json!({ "alg": "ES256", "typ": "JWT", "x5c": x5c });
        let claims = serde_json::json!({
            "sub": id, "iss": id, "aud": mastio_jose::assertion::AUDIENCE, "iat": now, "exp": now + 300, "jti": jti,
        });
        jws::sign(key, &header, &claims).map_err(|error| Outage::internal(error).into())
    }

    fn countersigned(&self, assertion: String, id: &AgentId) -> Result<SignedAssertion, LoginError> {
        let trust = self.trust();
        let signer = trust.signer.as_ref().filter(|_| trust.halt.is_none());
        let mastio_signature =
            signer.map(|signer| signer.key.countersign(&assertion)).transpose().map_err(Outage::internal)?;
        Ok(SignedAssertion { client_assertion: assertion, agent_id: id.clone(), mastio_signature })
    }
}
