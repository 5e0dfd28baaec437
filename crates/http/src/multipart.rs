//! Forms with files: `multipart/form-data` (RFC 7578), read whole and within bounds.

use axum::{
    body::Body,
    extract::{FromRequest, Multipart},
};
use bytes::Bytes;
use http::{HeaderMap, Request, header::CONTENT_TYPE};
use mastio_authority::rotation::candidate::MAX_UPLOAD;

use crate::answer::{ApiError, Invalid};

/// The longest form that is read: two uploads and what surrounds them, in bytes.
const MAX_FORM: usize = 2 * MAX_UPLOAD + 16 * 1024;
/// The most parts that are read.
const MAX_PARTS: usize = 32;

/// Whether the body is such a form.
pub(crate) fn is_sent(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.trim_start().to_ascii_lowercase().starts_with("multipart/form-data")
}

/// Name and text of each part, in order. Files are texts like any other.
///
/// # Errors
/// 413 when it is too long, 422 when it is no such form or a part is no text.
pub(crate) async fn fields(headers: &HeaderMap, body: Bytes) -> Result<Vec<(String, String)>, ApiError> {
    if body.len() > MAX_FORM {
        return Err(ApiError::body_too_large(MAX_FORM as u64));
    }
    let mut request = Request::new(Body::from(body));
    request.headers_mut().extend(headers.get(CONTENT_TYPE).map(|kind| (CONTENT_TYPE, kind.clone())));
    let mut parts = Multipart::from_request(request, &()).await.map_err(|error| bad(&error.body_text()))?;
    let mut fields = Vec::new();
    while let Some(part) = parts.next_field().await.map_err(|error| bad(&error.body_text()))? {
        let name = part.name().ok_or_else(|| bad("a part has no name"))?.to_owned();
        // What is wrong with it is told without its bytes: it may be a key.
        let bytes = part.bytes().await.map_err(|error| bad(&error.body_text()))?;
        let text =
            String::from_utf8(bytes.into()).map_err(|_| bad("a part is no text: send PEM, not DER"))?;
        fields.push((name, text));
        if fields.len() > MAX_PARTS {
            return Err(bad("it has too many parts"));
        }
    }
    Ok(fields)
}

fn bad(problem: &str) -> ApiError {
    ApiError::unprocessable(vec![Invalid::member("form", "value_error", problem)])
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(kind: &str, body: &str) -> Result<Vec<(String, String)>, u16> {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, kind.parse().unwrap())]);
        assert_eq!(is_sent(&headers), kind.starts_with("multipart/"));
        fields(&headers, body.to_owned().into()).await.map_err(|error| error.status.as_u16())
    }

    const KIND: &str = "multipart/form-data; boundary=x";

    fn part(name: &str, text: &str) -> String {
        format!(
            "--x\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"f.pem\"\r\n\r\n{text}\r\n"
        )
    }

    #[tokio::test]
    async fn parts_are_read_within_bounds() {
        let form = format!("{}{}--x--\r\n", part("ca_cert", "one\n"), part("ca_key", "two"));
        let pair = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        assert_eq!(read(KIND, &form).await, Ok(vec![pair("ca_cert", "one\n"), pair("ca_key", "two")]));
        assert_eq!(read("text/plain", &form).await, Err(422));
        assert_eq!(read("multipart/form-data", &form).await, Err(422), "no boundary");
        assert_eq!(read(KIND, &part("cut", "short")).await, Err(422));
        assert_eq!(read(KIND, &format!("{}--x--\r\n", part("n", "t").repeat(33))).await, Err(422));
        assert_eq!(read(KIND, &part("n", &"t".repeat(MAX_FORM))).await, Err(413));
    }
}
