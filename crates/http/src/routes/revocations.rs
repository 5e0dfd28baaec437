//! What anybody may read about revoked certificates (design decision 9).

use axum::{extract::State, response::Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::CACHE_CONTROL};
use mastio_authority::crl::Document;

use super::{Shared, caller::Anyone, refuse::HINT};
use crate::{answer::ApiError, etag};

/// A cache may keep them and has to ask each time: a revocation must not hide behind one.
const CACHING: HeaderValue = HeaderValue::from_static("public, no-cache");

pub(crate) async fn lists(State(app): Shared, _: Anyone, headers: HeaderMap) -> Result<Response, ApiError> {
    let trust = app.authority.trust();
    let lists = app.authority.crl().lists().filter(|lists| !lists.lists.is_empty());
    let Some(lists) = lists else {
        let why = trust.halt.as_ref().map_or_else(|| "try again in a second".to_owned(), ToString::to_string);
        return Err(unavailable(format!("no revocation list is signed yet: {why}")));
    };
    let mut response = serve(&headers, "application/x-pem-file", &lists.pem);
    if trust.halt.is_some() {
        // The newest revocations are missing: they are in revoked.json.
        response.headers_mut().insert(HINT, HeaderValue::from_static("signing_halted"));
    }
    Ok(response)
}

pub(crate) async fn revoked(State(app): Shared, _: Anyone, headers: HeaderMap) -> Result<Response, ApiError> {
    let document = app.authority.crl().revoked();
    let document = document.ok_or_else(|| unavailable("not ready yet: try again in a second".to_owned()))?;
    Ok(serve(&headers, "application/json", &document))
}

fn serve(request: &HeaderMap, kind: &'static str, document: &Document) -> Response {
    let kind = HeaderValue::from_static(kind);
    let mut response = etag::tagged_as(request, kind, document.body.clone(), &document.etag);
    response.headers_mut().insert(CACHE_CONTROL, CACHING);
    response
}

fn unavailable(detail: String) -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no_revocation_list", detail)
        .with_header(HeaderName::from_static("retry-after"), HeaderValue::from_static("1"))
}
