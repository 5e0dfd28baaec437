//! The grace slot is emptied when its time is over (contract `enrollment.md` §7). What was in it counts no more from
//! that moment on, swept or not.

use mastio_core::{Event, event::catalogue};
use mastio_store::{
    Touch, Unit,
    agents::{self, AgentRow},
};

use super::graced_leaf;
use crate::{Authority, Outage};

/// How many agents are swept before the next look.
const AT_ONCE: u32 = 256;

impl Authority {
    /// Empties the grace slots whose time is over.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn sweep_grace(&self) -> Result<(), Outage> {
        loop {
            let over = agents::grace_is_over(&self.store, self.clock.now(), AT_ONCE).await?;
            let mut swept = 0;
            for agent in &over {
                swept += u32::from(self.applied(self.emptied(agent)).await?);
            }
            if swept < AT_ONCE {
                return Ok(());
            }
        }
    }

    /// One unit per agent; rejected when the slot was filled anew or emptied meanwhile.
    fn emptied(&self, agent: &AgentRow) -> Unit {
        let grace = agent.grace.as_ref();
        let event = catalogue::CertificateGraceExpired {
            previous_cert_thumbprint: graced_leaf(agent).map(|leaf| leaf.thumbprint()),
            previous_dpop_jkt: grace.and_then(|grace| grace.dpop_jkt),
            expired_at: grace.map(|grace| grace.until),
        };
        let unit = Unit::of(Event::new(&event).about(agent.id.as_str()))
            .write(agents::empty_grace(agent))
            .touch(Touch::Agent(agent.id.clone()));
        self.end_grace(unit, agent)
    }
}
