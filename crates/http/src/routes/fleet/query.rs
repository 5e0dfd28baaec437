//! What a list is asked for.

use http::Uri;
use mastio_core::{AgentId, Stamp};
use mastio_store::agents::{
    Method,
    fleet::{Filter, Status},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use crate::answer::{ApiError, Invalid};

/// How many agents a page has at most, and when only a cursor was given.
const MAX_LIMIT: u32 = 1000;
/// The longest search text in characters.
const MAX_NEEDLE: usize = 256;

/// What is said of a text that is no time.
pub(crate) const TIMES: &str = "use a time such as 2026-12-31T00:00:00Z, or a date";

/// The query string, as text. A name that is none of these is a filter that would silently not apply.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    limit: Option<String>,
    cursor: Option<String>,
    status: Option<String>,
    method: Option<String>,
    expiring_before: Option<String>,
    q: Option<String>,
}

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) filter: Filter,
    /// The size of the page; `None`: everything.
    pub(crate) limit: Option<u32>,
    pub(crate) after: Option<AgentId>,
}

impl ListQuery {
    /// Reads the parameters; an empty one is as good as none.
    pub(crate) fn parse(self) -> Result<Asked, ApiError> {
        let statuses = "use active, inactive or revoked";
        let methods = "use admin, connector, byoca or spiffe";
        let method = |word: &str| Method::ALL.into_iter().find(|method| method.as_str() == word);
        let filter = Filter {
            status: read("status", self.status, Status::from_word, statuses)?,
            method: read("method", self.method, method, methods)?,
            expiring_before: read("expiring_before", self.expiring_before, time, TIMES)?,
            needle: needle(self.q)?,
            other_than: None,
            capabilities: Vec::new(),
            org: None,
        };
        let (limit, after) = page(self.limit, self.cursor)?;
        Ok(Asked { filter, limit, after })
    }
}

/// `q`: at most 256 characters.
pub(crate) fn needle(text: Option<String>) -> Result<Option<String>, ApiError> {
    let short = |text: &str| (text.chars().count() <= MAX_NEEDLE).then(|| text.to_owned());
    read("q", text, short, "at most 256 characters")
}

/// `limit` and `cursor`: `None` without either.
pub(crate) fn page(
    limit: Option<String>,
    cursor: Option<String>,
) -> Result<(Option<u32>, Option<AgentId>), ApiError> {
    let number = |text: &str| text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
    let limit = read("limit", limit, number, "use a number from 1 to 1000")?;
    let id = |text: &str| AgentId::parse(text).ok();
    let after = read("cursor", cursor, id, "take the cursor of the Link header as it is")?;
    Ok((limit.or(after.as_ref().map(|_| MAX_LIMIT)), after))
}

/// Reads a parameter; an empty one is as good as none.
pub(crate) fn read<T>(
    name: &str,
    text: Option<String>,
    parse: impl FnOnce(&str) -> Option<T>,
    problem: &str,
) -> Result<Option<T>, ApiError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    match parse(&text) {
        Some(value) => Ok(Some(value)),
        None => Err(ApiError::unprocessable(vec![Invalid::query(name, problem)])),
    }
}

/// A time, or a date for its beginning. The `+` of an offset is a space in a query that was not encoded.
pub(crate) fn time(text: &str) -> Option<Stamp> {
    let with_zone = text.split_at_checked(19).map(|(at, zone)| format!("{at}{}", zone.replace(' ', "+")));
    Stamp::parse_or_day(with_zone.as_deref().unwrap_or(text)).ok()
}

/// The `Link` to the page after `next`: the same question with another cursor.
pub(crate) fn link(uri: &Uri, next: &str) -> String {
    let others = uri.query().unwrap_or_default().split('&');
    let others = others.filter(|pair| !pair.is_empty() && pair.split('=').next() != Some("cursor"));
    let cursor = format!("cursor={}", utf8_percent_encode(next, NON_ALPHANUMERIC));
    let query: Vec<&str> = others.chain([cursor.as_str()]).collect();
    format!("<{}?{}>; rel=\"next\"", uri.path(), query.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str) -> Result<Asked, ApiError> {
        let uri: Uri = format!("/v1/admin/agents?{query}").parse().unwrap();
        axum::extract::Query::<ListQuery>::try_from_uri(&uri).unwrap().0.parse()
    }

    #[test]
    fn filters_are_read_by_name_and_bad_ones_are_422() {
        let good = asked("status=revoked&method=byoca&q=Ali&expiring_before=2026-12-31&limit=5").unwrap();
        assert_eq!(good.filter.status, Some(Status::Revoked));
        assert_eq!(good.filter.method, Some(Method::Byoca));
        assert_eq!(good.filter.needle.as_deref(), Some("Ali"));
        assert_eq!(good.filter.expiring_before, Stamp::parse("2026-12-31T00:00:00Z").ok());
        assert_eq!(good.limit, Some(5));
        let offset = asked("expiring_before=2026-12-31T01:00:00+01:00").unwrap();
        assert_eq!(offset.filter.expiring_before, Stamp::parse("2026-12-31T00:00:00Z").ok());
        assert_eq!(asked("cursor=acme%3A%3Abob").unwrap().limit, Some(MAX_LIMIT));
        assert_eq!(asked("limit=&status=").unwrap().limit, None, "empty is none");
        for bad in [
            "limit=0",
            "limit=1001",
            "limit=-1",
            "limit=x",
            "cursor=bob",
            "cursor=%FF",
            "status=gone",
            "method=magic",
            "expiring_before=soon",
            "expiring_before=2026-13-01",
            "expiring_before=%C3%A92026-12-31T00:00:00",
        ] {
            assert_eq!(asked(bad).unwrap_err().status, http::StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
        }
        assert!(asked(&format!("q={}", "x".repeat(257))).is_err());
        assert!(asked(&format!("q={}", "x".repeat(256))).is_ok());
    }

    #[test]
    fn the_link_repeats_the_question() {
        let next = "acme::bob";
        let uri: Uri = "/v1/admin/agents?limit=2&cursor=acme%3A%3Aalice&q=%3Cx%3E".parse().unwrap();
        let expected = "</v1/admin/agents?limit=2&q=%3Cx%3E&cursor=acme%3A%3Abob>; rel=\"next\"";
        assert_eq!(link(&uri, next), expected);
        let uri: Uri = "/v1/agents/search".parse().unwrap();
        assert_eq!(link(&uri, next), "</v1/agents/search?cursor=acme%3A%3Abob>; rel=\"next\"");
    }
}
