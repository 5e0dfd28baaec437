//! `mastio audit verify --archive DIR`: the archives of a log and the log itself as one chain.

use std::path::{Path, PathBuf};

use crate::out::say;
use mastio_core::OrgId;
use mastio_ledger::archive::{Series, SeriesError};
use mastio_store::{audit::archive, sqlite::Database};
use serde_json::{Value, json};

/// What is said of the archives in `folders` and of the database at `path`, which goes on behind them. The inner error
/// is a chain that does not hold.
pub(super) fn verify(
    folders: &[PathBuf],
    path: &Path,
    as_json: bool,
) -> Result<Result<Value, SeriesError>, Box<dyn std::error::Error>> {
    let verified = Series::verify(folders, &mut |file, segment| {
        if !as_json {
            say!("ok      {}: entries {} to {}", file.display(), segment.span.first, segment.span.last);
        }
    });
    let series = match verified {
        Ok(series) => series,
        Err(broken) => return Ok(Err(broken)),
    };
    let Some((_, last)) = series.archives.last() else { return Ok(Ok(Value::Null)) };
    let marks = archive::marks(&*Database::open_for_tool(path)?, &OrgId::parse(&last.org)?)?;
    let (first, last) = (series.archives[0].1.span.first, last.span.last);
    Ok(series.leads_to(&marks).map(|()| {
        if !as_json {
            say!(
                "ok      the archives are one chain, entries {first} to {last}, and the log goes on behind it"
            );
        }
        json!({ "files": series.archives.len(), "first_seq": first, "last_seq": last })
    }))
}
