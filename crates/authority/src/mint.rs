//! Minting access tokens: `POST /v1/auth/token` (contract `auth.md` §4–6; design decisions 8, 10–12).

use std::sync::Arc;

use mastio_core::{AgentId, Event, Jkt, PrincipalKind, Stamp, Thumbprint, event::catalogue, sha256};
use mastio_jose::{Assertion, Confirmation, TokenClaims, VerifyingKey};
use mastio_pki::Certificate;
use mastio_store::Unit;
use serde_json::Value;

use crate::{
    Authority, Outage, Refusal,
    authenticate::{AuthError, Pinned},
    peer::ClientChain,
    proofs::RequestLine,
    registry::Agent,
    trust::Halt,
};

/// A fresh token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Minted {
    /// The token.
    pub access_token: String,
    /// Seconds until it ends.
    pub expires_in: u64,
    /// `cullis-mastio:<org>`.
    pub issued_by: String,
    /// Whom it speaks for.
    pub agent: AgentId,
    /// How the agent proved itself.
    pub method: &'static str,
    /// Since when its certificate should be renewed, if that is so already.
    pub renewal_due: Option<Stamp>,
}

/// Why no token was minted.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The credentials.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// Neither assertion nor certificate.
    #[error("client_assertion is missing, and no TLS client certificate was presented")]
    NoCredential,
    /// Neither a DPoP proof nor a certificate to bind the token to.
    #[error("DPoP proof required for LOCAL_TOKEN binding")]
    Unbound,
    /// Signing is halted.
    #[error(transparent)]
    Halted(#[from] Halt),
    /// There is no signing key.
    #[error("local issuer not initialized: no active signing key; see the start of the log")]
    NoSigner,
    /// The database, or signing failed.
    #[error("{0}")]
    Outage(#[from] Outage),
}

impl Refusal for MintError {
    fn status(&self) -> u16 {
        match self {
            Self::Auth(error) => error.status(),
            Self::NoCredential => 422,
            Self::Unbound => 401,
            Self::Halted(_) | Self::NoSigner => 503,
            Self::Outage(outage) => outage.status(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Auth(error) => error.reason(),
            Self::NoCredential => "credential_missing",
            Self::Unbound => "dpop_missing",
            Self::Halted(_) => "signing_halted",
            Self::NoSigner => "no_signing_key",
            Self::Outage(outage) => outage.reason(),
        }
    }

    fn detail(&self) -> Value {
        match self {
            Self::Auth(error) => error.detail(),
            other => Value::String(other.to_string()),
        }
    }
}

impl Authority {
    /// Mints a token for the agent behind `assertion`, or behind the TLS certificate alone.
    ///
    /// `by_tls` is what [`certificate`](Self::certificate) said of the TLS certificate, if there was one: callers judge
    /// it before they look at the body, so that a revoked one reads so whatever the body is.
    ///
    /// # Errors
    /// The first thing that does not hold. Nothing was minted.
    pub async fn mint(
        &self,
        by_tls: Option<Pinned>,
        assertion: Option<&str>,
        request: &RequestLine<'_>,
        request_id: &str,
    ) -> Result<Minted, MintError> {
        let (pinned, asserted) = match (assertion, by_tls.as_ref()) {
            (Some(text), _) => {
                let (pinned, used) = self.asserted(text, by_tls.as_ref()).await?;
                (pinned, Some(used))
            }
            (None, Some(pinned)) => (pinned.clone(), None),
            (None, None) => return Err(MintError::NoCredential),
        };
        let proof = self.proofs.verify(request, None, false)?;
        let x5t = by_tls.map(|pinned| pinned.leaf.thumbprint());
        if proof.is_none() && x5t.is_none() {
            return Err(MintError::Unbound);
        }
        let method = if asserted.is_some() { "assertion" } else { "mtls" };
        if let Some(used) = asserted {
            self.proofs.consume_assertion(used.key, used.iat)?;
        }
        let jkt = proof.map(|proof| proof.consume(&self.proofs)).transpose()?;
        self.issue(&pinned, jkt, x5t, method, request_id).await
    }

    async fn issue(
        &self,
        pinned: &Pinned,
        jkt: Option<Jkt>,
        x5t: Option<Thumbprint>,
        method: &'static str,
        request_id: &str,
    ) -> Result<Minted, MintError> {
        let trust = self.trust();
        if let Some(halt) = &trust.halt {
            return Err(halt.clone().into());
        }
        let signer = trust.signer.as_ref().ok_or(MintError::NoSigner)?;
        let (id, now) = (pinned.agent.id(), self.clock.now());
        let principal = mastio_core::Principal::parse(id.as_str()).map_err(Outage::internal)?;
        debug_assert_eq!(principal.kind, PrincipalKind::Agent);
        let claims = TokenClaims {
            iss: trust.token_issuer(),
            sub: principal,
            scope: "local".into(),
            iat: now,
            exp: now.plus(self.settings.token_ttl),
            jti: self.rng.uuid().to_string(),
            cnf: Confirmation { jkt, x5t_s256: x5t },
            // The record was judged active at this epoch: if it has moved on since, the token is born ended.
            ep: pinned.agent.row.epoch,
        };
        let access_token = claims.mint(&signer.key, &signer.kid).map_err(Outage::internal)?;
        let event = catalogue::TokenIssued {
            jti: claims.jti.clone(),
            kid: signer.kid.clone(),
            cnf_jkt: jkt,
            cnf_x5t: x5t,
            method,
            expires_at: claims.exp,
            request_id: request_id.to_owned(),
        };
        self.commit(Unit::of(Event::new(&event).about(id.as_str()))).await.map_err(Outage::from)?;
        Ok(Minted {
            access_token,
            expires_in: self.settings.token_ttl.as_secs(),
            issued_by: claims.iss,
            agent: id.clone(),
            method,
            renewal_due: pinned.agent.renewal_due(now, &self.trust()),
        })
    }

    /// The agent that signed `text`, which must be the one of `peer` if there is one.
    async fn asserted(
        &self,
        text: &str,
        peer: Option<&Pinned>,
    ) -> Result<(Pinned, UsedAssertion), AuthError> {
        let assertion = Assertion::parse(text)?;
        let chain = self.presented(assertion.x5c())?;
        let agent = self.pinned(&chain).await.map_err(|error| match error {
            AuthError::NotVerified { presented } => {
                AuthError::AssertionChain(presented.trim_start_matches("FAILED:").to_owned())
            }
            other => other,
        })?;
        let key = leaf_key(&agent, &chain.leaf)?;
        let claims = assertion.verify(&key, self.clock.now())?;
        if claims.sub != agent.id().as_str() {
            return Err(AuthError::AssertionSubject);
        }
        if peer.is_some_and(|peer| peer.agent.id() != agent.id()) {
            return Err(AuthError::AssertionPeer);
        }
        let used =
            UsedAssertion { key: assertion_key(text, claims.jti.as_deref(), agent.id()), iat: claims.iat };
        Ok((Pinned { agent, leaf: chain.leaf.clone() }, used))
    }

    /// The certificates of `x5c`, leaf first. An agent sends the same ones at each login: they are parsed once.
    pub(crate) fn presented(&self, x5c: &[Vec<u8>]) -> Result<Arc<ClientChain>, AuthError> {
        let key = sha256(&x5c.iter().flat_map(|der| sha256(der)).collect::<Vec<u8>>());
        if let Some(chain) = self.chains.get(&key) {
            return Ok(chain);
        }
        let chain = Arc::new(certificates(x5c)?);
        self.chains.insert(key, Arc::clone(&chain));
        Ok(chain)
    }
}

/// The key of a presented leaf: parsed already, if it is the pinned one.
fn leaf_key(agent: &Agent, leaf: &Certificate) -> Result<VerifyingKey, AuthError> {
    match &agent.key {
        Some(key) if agent.is_pinned_to(&leaf.thumbprint()) => Ok(key.clone()),
        _ => VerifyingKey::from_spki_der(leaf.spki_der())
            .map_err(|error| AuthError::AssertionChain(error.to_string())),
    }
}

struct UsedAssertion {
    key: [u8; 16],
    iat: Stamp,
}

/// What an assertion is remembered by: its `jti`, or without one what was signed; never the signature, which can be
/// written in two ways.
fn assertion_key(text: &str, jti: Option<&str>, agent: &AgentId) -> [u8; 16] {
    let signed = text.rsplit_once('.').map_or(text, |(signed, _)| signed);
    let hash = match jti {
        Some(jti) => sha256(format!("jti|{agent}|{jti}").as_bytes()),
        None => sha256(format!("jws|{signed}").as_bytes()),
    };
    let mut key = [0; 16];
    key.copy_from_slice(&hash[..16]);
    key
}

fn certificates(x5c: &[Vec<u8>]) -> Result<ClientChain, AuthError> {
    let mut parsed = x5c.iter().map(|der| {
        Certificate::from_der(der.clone()).map_err(|error| AuthError::AssertionChain(error.to_string()))
    });
    let leaf = parsed.next().ok_or_else(|| AuthError::AssertionChain("x5c is empty".into()))??;
    Ok(ClientChain { leaf, presented: parsed.collect::<Result<_, _>>()? })
}
