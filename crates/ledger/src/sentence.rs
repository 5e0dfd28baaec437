//! Each entry in one plain sentence, from one table.

use mastio_core::event::{Kind, catalogue::REGISTRY};
use mastio_store::audit::Entry;
use serde_json::Value;

/// Event, result, and what is said: `{name}` stands for a member of the details, `{agent}` and `{session}` for those
/// of the entry. A piece in brackets is left out when something in it is missing. Events without a line here are told
/// in the words of their meaning in the catalogue.
const TEMPLATES: &[(&str, &str, &str)] = &[
    ("ca.generate", "ok", "The Org CA of {org_id} was made; it ends {not_after}"),
    ("ca.import", "ok", "The Org CA of {org_id} was taken over from {source}; it ends {not_after}"),
    ("admin.mastio_key_created", "ok", "The key {kid} was made, which signs tokens"),
    ("pki.keys_sealed", "ok", "{count} private keys that lay readable were sealed"),
    (
        "pki.nginx_server_cert_rotated",
        "ok",
        "The TLS server certificate was made anew ({reason}); it ends {not_after}",
    ),
    (
        "pki.csr_signed",
        "ok",
        "The root signed a certificate for {subject} from the command line; it ends {not_after}",
    ),
    ("database.adopted", "ok", "A database of the Python implementation was adopted; a copy is in {backup}"),
    (
        "audit.legacy_chain_sealed",
        "ok",
        "The chain {chain} is covered by this entry: {rows} rows, the last is {last_seq}",
    ),
    ("audit.chain_break_detected", "error", "The stored chain {chain} does not verify at {seq}: {problem}"),
    (
        "admin.auth_denied",
        "denied",
        "{count} wrong or missing admin secrets from {source} were refused ({reason})",
    ),
    (
        "agent.create",
        "ok",
        "{agent} was enrolled by {by}[ with the capabilities {capabilities}]; its certificate ends {not_after}",
    ),
    ("enrollment.rejected", "ok", "{by} rejected an enrollment by device code: {reason}"),
    ("auth.login", "ok", "An operator logged in to the dashboard from {ip} ({method}) as {session}"),
    ("auth.login", "denied", "{count} logins at the dashboard from {source} were refused ({reason})"),
    ("auth.logout", "ok", "The operator of {session} logged out of the dashboard"),
    ("auth.session_ended", "ok", "{by} ended the session {session} at the dashboard"),
    ("auth.sessions_ended", "ok", "Sessions at the dashboard were ended[ by {by}]: {reason}"),
    (
        "admin.agent_enroll_byoca",
        "ok",
        "{by} enrolled {agent} with a certificate of {issuer}; it ends {not_after}",
    ),
    ("admin.agent_enroll_spiffe", "ok", "{by} enrolled {agent} with an SVID for {spiffe_id}"),
    ("agent.svid_rotated", "ok", "{agent} presented a newer SVID for {spiffe_id}; it ends {not_after}"),
    ("spiffe.bundle_set", "ok", "{by} set the CAs of the SPIFFE trust domain {trust_domain}"),
    ("spiffe.bundle_removed", "ok", "{by} took away the CAs of the SPIFFE trust domain {trust_domain}"),
    ("agent.deactivated", "ok", "{by} switched {agent} off"),
    ("agent.reactivated", "ok", "{by} switched {agent} on again"),
    ("agent.revoked", "ok", "{by} revoked {agent}: {reason}"),
    (
        "agent.cert_rotated",
        "ok",
        "The certificate of {agent} was replaced by {by} ({source})[; the one before works until {grace_period_expires_at}]; the new one ends {not_after}",
    ),
    ("agent.dpop_jwk_set", "ok", "{by} registered the DPoP key {dpop_jkt} of {agent}"),
    (
        "agent.dpop_jwk_rotated",
        "ok",
        "{by} replaced the DPoP key of {agent} by {new_dpop_jkt}[; the one before works until {grace_period_expires_at}]",
    ),
    ("agent.sessions_revoked", "ok", "{by} ended {revoked} sessions of users behind {agent}"),
    ("incident.contained", "ok", "{by} contained {agent} and took the evidence along[: {reason}]"),
    (
        "pki.agent_cert_expiry_warning",
        "ok",
        "The certificate of {agent} ends in {days_left} days, {not_after}",
    ),
    ("pki.org_root_expiry_warning", "ok", "The Org CA ends in {days_left} days, {not_after}"),
    (
        "agent.cert_pinning_grace_match",
        "ok",
        "{agent} used its certificate of before, which is accepted until {expires_at}",
    ),
    (
        "agent.cert_grace_period_expired",
        "ok",
        "The grace period of the former credentials of {agent} is over",
    ),
    ("agent.delete", "ok", "{by} deleted {agent} ({reason})[; its certificate {cert_thumbprint} ended]"),
    ("audit.log_key_announced", "ok", "Checkpoints of {origin} are signed with the key {vkey} from now on"),
    (
        "audit.rolled_back",
        "error",
        "The log has {entries} entries and contradicts the checkpoint of {origin} over {last_known_entries} that {seen_in} has: {reason}",
    ),
    (
        "audit.restored",
        "ok",
        "An older copy of the database was accepted[ by {by}]: entries {lost_first} to {lost_last} are lost, and checkpoints go on as {new_origin}",
    ),
    ("audit.anchored", "ok", "{authority} stamped the log up to entry {chain_seq} with the time {gen_time}"),
    ("audit.split_view", "error", "The log {origin} told two stories"),
    (
        "audit.bundle_exported",
        "ok",
        "{by} took out a bundle of entries {first_seq} to {last_seq}; its manifest has the SHA-256 {manifest_sha256}",
    ),
    ("audit.archived", "ok", "Entries {first_seq} to {last_seq} went to the archive {file}, as {by} asked"),
    ("auth.token_issued", "ok", "{agent} was given the token {jti} ({method}), good until {expires_at}"),
    (
        "auth.assertion_signed",
        "ok",
        "The Mastio signed the login assertion {jti} for {agent} with the key that it keeps",
    ),
    ("auth.denied", "denied", "{count} requests from {source} were refused: {reason}"),
    ("auth.denied_summary", "denied", "{count} more requests were refused than are written one by one"),
    (
        "oneshot_sent",
        "ok",
        "{agent} sent the message {msg_id} to {recipient} ({mode}, {bytes} bytes)[, in answer to {reply_to}]",
    ),
    ("oneshot_denied", "denied", "{agent} was refused a message to {recipient}: {reason}"),
    ("oneshot_delivered", "ok", "{agent} acknowledged the message {msg_id} from {sender_agent_id}"),
];

