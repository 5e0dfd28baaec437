//! SQLite's errors in the words of [`Unavailable`].

use rusqlite::{Error, ErrorCode};

use crate::writer::Unavailable;

/// What an error of SQLite means for whoever waits.
pub(crate) fn fault(error: &Error) -> Unavailable {
    let text = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Unavailable::DiskFull(text),
        Some(ErrorCode::ReadOnly) => Unavailable::ReadOnly(text),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Unavailable::Locked(text),
        // CannotOpen too: it may pass, as when files run out, while a replaced file is told by its inode.
        _ => Unavailable::Broken(text),
    }
}
