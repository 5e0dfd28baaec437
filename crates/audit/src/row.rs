//! Stored rows as borrowed text, and the canonical texts that their hashes are taken over.

use std::io::Write;

use crate::entry::is_never_written;

/// One row of `local_audit`, fields named as its columns.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the columns of contract audit-and-database.md §1.2")]
pub struct LocalRow<'a> {
    pub id: i64,
    pub timestamp: &'a str,
    pub event_type: &'a str,
    pub agent_id: Option<&'a str>,
    pub session_id: Option<&'a str>,
    pub org_id: Option<&'a str>,
    pub result: &'a str,
    pub details: Option<&'a str>,
    pub previous_hash: Option<&'a str>,
    pub entry_hash: Option<&'a str>,
    pub chain_seq: Option<i64>,
    pub peer_org_id: Option<&'a str>,
    pub hash_format: Option<&'a str>,
}

/// One row of `audit_log`, fields named as its columns.
///
/// No format covers `id`, and v1 leaves out `dpop_jkt` and `on_behalf_of_user_id`: a change there goes unseen.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the columns of contract audit-and-database.md §1.2")]
pub struct AdminRow<'a> {
    pub id: i64,
    pub timestamp: &'a str,
    pub agent_id: &'a str,
    pub action: &'a str,
    pub tool_name: Option<&'a str>,
    pub status: &'a str,
    pub detail: Option<&'a str>,
    pub request_id: Option<&'a str>,
    pub dpop_jkt: Option<&'a str>,
    pub on_behalf_of_user_id: Option<&'a str>,
    pub chain_seq: Option<i64>,
    pub prev_hash: Option<&'a str>,
    pub row_hash: Option<&'a str>,
    pub hash_format: Option<&'a str>,
}

/// Which canonical text a row's hash is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    V1,
    V2,
}

/// The columns that make a row a link of its chain.
pub(crate) struct Link<'a> {
    pub(crate) id: i64,
    pub(crate) seq: Option<i64>,
    pub(crate) timestamp: &'a str,
    pub(crate) previous: Option<&'a str>,
    pub(crate) hash: Option<&'a str>,
    /// `None` when this build does not know it.
    pub(crate) format: Option<Format>,
}

/// What the verifier needs to know of a row.
pub(crate) trait Row {
    /// What the first row of a chain holds in the place of its predecessor's hash.
    const GENESIS: Option<&'static str>;
    /// The column of the row's own hash.
    const HASH_COLUMN: &'static str;
    /// Whether the reference hashed the re-rendered timestamp instead of the stored text.
    const RENDERS_TIMESTAMP: bool;

    fn link(&self) -> Link<'_>;

    /// Whether a column other than the details holds the separator or a control character. Then its text may have more
    /// than one reading.
    fn is_ambiguous(&self) -> bool;

    /// Appends the text that the row's hash is taken over, with `timestamp` in the place of its own.
    fn write_canonical(&self, format: Format, timestamp: &str, out: &mut Vec<u8>);

    /// Appends the text that stands for the row when it belongs to no chain.
    fn write_unchained(&self, out: &mut Vec<u8>);
}

impl LocalRow<'_> {
    /// Whether a column other than the details holds the separator or a control character, which no
    /// [`Draft`](crate::Draft) has there: the same hash may be right for its columns cut elsewhere.
    #[must_use]
    pub fn can_be_recut(&self) -> bool {
        has_separator([self.timestamp, self.event_type, self.result])
            || has_separator(
                [self.agent_id, self.session_id, self.org_id, self.peer_org_id]
                    .map(Option::unwrap_or_default),
            )
    }

    /// The fields that all formats share, up to the predecessor's hash.
    fn write_body(&self, timestamp: &str, out: &mut Vec<u8>) {
        write_fields(
            out,
            [
                timestamp,
                self.event_type,
                self.agent_id.unwrap_or_default(),
                self.session_id.unwrap_or_default(),
                self.org_id.unwrap_or_default(),
                self.result,
                self.details.unwrap_or_default(),
                self.previous_hash.unwrap_or("genesis"),
            ],
        );
    }
}

