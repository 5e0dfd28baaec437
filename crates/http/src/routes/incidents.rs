//! Incident response: containing an agent, ending the sessions behind it.

use axum::{Json, extract::State};
use mastio_authority::contain::Contained;
use mastio_store::revocations::Revocation;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Shared,
    caller::Admin,
    lifecycle::{RevokeBody, named, revocation},
};
use crate::answer::{ApiError, StrictJson, StrictPath};

#[derive(Deserialize)]
pub(crate) struct ContainBody {
    agent_id: String,
    #[serde(flatten)]
    revoke: RevokeBody,
}

pub(crate) async fn contain(
    State(app): Shared,
    Admin(operator): Admin,
    StrictJson(body): StrictJson<ContainBody>,
) -> Result<Json<Value>, ApiError> {
    let id = named(&app, &body.agent_id)?;
    let contained = app.authority.contain(&id, body.revoke.reason()?, &operator).await?;
    Ok(Json(evidence(&contained)))
}

fn evidence(contained: &Contained) -> Value {
    json!({
        "agent_id": contained.revocation.agent,
        "status": "contained",
        "revocation": revocation(&contained.revocation),
        "certificates": contained.certificates.iter().map(certificate).collect::<Vec<_>>(),
        "crl": contained.lists,
        "audit": { "entries": contained.entries, "head": contained.head },
    })
}

fn certificate(revoked: &Revocation) -> Value {
    json!({
        "thumbprint": revoked.thumbprint,
        "serial": revoked.serial,
        "issuer": revoked.issuer_ski,
        "revoked_at": revoked.at,
        "reason": revoked.reason,
        "not_after": revoked.not_after,
    })
}

pub(crate) async fn end_sessions(
    State(app): Shared,
    Admin(operator): Admin,
    StrictPath(id): StrictPath,
) -> Result<Json<Value>, ApiError> {
    let revoked = app.authority.end_sessions(&named(&app, &id)?, &operator).await?;
    Ok(Json(json!({ "revoked": revoked })))
}
