//! Sealing and verifying for arbitrary contents.

use std::collections::{HashMap, HashSet};

use mastio_audit::{Draft, Head, Sealed};
use mastio_core::{Event, OrgId, Stamp};
use proptest::prelude::*;

use crate::rows::{event, stored, verify_local};

/// What an entry has to say, as far as an entry tells things apart: an empty text is no text, a whole second is the
/// microsecond after it.
type Meaning = (String, Option<String>, Option<String>, Option<String>, &'static str, String, Stamp);

fn meaning(event: &Event, org: &OrgId, at: Stamp) -> Meaning {
    let present = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    (
        event.kind.name.to_owned(),
        present(&event.agent),
        present(&event.session),
        present(&event.details),
        event.kind.outcome.as_str(),
        org.as_str().to_owned(),
        at.with_fraction(),
    )
}

/// Events whose texts are drawn from `text`.
fn events(text: &'static str) -> impl Strategy<Value = Event> {
    let optional = || proptest::option::of(text);
    (text, prop_oneof![Just("ok"), Just("denied")], optional(), optional(), optional()).prop_map(
        |(name, result, agent, session, details)| {
            event(&name, result, agent.as_deref(), session.as_deref(), details.as_deref())
        },
    )
}

fn seal(event: &Event, org: &OrgId, at: Stamp) -> Sealed {
    let mut head = Head::GENESIS;
    head.append(Draft::new(event, org, at))
}

proptest! {
    #[test]
    fn what_is_sealed_verifies(
        events in proptest::collection::vec(events("\\PC{0,12}|(?s).{0,6}|[|%\\x00-\\x1f]{0,4}"), 1..8),
        micros in 0..4_102_444_800_000_000_i64,
    ) {
        let org = OrgId::parse("acme").unwrap();
        let mut head = Head::GENESIS;
        let rows: Vec<_> = events
            .iter()
            .zip(1..)
            .map(|(event, id)| stored(&head.append(Draft::new(event, &org, Stamp::from_unix_micros(micros))), id))
            .collect();
        let report = verify_local(&rows).unwrap();
        prop_assert_eq!((report.head, report.rows, report.ambiguous), (head, events.len() as u64, 0));
    }

    /// Without the encoding, every such pair would have one canonical text.
    #[test]
    fn the_same_text_cut_elsewhere_is_another_entry(
        joined in "[a%|\\x1f]{0,3}\\|[a%|\\x1f]{0,3}\\|[a%|\\x1f]{0,3}", picks in any::<[proptest::sample::Index; 4]>(),
    ) {
        let cuts: Vec<usize> = joined.match_indices('|').map(|(at, _)| at).collect();
        let cut = |first: &proptest::sample::Index, second: &proptest::sample::Index| {
            let first = first.index(cuts.len() - 1);
            let second = first + 1 + second.index(cuts.len() - 1 - first);
            let (first, second) = (cuts[first], cuts[second]);
            event(&joined[..first], "ok", Some(&joined[first + 1..second]), Some(&joined[second + 1..]), None)
        };
        let (org, at) = (OrgId::parse("acme").unwrap(), Stamp::from_unix(1));
        let (one, other) = (cut(&picks[0], &picks[1]), cut(&picks[2], &picks[3]));
        prop_assert_eq!(
            meaning(&one, &org, at) == meaning(&other, &org, at),
            seal(&one, &org, at).entry_hash == seal(&other, &org, at).entry_hash
        );
    }
}

/// All entries over a few awkward texts, so that whatever can collide does.
#[test]
fn entries_have_one_hash_for_one_meaning() {
    let texts = ["", "a", "|", "%7C", "%", "%25", "\u{1f}"];
    let orgs = ["a", "b"].map(|org| OrgId::parse(org).unwrap());
    let mut seen: HashMap<[u8; 32], Meaning> = HashMap::new();
    let mut meanings = HashSet::new();
    for name in texts {
        for agent in texts {
            for session in texts {
                for details in [None, Some(""), Some("|"), Some("a|b")] {
                    let event = event(name, "ok", Some(agent), Some(session), details);
                    for (org, micros) in [(&orgs[0], 0), (&orgs[0], 1), (&orgs[0], 2), (&orgs[1], 1)] {
                        let at = Stamp::from_unix_micros(micros);
                        let meaning = meaning(&event, org, at);
                        let known =
                            seen.entry(seal(&event, org, at).entry_hash).or_insert_with(|| meaning.clone());
                        assert_eq!(known, &meaning);
                        meanings.insert(meaning);
                    }
                }
            }
        }
    }
    assert_eq!(seen.len(), meanings.len());
}

/// The pair that the reference cannot tell apart.
#[test]
fn a_separator_cannot_move_between_fields() {
    let (org, at) = (OrgId::parse("acme").unwrap(), Stamp::from_unix(1));
    let one = seal(&event("e", "ok", Some("a|b"), Some("c"), None), &org, at);
    let other = seal(&event("e", "ok", Some("a"), Some("b|c"), None), &org, at);
    assert_ne!(one.entry_hash, other.entry_hash);
    assert_eq!(one.agent_id.as_deref(), Some("a%7Cb"));
}
