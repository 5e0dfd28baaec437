//! Publishing an agent to a Court, and withdrawing it (contract `enrollment.md` §4).

use mastio_core::{AgentId, Event, event::catalogue};
use mastio_store::{
    Touch, Unit,
    agents::{self, AgentRow},
};

use super::{ATTEMPTS, LifecycleError};
use crate::{Authority, Outage, admin::Operator};

impl Authority {
    /// Publishes an agent, or withdraws it; its reach stays. Nothing happens when it is so already.
    ///
    /// # Errors
    /// When there is no such agent.
    pub async fn set_federated(
        &self,
        id: &AgentId,
        federated: bool,
        operator: &Operator,
    ) -> Result<AgentRow, LifecycleError> {
        for _ in 0..ATTEMPTS {
            let agent = self.row(id, "agent not found").await?;
            if agent.federated == federated {
                return Ok(agent);
            }
            let event = catalogue::FederatedPatched { federated, by: operator.fingerprint.clone() };
            let unit = Unit::of(Event::new(&event).about(id.as_str()))
                .write(agents::set_federated(&agent, federated, self.clock.now()))
                .touch(Touch::Agent(id.clone()));
            if self.applied(unit).await? {
                return self.row(id, "agent not found").await;
            }
        }
        Err(Outage::Contended.into())
    }
}
