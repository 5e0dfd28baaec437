//! Files of the pages, built into the binary.

use axum::response::Response;
use http::{HeaderMap, HeaderValue, header::CACHE_CONTROL};

use crate::{
    answer::{ApiError, StrictPath},
    etag,
};

/// Name, type and content. htmx is vendored with its licence beside it.
const FILES: [(&str, &str, &str); 3] = [
    ("mastio.css", "text/css; charset=utf-8", include_str!("../../assets/mastio.css")),
    ("htmx.js", "text/javascript; charset=utf-8", include_str!("../../assets/htmx-2.0.11.min.js")),
    ("mastio.svg", "image/svg+xml", include_str!("../../assets/mastio.svg")),
];

pub(super) async fn serve(StrictPath(name): StrictPath, request: HeaderMap) -> Result<Response, ApiError> {
    let file = FILES.iter().find(|(known, _, _)| *known == name);
    let (_, kind, content) = file.ok_or_else(|| ApiError::not_found("Not Found"))?;
    let mut response = etag::tagged(&request, HeaderValue::from_static(kind), *content);
    // An update of the Mastio brings others under the same name.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}
