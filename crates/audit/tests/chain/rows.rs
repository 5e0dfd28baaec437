//! Stored rows as JSON objects, which is how the vectors hold them and how tests change them.

use mastio_audit::{AdminRow, AdminVerifier, Break, ChainReport, Head, LocalRow, LocalVerifier, Sealed};
use mastio_core::{Event, event::Kind, event::Outcome};
use serde_json::{Value, json};

/// The rows of one list of the vector file.
pub(crate) fn vectors(list: &str) -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/audit-and-database-vectors.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    file[list].as_array().unwrap().iter().map(|vector| vector["row"].clone()).collect()
}

/// The v2 vectors of the chain `acme`: five rows.
pub(crate) fn acme() -> Vec<Value> {
    vectors("local_audit_v2").into_iter().filter(|row| row["org_id"] == "acme").collect()
}

/// The vectors of `audit_log`, which come without ids.
pub(crate) fn admin_log() -> Vec<Value> {
    let mut rows = vectors("audit_log");
    for row in &mut rows {
        row["id"] = json!(row["chain_seq"].as_i64().unwrap() + 100);
    }
    rows
}

pub(crate) fn local(row: &Value) -> LocalRow<'_> {
    LocalRow {
        id: row["id"].as_i64().unwrap(),
        timestamp: row["timestamp"].as_str().unwrap(),
        event_type: row["event_type"].as_str().unwrap(),
        agent_id: row["agent_id"].as_str(),
        session_id: row["session_id"].as_str(),
        org_id: row["org_id"].as_str(),
        result: row["result"].as_str().unwrap(),
        details: row["details"].as_str(),
        previous_hash: row["previous_hash"].as_str(),
        entry_hash: row["entry_hash"].as_str(),
        chain_seq: row["chain_seq"].as_i64(),
        peer_org_id: row["peer_org_id"].as_str(),
        hash_format: row["hash_format"].as_str(),
    }
}

pub(crate) fn admin(row: &Value) -> AdminRow<'_> {
    AdminRow {
        id: row["id"].as_i64().unwrap(),
        timestamp: row["timestamp"].as_str().unwrap(),
        agent_id: row["agent_id"].as_str().unwrap(),
        action: row["action"].as_str().unwrap(),
        tool_name: row["tool_name"].as_str(),
        status: row["status"].as_str().unwrap(),
        detail: row["detail"].as_str(),
        request_id: row["request_id"].as_str(),
        dpop_jkt: row["dpop_jkt"].as_str(),
        on_behalf_of_user_id: row["on_behalf_of_user_id"].as_str(),
        chain_seq: row["chain_seq"].as_i64(),
        prev_hash: row["prev_hash"].as_str(),
        row_hash: row["row_hash"].as_str(),
        hash_format: row["hash_format"].as_str(),
    }
}

/// A sealed entry as the database would give it back.
pub(crate) fn stored(entry: &Sealed, id: i64) -> Value {
    json!({
        "id": id,
        "timestamp": entry.timestamp,
        "event_type": entry.event_type,
        "agent_id": entry.agent_id,
        "session_id": entry.session_id,
        "org_id": entry.org_id.as_str(),
        "result": entry.result,
        "details": entry.details,
        "previous_hash": entry.previous_hash.map(hex::encode),
        "entry_hash": hex::encode(entry.entry_hash),
        "chain_seq": entry.chain_seq,
        "peer_org_id": null,
        "hash_format": Sealed::HASH_FORMAT,
    })
}

pub(crate) fn verify_local(rows: &[Value]) -> Result<ChainReport, Break> {
    let mut verifier = LocalVerifier::new();
    rows.iter().try_for_each(|row| verifier.push(&local(row)))?;
    Ok(verifier.finish())
}

pub(crate) fn verify_admin(rows: &[Value]) -> Result<ChainReport, Break> {
    let mut verifier = AdminVerifier::new();
    rows.iter().try_for_each(|row| verifier.push(&admin(row)))?;
    Ok(verifier.finish())
}

/// The head that `row` is of its chain.
pub(crate) fn head_at(row: &Value) -> Head {
    Head { seq: row["chain_seq"].as_u64().unwrap(), hash: hash(row["entry_hash"].as_str()) }
}

/// A stored hash as bytes.
pub(crate) fn hash(text: Option<&str>) -> Option<[u8; 32]> {
    text.map(|text| hex::decode(text).unwrap().try_into().unwrap())
}

/// An event of any name and content, which the catalogue would not allow.
pub(crate) fn event(
    name: &str,
    result: &str,
    agent: Option<&str>,
    session: Option<&str>,
    details: Option<&str>,
) -> Event {
    let outcome = [Outcome::Ok, Outcome::Denied, Outcome::Error];
    let outcome = outcome.into_iter().find(|outcome| outcome.as_str() == result).unwrap();
    let kind = Kind { name: name.to_owned().leak(), outcome, meaning: "", keys: &[] };
    let owned = |text: Option<&str>| text.map(str::to_owned);
    Event {
        kind: Box::leak(Box::new(kind)),
        agent: owned(agent),
        session: owned(session),
        details: owned(details),
    }
}
