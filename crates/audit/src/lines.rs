//! Entries as others read them: lines of NDJSON and records of CSV (contract `audit-and-database.md` §1.8).

use std::io::Write;

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::LocalRow;

/// The first record of a CSV export.
pub const CSV_HEADER: &[u8] =
    b"id,timestamp,event_type,agent_id,session_id,org_id,result,details,entry_hash,previous_hash\r\n";

/// Appends the line of one entry: the members of the existing system's export, `details` as text so that it can be
/// hashed as it is, and at the end the names that the audit-export guide uses.
pub fn ndjson(row: &LocalRow<'_>, out: &mut Vec<u8>) {
    let members = [
        ("timestamp", Some(row.timestamp)),
        ("event_type", Some(row.event_type)),
        ("agent_id", row.agent_id),
        ("session_id", row.session_id),
        ("org_id", row.org_id),
        ("result", Some(row.result)),
        ("details", row.details),
        ("entry_hash", row.entry_hash),
        ("previous_hash", row.previous_hash),
    ];
    out.extend_from_slice(br#"{"kind":"entry","id":"#);
    write_number(out, Some(row.id));
    members.into_iter().for_each(|(name, value)| write_member(out, name, value));
    out.extend_from_slice(br#","chain_seq":"#);
    write_number(out, row.chain_seq);
    write_member(out, "peer_org_id", row.peer_org_id);
    // Columns that only a Court fills.
    out.extend_from_slice(br#","peer_row_hash":null,"principal_type":null"#);
    write_member(out, "hash_format", row.hash_format);
    write_member(out, "actor", row.agent_id);
    write_member(out, "prev_hash", row.previous_hash);
    write_member(out, "hash", row.entry_hash);
    out.extend_from_slice(b"}\n");
}

/// A time stamp on one entry: a row of `audit_tsa_anchors`.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the columns of contract audit-and-database.md §1.9")]
pub struct Anchor<'a> {
    pub org_id: &'a str,
    pub chain_seq: i64,
    pub row_hash: &'a str,
    /// As stored: `T1|` and the DER of an RFC 3161 TimeStampToken.
    pub tsa_token: &'a [u8],
    pub tsa_url: &'a str,
    pub created_at: &'a str,
}

/// Appends the line of one time stamp. Its token is the DER alone, as `openssl ts -token_in` reads it.
pub fn anchor(anchor: &Anchor<'_>, out: &mut Vec<u8>) {
    let token = anchor.tsa_token.strip_prefix(b"T1|").unwrap_or(anchor.tsa_token);
    out.extend_from_slice(br#"{"kind":"anchor""#);
    write_member(out, "org_id", Some(anchor.org_id));
    out.extend_from_slice(br#","chain_seq":"#);
    write_number(out, Some(anchor.chain_seq));
    write_member(out, "row_hash", Some(anchor.row_hash));
    write_member(out, "tsa_token_b64", Some(&STANDARD.encode(token)));
    write_member(out, "tsa_url", Some(anchor.tsa_url));
    write_member(out, "created_at", Some(anchor.created_at));
    out.extend_from_slice(b"}\n");
}

/// Appends the record of one entry (RFC 4180).
pub fn csv(row: &LocalRow<'_>, out: &mut Vec<u8>) {
    write_number(out, Some(row.id));
    let fields = [
        Some(row.timestamp),
        Some(row.event_type),
        row.agent_id,
        row.session_id,
        row.org_id,
        Some(row.result),
        row.details,
        row.entry_hash,
        row.previous_hash,
    ];
    for field in fields {
        out.push(b',');
        write_field(out, field.unwrap_or_default());
    }
    out.extend_from_slice(b"\r\n");
}

/// A field that a spreadsheet would take for a formula is made text by an apostrophe before it.
fn write_field(out: &mut Vec<u8>, text: &str) {
    let guard = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    if text.contains([',', '"', '\r', '\n']) {
        let quoted = text.replace('"', "\"\"");
        // Writing to a Vec cannot fail; neither can it below.
        let _ = write!(out, "\"{guard}{quoted}\"");
    } else {
        let _ = write!(out, "{guard}{text}");
    }
}

fn write_member(out: &mut Vec<u8>, name: &str, value: Option<&str>) {
    let _ = write!(out, ",\"{name}\":");
    let _ = serde_json::to_writer(out, &value);
}

fn write_number(out: &mut Vec<u8>, number: Option<i64>) {
    let _ = serde_json::to_writer(out, &number);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: LocalRow<'_> = LocalRow {
        id: 7,
        timestamp: "2026-04-23T19:04:22.000001+00:00",
        event_type: "message_sent",
        agent_id: Some("acme::café"),
        session_id: None,
        org_id: Some("acme"),
        result: "ok",
        details: Some(r#"{"a":"x, \"y\""}"#),
        previous_hash: Some("aa"),
        entry_hash: Some("bb"),
        chain_seq: Some(3),
        peer_org_id: None,
        hash_format: Some("v2"),
    };

    fn text(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_has_the_members_of_the_existing_export_and_those_of_the_guide() {
        let expected = concat!(
            r#"{"kind":"entry","id":7,"timestamp":"2026-04-23T19:04:22.000001+00:00","event_type":"message_sent","#,
            r#""agent_id":"acme::café","session_id":null,"org_id":"acme","result":"ok","#,
            r#""details":"{\"a\":\"x, \\\"y\\\"\"}","entry_hash":"bb","previous_hash":"aa","chain_seq":3,"#,
            r#""peer_org_id":null,"peer_row_hash":null,"principal_type":null,"hash_format":"v2","#,
            r#""actor":"acme::café","prev_hash":"aa","hash":"bb"}"#,
            "\n"
        );
        assert_eq!(text(|out| ndjson(&ROW, out)), expected);
    }

    #[test]
    fn a_time_stamp_is_handed_out_without_its_frame() {
        let stored = Anchor {
            org_id: "acme",
            chain_seq: 3,
            row_hash: "bb",
            tsa_token: b"T1|\x30\x00",
            tsa_url: "http://tsa.example",
            created_at: "2026-04-23T19:04:22.000001+00:00",
        };
        let line: serde_json::Value = serde_json::from_str(&text(|out| anchor(&stored, out))).unwrap();
        assert_eq!((&line["kind"], &line["tsa_token_b64"]), (&"anchor".into(), &"MAA=".into()));
    }

    #[test]
    fn a_record_is_quoted_and_never_a_formula() {
        let record = text(|out| csv(&ROW, out));
        let expected = "7,2026-04-23T19:04:22.000001+00:00,message_sent,acme::café,,acme,ok,\
            \"{\"\"a\"\":\"\"x, \\\"\"y\\\"\"\"\"}\",bb,aa\r\n";
        assert_eq!(record, expected);
        for start in ["=", "+", "-", "@", "\t"] {
            let field = format!("{start}1");
            let record = text(|out| csv(&LocalRow { agent_id: Some(&field), ..ROW }, out));
            assert!(record.contains(&format!(",'{start}1,")), "{record:?}");
        }
        let record = text(|out| csv(&LocalRow { agent_id: Some("\r=1,"), ..ROW }, out));
        assert!(record.contains(",\"'\r=1,\","), "{record:?}");
    }

    #[test]
    fn the_header_has_a_name_for_each_field() {
        let record = text(|out| csv(&LocalRow { details: None, ..ROW }, out));
        let header = std::str::from_utf8(CSV_HEADER).unwrap();
        assert_eq!(header.split(',').count(), record.split(',').count());
    }
}
