//! The admin API for agents (contract `enrollment.md` §4, §5, §6).

use axum::{Json, extract::State};
use http::StatusCode;
use mastio_authority::{
    admin::Operator,
    enroll::{Brought, Candidate, EnrollError, Enrolled},
    registry,
};
use mastio_core::AgentName;
use mastio_store::agents::{AgentRow, Standing};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Shared, caller::Admin};
use crate::answer::{ApiError, Invalid, StrictJson};

#[derive(Deserialize)]
pub(crate) struct NewAgent {
    agent_name: AgentName,
    #[serde(default)]
    display_name: String,
    #[serde(default)]
    capabilities: Vec<String>,
    #[serde(default)]
    federated: bool,
    #[serde(default)]
    cert_pem: Option<String>,
    #[serde(default)]
    private_key_pem: Option<SecretString>,
    #[serde(default)]
    dpop_jwk: Option<Value>,
    #[serde(default)]
    escrow: Option<bool>,
}

impl NewAgent {
    fn split(self) -> Result<(Candidate, Pair, Option<Value>, bool), ApiError> {
        let too_long = |name, limit| {
            Err(ApiError::unprocessable(vec![Invalid::member(
                name,
                "too_long",
                format!("at most {limit} allowed"),
            )]))
        };
        if self.display_name.chars().count() > 256 {
            return too_long("display_name", "256 characters");
        }
        if self.capabilities.len() > 256 || self.capabilities.iter().any(|capability| capability.len() > 256)
        {
            return too_long("capabilities", "256 items of 256 bytes");
        }
        let candidate = Candidate {
            name: self.agent_name,
            display_name: self.display_name,
            capabilities: self.capabilities,
            federated: self.federated,
        };
        let pair = Pair { certificates: self.cert_pem, key: self.private_key_pem };
        Ok((candidate, pair, self.dpop_jwk.filter(|jwk| !jwk.is_null()), self.escrow.unwrap_or(true)))
    }
}

struct Pair {
    certificates: Option<String>,
    key: Option<SecretString>,
}

pub(crate) async fn create(
    State(app): Shared,
    Admin(operator): Admin,
    StrictJson(body): StrictJson<NewAgent>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let (candidate, pair, dpop_jwk, escrow) = body.split()?;
    let authority = &app.authority;
    let enrolled = match (pair.certificates, pair.key) {
        (None, None) => authority.create_agent(&candidate, escrow, &operator).await?,
        (Some(certificates), Some(key)) => {
            let brought = Brought { certificates, key };
            authority.enroll_byoca(&candidate, &brought, dpop_jwk.as_ref(), &operator).await?
        }
        _ => return Err(EnrollError::HalfPair.into()),
    };
    let body = json!({
        "agent_id": enrolled.id,
        "display_name": candidate.display_name,
        "capabilities": candidate.capabilities,
        "federated": candidate.federated,
        "cert_pem": enrolled.certificates,
        "key_pem": enrolled.key.as_ref().map(ExposeSecret::expose_secret),
        "private_key_pem": enrolled.key.as_ref().map(ExposeSecret::expose_secret),
        "dpop_jwk": dpop_jwk,
        "dpop_jkt": enrolled.dpop_jkt,
        "cert_thumbprint": enrolled.thumbprint,
        "spiffe_id": enrolled.spiffe_id,
    });
    Ok((StatusCode::CREATED, Json(body)))
}

pub(crate) async fn enroll_byoca(
    State(app): Shared,
    Admin(operator): Admin,
    StrictJson(body): StrictJson<NewAgent>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let (candidate, pair, dpop_jwk, _) = body.split()?;
    let missing = |name| ApiError::unprocessable(vec![Invalid::member(name, "missing", "Field required")]);
    let certificates = pair.certificates.ok_or_else(|| missing("cert_pem"))?;
    let key = pair.key.ok_or_else(|| missing("private_key_pem"))?;
    let brought = Brought { certificates, key };
    let Enrolled { id, thumbprint, spiffe_id, dpop_jkt, .. } =
        app.authority.enroll_byoca(&candidate, &brought, dpop_jwk.as_ref(), &operator).await?;
    let body = json!({
        "agent_id": id,
        "display_name": candidate.display_name,
        "capabilities": candidate.capabilities,
        "cert_thumbprint": thumbprint,
        "spiffe_id": spiffe_id,
        "dpop_jkt": dpop_jkt,
    });
    Ok((StatusCode::CREATED, Json(body)))
}

pub(crate) async fn list(State(app): Shared, Admin(_): Admin) -> Result<Json<Vec<Value>>, ApiError> {
    Ok(Json(app.authority.agents().await?.iter().map(summary).collect()))
}

/// A superset of [`list`] (contract `enrollment.md` §6).
pub(crate) async fn list_in_full(State(app): Shared, Admin(_): Admin) -> Result<Json<Vec<Value>>, ApiError> {
    Ok(Json(app.authority.agents().await?.into_iter().map(in_full).collect()))
}

fn summary(agent: &AgentRow) -> Value {
    json!({
        "agent_id": agent.id,
        "display_name": agent.display_name,
        "capabilities": agent.capabilities,
        "federated": agent.federated,
        "federated_at": agent.federated_at,
        "federation_revision": agent.federation_revision,
        "is_active": agent.standing == Standing::Active,
        "created_at": agent.created_at,
    })
}

fn in_full(agent: AgentRow) -> Value {
    let mut row = summary(&agent);
    let (revoked_at, revoked_reason) = match &agent.standing {
        Standing::Revoked { at, reason } => (Some(*at), reason.clone()),
        _ => (None, None),
    };
    let agent = registry::Agent::from(agent);
    let more = json!({
        "enrollment_method": agent.row.method,
        "spiffe_id": agent.row.spiffe_id,
        "dpop_jkt": agent.row.dpop_jkt,
        "reach": agent.row.reach,
        "principal_type": agent.row.kind.as_str(),
        "enrolled_at": agent.row.enrolled_at,
        "revoked_at": revoked_at,
        "revoked_reason": revoked_reason,
        "cert_thumbprint": agent.pin,
        "cert_not_after": agent.certificates.first().map(mastio_pki::Certificate::not_after),
    });
    if let (Value::Object(row), Value::Object(more)) = (&mut row, more) {
        row.extend(more);
    }
    row
}

pub(crate) async fn mastio_public_key(State(app): Shared, Admin(Operator { .. }): Admin) -> Json<Value> {
    let trust = app.authority.trust();
    let pem = trust.signer.as_ref().map(|signer| signer.key.spki_pem());
    Json(json!({ "mastio_pubkey": pem, "org_id": trust.org }))
}
