//! Credentials as arguments of handlers.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use axum::extract::FromRequestParts;
use http::{HeaderMap, header::AUTHORIZATION, request::Parts};
use mastio_authority::{
    admin::{AdminError, Operator},
    authenticate::{Auth, AuthError, Caller, Pinned},
    limits::Class,
    peer::{Peer, PeerCertificate},
    proofs::RequestLine,
    registry,
    renew::KeyHolder,
};

use super::{Acting, App, refuse};
use crate::{answer::ApiError, middleware::RequestId};

/// The other end of the request, from the listener.
pub(crate) fn peer(parts: &Parts) -> Arc<Peer> {
    parts.extensions.get::<Arc<Peer>>().cloned().unwrap_or_else(|| {
        // Every listener sets it; without one nobody is trusted.
        Arc::new(Peer { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), certificate: PeerCertificate::None })
    })
}

/// What a proof must match.
///
/// # Errors
/// When there are two of them.
pub(crate) fn request_line(parts: &Parts) -> Result<RequestLine<'_>, AuthError> {
    let mut proofs = parts.headers.get_all("dpop").iter();
    let proof = match (proofs.next(), proofs.next()) {
        (Some(_), Some(_)) => return Err(AuthError::SeveralProofs),
        // Bytes that are no text cannot be a proof: an empty one is refused where one is needed.
        (Some(proof), None) => Some(proof.to_str().unwrap_or("not text")),
        (None, _) => None,
    };
    Ok(RequestLine { method: parts.method.as_str(), path: parts.uri.path(), proof })
}

/// The id of the request.
pub(crate) fn request_id(parts: &Parts) -> Arc<str> {
    parts.extensions.get::<RequestId>().map_or_else(|| "".into(), |id| Arc::clone(&id.0))
}

pub(crate) fn acts(parts: &Parts, principal: &impl ToString) {
    if let Some(acting) = parts.extensions.get::<Acting>() {
        acting.is(principal);
    }
}

fn agent_acts(app: &App, parts: &Parts, agent: &registry::Agent) {
    if let Some(acting) = parts.extensions.get::<Acting>() {
        acting.is_agent(agent, app.authority.renewal_due(agent));
    }
}

/// An agent, by access token or client certificate: class E of contract `calls.md` §2.
pub(crate) struct Agent(pub(crate) Caller);

impl FromRequestParts<Arc<App>> for Agent {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let (authority, peer) = (&app.authority, peer(parts));
        let caller = authenticate(app, parts, &peer)
            .await
            .map_err(|error| refuse::unauthenticated(authority, peer.address, error))?;
        let method = match caller.auth {
            Auth::Mtls { .. } => "mtls",
            Auth::Token { .. } => "token",
        };
        authority.limits.by_agent(caller.agent.id()).map_err(|over| refuse::over_limit(authority, over))?;
        authority.metrics.auth_success.with_label_values(&[method]).inc();
        agent_acts(app, parts, &caller.agent);
        Ok(Self(caller))
    }
}

async fn authenticate(app: &App, parts: &Parts, peer: &Peer) -> Result<Caller, AuthError> {
    let (authority, request) = (&app.authority, request_line(parts)?);
    if let Some(token) = token(&parts.headers) {
        let ours = mastio_jose::token::peek_kid(token)
            .is_some_and(|kid| authority.trust().verifiers.contains_key(kid.as_str()));
        if ours {
            return authority.caller_by_token(peer, token, &request).await;
        }
    }
    if peer.certificate == PeerCertificate::None && parts.headers.contains_key("x-api-key") {
        return Err(AuthError::ApiKey);
    }
    authority.caller_by_certificate(peer, &request).await
}

/// The token of `Authorization: DPoP …` or `Bearer …`.
fn token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    ["dpop", "bearer"].iter().any(|known| scheme.eq_ignore_ascii_case(known)).then(|| token.trim())
}

/// An agent by its client certificate alone: class C.
pub(crate) struct Certified(pub(crate) Pinned);

impl FromRequestParts<Arc<App>> for Certified {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let (authority, peer) = (&app.authority, peer(parts));
        let pinned = authority
            .certificate(&peer)
            .await
            .map_err(|error| refuse::unauthenticated(authority, peer.address, error))?;
        authority.limits.by_agent(pinned.agent.id()).map_err(|over| refuse::over_limit(authority, over))?;
        agent_acts(app, parts, &pinned.agent);
        Ok(Self(pinned))
    }
}

/// An agent by its token, or by its client certificate alone: for what is no secret.
pub(crate) struct Recognised(pub(crate) Arc<registry::Agent>);

impl FromRequestParts<Arc<App>> for Recognised {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        Ok(Self(match token(&parts.headers) {
            Some(_) => Agent::from_request_parts(parts, app).await?.0.agent,
            None => Certified::from_request_parts(parts, app).await?.0.agent,
        }))
    }
}

/// An agent by its client certificate and a proof by its registered key: what changes its own credentials.
pub(crate) struct Holder(pub(crate) KeyHolder);

impl FromRequestParts<Arc<App>> for Holder {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let (authority, peer) = (&app.authority, peer(parts));
        let deny = |error: AuthError| refuse::unauthenticated(authority, peer.address, error);
        let request = request_line(parts).map_err(deny)?;
        let holder = authority.key_holder(&peer, &request).await.map_err(deny)?;
        authority.limits.by_agent(holder.agent.id()).map_err(|over| refuse::over_limit(authority, over))?;
        acts(parts, holder.agent.id());
        Ok(Self(holder))
    }
}

/// An operator, by `X-Admin-Secret`: class A.
pub(crate) struct Admin(pub(crate) Operator);

impl FromRequestParts<Arc<App>> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let secret = parts.headers.get("x-admin-secret").map(http::HeaderValue::as_bytes);
        let operator = app.authority.operator(secret, peer(parts).address).map_err(|error| match error {
            AdminError::OverLimit(over) => refuse::over_limit(&app.authority, over),
            error => error.into(),
        })?;
        acts(parts, &operator.fingerprint);
        Ok(Self(operator))
    }
}

/// Anybody, within the limits of `CLASS`.
pub(crate) struct Anyone;

impl FromRequestParts<Arc<App>> for Anyone {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let limits = &app.authority.limits;
        limits
            .by_address(Class::Public, peer(parts).address)
            .map_err(|over| refuse::over_limit(&app.authority, over))?;
        Ok(Self)
    }
}
