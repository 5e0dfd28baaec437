//! Archives of old entries (contract `audit-and-database.md` §1.11).

use std::path::{Component, Path, PathBuf};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header::LOCATION};
use mastio_core::Stamp;
use mastio_ledger::archive::{Progress, Wanted};
use mastio_store::audit::archive::{Job, Mark};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::{Shared, caller::Admin};
use crate::answer::{ApiError, Invalid, StrictJson};

const STATUS: &str = "/v1/admin/audit/archive";

#[derive(Deserialize)]
pub(crate) struct ArchiveBody {
    before: String,
    out: Option<String>,
}

/// Begins an archive; it is carried out while others are served.
pub(crate) async fn begin(
    State(app): Shared,
    Admin(operator): Admin,
    StrictJson(body): StrictJson<ArchiveBody>,
) -> Result<Response, ApiError> {
    let out = below(&app.authority.settings.audit.archive_dir, body.out.as_deref())?;
    let wanted = Wanted { before: before(&body.before)?, out, by: operator.fingerprint };
    let job = app.ledger.begin_archive(wanted).await?;
    let answer = (StatusCode::ACCEPTED, [(LOCATION, STATUS)], Json(shown(&job, None)));
    Ok(answer.into_response())
}

/// What is under way, and what was archived so far.
pub(crate) async fn status(State(app): Shared, Admin(_): Admin) -> Result<Json<Value>, ApiError> {
    let (job, marks) = app.ledger.archives().await?;
    let progress = app.ledger.archive_progress().borrow().clone();
    let under_way = job.map(|job| {
        let progress = progress.filter(|progress| progress.job.span == job.span);
        shown(&job, progress.as_ref())
    });
    Ok(Json(json!({ "under_way": under_way, "archives": marks.iter().map(archived).collect::<Vec<_>>() })))
}

fn before(text: &str) -> Result<Stamp, ApiError> {
    Stamp::parse_or_day(text).map_err(|_| {
        let says = "a day such as 2026-01-31, or a time with a day";
        ApiError::unprocessable(vec![Invalid::member("before", "value_error", says)])
    })
}

/// Whoever has the admin secret must not write anywhere on the file system. A link that an operator put below the
/// folder is followed: that is how archives get to another disk.
fn below(folder: &Path, out: Option<&str>) -> Result<PathBuf, ApiError> {
    let wanted = folder.join(out.unwrap_or_default());
    let inside = wanted
        .strip_prefix(folder)
        .is_ok_and(|rest| rest.components().all(|part| matches!(part, Component::Normal(_))));
    if inside {
        return Ok(wanted);
    }
    let says =
        "a folder below MCP_PROXY_AUDIT_ARCHIVE_DIR; the command takes any: cullis-proxy audit archive";
    Err(ApiError::unprocessable(vec![Invalid::member("out", "value_error", says)]))
}

fn shown(job: &Job, progress: Option<&Progress>) -> Value {
    json!({
        "first_seq": job.span.first,
        "last_seq": job.span.last,
        "entries": job.span.entries(),
        "file": job.file,
        "by": job.by,
        "started_at": job.started_at,
        "step": progress.map_or(job.phase.as_str(), |progress| progress.step.as_str()),
        "deleted": progress.map(|progress| progress.done),
    })
}

fn archived(mark: &Mark) -> Value {
    json!({
        "first_seq": mark.span.first,
        "last_seq": mark.span.last,
        "entries": mark.span.entries(),
        "last_hash": mark.head_hash,
        "file": mark.file,
        "bundle_sha256": mark.bundle_sha256,
        "archived_at": mark.marked_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_over_http_stay_below_their_folder() {
        let folder = Path::new("/srv/archive");
        for (out, leads_to) in [
            (None, Some("/srv/archive")),
            (Some("2026/q1"), Some("/srv/archive/2026/q1")),
            (Some("/srv/archive/cold"), Some("/srv/archive/cold")),
            (Some("../etc"), None),
            (Some("cold/../../etc"), None),
            (Some("/etc"), None),
            (Some("/srv/archives"), None),
        ] {
            assert_eq!(below(folder, out).ok(), leads_to.map(PathBuf::from), "{out:?}");
        }
    }

    #[test]
    fn a_day_is_its_beginning() {
        assert_eq!(before("2026-01-31").unwrap().to_string(), "2026-01-31T00:00:00.000000+00:00");
        assert_eq!(
            before("2026-01-31T12:00:00+02:00").unwrap().to_string(),
            "2026-01-31T10:00:00.000000+00:00"
        );
        assert!(before("yesterday").is_err() && before("").is_err());
    }
}
