//! Certificates that are made here for agents. What makes them may be cut off before they are stored: the statement that
//! pins one looks again, and then another is made.

use std::time::Duration;

use mastio_core::{AgentId, Rng, SpiffeId, Stamp, Thumbprint};
use mastio_pki::{Certificate, Issuer, KeyPair, issued_chain, profile};
use mastio_store::{Rejection, WriteError, agents::PinnedLeaf};

use crate::{Authority, Outage, lifecycle::pinned_leaf};

/// The place of the statement that pins, in a unit that begins with those of a new or changed agent.
const PINS: usize = 1;

/// A certificate that was made here, and is pinned by nobody yet.
#[derive(Debug)]
pub(crate) struct Certified {
    /// It.
    pub(crate) leaf: Certificate,
    /// It with the intermediate that issued it, in PEM.
    pub(crate) certificates: String,
    issuer: Thumbprint,
}

impl Certified {
    /// An agent's certificate for the key `spki`.
    pub(crate) fn by(
        issuer: &Issuer<KeyPair>,
        (id, spiffe): (&AgentId, &SpiffeId),
        spki: &[u8],
        lifetime: Duration,
        now: Stamp,
        rng: &dyn Rng,
    ) -> Result<Self, Outage> {
        let leaf = profile::agent(issuer, id, spiffe, spki, lifetime, now, rng)?;
        let above = issuer.certificate();
        let certificates = issued_chain(&leaf, std::slice::from_ref(above));
        Ok(Self { leaf, certificates, issuer: above.thumbprint() })
    }

    /// What the database keeps of it.
    pub(crate) fn facts(&self) -> PinnedLeaf {
        pinned_leaf(&self.leaf, Some(self.issuer))
    }
}

impl Authority {
    /// Whether a unit that pins a [`Certified`] was rejected because a rotation has cut off what issued it. What
    /// certifies now is known when this returns.
    pub(crate) fn is_overtaken(&self, error: &WriteError) -> bool {
        let overtaken = matches!(error, WriteError::Rejected(Rejection::Rows { statement: PINS, .. }));
        if overtaken {
            // A short wait of this thread, once in a rotation.
            self.reload_or_try_later();
        }
        overtaken
    }
}
