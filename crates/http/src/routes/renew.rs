//! An agent renews its own certificate (contract `enrollment.md`, "better than both" 3).

use axum::{Json, extract::State};
use mastio_authority::{lifecycle::LifecycleError, lifetime::Lifetime, renew::Renewal};
use serde::Deserialize;
use serde_json::Value;

use super::{Shared, caller::Holder, lifecycle::rotated_body, refuse};
use crate::answer::{ApiError, StrictJson};

#[derive(Deserialize)]
pub(crate) struct RenewBody {
    csr_pem: String,
    #[serde(default)]
    lifetime_seconds: Option<Lifetime>,
}

pub(crate) async fn renew(
    State(app): Shared,
    Holder(holder): Holder,
    StrictJson(body): StrictJson<RenewBody>,
) -> Result<Json<Value>, ApiError> {
    let renewal = Renewal { csr_pem: body.csr_pem, lifetime: body.lifetime_seconds };
    let renewed = app.authority.renew(&holder, &renewal).await.map_err(|error| match error {
        LifecycleError::OverLimit(over) => refuse::over_limit(&app.authority, over),
        error => error.into(),
    })?;
    Ok(Json(rotated_body(&renewed)))
}
