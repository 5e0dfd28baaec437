//! Why a verification stops.

use std::io;

use crate::report::Step;

/// The file could not be read, so nothing is known about it.
#[derive(Debug, thiserror::Error)]
#[error("cannot be read: {0}")]
pub struct Unreadable(#[from] pub io::Error);

/// Why the steps stop.
#[derive(Debug)]
pub(crate) enum Stop {
    /// A step fails: the evidence does not hold.
    Fails(Step, String),
    /// The reader failed.
    Unreadable(io::Error),
}

impl Stop {
    /// What `step` says about an error of a reader: damage is a finding, a failing disk is not.
    pub(crate) fn of_reader(step: Step, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                Self::Fails(step, "the archive ends in the middle: it was truncated".into())
            }
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other => {
                Self::Fails(step, format!("the archive is damaged: {error}"))
            }
            _ => Self::Unreadable(error),
        }
    }
}

/// Names the step that an error belongs to.
pub(crate) trait At<T> {
    fn at(self, step: Step) -> Result<T, Stop>;
}

impl<T, E: std::fmt::Display> At<T> for Result<T, E> {
    fn at(self, step: Step) -> Result<T, Stop> {
        self.map_err(|error| Stop::Fails(step, error.to_string()))
    }
}

/// A finding in words.
pub(crate) fn fails<T>(step: Step, why: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Fails(step, why.into()))
}
