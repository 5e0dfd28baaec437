//! The growing end of a chain.

use mastio_core::sha256;

use crate::{
    entry::{Draft, Sealed},
    row::{Format, LocalRow, Row},
};

/// The last entry of a chain: all that is needed to append to it or to recognise it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Head {
    /// Position of the last entry; 0 when there is none.
    pub seq: u64,
    /// Its hash; `None` when there is none.
    pub hash: Option<[u8; 32]>,
}

impl Head {
    /// The head of a chain without entries.
    pub const GENESIS: Self = Self { seq: 0, hash: None };

    /// Gives `draft` the next place in the chain, and moves the head onto it.
    ///
    /// Format v2. If the transaction that was to store the entry fails, go on from the head as it was before.
    pub fn append(&mut self, draft: Draft) -> Sealed {
        let timestamp = draft.at.to_string();
        let previous_hash = self.hash;
        let chain_seq = self.seq + 1;
        let entry_hash = hash(&draft, &timestamp, chain_seq, previous_hash);
        *self = Self { seq: chain_seq, hash: Some(entry_hash) };
        Sealed {
            chain_seq,
            timestamp,
            event_type: draft.event_type,
            agent_id: draft.agent_id,
            session_id: draft.session_id,
            org_id: draft.org_id,
            result: draft.result.as_str(),
            details: draft.details,
            previous_hash,
            entry_hash,
        }
    }
}

/// Writers and verifiers share one canonical text, that of the stored row.
fn hash(draft: &Draft, timestamp: &str, chain_seq: u64, previous_hash: Option<[u8; 32]>) -> [u8; 32] {
    let previous_hash = previous_hash.map(hex::encode);
    let row = LocalRow {
        id: 0, // not known before the insert, and no part of v2
        timestamp,
        event_type: &draft.event_type,
        agent_id: draft.agent_id.as_deref(),
        session_id: draft.session_id.as_deref(),
        org_id: Some(draft.org_id.as_str()),
        result: draft.result.as_str(),
        details: draft.details.as_deref(),
        previous_hash: previous_hash.as_deref(),
        entry_hash: None,
        chain_seq: i64::try_from(chain_seq).ok(),
        peer_org_id: None,
        hash_format: Some(Sealed::HASH_FORMAT),
    };
    let mut text = Vec::with_capacity(512);
    row.write_canonical(Format::V2, timestamp, &mut text);
    sha256(&text)
}
