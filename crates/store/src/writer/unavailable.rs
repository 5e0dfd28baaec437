//! Why the database cannot be used now.

/// Why the database cannot be used now. `Display` uses the words that the runbook tells operators to look for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// More than [`QUEUE_CAPACITY`] units wait.
    #[error("the write queue is full; try again in a moment")]
    QueueFull,
    /// The unit was not taken up in time and was withdrawn.
    #[error("the writer did not take the change up in time; it was withdrawn, try again")]
    TimedOut,
    /// SQLITE_FULL, or an I/O error while writing.
    #[error("database or disk is full: {0}")]
    DiskFull(String),
    /// The file or its folder may not be written.
    #[error("attempt to write a readonly database: {0}")]
    ReadOnly(String),
    /// Another process holds the write lock.
    #[error("database is locked: {0}")]
    Locked(String),
    /// The file that was opened is not the file at its path any more.
    #[error("unable to open database file: {0}")]
    Gone(String),
    /// Anything else.
    #[error("database error: {0}")]
    Broken(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl Unavailable {
    /// A stable word for metrics and answers.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::TimedOut => "timed_out",
            Self::DiskFull(_) => "disk_full",
            Self::ReadOnly(_) => "read_only",
            Self::Locked(_) => "locked",
            Self::Gone(_) => "file_gone",
            Self::Broken(_) => "broken",
            Self::Closed => "closed",
        }
    }
}
