//! An entry before and after it has a place in the chain.

use std::borrow::Cow;

use mastio_core::{Event, OrgId, Stamp, event::Outcome};

/// An entry that is complete but for its place in the chain.
///
/// It cannot be ambiguous: in every field but the details `|`, `%` and control characters are percent-encoded, an
/// empty text is no text, and the time has a fraction. So the canonical text, which joins the fields by `|` without
/// any escape, has exactly one reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    pub(crate) at: Stamp,
    pub(crate) event_type: Cow<'static, str>,
    pub(crate) agent_id: Option<String>,
    pub(crate) session_id: Option<String>,
    pub(crate) org_id: OrgId,
    pub(crate) result: Outcome,
    pub(crate) details: Option<String>,
}

impl Draft {
    /// The entry that tells `event`, for the chain of `org`.
    #[must_use]
    pub fn new(event: &Event, org: &OrgId, at: Stamp) -> Self {
        Self {
            at: at.with_fraction(),
            event_type: encode(event.kind.name),
            agent_id: event.agent.as_deref().and_then(encode_present),
            session_id: event.session.as_deref().and_then(encode_present),
            org_id: org.clone(),
            result: event.kind.outcome,
            details: event.details.clone().filter(|details| !details.is_empty()),
        }
    }
}

/// An entry in its place: the values of one new row of `local_audit`, named as its columns.
///
/// The remaining columns are `hash_format` = [`Sealed::HASH_FORMAT`] and NULL for the two about peers. Hashes are
/// stored as 64 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sealed {
    /// Position in the chain, from 1 without gaps.
    pub chain_seq: u64,
    /// When it happened: UTC with six digits of fraction, never all zero.
    pub timestamp: String,
    /// The name of the event.
    pub event_type: Cow<'static, str>,
    /// The agent that acted, or that it happened to.
    pub agent_id: Option<String>,
    /// The session or correlation it belongs to.
    pub session_id: Option<String>,
    /// Whose chain it is.
    pub org_id: OrgId,
    /// `ok`, `denied` or `error`.
    pub result: &'static str,
    /// Canonical JSON, stored and hashed verbatim.
    pub details: Option<String>,
    /// `entry_hash` of the entry before; `None` for the first.
    pub previous_hash: Option<[u8; 32]>,
    /// SHA-256 of the canonical text of this entry.
    pub entry_hash: [u8; 32],
}

impl Sealed {
    /// What goes into the column `hash_format`. The Court recomputes only this format (contract §1.10).
    pub const HASH_FORMAT: &'static str = "v2";
}

fn encode_present(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| encode(text).into_owned())
}

/// Percent-encodes what would make the canonical text ambiguous or unreadable, byte by byte of its UTF-8.
fn encode(text: &str) -> Cow<'_, str> {
    if !text.contains(is_reserved) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for unit in text.chars() {
        if is_reserved(unit) {
            for byte in unit.encode_utf8(&mut [0; 4]).bytes() {
                out.push('%');
                out.push_str(&hex::encode_upper([byte]));
            }
        } else {
            out.push(unit);
        }
    }
    Cow::Owned(out)
}

fn is_reserved(unit: char) -> bool {
    unit == '%' || is_never_written(unit)
}

/// What is only ever in the details of an entry.
pub(crate) fn is_never_written(unit: char) -> bool {
    unit == '|' || unit.is_control()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_ambiguous_is_encoded() {
        for (text, encoded) in [
            ("acme::café", "acme::café"),
            ("a|b", "a%7Cb"),
            ("100%", "100%25"),
            ("line\r\n", "line%0D%0A"),
            ("\u{0}\u{7f}\u{85}", "%00%7F%C2%85"),
        ] {
            assert_eq!(encode(text), encoded);
        }
    }

    #[test]
    fn empty_is_absent_and_time_has_a_fraction() {
        let event = Event {
            details: Some(String::new()),
            ..Event::new(&mastio_core::event::catalogue::AdminSecretRebootstrapped {}).about("").within("")
        };
        let draft = Draft::new(&event, &OrgId::parse("acme").unwrap(), Stamp::from_unix(1));
        assert_eq!((draft.agent_id, draft.session_id, draft.details), (None, None, None));
        assert_eq!(draft.at.unix_micros(), 1_000_001);
    }
}
