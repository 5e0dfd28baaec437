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

/// Details that are too long keep their beginning, beside the length and the SHA-256 of the whole: an entry is never
/// refused for its size.
fn oversized(text: &str) -> String {
    let (bytes, sha256) = (text.len(), hex::encode(sha256(text.as_bytes())));
    let around =
        |head: &str| format!(r#"{{"bytes":{bytes},"head":"{head}","oversized":true,"sha256":"{sha256}"}}"#);
    let room = MAX_DETAILS - around("").len();
    let mut head = String::with_capacity(room);
    for unit in text.chars() {
        // Canonical JSON is printable ASCII: these two are all that needs an escape.
        let escape = if matches!(unit, '"' | '\\') { "\\" } else { "" };
        if head.len() + escape.len() + unit.len_utf8() > room {
            break;
        }
        head.push_str(escape);
        head.push(unit);
    }
    around(&head)
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
    use proptest::prelude::*;

    use super::{catalogue::*, *};

    #[test]
    fn details_are_canonical_and_bounded() {
        let event = Event::new(&AgentDeactivated { by: "admin".into() }).about("acme::alice");
        assert_eq!(event.details.as_deref(), Some(r#"{"by":"admin"}"#));
        let long = Event::new(&AgentDeactivated { by: "x".repeat(MAX_DETAILS) }).details.unwrap();
        assert!(long.len() == MAX_DETAILS && long.contains(r#""head":"{\"by\":\"xxx"#), "{long}");
    }

    proptest! {
        #[test]
        fn details_of_any_length_keep_their_beginning_length_and_hash(text in "\\PC{0,64}", times in 1usize..600) {
            let text = text.repeat(times);
            let whole = canonical::to_string(&AgentDeactivated { by: text.clone() }).unwrap();
            let kept = Event::new(&AgentDeactivated { by: text }).details.unwrap();
            prop_assert!(kept.len() <= MAX_DETAILS);
            prop_assert_eq!(&canonical::canonicalise(&kept).unwrap(), &kept);
            if whole.len() <= MAX_DETAILS {
                prop_assert_eq!(kept, whole);
            } else {
                let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
                let head = kept["head"].as_str().unwrap();
                prop_assert!(whole.starts_with(head) && head.len() > MAX_DETAILS / 3);
                prop_assert_eq!(&kept["bytes"], whole.len());
                prop_assert_eq!(&kept["sha256"], &hex::encode(sha256(whole.as_bytes())));
            }
        }
    }

    /// What an event may carry is its struct: no field is made for a secret, a credential or what agents say.
    #[test]
    fn no_event_has_a_place_for_secrets_or_contents() {
        const NEVER: [&str; 12] = [
            "secret",
            "password",
            "passphrase",
            "private",
            "pem",
            "token",
            "assertion",
            "proof",
            "prompt",
            "content",
            "payload",
            "body",
        ];
        for kind in REGISTRY {
            let harmless = |key: &&&str| ["_sha256", "_epoch"].iter().any(|end| key.ends_with(end));
            for key in kind.keys.iter().filter(|key| !harmless(key)) {
                assert!(
                    !NEVER.iter().any(|word| key.split('_').any(|part| part == *word)),
                    "{}: {key}",
                    kind.name
                );
            }
        }
    }

    #[test]
    fn names_are_unique_but_for_their_outcome() {
        let mut names: Vec<_> = REGISTRY.iter().map(|kind| (kind.name, kind.outcome.as_str())).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), REGISTRY.len());
    }
}
