//! Which entries are asked for.

use std::fmt;

use mastio_audit::LocalRow;
use mastio_core::{Stamp, canonical};

use crate::clause::Clause;

/// Which entries are asked for: those to which everything applies that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// They are in the chain of this organisation.
    pub org: Option<String>,
    /// The agent that acted, or that it happened to.
    pub agent: Option<String>,
    /// Their name.
    pub event: Option<EventName>,
    /// `ok`, `denied` or `error`.
    pub result: Option<String>,
    /// The session or correlation they belong to.
    pub session: Option<String>,
    /// Not before this.
    pub from: Option<Stamp>,
    /// Before this.
    pub until: Option<Stamp>,
    /// What their details say.
    pub text: Option<Words>,
}

/// One name of an event, or all that begin alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventName {
    /// Exactly this.
    Is(String),
    /// A family: every name that begins with this, its last dot or underscore included.
    Within(String),
}

impl EventName {
    /// A name that ends in `.` or `_` is a family: `agent.`, `oneshot_`; so is one that ends in `*`.
    #[must_use]
    pub fn read(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(family) => Self::Within(family.to_owned()),
            None if text.ends_with(['.', '_']) => Self::Within(text.to_owned()),
            None => Self::Is(text.to_owned()),
        }
    }

    /// The first text that could be a name, and the first one after them.
    pub(super) fn range(&self) -> (&str, String) {
        let (Self::Is(name) | Self::Within(name)) = self;
        // No name holds the last character there is.
        (name, format!("{name}{}", char::MAX))
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(name) => f.write_str(name),
            Self::Within(family) => write!(f, "{family}*"),
        }
    }
}

/// Words that details must hold: each is the beginning of a run of letters and digits there, whatever its case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words(Vec<String>);

impl Words {
    /// The words of `text`; `None` if there are none.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        // As details write it: with an escape for whatever is not ASCII.
        let stored = canonical::to_string(&text).ok()?;
        let inner = stored.strip_prefix('"')?.strip_suffix('"')?;
        let words: Vec<String> = split(inner).map(str::to_ascii_lowercase).collect();
        (!words.is_empty()).then_some(Self(words))
    }

    /// Whether `details` holds them all.
    pub(super) fn are_in(&self, details: Option<&str>) -> bool {
        let details = details.unwrap_or_default();
        self.0.iter().all(|word| split(details).any(|other| begins(other, word)))
    }

    /// The same question in the language of FTS5.
    pub(super) fn to_fts5(&self) -> String {
        self.0.iter().map(|word| format!("\"{word}\"*")).collect::<Vec<_>>().join(" AND ")
    }
}

/// What FTS5's tokenizer `ascii` takes for words.
fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(|unit: char| unit.is_ascii() && !unit.is_ascii_alphanumeric()).filter(|word| !word.is_empty())
}

fn begins(text: &str, word: &str) -> bool {
    text.as_bytes().get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
}

impl Filter {
    /// All entries of one chain.
    #[must_use]
    pub fn of_chain(org: impl Into<String>) -> Self {
        Self { org: Some(org.into()), ..Self::default() }
    }

    /// Everything but the text, which no condition on `local_audit a` can tell. None of them is by what rows are found
    /// (`+` says so to SQLite): adopted tables have indexes that would lead it astray.
    pub(super) fn conditions(&self, clause: &mut Clause) {
        if let Some(org) = &self.org {
            clause.and("+a.org_id = ?", org.as_str());
            clause.and_always("+a.chain_seq IS NOT NULL");
        }
        if let Some(agent) = &self.agent {
            clause.and("+a.agent_id = ?", agent.as_str());
        }
        match &self.event {
            Some(EventName::Is(name)) => clause.and("+a.event_type = ?", name.as_str()),
            Some(family @ EventName::Within(_)) => {
                let (first, end) = family.range();
                clause.and("+a.event_type >= ?", first);
                clause.and("+a.event_type < ?", end);
            }
            None => {}
        }
        if let Some(result) = &self.result {
            clause.and("+a.result = ?", result.as_str());
        }
        if let Some(session) = &self.session {
            clause.and("+a.session_id = ?", session.as_str());
        }
        if let Some(from) = self.from {
            clause.and("+a.timestamp >= ?", bound(from));
        }
        if let Some(until) = self.until {
            clause.and("+a.timestamp < ?", bound(until));
        }
    }

    pub(super) fn text_is_in(&self, row: &LocalRow<'_>) -> bool {
        self.text.as_ref().is_none_or(|words| words.are_in(row.details))
    }
}

/// A time that stored ones are compared with as texts. The existing system leaves out a fraction of zero, and `+`
/// comes before `.`: without it both forms are where they belong.
pub(super) fn bound(at: Stamp) -> String {
    at.to_string().replace(".000000+", "+")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_begin_like_those_of_the_details() {
        let details = r#"{"by":"operator:0a1B2c","name":"caf\u00e9","jti":"11-22"}"#;
        for (text, found) in [
            ("operator", true),
            ("OPERATOR:0A1b", true),
            ("café", true),
            ("11-22", true),
            ("22 by", true),
            ("1b2c", false),
            ("operator dashboard", false),
        ] {
            assert_eq!(Words::read(text).unwrap().are_in(Some(details)), found, "{text}");
        }
        assert!(!Words::read("x").unwrap().are_in(None));
        assert_eq!([Words::read(""), Words::read(" -\" ")], [None, None]);
    }

    #[test]
    fn families_are_names_that_end_openly() {
        assert_eq!(EventName::read("agent.revoked"), EventName::Is("agent.revoked".into()));
        assert_eq!(EventName::read("agent."), EventName::Within("agent.".into()));
        assert_eq!(EventName::read("oneshot_"), EventName::Within("oneshot_".into()));
        assert_eq!(EventName::read("agent.re*"), EventName::Within("agent.re".into()));
    }
}
