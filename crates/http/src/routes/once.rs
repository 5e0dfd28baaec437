//! `Idempotency-Key`: a request that may have been answered, and whose answer was lost, can be sent again.

use axum::{
    Json,
    extract::{FromRequest, Request},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use mastio_authority::{
    Authority, Refusal,
    enroll::{EnrollError, Enrolled},
    once::{Once, Replayed},
};
use mastio_core::{AgentId, Jkt, SpiffeId, Stamp, Thumbprint, canonical};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::answer::{ApiError, parse_json, read_body};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// The longest key, in bytes.
const MAX_KEY: usize = 255;

/// A JSON body of a request that may carry a key.
pub(crate) struct Repeatable<T> {
    pub(crate) body: T,
    pub(crate) key: Key,
}

/// The key of a request, if it has one, with what it asks.
pub(crate) struct Key {
    key: Option<HeaderValue>,
    request: Bytes,
}

impl Key {
    /// What the request is called within `operation`.
    pub(crate) fn once(&self, operation: &str) -> Option<Once> {
        let key = self.key.as_ref()?;
        // The order of members and the space between them make no other request.
        let text = std::str::from_utf8(&self.request).unwrap_or_default();
        let canonical = canonical::canonicalise(text).ok();
        let request = canonical.as_deref().map_or(&self.request[..], str::as_bytes);
        Some(Once::new(operation, key.as_bytes(), request))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Repeatable<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let mut keys = request.headers().get_all(IDEMPOTENCY_KEY).iter();
        let key = match (keys.next(), keys.next()) {
            (Some(key), None) if is_key(key.as_bytes()) => Some(key.clone()),
            (None, None) => None,
            _ => {
                let detail = "Idempotency-Key must be one header of 1 to 255 visible ASCII characters";
                return Err(ApiError::bad_request(detail));
            }
        };
        let bytes = read_body(request.into_body()).await?;
        Ok(Self { body: parse_json(&bytes)?, key: Key { key, request: bytes } })
    }
}

fn is_key(key: &[u8]) -> bool {
    (1..=MAX_KEY).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic)
}

/// The agent that `enroll` brings in, or the one that the same request brought in before.
pub(crate) async fn answer_once(
    authority: &Authority,
    once: Option<&Once>,
    enroll: impl AsyncFnOnce() -> Result<Enrolled, EnrollError>,
) -> Result<Response, ApiError> {
    if let Some(once) = once
        && let Some(before) = authority.replayed(once).await?
    {
        return Ok(replay(&before));
    }
    match (enroll().await, once) {
        // Of two that came at once the other one may have been faster.
        (Err(refused), Some(once)) if refused.status() == StatusCode::CONFLICT.as_u16() => {
            let before = authority.replayed(once).await?;
            before.map(|before| replay(&before)).ok_or_else(|| refused.into())
        }
        (enrolled, _) => Ok(Shown::from(&enrolled?).into_response()),
    }
}

fn replay(before: &Replayed) -> Response {
    let mut response = Shown::from(before).into_response();
    response.headers_mut().insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    response
}

/// An agent that came in, as every answer tells it.
struct Shown<'a> {
    id: &'a AgentId,
    re_pinned: bool,
    display_name: &'a str,
    capabilities: &'a [String],
    federated: bool,
    certificates: Option<&'a str>,
    thumbprint: Thumbprint,
    key: Option<&'a SecretString>,
    spiffe_id: Option<&'a SpiffeId>,
    dpop_jkt: Option<Jkt>,
    dpop_jwk: Option<Value>,
    not_after: Option<Stamp>,
}

impl<'a> From<&'a Enrolled> for Shown<'a> {
    fn from(enrolled: &'a Enrolled) -> Self {
        Self {
            id: &enrolled.id,
            re_pinned: enrolled.re_pinned,
            display_name: &enrolled.display_name,
            capabilities: &enrolled.capabilities,
            federated: enrolled.federated,
            certificates: Some(&enrolled.certificates),
            thumbprint: enrolled.thumbprint,
            key: enrolled.key.as_ref(),
            spiffe_id: enrolled.spiffe_id.as_ref(),
            dpop_jkt: enrolled.dpop_jkt,
            dpop_jwk: enrolled.dpop_jwk.clone(),
            not_after: Some(enrolled.not_after),
        }
    }
}

impl<'a> From<&'a Replayed> for Shown<'a> {
    fn from(before: &'a Replayed) -> Self {
        let agent = &before.agent;
        Self {
            id: &agent.id,
            re_pinned: before.re_pinned,
            display_name: &agent.display_name,
            capabilities: &agent.capabilities,
            federated: agent.federated,
            certificates: before.certificates.as_deref(),
            thumbprint: before.thumbprint,
            key: before.key.as_ref(),
            spiffe_id: agent.spiffe_id.as_ref(),
            dpop_jkt: agent.dpop_jkt,
            dpop_jwk: before.dpop_jwk.as_deref().and_then(|jwk| serde_json::from_str(jwk).ok()),
            not_after: before.not_after,
        }
    }
}

impl IntoResponse for Shown<'_> {
    /// 201 for a new agent, 200 for one that got another certificate.
    fn into_response(self) -> Response {
        let status = if self.re_pinned { StatusCode::OK } else { StatusCode::CREATED };
        let key = self.key.map(ExposeSecret::expose_secret);
        let body = json!({
            "agent_id": self.id,
            "display_name": self.display_name,
            "capabilities": self.capabilities,
            "federated": self.federated,
            "cert_pem": self.certificates,
            "key_pem": key,
            "private_key_pem": key,
            "dpop_jwk": self.dpop_jwk,
            "dpop_jkt": self.dpop_jkt,
            "cert_thumbprint": self.thumbprint,
            "spiffe_id": self.spiffe_id,
            "not_after": self.not_after,
        });
        (status, Json(body)).into_response()
    }
}
