//! Rotating the key that signs tokens, and the intermediate (contract `pki.md` §6).

use axum::{Json, extract::State};
use http::StatusCode;
use mastio_authority::{
    intermediate::{IntermediateError, Question},
    signing_key::{Decision, GraceDays, SigningKeys},
};
use mastio_core::Stamp;
use mastio_pki::Certificate;
use mastio_store::keys::{KeyState, SigningKeyRow};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Shared, caller::Admin};
use crate::answer::{ApiError, Invalid, NoBody, NoQuery, StrictJson, StrictQuery, flag};

/// Where a key is in its life, in a word.
pub(crate) fn state(key: &SigningKeyRow, now: Stamp) -> &'static str {
    match key.state {
        KeyState::Staged => "staged",
        KeyState::Active => "active",
        KeyState::Grace(Some(until)) if until <= now => "ended",
        KeyState::Grace(_) => "grace",
    }
}

/// Until when its tokens verify, if that is known.
pub(crate) fn verifies_until(key: &SigningKeyRow) -> Option<Stamp> {
    match key.state {
        KeyState::Grace(until) => until,
        KeyState::Staged | KeyState::Active => None,
    }
}

/// When its certificate ends.
pub(crate) fn not_after(key: &SigningKeyRow) -> Option<Stamp> {
    let leaf = key.certificate.as_deref().map(Certificate::from_pem)?;
    leaf.ok().map(|leaf| leaf.not_after())
}

pub(crate) async fn show(State(app): Shared, Admin(_): Admin) -> Result<Json<Value>, ApiError> {
    let stored = app.authority.signing_keys().await?;
    let (rotation, now) = (app.authority.settings.key_rotation, app.authority.clock().now());
    let kid = |key: Option<&SigningKeyRow>| key.map(|key| key.kid.clone());
    let SigningKeys { keys, grace } = &stored;
    let row = |key: &SigningKeyRow| {
        json!({
            "kid": key.kid,
            "state": state(key, now),
            "pubkey_pem": key.public_pem,
            "created_at": key.created_at,
            "activated_at": key.activated_at,
            "deprecated_at": key.deprecated_at,
            "expires_at": verifies_until(key),
            "cert_not_after": not_after(key),
        })
    };
    Ok(Json(json!({
        "active_kid": kid(stored.active()),
        "staged_kid": kid(stored.staged()),
        "grace_days": grace,
        "min_interval_seconds": rotation.min_interval.as_secs(),
        "auto_rotate": rotation.automatic,
        "keys": keys.iter().map(row).collect::<Vec<_>>(),
    })))
}

pub(crate) async fn rotate(
    State(app): Shared,
    Admin(operator): Admin,
    StrictQuery(NoQuery {}): StrictQuery<NoQuery>,
    NoBody: NoBody,
) -> Result<Json<Value>, ApiError> {
    let rotated = app.authority.rotate_signing_key(&operator).await?;
    Ok(Json(json!({
        "old_kid": rotated.old_kid,
        "new_kid": rotated.new_kid,
        "cert_not_after": rotated.not_after,
        "grace_expires_at": rotated.grace_until,
        "continuity_proof": rotated.proof,
    })))
}

#[derive(Deserialize)]
pub(crate) struct GraceBody {
    grace_days: u32,
}

pub(crate) async fn set_grace_days(
    State(app): Shared,
    Admin(operator): Admin,
    StrictJson(body): StrictJson<GraceBody>,
) -> Result<Json<Value>, ApiError> {
    let grace = GraceDays::new(body.grace_days)
        .ok_or_else(|| invalid(Invalid::member("grace_days", "value_error", GRACE_BOUNDS)))?;
    app.authority.set_grace_days(grace, &operator).await?;
    Ok(Json(json!({ "grace_days": grace })))
}

/// What a number of days of grace must be.
pub(crate) const GRACE_BOUNDS: &str = "grace_days must be 1 to 90";

fn invalid(problem: Invalid) -> ApiError {
    ApiError::unprocessable(vec![problem])
}

#[derive(Deserialize)]
pub(crate) struct StagedBody {
    decision: String,
}

pub(crate) async fn complete_staged(
    State(app): Shared,
    Admin(operator): Admin,
    StrictJson(body): StrictJson<StagedBody>,
) -> Result<Json<Value>, ApiError> {
    let decision = Decision::from_word(&body.decision)
        .ok_or_else(|| invalid(Invalid::member("decision", "value_error", "activate or drop")))?;
    let kid = app.authority.complete_staged(decision, &operator).await?;
    Ok(Json(json!({ "kid": kid, "decision": decision.as_str() })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IntermediateQuery {
    #[serde(default, deserialize_with = "flag")]
    dry_run: bool,
    grace_days: Option<u32>,
}

impl IntermediateQuery {
    fn question(&self) -> Result<Question, ApiError> {
        let grace = self.grace_days.map_or(Some(GraceDays::FORTNIGHT), GraceDays::new);
        let grace = grace.ok_or_else(|| invalid(Invalid::query("grace_days", GRACE_BOUNDS)))?;
        Ok(Question { dry_run: self.dry_run, grace, instead_of: None })
    }
}

pub(crate) async fn rotate_intermediate(
    State(app): Shared,
    Admin(operator): Admin,
    StrictQuery(query): StrictQuery<IntermediateQuery>,
    NoBody: NoBody,
) -> Result<Json<Value>, ApiError> {
    let question = query.question()?;
    let rotated = app.authority.rotate_intermediate(question, &operator).await.map_err(refused)?;
    Ok(Json(json!({
        "dry_run": question.dry_run,
        "old_intermediate_cn": rotated.old_cn,
        "new_intermediate_cn": rotated.new_cn,
        "new_leaf_kid": rotated.new_kid,
        "grace_days": question.grace,
        "continuity_proof": rotated.continuity_proof,
        "fingerprint_sha256": rotated.fingerprint,
        "not_after": rotated.not_after,
    })))
}

/// A failure is told with the id that the log has it under (contract `pki.md` §6).
fn refused(error: IntermediateError) -> ApiError {
    match error {
        IntermediateError::Failed(_) => {
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "rotation_failed", error.to_string())
        }
        error => error.into(),
    }
}
