//! Each entry in one plain sentence, from one table.

use mastio_core::{
    event::{Kind, catalogue::REGISTRY},
    plural,
};
use mastio_store::audit::Entry;
use serde_json::Value;

/// Event, result, and what is said: `{name}` stands for a member of the details, `{agent}` for the agent of the entry,
/// `{name|one|many}` for a number with its word, `{name?words}` for words that are said if it is true. A piece in brackets is left out when something in it is missing. Every
/// event that has details has a line, in the order of the catalogue; one without is told in the words of its meaning
/// there.
const TEMPLATES: &str = "\
ca.generate ok: The Org CA of {org_id} was made; it ends {not_after}
ca.import ok: The Org CA of {org_id} was taken over from {source}; it ends {not_after}
org_ca.rotation_started ok: {by} began to replace the Org CA {previous_fingerprint_sha256} by {subject} ({mode}, {transition}{compromise?, because the old key may be known to others}), {fingerprint_sha256}
org_ca.rotated ok: {by} replaced the Org CA {previous_fingerprint_sha256} by {fingerprint_sha256} ({mode}, {transition}{compromise?, because the old key may be known to others}); {agents_invalidated|agent needs a new certificate|agents need new certificates}
org_ca.rotation_failed error: A rotation of the Org CA was given up in the phase {phase}: {error}
org_ca.rotation_phase ok: {by} took the rotation of the Org CA from {from} to {to}; {agents_left|agent|agents} had not followed yet
org_ca.rotation_paused ok: {by} paused the rotation of the Org CA in the phase {phase}
org_ca.rotation_resumed ok: {by} lets the rotation of the Org CA go on in the phase {phase}
ca.export_cert ok: {by} downloaded what clients trust, with the Org CA {fingerprint_sha256}
pki.intermediate_created ok: The issuing certificate {subject} was made below the root; it ends {not_after}
admin.mastio_key_created ok: The key {kid} was made, which signs tokens
mastio_key.rotated ok: {new_kid} signs tokens in the place of {old_kid} ({trigger}, by {by}); tokens of that verify until {grace_expires_at}
mastio_key.staged_completed ok: {by} ended an interrupted rotation of the signing key: {decision} {kid}
mastio_key.grace_days_set ok: {by} set for how many days a replaced signing key verifies: {grace_days}
pki.intermediate_rotated ok: {new_subject} certifies in the place of the intermediate of before ({trigger}, by {by}); it ends {not_after}
pki.intermediate_ca_auto_rotate ok: The intermediate ends {not_after} and was rotated by itself
pki.intermediate_ca_expiry_warning ok: The intermediate ends {not_after}: {days_left|day is|days are} left
pki.intermediate_ca_expiry_critical error: The intermediate ends {not_after}: {days_left|day is|days are} left
pki.ca_retired ok: {subject} is believed no more ({reason}); its key is wiped
pki.keys_sealed ok: {count|private key that lay readable was|private keys that lay readable were} sealed
pki.nginx_server_cert_rotated ok: The TLS server certificate was made anew ({reason}); it ends {not_after}
pki.csr_signed ok: The root signed a certificate for {subject} from the command line; it ends {not_after}
database.adopted ok: A database of the Python implementation was adopted; a copy is in {backup}
audit.legacy_chain_sealed ok: The chain {chain} is covered by this entry: {rows|row|rows}, the last is {last_seq}
audit.chain_break_detected error: The stored chain {chain} does not verify at {seq}: {problem}
admin.auth_denied denied: {count|wrong or missing admin secret|wrong or missing admin secrets} from {source} refused ({reason})
agent.create ok: {agent} was enrolled by {by}[ with the capabilities {capabilities}]; its certificate ends {not_after}
enrollment.rejected ok: {by} rejected an enrollment by device code: {reason}
auth.login ok: An operator logged in to the dashboard from {ip} ({method}) as {session}
auth.login denied: {count|login|logins} at the dashboard from {source} refused ({reason})
auth.logout ok: The operator of {session} logged out of the dashboard
auth.session_ended ok: {by} ended the session {session} at the dashboard
auth.sessions_ended ok: Sessions at the dashboard were ended[ by {by}]: {reason}
admin.agent_enroll_byoca ok: {by} enrolled {agent} with a certificate of {issuer}; it ends {not_after}
admin.agent_enroll_spiffe ok: {by} enrolled {agent} with an SVID for {spiffe_id}
agent.svid_rotated ok: {agent} presented a newer SVID for {spiffe_id}; it ends {not_after}
spiffe.bundle_set ok: {by} set the CAs of the SPIFFE trust domain {trust_domain}
spiffe.bundle_removed ok: {by} took away the CAs of the SPIFFE trust domain {trust_domain}
agent.deactivated ok: {by} switched {agent} off
agent.reactivated ok: {by} switched {agent} on again
agent.revoked ok: {by} revoked {agent}: {reason}
agent.cert_rotated ok: The certificate of {agent} was replaced by {by} ({source})[; the one before works until {grace_period_expires_at}]; the new one ends {not_after}
agent.dpop_jwk_set ok: {by} registered the DPoP key {dpop_jkt} of {agent}
agent.dpop_jwk_rotated ok: {by} replaced the DPoP key of {agent} by {new_dpop_jkt}[; the one before works until {grace_period_expires_at}]
agent.federated_patched ok: {by} set whether {agent} is published to a Court: {federated}
agent.sessions_revoked ok: {by} ended {revoked|session|sessions} of users behind {agent}
incident.contained ok: {by} contained {agent} and took the evidence along[: {reason}]
pki.crl_published ok: Revocation list {number} of {issuer} was published, with {revoked|certificate|certificates}; the next one is due {next_update}
pki.org_root_expiry_warning ok: The Org CA ends in {days_left|day|days}, {not_after}
pki.intermediate_ca_expiry_visibility ok: The issuing certificate ends in {days_left|day|days}, {not_after}
pki.mastio_leaf_expiry_warning ok: The certificate of the key that signs tokens ends in {days_left|day|days}, {not_after}
pki.agent_cert_expiry_warning ok: The certificate of {agent} ends in {days_left|day|days}, {not_after}
pki.nginx_server_cert_expiry_warning ok: The TLS server certificate ends in {days_left|day|days}, {not_after}
agent.cert_pinning_grace_match ok: {agent} used its certificate of before, which is accepted until {expires_at}
agent.cert_grace_period_expired ok: The grace period of the former credentials of {agent} is over[; it ended {expired_at}]
auth.token_issued ok: {agent} was given the token {jti} ({method}), good until {expires_at}
auth.assertion_signed ok: The Mastio signed the login assertion {jti} for {agent} with the key that it keeps
auth.denied denied: {count|request|requests} from {source} refused: {reason}
auth.denied_summary denied: {count|more request was|more requests were} refused than are written one by one
oneshot_sent ok: {agent} sent the message {msg_id} to {recipient} ({mode}, {bytes|byte|bytes})[, in answer to {reply_to}]
oneshot_denied denied: {agent} was refused a message to {recipient}: {reason}
oneshot_delivered ok: {agent} acknowledged the message {msg_id} from {sender_agent_id}
system.clock_set_back error: The clock of the machine was set back by {seconds} s, to {now}
audit.log_key_announced ok: The key that signs tokens vouched for {vkey}, which signs the checkpoints of {origin}
audit.rolled_back error: The log has {entries|entry|entries} and contradicts the checkpoint of {origin} over {last_known_entries} that {seen_in} has: {reason}
audit.restored ok: An older copy of the database was accepted[ by {by}]: entries {lost_first} to {lost_last} are lost, and checkpoints go on as {new_origin}
audit.anchored ok: {authority} stamped the log up to entry {chain_seq} with the time {gen_time}
audit.chain_break_mended ok: The stored chain {chain} verifies again, up to {last_seq}
agent.delete ok: {by} deleted {agent} ({reason})[; its certificate {cert_thumbprint} ended]
agent.id_reused ok: {by} insisted: the id {agent}, of an agent that was deleted {deleted_at}, was given to a new one
audit.witness_key_created ok: The key {vkey} was made, which cosigns checkpoints of other logs
audit.log_witnessed ok: A checkpoint of {origin} was cosigned for the first time, over {size|entry|entries}
audit.split_view error: The log {origin} told two stories
audit.split_view_acknowledged ok: {by} acknowledged what the log {origin} said that cannot all be true ({count})
audit.bundle_exported ok: {by} took out a bundle of entries {first_seq} to {last_seq}; its manifest has the SHA-256 {manifest_sha256}
audit.archive_started ok: An archive of entries {first_seq} to {last_seq} was begun in {file}, as {by} asked
audit.archived ok: Entries {first_seq} to {last_seq} went to the archive {file}, as {by} asked
audit.archive_completed ok: Entries {first_seq} to {last_seq} are deleted from the database; they are in {file}
audit.archive_failed error: The archive of entries {first_seq} to {last_seq} in {file} was given up: {problem}
audit.archive_restored ok: {by} brought archived entries {first_seq} to {last_seq} back for a search
audit.restored_dropped ok: {by} dropped {entries|archived entry that had|archived entries that had} been brought back
audit.disk_low error: The disk of the database is full to {used_percent} %: {available_bytes} bytes are left, and the database takes {database_bytes}
audit.exported ok: {by} took out {entries|entry|entries} of {org_id} as {format}[ from {start} on][ until {end}][, only {event_type}][, only about {actor}]
audit.tree_rebuilt ok: {by} had the tree of {origin} computed anew from {entries|entry|entries}, with the root that was signed over {checkpoint_entries}; {tiles_replaced|tile was|tiles were} replaced
admin.update_detected ok: The framework update {migration_id} is needed ({criticality})
admin.update_not_needed ok: The framework update {migration_id} is not needed any more
admin.update_applied ok: {by} applied the framework update {migration_id}[ by {strategy}]; {reissued_leaves|certificate of an agent was|certificates of agents were} reissued
admin.update_rolled_back ok: {by} took the framework update {migration_id} back
admin.update_apply_failed error: The framework update {migration_id} that {by} asked for failed, and nothing was changed: {problem}
admin.update_snapshot_dated ok: The snapshot that the Python implementation kept of the framework update {migration_id} holds a readable key; it is wiped after {wiped_after}
admin.update_snapshot_wiped ok: The snapshot of the framework update {migration_id} was deleted[ by {by}] ({reason})
";

