//! The audit log as a file (contract `audit-and-database.md` §1.8).

use axum::{
    body::Body,
    extract::{RawQuery, State},
    response::Response,
};
use bytes::Bytes;
use http::{
    HeaderName, HeaderValue,
    header::{CONTENT_DISPOSITION, CONTENT_TYPE},
};
use http_body_util::channel::{Channel, Sender};
use mastio_ledger::export::{ExportError, Format, Portions};

use super::query::{ExportQuery, parse};
use crate::{
    answer::ApiError,
    routes::{App, Shared, caller::Admin},
};

/// Up to which place entries of the window are in archives, and not in the answer.
const ARCHIVED_THROUGH: HeaderName = HeaderName::from_static("x-cullis-archived-through");

pub(crate) async fn export(
    State(app): Shared,
    Admin(_): Admin,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    answer(&app, query.as_deref()).await
}

/// The answer to the query string of an export.
pub(crate) async fn answer(app: &App, query: Option<&str>) -> Result<Response, ApiError> {
    let question = parse::<ExportQuery>(query)?.read(app)?;
    let (kind, name) = match question.format {
        Format::Ndjson => ("application/x-ndjson", "attachment; filename=\"audit_export.ndjson\""),
        Format::Csv => ("text/csv; charset=utf-8", "attachment; filename=\"audit_export.csv\""),
    };
    let export = app.ledger().export(question).await?;
    let (sender, body) = Channel::<Bytes, ExportError>::new(1);
    tokio::spawn(feed(sender, export.portions));
    let mut response = Response::new(Body::new(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static(name));
    headers.extend(export.archived_through.map(|seq| (ARCHIVED_THROUGH, HeaderValue::from(seq))));
    Ok(response)
}

/// If reading fails in between, the answer breaks off, so that half an export is not mistaken for a whole one. A client
/// that went away ends the reading.
async fn feed(mut sender: Sender<Bytes, ExportError>, mut portions: Portions) {
    loop {
        match portions.next().await {
            Ok(None) => return,
            Ok(Some(text)) => {
                if sender.send_data(text.into()).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::error!(%error, "an export of the audit log breaks off");
                return sender.abort(error);
            }
        }
    }
}
