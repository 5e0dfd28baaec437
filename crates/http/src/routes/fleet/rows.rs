//! Rows as a JSON array, or one per line; of a large fleet while they are read.

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT, CONTENT_TYPE},
};
use http_body_util::channel::{Channel, Sender};
use mastio_authority::{Outage, fleet::Fleet};
use mastio_store::agents::fleet::Listed;
use serde_json::Value;

/// How the rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// One array.
    Array,
    /// One row per line (`application/x-ndjson`).
    Lines,
}

impl Form {
    /// What the client prefers; an array unless it asks for lines.
    pub(crate) fn wanted(headers: &HeaderMap) -> Self {
        let accept = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let mut kinds = accept.flat_map(|value| value.split(','));
        let lines = |kind: &str| {
            let kind = kind.split(';').next().unwrap_or_default().trim();
            kind.eq_ignore_ascii_case("application/x-ndjson")
                || kind.eq_ignore_ascii_case("application/ndjson")
        };
        if kinds.any(lines) { Self::Lines } else { Self::Array }
    }

    fn kind(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Array => "application/json",
            Self::Lines => "application/x-ndjson",
        })
    }

    /// Writes `rows`; `first` says that none came before.
    fn write(self, text: &mut String, rows: impl Iterator<Item = Value>, mut first: bool) {
        for row in rows {
            if self == Self::Array && !first {
                text.push(',');
            }
            first = false;
            text.push_str(&row.to_string());
            if self == Self::Lines {
                text.push('\n');
            }
        }
    }

    fn opening(self) -> &'static str {
        if self == Self::Array { "[" } else { "" }
    }

    fn closing(self) -> &'static str {
        if self == Self::Array { "]" } else { "" }
    }

    fn answer(self, body: Body) -> Response {
        let mut response = Response::new(body);
        response.headers_mut().insert(CONTENT_TYPE, self.kind());
        response
    }
}

/// An answer with `rows`.
pub(crate) fn whole(form: Form, rows: impl Iterator<Item = Value>) -> Response {
    let mut text = form.opening().to_owned();
    form.write(&mut text, rows, true);
    text.push_str(form.closing());
    form.answer(text.into())
}

/// An answer with the rows of `fleet`, read as fast as the client takes them. If the database fails in between, the
/// answer breaks off, so that half a list is not mistaken for a whole one.
pub(crate) fn streamed(form: Form, fleet: Fleet, shape: fn(&Listed) -> Value) -> Response {
    let (sender, body) = Channel::<Bytes, Outage>::new(1);
    tokio::spawn(feed(sender, form, fleet, shape));
    form.answer(Body::new(body))
}

async fn feed(mut sender: Sender<Bytes, Outage>, form: Form, mut fleet: Fleet, shape: fn(&Listed) -> Value) {
    let (mut text, mut first) = (form.opening().to_owned(), true);
    loop {
        let portion = match fleet.portion().await {
            Ok(portion) => portion,
            Err(error) => {
                tracing::error!(%error, "a list of agents breaks off");
                return sender.abort(error);
            }
        };
        if portion.is_empty() {
            text.push_str(form.closing());
            // A client that went away does not need the end.
            let _ = sender.send_data(text.into()).await;
            return;
        }
        form.write(&mut text, portion.iter().map(shape), first);
        first = false;
        if sender.send_data(std::mem::take(&mut text).into()).await.is_err() {
            return;
        }
    }
}
