//! Ending the sessions of users behind an agent (contract `enrollment.md` §6).

use mastio_core::{AgentId, Event, event::catalogue};
use mastio_store::{Unit, sessions};

use super::{ATTEMPTS, LifecycleError, known_leaves};
use crate::{Authority, Outage, admin::Operator};

impl Authority {
    /// Ends every session that is bound to the agent's certificate, or to that of its grace slot, and returns how many.
    ///
    /// # Errors
    /// When there is no such agent.
    pub async fn end_sessions(&self, id: &AgentId, operator: &Operator) -> Result<u64, LifecycleError> {
        for _ in 0..ATTEMPTS {
            let (agent, now) = (self.row(id, "agent not found").await?, self.clock.now());
            let (mut statements, mut revoked) = (Vec::new(), 0);
            for leaf in known_leaves(&agent) {
                let live = sessions::live(&self.store, leaf.thumbprint()).await.map_err(Outage::from)?;
                revoked += u64::from(live);
                statements.push(sessions::end(leaf.thumbprint(), live, now));
            }
            let event = catalogue::SessionsRevoked { revoked, by: operator.fingerprint.clone() };
            let unit = Unit::of(Event::new(&event).about(id.as_str())).write_all(statements);
            if self.applied(unit).await? {
                return Ok(revoked);
            }
        }
        Err(Outage::Contended.into())
    }
}
