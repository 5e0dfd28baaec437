//! Rows that no chain covers.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use mastio_core::sha256;

use crate::row::{AdminRow, LocalRow, Row};

/// A fingerprint of the rows with `chain_seq` NULL, so that an entry of a chain can cover them from now on
/// (design decision 15).
///
/// Push the rows of one table in the order of `id`. The fingerprint is SHA-256 over the concatenated 32-byte SHA-256
/// digests of one text for each row, its columns joined by `|`, NULL as empty:
/// - `local_audit`: `id` `timestamp` `event_type` `agent_id` `session_id` `org_id` `result` `details`
///   `previous_hash` (NULL as `genesis`), which is what the reference's `entry_hash` of such a row is taken over;
/// - `audit_log`: `id` `timestamp` `agent_id` `action` `tool_name` `status` `detail` `request_id` `dpop_jkt`
///   `on_behalf_of_user_id`.
#[derive(Clone)]
pub struct Unchained {
    rows: u64,
    digest: Context,
    text: Vec<u8>,
}

/// How many rows there were, and their fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnchainedReport {
    /// How many.
    pub rows: u64,
    /// The fingerprint; without rows SHA-256 of nothing.
    pub sha256: [u8; 32],
}

impl Unchained {
    /// No rows yet.
    #[must_use]
    pub fn new() -> Self {
        Self { rows: 0, digest: Context::new(&SHA256), text: Vec::new() }
    }

    /// Adds a row of `local_audit`.
    pub fn push_local(&mut self, row: &LocalRow<'_>) {
        self.push(row);
    }

    /// Adds a row of `audit_log`.
    pub fn push_admin(&mut self, row: &AdminRow<'_>) {
        self.push(row);
    }

    /// The fingerprint of all rows added.
    #[must_use]
    pub fn finish(self) -> UnchainedReport {
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(self.digest.finish().as_ref());
        UnchainedReport { rows: self.rows, sha256: fingerprint }
    }

    fn push<R: Row>(&mut self, row: &R) {
        self.text.clear();
        row.write_unchained(&mut self.text);
        self.digest.update(&sha256(&self.text));
        self.rows += 1;
    }
}

impl Default for Unchained {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Unchained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unchained").field("rows", &self.rows).finish_non_exhaustive()
    }
}
