//! Evidence bundles.

use axum::{extract::State, response::Response};
use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{CONTENT_DISPOSITION, CONTENT_TYPE},
};
use mastio_ledger::bundle::{Question, Stamping, Wanted};
use serde::Deserialize;

use super::portions;
use crate::{
    answer::{ApiError, StrictJson},
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
                Wanted::Window(read(start)?, read(end)?)
            }
            (None, None, Some(first), Some(last)) => Wanted::Places(first, last),
            _ => {
                let text = "give start and end, or first_seq and last_seq";
                return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", text));
            }
        };
        let stamping = match self.timestamp {
            TimestampWord::Require => Stamping::Require,
            TimestampWord::IfPossible => Stamping::IfPossible,
            TimestampWord::None => Stamping::None,
        };
        Ok(Question { wanted, stamping, against_size: self.against_size })
    }
}

fn unreadable(text: &str) -> ApiError {
    let text = format!("{text} is not a time: use one such as 2026-12-31T00:00:00Z, or a date");
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
