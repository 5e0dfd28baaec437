//! Answers that a client may keep, with a strong entity tag (RFC 9110 §8.8.3 and §13.1.2).

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH},
};
use mastio_core::sha256;

/// The body with its tag, or 304 without body if the client has it already. Other headers, such as `Cache-Control`,
/// are the caller's to set on what is returned: a 304 needs them too.
#[must_use]
pub fn tagged(request: &HeaderMap, content_type: HeaderValue, body: impl Into<Bytes>) -> Response {
    let body = body.into();
    let tag = tag_of(&body);
    tagged_as(request, content_type, body, &tag)
}

/// The same with a `tag` of the caller's, quotes included.
#[must_use]
pub fn tagged_as(
    request: &HeaderMap,
    content_type: HeaderValue,
    body: impl Into<Bytes>,
    tag: &str,
) -> Response {
    let mut response = if is_known(request, tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(CONTENT_TYPE, content_type)], body.into()).into_response()
    };
    if let Ok(value) = HeaderValue::from_str(tag) {
        response.headers_mut().insert(ETAG, value);
    }
    response
}

/// 128 bits of the body's hash, in quotes.
fn tag_of(body: &[u8]) -> String {
    format!(
        "\"{:032x}\"",
        sha256(body).iter().take(16).fold(0_u128, |tag, byte| tag << 8 | u128::from(*byte))
    )
}

/// Whether the client asks for what differs from anything at all (`If-None-Match: *`): then 304 does not say that it has
/// this.
pub(crate) fn is_any(request: &HeaderMap) -> bool {
    request.get_all(IF_NONE_MATCH).iter().any(|line| line.to_str().is_ok_and(|line| line.contains('*')))
}

/// Whether `If-None-Match` names the tag: a list over any number of lines, `*`, or weak tags, which compare as strong
/// ones here. Our tags hold no comma, so a comma inside a foreign one does no harm.
fn is_known(request: &HeaderMap, tag: &str) -> bool {
    let lines = request.get_all(IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
    let mut tags = lines.flat_map(|line| line.split(',')).map(str::trim);
    tags.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(if_none_match: &[&'static str]) -> Response {
        let mut request = HeaderMap::new();
        for line in if_none_match {
            request.append(IF_NONE_MATCH, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        tagged(&request, HeaderValue::from_static("application/json"), "{}")
    }

    const TAG: &str = "\"44136fa355b3678a1146ad16f7e8649e\"";

    #[test]
    fn the_tag_is_the_hash_of_the_body() {
        let response = ask(&[]);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[ETAG], TAG);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
    }

    #[test]
    fn a_known_body_is_not_sent_again() {
        let weak = "W/\"44136fa355b3678a1146ad16f7e8649e\"";
        for known in [
            &[TAG][..],
            &["*"],
            &[weak],
            &["\"x,y\"", weak],
            &["\"a\", \"44136fa355b3678a1146ad16f7e8649e\""],
        ] {
            let response = ask(known);
            assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{known:?}");
            assert_eq!(response.headers()[ETAG], TAG);
            assert!(!response.headers().contains_key(CONTENT_TYPE));
        }
        for unknown in [&["\"a\""][..], &["44136fa355b3678a1146ad16f7e8649e"], &[""], &["\u{e9}"]] {
            assert_eq!(ask(unknown).status(), StatusCode::OK, "{unknown:?}");
        }
    }
}
