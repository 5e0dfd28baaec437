//! What our tables know of the certificates of agents that the existing system enrolled, and of those that it revoked.

use mastio_core::{AgentId, Stamp};
use mastio_pki::Certificate;
use mastio_store::{
    Store, Unit,
    agents::{self, AgentRow, Standing},
    revocations::Revocation,
};

use super::BootError;
use crate::lifecycle::{self, pinned_leaf};

/// How many agents one unit covers.
const PORTION: u32 = 500;

/// Notes what is missing in an adopted database. A crash in between is made good by the next start, because the adoption
/// is sealed afterwards. `own` are our issuers.
pub(super) async fn adopted_agents(store: &Store, own: &[Certificate], now: Stamp) -> Result<(), BootError> {
    note_certificates(store).await?;
    note_revocations(store, own, now).await?;
    // An agent that came in again is not revoked, whatever time was left over in its row.
    store.submit(Unit::default().write(agents::forget_old_revocations())).await?;
    Ok(())
}

/// Thumbprint, key and end of every pinned certificate. A PEM that cannot be read stays without a note.
async fn note_certificates(store: &Store) -> Result<(), BootError> {
    let mut after = String::new();
    loop {
        let rows = agents::fleet::without_noted_certificate(store.database(), &after, PORTION)?;
        let Some((last, _)) = rows.last() else { return Ok(()) };
        after.clone_from(last);
        let note = |(id, pem): &(String, String)| {
            let leaf = Certificate::from_pem(pem).ok()?;
            Some(agents::note_missing_certificate(&AgentId::parse(id).ok()?, pem, &pinned_leaf(&leaf, None)))
        };
        store.submit(Unit::default().write_all(rows.iter().filter_map(note))).await?;
    }
}

/// The certificates of agents that the existing system revoked, which it kept in no list: their keys stay out, too.
async fn note_revocations(store: &Store, own: &[Certificate], now: Stamp) -> Result<(), BootError> {
    let mut after = String::new();
    loop {
        let rows = agents::ever_revoked(store.database(), &after, PORTION)?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.id.to_string();
        let ended = rows.iter().flat_map(|agent| ended_with(agent, own, now));
        store.submit(Unit::default().write_all(ended.map(|revocation| revocation.insert()))).await?;
    }
}

/// Of an agent that came in again, the existing system kept the revoked certificate in the grace slot.
fn ended_with(agent: &AgentRow, own: &[Certificate], now: Stamp) -> Vec<Revocation> {
    let (leaves, at, reason) = match &agent.standing {
        Standing::Revoked { at, reason } => (lifecycle::known_leaves(agent), *at, reason.as_deref()),
        Standing::Active | Standing::Inactive => {
            (lifecycle::graced_leaf(agent).into_iter().collect(), now, None)
        }
    };
    let reason = reason.unwrap_or(lifecycle::ADMIN_REVOCATION);
    leaves.iter().map(|leaf| lifecycle::ended(&agent.id, leaf, own.iter(), (reason, at), true)).collect()
}
