//! What the reference wrote verifies; what we write, the reference would have written.

use mastio_audit::{AdminVerifier, Draft, Head, LocalVerifier, Unchained};
use mastio_core::{OrgId, Stamp, sha256};
use serde_json::json;

use crate::rows::{
    acme, admin, admin_log, event, hash, head_at, local, stored, vectors, verify_admin, verify_local,
};

#[test]
fn every_local_chain_verifies() {
    let system = vectors("local_audit_v2").into_iter().filter(|row| row["org_id"] == "__system__").collect();
    for (rows, count) in
        [(acme(), 5), (system, 1), (vectors("local_audit_v1"), 4), (vectors("local_audit_v1_then_v2"), 4)]
    {
        let report = verify_local(&rows).unwrap();
        let last = rows.last().unwrap();
        assert_eq!((report.rows, report.first_seq, report.ambiguous), (count, Some(1), 0));
        assert_eq!(report.head, head_at(last));
        assert_eq!(report.last_timestamp.as_deref(), last["timestamp"].as_str());
    }
}

#[test]
fn the_admin_chain_of_mixed_formats_verifies() {
    let rows = admin_log();
    let report = verify_admin(&rows).unwrap();
    assert_eq!((report.rows, report.first_seq), (4, Some(1)));
    assert_eq!(report.head, Head { seq: 4, hash: hash(rows[3]["row_hash"].as_str()) });
}

/// Rows without a fraction or with a peer are the reference's own: we never write them.
#[test]
fn sealing_gives_the_reference_hash() {
    let mut sealed = 0;
    for row in vectors("local_audit_v2") {
        let at = Stamp::parse(row["timestamp"].as_str().unwrap()).unwrap();
        if at != at.with_fraction() || !row["peer_org_id"].is_null() || row["org_id"] == "__system__" {
            continue;
        }
        let local = local(&row);
        let event = event(local.event_type, local.result, local.agent_id, local.session_id, local.details);
        let mut head = Head { seq: head_at(&row).seq - 1, hash: hash(local.previous_hash) };
        let entry = head.append(Draft::new(&event, &OrgId::parse("acme").unwrap(), at));
        assert_eq!(stored(&entry, local.id), row);
        assert_eq!(head, head_at(&row));
        sealed += 1;
    }
    assert_eq!(sealed, 3);
}

#[test]
fn our_entries_continue_the_chains_of_the_reference() {
    for mut rows in [acme(), vectors("local_audit_v1"), vectors("local_audit_v1_then_v2")] {
        let mut head = head_at(rows.last().unwrap());
        let draft = Draft::new(
            &event("database.adopted", "ok", None, None, None),
            &OrgId::parse("acme").unwrap(),
            Stamp::from_unix(1_776_970_000),
        );
        rows.push(stored(&head.append(draft), 900));
        assert_eq!(verify_local(&rows).unwrap().head, head);
    }
}

#[test]
fn a_chain_can_be_verified_in_parts() {
    let rows = acme();
    for cut in 1..rows.len() {
        let mut verifier = LocalVerifier::from(head_at(&rows[cut - 1]));
        rows[cut..].iter().try_for_each(|row| verifier.push(&local(row))).unwrap();
        let report = verifier.finish();
        assert_eq!((report.head, report.first_seq), (head_at(&rows[4]), Some(cut as u64 + 1)));
    }
    let nothing = AdminVerifier::new().finish();
    assert_eq!(
        (nothing.rows, nothing.head, nothing.first_seq, nothing.last_timestamp),
        (0, Head::GENESIS, None, None)
    );
}

/// The reference hashes the time that it parsed, so a store may have kept another text for it.
#[test]
fn local_timestamps_may_be_written_differently() {
    let mut rows = acme();
    rows[0]["timestamp"] = json!("2026-04-23 21:04:21.123456+02:00");
    rows[1]["timestamp"] = json!("2026-04-23T19:04:22.000Z");
    rows[3]["timestamp"] = json!("2026-04-23T19:04:24.5");
    verify_local(&rows).unwrap();
    let mut rows = admin_log();
    rows[0]["timestamp"] = json!("2026-04-23 19:04:21.123456+00:00");
    assert_eq!(verify_admin(&rows).unwrap_err().seq, 1);
}

#[test]
fn unchained_rows_have_a_fingerprint() {
    let rows = vectors("local_audit_v1_unchained");
    let mut unchained = Unchained::new();
    let mut hashes = Vec::new();
    for row in rows.iter().chain(&rows) {
        unchained.push_local(&local(row));
        hashes.extend(hash(row["entry_hash"].as_str()).unwrap());
    }
    let report = unchained.finish();
    assert_eq!((report.rows, report.sha256), (2, sha256(&hashes)));
    assert_eq!(Unchained::new().finish().sha256, sha256(b""));
}

#[test]
fn the_fingerprint_covers_every_column_of_an_admin_row() {
    let fingerprint = |row: &serde_json::Value| {
        let mut unchained = Unchained::new();
        unchained.push_admin(&admin(row));
        unchained.finish().sha256
    };
    let row = admin_log().swap_remove(1);
    for column in
        ["timestamp", "agent_id", "action", "tool_name", "status", "detail", "request_id", "dpop_jkt"]
    {
        let mut changed = row.clone();
        changed[column] = json!("changed");
        assert_ne!(fingerprint(&changed), fingerprint(&row), "{column}");
    }
    let line = b"102|2026-04-23T19:04:22+00:00|acme::alice|tool_execute|order.read|success||req-7|\
                 K8Q2zrZ1m8nT1v2v5m6Z3v9m0n1o2p3q4r5s6t7u8v9|acme::user::mario";
    assert_eq!(fingerprint(&row), sha256(&sha256(line)));
}
