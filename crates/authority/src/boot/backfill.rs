//! What our tables know of pinned certificates, for agents that the existing system enrolled.

use mastio_core::AgentId;
use mastio_pki::Certificate;
use mastio_store::{Store, Unit, agents};

use super::BootError;
use crate::lifecycle::pinned_leaf;

/// How many agents one unit covers.
const PORTION: u32 = 500;

/// Notes thumbprint and end of every pinned certificate of an adopted database. A crash in between is made good by the
/// next start, because the adoption is sealed afterwards. A PEM that cannot be read stays without a note.
pub(super) async fn note_certificates(store: &Store) -> Result<(), BootError> {
    let mut after = String::new();
    loop {
        let rows = agents::fleet::without_noted_certificate(store.database(), &after, PORTION)?;
        let Some((last, _)) = rows.last() else { return Ok(()) };
        after.clone_from(last);
        let note = |(id, pem): &(String, String)| {
            let leaf = Certificate::from_pem(pem).ok()?;
            Some(agents::note_missing_certificate(&AgentId::parse(id).ok()?, pem, &pinned_leaf(&leaf)))
        };
        store.submit(Unit::default().write_all(rows.iter().filter_map(note))).await?;
    }
}
