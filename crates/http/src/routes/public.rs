//! What anybody may read (contract `auth.md` §7, `pki.md` §4).

use axum::{Json, extract::State, response::Response};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CACHE_CONTROL, CONTENT_DISPOSITION},
};
use serde_json::json;

use super::{Shared, caller::Anyone};
use crate::{
    answer::{ApiError, StrictPath},
    etag,
};

pub(crate) async fn trust_file(State(app): Shared, _: Anyone, headers: HeaderMap) -> Response {
    let trust = app.authority.trust();
    let kind = HeaderValue::from_static("application/x-pem-file");
    let mut response = etag::tagged(&headers, kind, trust.trust_file.clone());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    let name = HeaderValue::from_static("inline; filename=\"org-ca.pem\"");
    response.headers_mut().insert(CONTENT_DISPOSITION, name);
    response
}

pub(crate) async fn bootstrap(State(app): Shared, _: Anyone, headers: HeaderMap) -> Response {
    let trust = app.authority.trust();
    let body = json!({
        "version": 1,
        "mode": "configured",
        "org_id": trust.org,
        "trust_domain": trust.domain.as_str(),
        "ca_fingerprint_sha256": trust.root.thumbprint(),
        "urls": {
            "ca": "/pki/ca.crt",
            "enrollment_start": "/v1/enrollment/start",
            "enrollment_status_template": "/v1/enrollment/{session_id}/status",
            "jwks": "/.well-known/jwks-local.json",
        },
    });
    let mut response = etag::tagged(&headers, HeaderValue::from_static("application/json"), body.to_string());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=60"));
    response
}

pub(crate) async fn jwks(State(app): Shared, _: Anyone, headers: HeaderMap) -> Result<Response, ApiError> {
    let trust = app.authority.trust();
    if trust.verifiers.is_empty() {
        let detail = "no signing key; see the start of the log";
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no_signing_key", detail));
    }
    let kind = HeaderValue::from_static("application/json");
    let mut response = etag::tagged_as(&headers, kind, trust.jwks.document().to_owned(), trust.jwks.etag());
    let cache = HeaderValue::from_static("public, max-age=60, stale-while-revalidate=60");
    response.headers_mut().insert(CACHE_CONTROL, cache);
    Ok(response)
}

pub(crate) async fn public_key(
    State(app): Shared,
    _: Anyone,
    StrictPath(id): StrictPath,
) -> Result<Json<impl serde::Serialize>, ApiError> {
    Ok(Json(app.gateway.public_key(&id).await?))
}
