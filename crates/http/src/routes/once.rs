//! `Idempotency-Key`: a request that may have been answered, and whose answer was lost, can be sent again.

use axum::{
    Json,
    extract::{FromRequest, Request},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use mastio_authority::{
    Authority,
    once::{Once, Replayed},
};
use mastio_core::canonical;
use secrecy::ExposeSecret;
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

/// What `enrol` returns, or 201 with the agent that the same request brought in before.
pub(crate) async fn answer_once(
    authority: &Authority,
    once: Option<&Once>,
    enrol: impl AsyncFnOnce() -> Result<(StatusCode, Value), ApiError>,
) -> Result<Response, ApiError> {
    let Some(once) = once else { return enrol().await.map(answer) };
    if let Some(before) = authority.replayed(once).await? {
        return Ok(replay(&before));
    }
    match enrol().await {
        // Of two that came at once the other one may have been faster.
        Err(refused) if refused.status == StatusCode::CONFLICT => {
            authority.replayed(once).await?.map(|before| replay(&before)).ok_or(refused)
        }
        enrolled => enrolled.map(answer),
    }
}

fn answer((status, body): (StatusCode, Value)) -> Response {
    (status, Json(body)).into_response()
}

fn replay(before: &Replayed) -> Response {
    let (agent, key) = (&before.agent, before.key.as_ref().map(ExposeSecret::expose_secret));
    let body = json!({
        "agent_id": agent.id,
        "display_name": agent.display_name,
        "capabilities": agent.capabilities,
        "federated": agent.federated,
        "cert_pem": before.certificates,
        "key_pem": key,
        "private_key_pem": key,
        "dpop_jwk": before.dpop_jwk.as_deref().and_then(|jwk| serde_json::from_str::<Value>(jwk).ok()),
        "dpop_jkt": agent.dpop_jkt,
        "cert_thumbprint": before.thumbprint,
        "spiffe_id": agent.spiffe_id,
    });
    let mut response = answer((StatusCode::CREATED, body));
    response.headers_mut().insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    response
}
