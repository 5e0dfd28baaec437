//! Evidence bundles.

use std::fmt;

use axum::{extract::State, response::Response};
use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{CONTENT_DISPOSITION, CONTENT_TYPE},
};
use mastio_ledger::bundle::{Question, Stamping, Wanted};
use serde::Deserialize;

use super::{portions, query::inverted};
use crate::{
    answer::{ApiError, Detail, StrictJson},
    routes::{Shared, caller::Admin, fleet::query::time},
};

/// The SHA-256 of the manifest, which the log names for what was handed out.
const MANIFEST: HeaderName = HeaderName::from_static("x-cullis-bundle-manifest-sha256");

/// Which entries, by time or by place.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BundleBody {
    start: Option<String>,
    end: Option<String>,
    first_seq: Option<i64>,
    last_seq: Option<i64>,
    #[serde(default)]
    timestamp: TimestampWord,
    against_size: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "snake_case")]
enum TimestampWord {
    Require,
    #[default]
    IfPossible,
    None,
}

impl BundleBody {
    fn read(&self) -> Result<Question, ApiError> {
        let wanted = match (&self.start, &self.end, self.first_seq, self.last_seq) {
            (Some(start), Some(end), None, None) => {
                let read = |text: &str| time(text).ok_or_else(|| unreadable(text));
                let (start, end) = (read(start)?, read(end)?);
                in_order(("start", &start), ("end", &end))?;
                Wanted::Window(start, end)
            }
            (None, None, Some(first), Some(last)) => {
                in_order(("first_seq", &first), ("last_seq", &last))?;
                Wanted::Places(first, last)
            }
            _ => return Err(invalid("give start and end, or first_seq and last_seq")),
        };
        let stamping = match self.timestamp {
            TimestampWord::Require => Stamping::Require,
            TimestampWord::IfPossible => Stamping::IfPossible,
            TimestampWord::None => Stamping::None,
        };
        Ok(Question { wanted, stamping, against_size: self.against_size })
    }
}

fn in_order<T: Ord + fmt::Display>(
    (first, from): (&str, &T),
    (last, until): (&str, &T),
) -> Result<(), ApiError> {
    inverted((first, Some(from)), (last, Some(until))).map_or(Ok(()), |problem| Err(invalid(problem)))
}

fn unreadable(text: &str) -> ApiError {
    invalid(format!("{text} is not a time: use one such as 2026-12-31T00:00:00Z, or a date"))
}

fn invalid(text: impl Into<Detail>) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", text)
}

pub(crate) async fn bundle(
    State(app): Shared,
    Admin(operator): Admin,
    StrictJson(body): StrictJson<BundleBody>,
) -> Result<Response, ApiError> {
    let bundle = app.ledger().bundle(body.read()?, &operator).await?;
    let name = format!("audit-{}-{}-{}.tar.gz", bundle.org, bundle.first_seq, bundle.last_seq);
    let mut response = Response::new(portions::body(bundle.portions, "a bundle of the audit log"));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/gzip"));
    let disposition = HeaderValue::try_from(format!("attachment; filename=\"{name}\""));
    headers.extend(disposition.ok().map(|value| (CONTENT_DISPOSITION, value)));
    let digest = HeaderValue::try_from(hex::encode(bundle.manifest_sha256));
    headers.extend(digest.ok().map(|value| (MANIFEST, value)));
    Ok(response)
}
