//! A change as data: what to write, what it must touch, how it is told.

use std::borrow::Cow;

use mastio_core::{
    AgentId, EnrollmentId, Event, Jkt, Kid, SpiffeId, Stamp, Thumbprint, TrustDomain, counted,
};

use crate::writer::Unavailable;

/// A value bound to a statement or read from a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// An integer; booleans are 0 and 1.
    Int(i64),
    /// A double, found only in columns of the Python implementation.
    Real(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Int(value.into())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Blob(value)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

macro_rules! text_values {
    ($($kind:ty),*) => {$(
        impl From<$kind> for Value {
            fn from(value: $kind) -> Self {
                Self::Text(value.to_string())
            }
        }
        impl From<&$kind> for Value {
            fn from(value: &$kind) -> Self {
                Self::Text(value.to_string())
            }
        }
    )*};
}
text_values!(Stamp, AgentId, EnrollmentId, Jkt, Kid, SpiffeId, Thumbprint, TrustDomain);

/// One SQL statement with its values, and how many rows it must touch.
#[derive(Debug, Clone)]
pub struct Statement {
    /// SQL with numbered parameters (`?1`).
    pub sql: Cow<'static, str>,
    /// The values, in order.
    pub values: Vec<Value>,
    /// The exact number of rows, or `None` when any number will do.
    pub rows: Option<usize>,
}

impl Statement {
    /// A statement that must touch exactly one row: the usual state change (design §5 rule 3).
    #[must_use]
    pub fn one(sql: &'static str, values: Vec<Value>) -> Self {
        Self { sql: sql.into(), values, rows: Some(1) }
    }

    /// A guard: a statement that must touch no row, or the unit is rejected.
    #[must_use]
    pub fn none(sql: &'static str, values: Vec<Value>) -> Self {
        Self { sql: sql.into(), values, rows: Some(0) }
    }

    /// A statement that may touch any number of rows.
    #[must_use]
    pub fn any(sql: &'static str, values: Vec<Value>) -> Self {
        Self { sql: sql.into(), values, rows: None }
    }
}

/// What in memory a unit makes stale. The writer announces it after the commit and before the answer, so that no
/// request that starts after the answer sees the old state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touch {
    /// The record of an agent.
    Agent(AgentId),
    /// Tokens of an agent with an older epoch end.
    Epoch(AgentId, i64),
    /// A certificate is not accepted any more.
    Revoked(Thumbprint),
    /// Whom a SPIFFE id stands for.
    Spiffe(SpiffeId),
    /// Roots, intermediates, signing keys or SPIFFE bundles.
    Trust,
}

/// A change that is made whole or not at all.
#[derive(Debug, Clone, Default)]
pub struct Unit {
    /// What to write. Empty for a unit that only tells events.
    pub statements: Vec<Statement>,
    /// What to tell, in the same transaction.
    pub events: Vec<Event>,
    /// What it makes stale.
    pub touches: Vec<Touch>,
}

impl Unit {
    /// A unit that only tells.
    #[must_use]
    pub fn of(event: Event) -> Self {
        Self { events: vec![event], ..Self::default() }
    }

    /// Adds a statement.
    #[must_use]
    pub fn write(mut self, statement: Statement) -> Self {
        self.statements.push(statement);
        self
    }

    /// Adds statements.
    #[must_use]
    pub fn write_all(mut self, statements: impl IntoIterator<Item = Statement>) -> Self {
        self.statements.extend(statements);
        self
    }

    /// Adds an event.
    #[must_use]
    pub fn tell(mut self, event: Event) -> Self {
        self.events.push(event);
        self
    }

    /// Adds something made stale.
    #[must_use]
    pub fn touch(mut self, touch: Touch) -> Self {
        self.touches.push(touch);
        self
    }
}

/// A unit that is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The places that its events got in our chain, `first..=last`; `None` when it told none.
    pub audit: Option<(u64, u64)>,
}

/// The database's answer to a unit that it could not apply. Nothing of the unit was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// A statement touched another number of rows than it must: the state was not what the caller thought.
    #[error("statement {statement} touched {}", counted(*touched, "row", "rows"))]
    Rows {
        /// Index of the statement in its unit.
        statement: usize,
        /// How many rows it touched.
        touched: usize,
    },
    /// A uniqueness or check constraint.
    #[error("statement {statement} violates a constraint: {message}")]
    Constraint {
        /// Index of the statement in its unit.
        statement: usize,
        /// The database's words; they name table and columns, never values.
        message: String,
    },
}

/// Why a unit was not written. In every case nothing of it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The state did not permit it; trying again unchanged will not help.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The database cannot write now; the same request may be tried again.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}
