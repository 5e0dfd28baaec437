//! Every way to change a stored chain is noticed, at the right row.

use std::time::Duration;

use mastio_audit::{AdminVerifier, Break, ChainReport, Draft, Head, LocalVerifier, Problem, SetBack};
use mastio_core::{OrgId, Stamp, sha256};
use serde_json::{Value, json};

use crate::rows::{
    acme, admin, admin_log, event, hash, head_at, local, stored, vectors, verify_admin, verify_local,
};

type Verify = fn(&[Value]) -> Result<ChainReport, Break>;

/// Each chain of the vectors with its verifier.
fn chains() -> [(Vec<Value>, Verify); 4] {
    [
        (acme(), verify_local),
        (vectors("local_audit_v1"), verify_local),
        (vectors("local_audit_v1_then_v2"), verify_local),
        (admin_log(), verify_admin),
    ]
}

fn seq(row: &Value) -> u64 {
    row["chain_seq"].as_u64().unwrap()
}

#[track_caller]
fn assert_break(result: Result<ChainReport, Break>, row: &Value, at: u64, problem: &Problem) {
    let found = result.unwrap_err();
    assert_eq!((found.seq, found.id, &found.problem), (at, row["id"].as_i64(), problem), "{found}");
}

/// Columns that the hash of this row leaves out (contract §1.2).
fn is_covered(row: &Value, column: &str) -> bool {
    let v2 = row["hash_format"] == "v2";
    let local = row.get("entry_hash").is_some();
    match column {
        "id" => local && !v2,
        "dpop_jkt" | "on_behalf_of_user_id" => v2,
        _ => true,
    }
}

/// Another value that the column could hold.
fn changed(column: &str, value: &Value) -> Value {
    match (column, value) {
        ("hash_format", Value::Null) => json!("v2"),
        ("hash_format", _) => Value::Null,
        (_, Value::Number(number)) => json!(number.as_i64().unwrap() + 1000),
        (_, Value::String(text)) => json!(format!("{text}x")),
        _ => json!("x"),
    }
}

#[test]
fn a_changed_column_is_found_at_its_row() {
    let mut changes = 0;
    for (rows, verify) in chains() {
        for (index, row) in rows.iter().enumerate() {
            for (column, value) in row.as_object().unwrap() {
                if !is_covered(row, column) {
                    continue;
                }
                let mut tampered = rows.clone();
                tampered[index][column] = changed(column, value);
                let problem = match column.as_str() {
                    "chain_seq" if index == 0 => Problem::FirstMissing,
                    "chain_seq" => Problem::Gap { after: index as u64 },
                    "previous_hash" | "prev_hash" => Problem::Link,
                    _ => Problem::Hash,
                };
                assert_break(verify(&tampered), &tampered[index], seq(&tampered[index]), &problem);
                changes += 1;
            }
        }
    }
    assert!(changes > 200, "{changes}");
}

#[test]
fn a_removed_value_is_found() {
    for (rows, verify) in chains() {
        let hash_column = if rows[0].get("entry_hash").is_some() { "entry_hash" } else { "row_hash" };
        for column in [hash_column, "chain_seq"] {
            let mut tampered = rows.clone();
            tampered[2][column] = Value::Null;
            assert_break(verify(&tampered), &tampered[2], 3, &Problem::Unreadable { column });
        }
        for impossible in [0, -3] {
            let mut tampered = rows.clone();
            tampered[2]["chain_seq"] = json!(impossible);
            assert_break(verify(&tampered), &tampered[2], 3, &Problem::Unreadable { column: "chain_seq" });
        }
    }
    let mut unknown = acme();
    unknown[1]["hash_format"] = json!("v9");
    assert_break(verify_local(&unknown), &unknown[1], 2, &Problem::Unreadable { column: "hash_format" });
}

#[test]
fn a_hash_in_upper_case_is_not_the_hash() {
    let mut rows = acme();
    rows[0]["entry_hash"] = json!(rows[0]["entry_hash"].as_str().unwrap().to_uppercase());
    assert_break(verify_local(&rows), &rows[0], 1, &Problem::Hash);
}

#[test]
fn deleted_rows_are_found() {
    for (rows, verify) in chains() {
        for count in 1..rows.len() {
            let rest = &rows[count..];
            assert_break(verify(rest), &rest[0], count as u64 + 1, &Problem::FirstMissing);
        }
        for index in 1..rows.len() - 1 {
            let mut tampered = rows.clone();
            tampered.remove(index);
            let after = index as u64;
            assert_break(verify(&tampered), &tampered[index], after + 2, &Problem::Gap { after });
        }
    }
}

#[test]
fn swapped_rows_are_found() {
    for (rows, verify) in chains() {
        for index in 0..rows.len() - 1 {
            let mut tampered = rows.clone();
            tampered.swap(index, index + 1);
            for place in [index, index + 1] {
                tampered[place]["chain_seq"] = json!(place + 1);
            }
            assert_break(verify(&tampered), &tampered[index], index as u64 + 1, &Problem::Link);
        }
    }
}

