//! `/v1/auth/*`: logging in, minting, and who am I (contract `auth.md` §5; design decision 13).

use axum::{
    Json,
    extract::{Request, State},
};
use http::{HeaderValue, StatusCode, header::ALLOW};
use mastio_authority::{
    Authority,
    authenticate::{Auth, AuthError, Pinned},
    limits::Class,
    login::{CHALLENGE_LIFETIME, SignedAssertion},
    mint::MintError,
    peer::{Peer, PeerCertificate},
};
use mastio_core::Stamp;
use mastio_jose::Confirmation;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Acting, Shared,
    caller::{Agent, Certified, peer, request_id, request_line},
    refuse,
};
use crate::answer::{ApiError, Invalid, StrictJson, parse_json, read_body};

pub(crate) async fn login_challenge(State(app): Shared, Certified(pinned): Certified) -> Json<Value> {
    let id = pinned.agent.id();
    let nonce = app.authority.challenge(id);
    Json(json!({ "nonce": nonce, "expires_in": CHALLENGE_LIFETIME.as_secs(), "agent_id": id }))
}

#[derive(Deserialize)]
pub(crate) struct Challenged {
    client_assertion: String,
    nonce: String,
}

pub(crate) async fn sign_challenged_assertion(
    State(app): Shared,
    Certified(pinned): Certified,
    StrictJson(body): StrictJson<Challenged>,
) -> Result<Json<SignedAssertion>, ApiError> {
    Ok(Json(app.authority.countersign(&pinned, &body.client_assertion, &body.nonce).await?))
}

pub(crate) async fn sign_assertion(
    State(app): Shared,
    Certified(pinned): Certified,
    axum::Extension(id): axum::Extension<crate::middleware::RequestId>,
) -> Result<Json<SignedAssertion>, ApiError> {
    Ok(Json(app.authority.sign_for(&pinned, &id.0).await?))
}

#[derive(Deserialize, Default)]
struct TokenRequest {
    #[serde(default)]
    client_assertion: Option<String>,
}

/// The body is looked at last: a revoked certificate reads so whatever the body is (contract `auth.md` §12).
pub(crate) async fn token(State(app): Shared, request: Request) -> Result<Json<Value>, ApiError> {
    let authority = &app.authority;
    let (parts, body) = request.into_parts();
    let peer = peer(&parts);
    authority
        .limits
        .by_address(Class::Mint, peer.address)
        .map_err(|over| refuse::over_limit(authority, over))?;
    let deny = |error: AuthError| refuse::unauthenticated(authority, peer.address, error);
    let line = request_line(&parts).map_err(deny)?;
    let by_tls = by_tls(authority, &peer).await?;
    let acting = parts.extensions.get::<Acting>();
    let bytes = read_body(body).await?;
    let assertion = match bytes.is_empty() {
        true => None,
        false => parse_json::<TokenRequest>(&bytes)?.client_assertion,
    };
    if assertion.is_none() && by_tls.is_none() {
        return Err(ApiError::unprocessable(vec![Invalid::member(
            "client_assertion",
            "missing",
            "Field required",
        )]));
    }
    let minted = authority
        .mint(by_tls, assertion.as_deref(), &line, &request_id(&parts))
        .await
        .map_err(|error| refuse::not_minted(authority, peer.address, error))?;
    authority.metrics.auth_success.with_label_values(&[minted.method]).inc();
    if let Some(acting) = acting {
        acting.set(&minted.agent, minted.renewal_due);
    }
    Ok(Json(json!({
        "access_token": minted.access_token,
        "token_type": "Bearer",
        "expires_in": minted.expires_in,
        "scope": "local",
        "issued_by": minted.issued_by,
    })))
}

/// The agent behind the TLS certificate, if there is one: judged before anything else of a request is.
async fn by_tls(authority: &Authority, peer: &Peer) -> Result<Option<Pinned>, ApiError> {
    if peer.certificate == PeerCertificate::None {
        return Ok(None);
    }
    let refused = |error| refuse::not_minted(authority, peer.address, MintError::Auth(error));
    authority.certificate(peer).await.map(Some).map_err(refused)
}

/// Nothing is minted by GET; but the runbook's bare `curl --cert` reads what is wrong with a certificate (seed 001 §6).
pub(crate) async fn token_by_get(State(app): Shared, request: Request) -> ApiError {
    let authority = &app.authority;
    let peer = peer(&request.into_parts().0);
    if let Err(over) = authority.limits.by_address(Class::Mint, peer.address) {
        return refuse::over_limit(authority, over);
    }
    match by_tls(authority, &peer).await {
        Err(refused) => refused,
        Ok(_) => {
            let detail = "Method Not Allowed: POST mints a token; see docs/walk-curl.md";
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
                .with_header(ALLOW, HeaderValue::from_static("POST"))
        }
    }
}

pub(crate) async fn whoami(Agent(caller): Agent) -> Json<Value> {
    let agent = &caller.agent;
    let (auth, cnf, expires_at, thumbprint) = match &caller.auth {
        Auth::Mtls { thumbprint, not_after, jkt } => {
            let cnf = Confirmation { jkt: *jkt, x5t_s256: Some(*thumbprint) };
            ("mtls", json!(cnf), Stamp::from_unix(*not_after), Some(*thumbprint))
        }
        Auth::Token { claims } => ("token", json!(claims.cnf), claims.exp, agent.pin),
    };
    Json(json!({
        "agent_id": agent.id(),
        "org_id": agent.id().org(),
        "principal_type": agent.row.kind.as_str(),
        "spiffe_id": agent.row.spiffe_id,
        "auth": auth,
        "cnf": cnf,
        "expires_at": expires_at,
        "scope": agent.row.capabilities,
        "cert_thumbprint": thumbprint,
    }))
}
