//! Which keys an agent may have: none that is revoked, and none that is another agent's, because revoking one of the
//! two would leave the key in use as the other (design decision 8).

use mastio_core::{AgentId, sha256};
use mastio_store::{agents, revocations};

use crate::{Authority, Outage};

/// Why a key is not certified or pinned for an agent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyTrouble {
    /// It is revoked.
    #[error("key_revoked: this key was revoked; make a new one")]
    Revoked,
    /// It is the key of another active agent.
    #[error("key_in_use: this is the key of the active agent {0}; make one for each agent")]
    InUse(AgentId),
}

impl KeyTrouble {
    /// A stable word.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Revoked => "key_revoked",
            Self::InUse(_) => "key_in_use",
        }
    }
}

impl Authority {
    /// Why `id` cannot have the key `spki_der`, if so. The statement that pins it looks again.
    pub(crate) fn key_trouble(&self, spki_der: &[u8], id: &AgentId) -> Result<Option<KeyTrouble>, Outage> {
        let (database, spki) = (self.store.database(), hex::encode(sha256(spki_der)));
        if revocations::key_is_revoked(database, &spki)? {
            return Ok(Some(KeyTrouble::Revoked));
        }
        Ok(agents::holder_of_key(database, &spki, id)?.map(KeyTrouble::InUse))
    }
}
