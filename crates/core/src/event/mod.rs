//! Events: one typed record makes the audit entry, the log line and the metric, so that they cannot disagree.
//!
//! [`catalogue`] declares every event with its name on the wire and the struct of its details. What is not declared
//! there cannot be written. [`REGISTRY`](catalogue::REGISTRY) feeds the documentation page.

pub mod catalogue;

use crate::{canonical, sha256};

/// Longest text of an entry's details in bytes (contract `audit-and-database.md` §1.3).
pub const MAX_DETAILS: usize = 16_384;

/// The `result` column of the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Ok,
    /// It was asked for and refused.
    Denied,
    /// It was tried and failed.
    Error,
}

impl Outcome {
    /// The word in the column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Denied => "denied",
            Self::Error => "error",
        }
    }
}

/// What all events of one name have in common.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// The name in the `event_type` column.
    pub name: &'static str,
    /// The outcome that an event of this name tells.
    pub outcome: Outcome,
    /// One sentence for the operator.
    pub meaning: &'static str,
    /// The keys of its details.
    pub keys: &'static [&'static str],
}

/// The details of one kind of event.
pub trait Details: serde::Serialize {
    /// The kind they belong to.
    const KIND: &'static Kind;
}

/// Something that happened and must be told.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its name and meaning.
    pub kind: &'static Kind,
    /// The agent that acted, or that it happened to.
    pub agent: Option<String>,
    /// The session or correlation it belongs to.
    pub session: Option<String>,
    /// Canonical JSON, at most [`MAX_DETAILS`] bytes; `None` when there is nothing to say.
    pub details: Option<String>,
}

impl Event {
    /// An event with `details`.
    #[must_use]
    pub fn new<D: Details>(details: &D) -> Self {
        let text = canonical::to_string(details).unwrap_or_else(|error| unserialisable(&error.to_string()));
        let details = match text.len() {
            2 => None,
            0..=MAX_DETAILS => Some(text),
            _ => Some(oversized(&text)),
        };
        Self { kind: D::KIND, agent: None, session: None, details }
    }

    /// Names the agent it is about.
    #[must_use]
    pub fn about(mut self, agent: impl Into<String>) -> Self {
        self.agent = Some(agent.into());
        self
    }

    /// Names the session it belongs to.
    #[must_use]
    pub fn within(mut self, session: impl Into<String>) -> Self {
        self.session = Some(session.into());
        self
    }
}

/// Details that are too long are replaced by their hash and length: an entry is never refused for its size.
fn oversized(text: &str) -> String {
    format!(
        r#"{{"oversized":true,"bytes":{},"sha256":"{}"}}"#,
        text.len(),
        hex::encode(sha256(text.as_bytes()))
    )
}

fn unserialisable(error: &str) -> String {
    canonical::to_string(&serde_json::json!({ "unserialisable": error })).unwrap_or_default()
}

macro_rules! events {
    ($(
        $(#[doc = $meaning:literal])+
        $name:literal $outcome:ident $details:ident { $( $key:ident : $type:ty ),* $(,)? }
    )*) => {
        $(
            $(#[doc = $meaning])+
            #[derive(Debug, Clone, serde::Serialize)]
            pub struct $details { $(
                #[doc = concat!("`", stringify!($key), "` of the entry's details.")]
                pub $key: $type
            ),* }

            impl $crate::event::Details for $details {
                const KIND: &'static $crate::event::Kind = &$crate::event::Kind {
                    name: $name,
                    outcome: $crate::event::Outcome::$outcome,
                    meaning: concat!($($meaning),+),
                    keys: &[$(stringify!($key)),*],
                };
            }
        )*

        /// Every kind of event, in the order of declaration.
        pub const REGISTRY: &[&$crate::event::Kind] =
            &[$(<$details as $crate::event::Details>::KIND),*];
    };
}
pub(crate) use events;

#[cfg(test)]
mod tests {
    use super::{catalogue::*, *};

    #[test]
    fn details_are_canonical_and_bounded() {
        let event = Event::new(&AgentDeactivated { by: "admin".into() }).about("acme::alice");
        assert_eq!(event.details.as_deref(), Some(r#"{"by":"admin"}"#));
        let long = Event::new(&AgentDeactivated { by: "x".repeat(MAX_DETAILS) });
        assert!(long.details.is_some_and(|d| d.len() < 200 && d.contains("sha256")));
    }

    #[test]
    fn names_are_unique_but_for_their_outcome() {
        let mut names: Vec<_> = REGISTRY.iter().map(|kind| (kind.name, kind.outcome.as_str())).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), REGISTRY.len());
    }
}