/// What `entry` says.
pub(crate) fn sentence(entry: &Entry) -> String {
    let details = details(entry);
    let is_it =
        |(event, result, _): &&(&str, &str, &str)| *event == entry.event_type && *result == entry.result;
    let template = TEMPLATES.iter().find(is_it).and_then(|(.., template)| filled(template, entry, &details));
    match template {
        Some(text) => format!("{text}."),
        None => meaning(entry),
    }
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
        text.push_str(&value(name, entry, details)?);
        text.push_str(rest);
    }
    Some(text)
}

fn value(name: &str, entry: &Entry, details: &Value) -> Option<String> {
    match (name, words(&details[name])) {
        (_, Some(words)) => Some(words),
        ("agent", None) => entry.agent_id.clone(),
        ("session", None) => entry.session_id.clone(),
        _ => None,
    }
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
        for (event, result, template) in TEMPLATES {
            let kind = REGISTRY.iter().find(|kind| kind.name == *event && kind.outcome.as_str() == *result);
            let kind = kind.unwrap_or_else(|| panic!("{event} {result} is no event"));
            for part in template.split('{').skip(1) {
                let name = part.split('}').next().unwrap();
                assert!(kind.keys.contains(&name) || name == "agent", "{event}: {name}");
            }
        }
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
        let oversized = entry("agent.deactivated", "ok", r#"{"oversized":true}"#);
        assert!(sentence(&oversized).starts_with("An agent was switched off"), "{}", sentence(&oversized));
        let strange = entry("guardian.inspect", "warn", "not json");
        assert_eq!(sentence(&strange), "guardian.inspect: warn, by or about acme::alice.");
    }
}
