//! What is kept for an agent beside its row: its private key if it is escrowed, how long its certificates live, and the
//! JWK behind its DPoP thumbprint.

use std::time::Duration;

use mastio_core::{AgentId, Jkt};
use secrecy::ExposeSecret;

use crate::{Statement, Value};

/// The `proxy_config` key under which an escrowed agent key is kept (contract `pki.md` §3).
#[must_use]
pub fn key_name(id: &AgentId) -> String {
    format!("agent_key:{id}")
}

/// Keeps an agent's private key, sealed or not, as custody hands it over.
#[must_use]
pub fn escrow_key(id: &AgentId, sealed: &secrecy::SecretString) -> Statement {
    crate::config::put(&key_name(id), sealed.expose_secret())
}

/// Forgets an agent's private key, if one is kept.
#[must_use]
pub fn drop_escrow(id: &AgentId) -> Statement {
    let key: Value = key_name(id).into();
    Statement::any("DELETE FROM proxy_config WHERE \"key\" = ?1", vec![key])
}

/// Remembers how long the certificates of an agent live from the next one on.
#[must_use]
pub fn keep_lifetime(id: &AgentId, lifetime: Duration) -> Statement {
    let seconds = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
    Statement::one(
        "INSERT INTO agent_lifetimes (agent_id, seconds) VALUES (?1, ?2) \
         ON CONFLICT (agent_id) DO UPDATE SET seconds = excluded.seconds",
        vec![id.into(), seconds.into()],
    )
}

/// Keeps the public JWK behind a DPoP thumbprint, so that it can be told again.
#[must_use]
pub fn keep_jwk(jkt: Jkt, jwk: &serde_json::Value) -> Statement {
    Statement::any(
        "INSERT INTO dpop_jwks (jkt, jwk) VALUES (?1, ?2) ON CONFLICT (jkt) DO NOTHING",
        vec![jkt.into(), jwk.to_string().into()],
    )
}
