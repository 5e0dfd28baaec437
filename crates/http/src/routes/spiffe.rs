//! SPIRE bundles: whom to believe about the workloads of a trust domain (design decision 1).

use axum::{Json, body::Body, extract::State};
use http::StatusCode;
use mastio_authority::spire::SpireBundle;
use mastio_core::TrustDomain;
use mastio_pki::Certificate;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Shared, caller::Admin};
use crate::answer::{ApiError, Invalid, StrictPath, parse_json, read_body};

pub(crate) async fn list(State(app): Shared, Admin(_): Admin) -> Result<Json<Value>, ApiError> {
    let bundles: Vec<Value> = app.authority.spire_bundles().await?.iter().map(shown).collect();
    Ok(Json(json!({ "bundles": bundles })))
}

pub(crate) async fn show(
    State(app): Shared,
    Admin(_): Admin,
    StrictPath(domain): StrictPath,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(shown(&app.authority.spire_bundle(&trust_domain(&domain)?).await?)))
}

pub(crate) async fn set(
    State(app): Shared,
    Admin(operator): Admin,
    StrictPath(domain): StrictPath,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let (domain, text) = (trust_domain(&domain)?, bundle_text(body).await?);
    Ok(Json(shown(&app.authority.set_spire_bundle(&domain, &text, &operator).await?)))
}

pub(crate) async fn remove(
    State(app): Shared,
    Admin(operator): Admin,
    StrictPath(domain): StrictPath,
) -> Result<StatusCode, ApiError> {
    app.authority.remove_spire_bundle(&trust_domain(&domain)?, &operator).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn trust_domain(text: &str) -> Result<TrustDomain, ApiError> {
    TrustDomain::parse(text).map_err(|error| ApiError::bad_request(error.to_string()))
}

/// The bundle itself, as `spire-server bundle show` prints it in either format, or `{"bundle_pem": …}`.
async fn bundle_text(body: Body) -> Result<String, ApiError> {
    #[derive(Deserialize)]
    struct Wrapped {
        bundle_pem: Option<String>,
    }
    let bytes = read_body(body).await?;
    let text = std::str::from_utf8(&bytes).map_err(|_| {
        let problem = Invalid::member("bundle_pem", "value_error", "the bundle is not text");
        ApiError::unprocessable(vec![problem])
    })?;
    if text.trim_start().starts_with('{')
        && let Some(pem) = parse_json::<Wrapped>(text.as_bytes())?.bundle_pem
    {
        return Ok(pem);
    }
    Ok(text.to_owned())
}

fn shown(bundle: &SpireBundle) -> Value {
    let certificate = |ca: &Certificate| {
        json!({
            "subject": ca.subject(),
            "cert_thumbprint": ca.thumbprint(),
            "not_before": ca.not_before(),
            "not_after": ca.not_after(),
        })
    };
    json!({
        "trust_domain": bundle.domain.as_str(),
        "bundle_pem": bundle.certificates.iter().map(Certificate::pem).collect::<String>(),
        "certificates": bundle.certificates.iter().map(certificate).collect::<Vec<_>>(),
        "updated_at": bundle.updated_at,
    })
}
