//! Switching agents off and on, revoking them, and giving them other credentials (contract `enrollment.md` §4, §6).

use std::time::Duration;

use axum::{Json, extract::State};
use http::StatusCode;
use mastio_authority::lifecycle::{ProvenKey, Revoked, Rotated, Rotation};
use mastio_core::{AgentId, AgentName};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{App, Shared, caller::Admin, fleet};
use crate::{
    answer::{ApiError, Invalid, NoQuery, OptionalJson, StrictJson, StrictPath, StrictQuery},
    plain::is_plain,
};

/// The longest reason of a revocation, in characters: the column's bound.
pub(crate) const REASON: usize = 128;

pub(crate) fn agent_id(text: &str) -> Result<AgentId, ApiError> {
    AgentId::parse(text).map_err(|_| ApiError::not_found("agent not found"))
}

/// The agent that an operator names, by its id or by its short name alone.
pub(crate) fn named(app: &App, text: &str) -> Result<AgentId, ApiError> {
    let ours = |name| AgentId::new(&app.authority.trust().org, &name);
    AgentName::parse(text).map(ours).or_else(|_| agent_id(text))
}

#[derive(Default, Deserialize)]
pub(crate) struct RevokeBody {
    #[serde(default)]
    reason: Option<String>,
}

impl RevokeBody {
    pub(super) fn reason(&self) -> Result<Option<&str>, ApiError> {
        let reason = self.reason.as_deref().map(str::trim).filter(|reason| !reason.is_empty());
        match reason {
            Some(text) if text.chars().count() > REASON || !is_plain(text) => {
                let msg = format!("at most {REASON} characters on one line");
                Err(ApiError::unprocessable(vec![Invalid::member("reason", "value_error", msg)]))
            }
            reason => Ok(reason),
        }
    }
}

pub(crate) async fn revoke(
    State(app): Shared,
    Admin(operator): Admin,
    StrictPath(id): StrictPath,
    StrictQuery(NoQuery {}): StrictQuery<NoQuery>,
    OptionalJson(body): OptionalJson<RevokeBody>,
) -> Result<Json<Value>, ApiError> {
    let revoked = app.authority.revoke(&named(&app, &id)?, body.reason()?, &operator).await?;
    Ok(Json(revocation(&revoked)))
}

pub(super) fn revocation(revoked: &Revoked) -> Value {
    json!({
        "agent_id": revoked.agent,
        "status": "revoked",
        "revoked_at": revoked.at,
        "revoked_reason": revoked.reason,
        "cert_thumbprint": revoked.thumbprint,
        "already_revoked": revoked.already,
        "ended": revoked.ended,
    })
}

#[derive(Default, Deserialize)]
pub(crate) struct RotateBody {
    #[serde(default)]
    csr_pem: Option<String>,
    #[serde(default)]
    pubkey_pem: Option<String>,
    #[serde(default)]
    pop_signature: Option<String>,
    #[serde(default)]
    rotate_dpop: bool,
    #[serde(default)]
    grace_hours: u32,
}

pub(crate) async fn rotate(
    State(app): Shared,
    Admin(operator): Admin,
    StrictPath(id): StrictPath,
    StrictQuery(NoQuery {}): StrictQuery<NoQuery>,
    OptionalJson(body): OptionalJson<RotateBody>,
) -> Result<Json<Value>, ApiError> {
    let proven_key = match (body.pubkey_pem, body.pop_signature) {
        (None, None) => None,
        (Some(public_key_pem), Some(pop_signature)) => Some(ProvenKey { public_key_pem, pop_signature }),
        (key, _) => {
            let missing = if key.is_some() { "pop_signature" } else { "pubkey_pem" };
            return Err(ApiError::unprocessable(vec![Invalid::member(missing, "missing", "Field required")]));
        }
    };
    let rotation = Rotation {
        csr_pem: body.csr_pem,
        proven_key,
        dpop: body.rotate_dpop,
        grace: (body.grace_hours > 0).then(|| Duration::from_secs(u64::from(body.grace_hours) * 3600)),
    };
    let rotated = app.authority.rotate_certificate(&named(&app, &id)?, &rotation, &operator).await?;
    Ok(Json(rotated_body(&rotated)))
}

pub(super) fn rotated_body(rotated: &Rotated) -> Value {
    let key = rotated.key.as_ref().map(ExposeSecret::expose_secret);
    let dpop_jwk = rotated.dpop_jwk.as_ref().map(ExposeSecret::expose_secret);
    json!({
        "agent_id": rotated.agent,
        "cert_pem": rotated.certificates,
        "key_pem": key,
        "private_key_pem": key,
        "dpop_jwk": dpop_jwk.and_then(|text| serde_json::from_str::<Value>(text).ok()),
        "dpop_jkt": rotated.dpop_jkt,
        "cert_thumbprint": rotated.thumbprint,
        "previous_cert_thumbprint": rotated.previous,
        "not_after": rotated.not_after,
    })
}

pub(crate) async fn deactivate(
    State(app): Shared,
    Admin(operator): Admin,
    StrictPath(id): StrictPath,
) -> Result<StatusCode, ApiError> {
    let id = named(&app, &id)?;
    app.authority.deactivate(&id, &operator).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn reactivate(
    State(app): Shared,
    Admin(operator): Admin,
    StrictPath(id): StrictPath,
) -> Result<Json<Value>, ApiError> {
    let id = named(&app, &id)?;
    app.authority.reactivate(&id, &operator).await?;
    let message = "agent reactivated";
    Ok(Json(json!({ "ok": true, "agent_id": id, "resolved_event_id": null, "message": message })))
}

#[derive(Deserialize)]
pub(crate) struct FederatedBody {
    federated: bool,
}

pub(crate) async fn set_federated(
    State(app): Shared,
    Admin(operator): Admin,
    StrictPath(id): StrictPath,
    StrictJson(body): StrictJson<FederatedBody>,
) -> Result<Json<Value>, ApiError> {
    let agent = app.authority.set_federated(&named(&app, &id)?, body.federated, &operator).await?;
    Ok(Json(fleet::summary(&agent)))
}

#[derive(Deserialize)]
pub(crate) struct KeyBody {
    jwk: Value,
}

pub(crate) async fn set_dpop_key(
    State(app): Shared,
    Admin(operator): Admin,
    StrictPath(id): StrictPath,
    StrictJson(body): StrictJson<KeyBody>,
) -> Result<Json<Value>, ApiError> {
    let id = named(&app, &id)?;
    let jkt = app.authority.set_dpop_key(&id, &body.jwk, &operator).await?;
    Ok(Json(json!({ "agent_id": id, "dpop_jkt": jkt })))
}
