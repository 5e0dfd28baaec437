//! The newest checkpoint over our chain, held against the entries while they are verified. Links and hashes can be
//! computed anew by whoever has the file; what was signed over them cannot.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use mastio_audit::{
    Break, Head, Problem,
    checkpoint::SignedCheckpoint,
    note::NoteKey,
    tree::{Peaks, Tree, TreeError, TreeHead},
};
use rusqlite::{Connection, OptionalExtension};

use super::tree::TilesOf;
use crate::sqlite;

/// A checkpoint, and the tree of the entries that went by.
#[derive(Debug)]
pub(super) struct Covered {
    base_seq: u64,
    signed: Result<TreeHead, Problem>,
    peaks: Peaks,
}

impl Covered {
    /// The checkpoint that a walk over the chain of `org` comes by when it starts behind `start`.
    pub(super) fn load(connection: &Connection, org: &str, start: Head) -> rusqlite::Result<Option<Self>> {
        if !sqlite::has_table(connection, "audit_checkpoints")? {
            return Ok(None);
        }
        let newest = "SELECT note, vkey, announcement, (SELECT base_seq FROM audit_tree) FROM audit_checkpoints \
            JOIN audit_origins USING (origin) ORDER BY generation DESC, tree_size DESC LIMIT 1";
        let text = |row: &rusqlite::Row<'_>, index| row.get::<_, String>(index);
        let newest = connection.query_row(newest, [], |row| {
            Ok((text(row, 0)?, text(row, 1)?, text(row, 2)?, row.get::<_, i64>(3)?.cast_unsigned()))
        });
        let Some((note, vkey, announcement, base_seq)) = newest.optional()? else { return Ok(None) };
        if issuer(&announcement).as_deref() != Some(org) {
            return Ok(None);
        }
        let signed = verified(&note, &vkey).ok_or(Problem::Checkpoint);
        let before = (start.seq + 1).saturating_sub(base_seq);
        if signed.as_ref().is_ok_and(|signed| signed.size <= before) {
            return Ok(None);
        }
        match Tree::new(before, &TilesOf(connection)).peaks() {
            Ok(peaks) => Ok(Some(Self { base_seq, signed, peaks })),
            Err(TreeError::Source(error)) => Err(error),
            Err(_) => {
                let signed = signed.and_then(|signed| Err(Problem::NotAsSigned { size: signed.size }));
                Ok(Some(Self { base_seq, signed, peaks: Peaks::default() }))
            }
        }
    }

    /// Takes the next entry, which holds by itself.
    pub(super) fn push(&mut self, entry: Head, id: i64) -> Result<(), Break> {
        let (Ok(signed), Some(hash)) = (&self.signed, entry.hash) else { return Ok(()) };
        if entry.seq < self.base_seq || self.peaks.size() >= signed.size {
            return Ok(());
        }
        self.peaks.append(&hash);
        if self.peaks.size() < signed.size || self.peaks.head() == *signed {
            return Ok(());
        }
        Err(Break { seq: entry.seq, id: Some(id), problem: Problem::NotAsSigned { size: signed.size } })
    }

    /// Whether a walk that ended at `end` came as far as the checkpoint.
    pub(super) fn reached(&self, end: Head) -> Result<(), Break> {
        let problem = match &self.signed {
            Err(problem) => return Err(Break { seq: end.seq, id: None, problem: problem.clone() }),
            Ok(signed) if self.peaks.size() >= signed.size => return Ok(()),
            Ok(signed) => Problem::Truncated { expected: self.base_seq + signed.size - 1 },
        };
        Err(Break { seq: end.seq + 1, id: None, problem })
    }
}

/// What the log with `vkey` says in `note`, if it says so.
fn verified(note: &str, vkey: &str) -> Option<TreeHead> {
    let key: NoteKey = vkey.parse().ok()?;
    SignedCheckpoint::parse(note).ok()?.verify(&key).ok().map(|said| said.head)
}

/// Whose chain the tree is over: the `iss` of the announcement.
pub(super) fn issuer(announcement: &str) -> Option<String> {
    let claims = URL_SAFE_NO_PAD.decode(announcement.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    claims["iss"].as_str().map(str::to_owned)
}