#[test]
fn inserted_rows_are_found() {
    for (rows, verify) in chains() {
        for (index, row) in rows.iter().enumerate() {
            let mut forked = rows.clone();
            forked.insert(index + 1, row.clone());
            let head = index as u64 + 1;
            assert_break(verify(&forked), row, head, &Problem::Fork { head });

            for later in &mut forked[index + 1..] {
                later["chain_seq"] = json!(seq(later) + 1);
            }
            assert_break(verify(&forked), &forked[index + 1], head + 1, &Problem::Link);
        }
    }
}

/// A forger who knows the format can seal a row of his own; the row after it gives him away.
#[test]
fn a_replaced_row_is_found_at_its_successor() {
    let mut rows = acme();
    let mut head = Head { seq: 2, hash: hash(rows[1]["entry_hash"].as_str()) };
    let forged = event("message_sent", "ok", Some("acme::mallory"), None, None);
    let draft = Draft::new(&forged, &OrgId::parse("acme").unwrap(), Stamp::from_unix(1_776_970_000));
    rows[2] = stored(&head.append(draft), 3);
    assert_break(verify_local(&rows), &rows[3], 4, &Problem::Link);

    rows.truncate(3);
    let mut verifier = LocalVerifier::new();
    rows.iter().try_for_each(|row| verifier.push(&local(row))).unwrap();
    let found = verifier.finish_at(head_at(&acme()[2])).unwrap_err();
    assert_eq!(found, Break { seq: 3, id: None, problem: Problem::Rebuilt });
}

#[test]
fn a_lost_tail_is_found_with_the_expected_head() {
    let rows = admin_log();
    let expected = Head { seq: 3, hash: hash(rows[2]["row_hash"].as_str()) };
    let walk = |count: usize| {
        let mut verifier = AdminVerifier::new();
        rows[..count].iter().try_for_each(|row| verifier.push(&admin(row))).unwrap();
        verifier.finish_at(expected)
    };
    for count in 0..3 {
        let problem = Problem::Truncated { expected: 3 };
        assert_eq!(walk(count).unwrap_err(), Break { seq: count as u64 + 1, id: None, problem });
    }
    assert_eq!(walk(3).unwrap().head, expected);
    let problem = Problem::Overrun { expected: 3 };
    assert_eq!(walk(4).unwrap_err(), Break { seq: 4, id: None, problem });
}

#[test]
fn the_verifier_stays_before_the_break() {
    let mut rows = acme();
    let good = rows[2].clone();
    rows[2]["result"] = json!("ok");
    let mut verifier = LocalVerifier::new();
    rows[..2].iter().try_for_each(|row| verifier.push(&local(row))).unwrap();
    let found = verifier.push(&local(&rows[2])).unwrap_err();
    assert!(
        found.to_string().starts_with("audit chain broken at entry 3 (row id 3): its content "),
        "{found}"
    );
    assert_eq!(verifier.head(), head_at(&rows[1]));
    verifier.push(&local(&good)).unwrap();
}

/// The text `a|b` of one column reads as the end of one and the start of the next. The hash cannot tell; the report does.
#[test]
fn a_shifted_separator_is_counted() {
    let mut rows = acme();
    rows[3]["result"] = json!("error|{\"error\":\"\\u20ac \\u2028 \\ud83d\\ude00\",\"tool\":\"caf\\u00e9");
    rows[3]["details"] = json!("x\"}");
    assert_eq!(verify_local(&rows).unwrap().ambiguous, 1);

    let hash = sha256(b"1|2026-04-23T19:04:21+00:00|admin|auth.login||success|a|b||genesis");
    for (status, detail, ambiguous) in [("success", "a|b", 0), ("success|a", "b", 1)] {
        let mut row = admin_log().swap_remove(0);
        row["timestamp"] = json!("2026-04-23T19:04:21+00:00");
        row["status"] = json!(status);
        row["detail"] = json!(detail);
        row["row_hash"] = json!(hex::encode(hash));
        assert_eq!(verify_admin(&[row]).unwrap().ambiguous, ambiguous);
    }
}

/// The order is proved and the times are not: a clock that was set back shows, small steps do not.
#[test]
fn a_clock_that_was_set_back_is_told() {
    let seconds = [1000, 1100, 1041, 1039, 700, 1200];
    let mut head = Head::GENESIS;
    let org = OrgId::parse("acme").unwrap();
    let entry =
        |seconds: i64| Draft::new(&event("tick", "ok", None, None, None), &org, Stamp::from_unix(seconds));
    let rows: Vec<Value> =
        seconds.iter().zip(1..).map(|(at, id)| stored(&head.append(entry(*at)), id)).collect();
    let expected = SetBack { seq: 4, entries: 2, by: Duration::from_secs(400) };
    assert_eq!(verify_local(&rows).unwrap().set_back, Some(expected));
    assert_eq!(verify_local(&rows[..3]).unwrap().set_back, None);
}
