//! The audit log as a file (contract `audit-and-database.md` §1.8).

use axum::{extract::State, response::Response};
use http::{
    HeaderName, HeaderValue,
    header::{CONTENT_DISPOSITION, CONTENT_TYPE},
};
use mastio_authority::admin::Operator;
use mastio_ledger::export::Format;

use super::{portions, query::ExportQuery};
use crate::{
    answer::{ApiError, StrictQuery},
    routes::{App, Shared, caller::Admin},
};

/// Up to which place entries of the window are in archives, and not in the answer.
const ARCHIVED_THROUGH: HeaderName = HeaderName::from_static("x-cullis-archived-through");

pub(crate) async fn export(
    State(app): Shared,
    Admin(operator): Admin,
    StrictQuery(query): StrictQuery<ExportQuery>,
) -> Result<Response, ApiError> {
    answer(&app, query, &operator).await
}

/// The answer to the query string of an export.
pub(crate) async fn answer(app: &App, query: ExportQuery, operator: &Operator) -> Result<Response, ApiError> {
    let question = query.read(app)?;
    let (kind, name) = match question.format {
        Format::Ndjson => ("application/x-ndjson", "attachment; filename=\"audit_export.ndjson\""),
        Format::Csv => ("text/csv; charset=utf-8", "attachment; filename=\"audit_export.csv\""),
    };
    let export = app.ledger().export(question, operator).await?;
    let mut response = Response::new(portions::body(export.portions, "an export of the audit log"));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static(name));
    headers.extend(archived_header(export.archived_through));
    Ok(response)
}

/// The header that tells up to which place entries are in archives, and not in the answer.
pub(super) fn archived_header(through: Option<i64>) -> Option<(HeaderName, HeaderValue)> {
    through.map(|seq| (ARCHIVED_THROUGH, HeaderValue::from(seq)))
}
