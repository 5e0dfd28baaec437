//! An agent fetches whom to trust (contract `pki.md`, "better than both" 7).

use axum::{extract::State, response::Response};
use http::{HeaderMap, HeaderValue, Method, header::CACHE_CONTROL};
use mastio_authority::Outage;

use super::{Shared, caller::Recognised, refuse};
use crate::{answer::ApiError, etag};

pub(crate) async fn show(
    State(app): Shared,
    Recognised(agent): Recognised,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (authority, id) = (&app.authority, agent.id());
    authority.limits.by_fetching_agent(id).map_err(|over| refuse::over_limit(authority, over))?;
    // Who asks for the head alone does not have it, nor who is answered with 304 whatever it has.
    let fetched = method != Method::HEAD && !etag::is_any(&headers);
    let bundle = authority.trust_bundle(id, fetched).await?;
    let body = serde_json::to_string(&bundle).map_err(Outage::internal)?;
    // Of the trust file, not of the answer: the generation means nothing to whoever has the file.
    let tag = format!("\"{}\"", &bundle.sha256.to_string()[..32]);
    let mut response = etag::tagged_as(&headers, HeaderValue::from_static("application/json"), body, &tag);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    Ok(response)
}