impl Row for LocalRow<'_> {
    const GENESIS: Option<&'static str> = None;
    const HASH_COLUMN: &'static str = "entry_hash";
    const RENDERS_TIMESTAMP: bool = true;

    fn link(&self) -> Link<'_> {
        Link {
            id: self.id,
            seq: self.chain_seq,
            timestamp: self.timestamp,
            previous: self.previous_hash,
            hash: self.entry_hash,
            format: match self.hash_format {
                None | Some("v1") => Some(Format::V1),
                Some("v2") => Some(Format::V2),
                Some(_) => None,
            },
        }
    }

    fn is_ambiguous(&self) -> bool {
        self.can_be_recut()
    }

    fn write_canonical(&self, format: Format, timestamp: &str, out: &mut Vec<u8>) {
        match format {
            Format::V1 => write_number(out, self.id),
            Format::V2 => out.extend_from_slice(b"v2"),
        }
        self.write_body(timestamp, out);
        out.extend_from_slice(b"|seq=");
        write_number(out, self.chain_seq.unwrap_or_default());
        out.extend_from_slice(b"|peer=");
        out.extend_from_slice(self.peer_org_id.unwrap_or_default().as_bytes());
    }

    fn write_unchained(&self, out: &mut Vec<u8>) {
        write_number(out, self.id);
        self.write_body(self.timestamp, out);
    }
}

impl AdminRow<'_> {
    fn write_body(&self, timestamp: &str, out: &mut Vec<u8>) {
        write_fields(
            out,
            [
                timestamp,
                self.agent_id,
                self.action,
                self.tool_name.unwrap_or_default(),
                self.status,
                self.detail.unwrap_or_default(),
                self.request_id.unwrap_or_default(),
            ],
        );
    }

    /// With which key, and for whom: what v1 forgets.
    fn write_bearer(&self, out: &mut Vec<u8>) {
        write_fields(out, [self.dpop_jkt.unwrap_or_default(), self.on_behalf_of_user_id.unwrap_or_default()]);
    }
}

impl Row for AdminRow<'_> {
    const GENESIS: Option<&'static str> = Some("genesis");
    const HASH_COLUMN: &'static str = "row_hash";
    const RENDERS_TIMESTAMP: bool = false;

    fn link(&self) -> Link<'_> {
        Link {
            id: self.id,
            seq: self.chain_seq,
            timestamp: self.timestamp,
            previous: self.prev_hash,
            hash: self.row_hash,
            format: Some(if self.hash_format == Some("v2") { Format::V2 } else { Format::V1 }),
        }
    }

    fn is_ambiguous(&self) -> bool {
        has_separator([self.timestamp, self.agent_id, self.action, self.status])
            || has_separator(
                [self.tool_name, self.request_id, self.dpop_jkt, self.on_behalf_of_user_id]
                    .map(Option::unwrap_or_default),
            )
    }

    fn write_canonical(&self, format: Format, timestamp: &str, out: &mut Vec<u8>) {
        if format == Format::V2 {
            out.extend_from_slice(b"v2|");
        }
        write_number(out, self.chain_seq.unwrap_or_default());
        self.write_body(timestamp, out);
        if format == Format::V2 {
            self.write_bearer(out);
        }
        write_fields(out, [self.prev_hash.unwrap_or_default()]);
    }

    fn write_unchained(&self, out: &mut Vec<u8>) {
        write_number(out, self.id);
        self.write_body(self.timestamp, out);
        self.write_bearer(out);
    }
}

fn write_fields<const N: usize>(out: &mut Vec<u8>, fields: [&str; N]) {
    for field in fields {
        out.push(b'|');
        out.extend_from_slice(field.as_bytes());
    }
}

fn write_number(out: &mut Vec<u8>, number: i64) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{number}");
}

fn has_separator<const N: usize>(fields: [&str; N]) -> bool {
    fields.iter().any(|field| field.contains(is_never_written))
}