/// What `entry` says.
pub(crate) fn sentence(entry: &Entry) -> String {
    let details = details(entry);
    match template(&entry.event_type, &entry.result).and_then(|template| filled(template, entry, &details)) {
        Some(text) => format!("{text}."),
        None => meaning(entry),
    }
}

fn template(event: &str, result: &str) -> Option<&'static str> {
    templates().find(|(known, _)| *known == (event, result)).map(|(_, template)| template)
}

/// Event with result, and what is said.
fn templates() -> impl Iterator<Item = ((&'static str, &'static str), &'static str)> {
    TEMPLATES.lines().filter_map(|line| {
        let (event, template) = line.split_once(": ")?;
        Some((event.split_once(' ')?, template))
    })
}

/// The details as JSON; NULL when they are none.
pub(crate) fn details(entry: &Entry) -> Value {
    entry.details.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

fn meaning(entry: &Entry) -> String {
    let is_it = |kind: &&&Kind| kind.name == entry.event_type && kind.outcome.as_str() == entry.result;
    match REGISTRY.iter().find(is_it) {
        Some(kind) => kind.meaning.trim().replace('`', ""),
        None => match &entry.agent_id {
            Some(agent) => format!("{}: {}, by or about {agent}.", entry.event_type, entry.result),
            None => format!("{}: {}.", entry.event_type, entry.result),
        },
    }
}

/// The template with its values; `None` when one is missing outside brackets.
fn filled(template: &str, entry: &Entry, details: &Value) -> Option<String> {
    let mut text = String::new();
    for (place, piece) in template.split(['[', ']']).enumerate() {
        // Brackets do not nest: every second piece is within some.
        match values(piece, entry, details) {
            Some(piece) => text.push_str(&piece),
            None if place % 2 == 1 => {}
            None => return None,
        }
    }
    Some(text)
}

fn values(piece: &str, entry: &Entry, details: &Value) -> Option<String> {
    let mut parts = piece.split('{');
    let mut text = parts.next()?.to_owned();
    for part in parts {
        let (name, rest) = part.split_once('}')?;
        let told = match (name.split_once('|'), name.split_once('?')) {
            (Some((name, one_or_many)), _) => number(&details[name], one_or_many)?,
            (None, Some((name, words))) => {
                if details[name] == true {
                    words.to_owned()
                } else {
                    String::new()
                }
            }
            (None, None) => value(name, entry, details)?,
        };
        text.push_str(&told);
        text.push_str(rest);
    }
    Some(text)
}

fn value(name: &str, entry: &Entry, details: &Value) -> Option<String> {
    words(&details[name]).or_else(|| entry.agent_id.clone().filter(|_| name == "agent"))
}

fn number(value: &Value, one_or_many: &str) -> Option<String> {
    let (one, many) = one_or_many.split_once('|')?;
    Some(format!("{} {}", words(value)?, plural(value.as_i64().unwrap_or_default(), one, many)))
}

fn words(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().filter_map(words).collect();
            Some(items.join(", ")).filter(|text| !text.is_empty())
        }
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(event: &str, result: &str, details: &str) -> Entry {
        Entry {
            id: 1,
            timestamp: "2026-04-23T19:04:22.000001+00:00".into(),
            event_type: event.into(),
            agent_id: Some("acme::alice".into()),
            result: result.into(),
            details: Some(details.into()),
            session_id: None,
            org_id: Some("acme".into()),
            chain_seq: Some(1),
            previous_hash: None,
            entry_hash: None,
            hash_format: Some("v2".into()),
        }
    }

    #[test]
    fn templates_name_events_that_exist_and_what_they_hold() {
        assert_eq!(templates().count(), TEMPLATES.lines().count());
        for ((event, result), template) in templates() {
            let kind = REGISTRY.iter().find(|kind| kind.name == event && kind.outcome.as_str() == result);
            let kind = kind.unwrap_or_else(|| panic!("{event} {result} is no event"));
            for part in template.split('{').skip(1) {
                let name = part.split(['}', '|', '?']).next().unwrap();
                assert!(kind.keys.contains(&name) || name == "agent", "{event}: {name}");
            }
        }
    }

    #[test]
    fn a_cut_for_a_compromise_says_so() {
        let said = |compromise| {
            let details = format!(
                r#"{{"by":"operator:1","previous_fingerprint_sha256":"aa","fingerprint_sha256":"bb","mode":"mint",
                    "transition":"cut","agents_invalidated":1,"compromise":{compromise}}}"#
            );
            sentence(&entry("org_ca.rotated", "ok", &details))
        };
        let compromise = "operator:1 replaced the Org CA aa by bb (mint, cut, because the old key may be known to \
            others); 1 agent needs a new certificate.";
        assert_eq!((said(true), said(false).contains("known to others")), (compromise.to_owned(), false));
    }

    /// The members of the details of `kind` that may be absent or empty, by their types in the catalogue.
    fn may_be_absent(kind: &Kind) -> Vec<&'static str> {
        let catalogue = include_str!("../../core/src/event/catalogue.rs");
        let begins = format!("\"{}\" {:?} ", kind.name, kind.outcome);
        let line = catalogue.lines().find_map(|line| line.trim().strip_prefix(&begins)).expect(kind.name);
        let absent =
            |key: &&&str| ["Option<", "Vec<"].iter().any(|of| line.contains(&format!(" {key}: {of}")));
        kind.keys.iter().filter(absent).copied().collect()
    }

    #[test]
    fn every_event_with_details_is_told_with_them_whatever_may_be_absent() {
        let mut told = String::new();
        for kind in REGISTRY {
            let absent = may_be_absent(kind);
            let said = [&[][..], &absent].map(|absent| {
                let details = kind.keys.iter().filter(|key| !absent.contains(key));
                let details = details.map(|key| ((*key).to_owned(), format!("<{key}>").into()));
                let details = Value::Object(details.collect());
                sentence(&entry(kind.name, kind.outcome.as_str(), &details.to_string()))
            });
            let meaning = meaning(&entry(kind.name, kind.outcome.as_str(), "{}"));
            assert!(
                said.iter().all(|said| (*said == meaning) == kind.keys.is_empty()),
                "{}: {said:?}",
                kind.name
            );
            let [whole, least] = said;
            told += &format!("{} {}: {whole}\n", kind.name, kind.outcome.as_str());
            if least != whole {
                told += &format!("  or: {least}\n");
            }
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sentences.txt");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &told).unwrap();
        }
        let known = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(told, known, "read what changed; UPDATE=1 writes it to tests/sentences.txt");
    }

    #[test]
    fn what_is_missing_is_left_out_or_the_meaning_is_said() {
        let archived = r#"{"first_seq":1,"last_seq":9,"file":"/cold/a.tar.gz","by":"disk pressure"}"#;
        let archived = entry("audit.archived", "ok", archived);
        assert_eq!(
            sentence(&archived),
            "Entries 1 to 9 went to the archive /cold/a.tar.gz, as disk pressure asked."
        );
        let revoked = entry("agent.revoked", "ok", r#"{"by":"operator:0123","reason":"key_leaked"}"#);
        assert_eq!(sentence(&revoked), "operator:0123 revoked acme::alice: key_leaked.");
        let sent = r#"{"msg_id":"m","recipient":"acme::bob","mode":"envelope","bytes":3,"reply_to":null}"#;
        let sent = entry("oneshot_sent", "ok", sent);
        assert_eq!(sentence(&sent), "acme::alice sent the message m to acme::bob (envelope, 3 bytes).");
        let one = r#"{"msg_id":"m","recipient":"acme::bob","mode":"envelope","bytes":1,"reply_to":null}"#;
        let one = entry("oneshot_sent", "ok", one);
        assert!(sentence(&one).ends_with("(envelope, 1 byte)."), "{}", sentence(&one));
        let oversized = entry("agent.deactivated", "ok", r#"{"oversized":true}"#);
        assert!(sentence(&oversized).starts_with("An agent was switched off"), "{}", sentence(&oversized));
        let strange = entry("guardian.inspect", "warn", "not json");
        assert_eq!(sentence(&strange), "guardian.inspect: warn, by or about acme::alice.");
    }
}
