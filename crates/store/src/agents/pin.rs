//! The certificate that an agent is pinned to: when it comes in, and when another one takes its place. Every statement names
//! the state that it was decided on, and is rejected in any other.

use mastio_core::{AgentId, Jkt, SpiffeId, Stamp, Thumbprint};

use super::{AgentRow, Method};
use crate::{Statement, Value};

/// A condition on the key whose hash is the given parameter, for the agent that is `?1`: it is not revoked, and no other
/// active agent has it, or revoking one of the two would leave the key in use.
macro_rules! key_is_free {
    ($spki:literal) => {
        concat!(
            "NOT EXISTS (SELECT 1 FROM revoked_agent_certs WHERE key_barred = 1 AND spki_sha256 = ",
            $spki,
            ") AND NOT EXISTS (SELECT 1 FROM agent_certs held JOIN internal_agents holder USING (agent_id) \
             WHERE holder.is_active <> 0 AND held.agent_id <> ?1 AND held.spki_sha256 = ",
            $spki,
            ")"
        )
    };
}

/// What the database keeps of a pinned certificate beside its PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedLeaf {
    /// The pin.
    pub thumbprint: Thumbprint,
    /// SHA-256 of its public key in DER, in hex. A revoked key is never pinned again (design decision 8).
    pub spki_sha256: String,
    /// When it ends.
    pub not_after: Stamp,
    /// Which intermediate of ours issued it, if one did.
    pub issuer: Option<Thumbprint>,
}

impl PinnedLeaf {
    /// `?1` to `?4` of a statement that notes it for the agent `id`, and `?5`.
    fn values(&self, id: &AgentId, last: impl Into<Value>) -> Vec<Value> {
        let (thumbprint, not_after) = (self.thumbprint.into(), self.not_after.into());
        vec![id.into(), thumbprint, self.spki_sha256.as_str().into(), not_after, last.into()]
    }
}

/// A new agent.
#[derive(Debug)]
pub struct NewAgent<'a> {
    /// Its id.
    pub id: &'a AgentId,
    /// What people call it.
    pub display_name: &'a str,
    /// Its capabilities.
    pub capabilities: &'a [String],
    /// PEM, leaf first.
    pub certificates: &'a str,
    /// The first of them.
    pub leaf: &'a PinnedLeaf,
    /// How it comes in.
    pub method: Method,
    /// Its DPoP key, if it brings one.
    pub dpop_jkt: Option<Jkt>,
    /// Its SPIFFE id.
    pub spiffe_id: Option<&'a SpiffeId>,
    /// Whether it is published to a Court.
    pub federated: bool,
    /// What the device says of itself, as it was sent.
    pub device_info: Option<&'a str>,
    /// `agent` or `workload`.
    pub kind: mastio_core::PrincipalKind,
    /// Whether it may have the id of a deleted agent.
    pub reuse: bool,
    /// Now.
    pub at: Stamp,
}

impl NewAgent<'_> {
    /// The rows. The first statement is rejected by a constraint when the id is taken, and touches no row when the key
    /// is revoked or another active agent's, another agent has the same id but for upper and lower case, or the id was a
    /// deleted agent's, in whatever letters. The second touches none when the issuer was cut off meanwhile.
    #[must_use]
    pub fn insert(&self) -> [Statement; 2] {
        let agent = Statement::one(
            concat!(
                "INSERT INTO internal_agents (agent_id, display_name, capabilities, cert_pem, created_at, is_active, \
             federated, federated_at, federation_revision, dpop_jkt, enrollment_method, spiffe_id, enrolled_at, reach, \
             device_info, principal_type) \
             SELECT ?1, ?2, ?3, ?4, ?5, 1, ?6, ?7, 1, ?8, ?9, ?10, ?5, 'both', ?11, ?12 \
             WHERE ",
                key_is_free!("?13"),
                " AND NOT EXISTS (SELECT 1 FROM agent_certs WHERE lower(agent_id) = lower(?1) AND agent_id <> ?1) \
                 AND (?14 OR NOT EXISTS (SELECT 1 FROM agent_tombstones WHERE lower(agent_id) = lower(?1)))"
            ),
            vec![
                self.id.into(),
                self.display_name.into(),
                serde_json::json!(self.capabilities).to_string().into(),
                self.certificates.into(),
                self.at.into(),
                self.federated.into(),
                self.federated.then_some(self.at).into(),
                self.dpop_jkt.into(),
                self.method.as_str().into(),
                self.spiffe_id.into(),
                self.device_info.into(),
                self.kind.as_str().into(),
                self.leaf.spki_sha256.as_str().into(),
                self.reuse.into(),
            ],
        );
        [agent, note_certificate(self.id, self.leaf)]
    }
}

/// What happens to an agent's DPoP key when its certificate is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DpopChange {
    /// It stays.
    Keep,
    /// Another one takes its place, or none.
    Replace(Option<Jkt>),
}

/// A certificate that takes the place of an agent's pinned one.
#[derive(Debug)]
pub struct NewPin<'a> {
    /// PEM, leaf first.
    pub certificates: &'a str,
    /// The first of them.
    pub leaf: &'a PinnedLeaf,
    /// Its SPIFFE id.
    pub spiffe_id: Option<&'a SpiffeId>,
    /// The DPoP key.
    pub dpop: DpopChange,
    /// Until when the certificate and the DPoP key of before are accepted too; `None` ends them at once.
    pub grace: Option<Stamp>,
    /// Now.
    pub at: Stamp,
}

/// Replaces the certificate of `agent` and makes it active. The first statement touches no row when the agent changed
/// since it was read, when its credentials ended since (a rotation of the Org CA ends all at once), or when the key of
/// the new certificate is revoked or another active agent's; the second touches none when its issuer was cut off since.
#[must_use]
pub fn re_pin(agent: &AgentRow, new: &NewPin<'_>) -> [Statement; 2] {
    let (keep, jkt) = match new.dpop {
        DpopChange::Keep => (true, agent.dpop_jkt),
        DpopChange::Replace(jkt) => (false, jkt),
    };
    let pin = Statement::one(
        concat!(
            "UPDATE internal_agents SET cert_pem = ?5, spiffe_id = ?6, dpop_jkt = ?7, enrolled_at = ?8, is_active = 1, \
         revoked_at = NULL, revoked_reason = NULL, federation_revision = federation_revision + 1, \
         previous_cert_pem = CASE WHEN ?9 IS NULL THEN NULL ELSE cert_pem END, \
         previous_dpop_jkt = CASE WHEN ?9 IS NULL OR ?10 THEN NULL ELSE dpop_jkt END, \
         previous_grace_period_expires_at = ?9 \
         WHERE agent_id = ?1 AND is_active = ?2 AND cert_pem IS ?3 AND dpop_jkt IS ?4 \
         AND coalesce((SELECT epoch FROM agent_epochs WHERE agent_epochs.agent_id = ?1), 0) = ?12 \
         AND ",
            key_is_free!("?11")
        ),
        vec![
            (&agent.id).into(),
            agent.is_active().into(),
            agent.stored().into(),
            agent.dpop_jkt.into(),
            new.certificates.into(),
            new.spiffe_id.into(),
            jkt.into(),
            new.at.into(),
            new.grace.into(),
            keep.into(),
            new.leaf.spki_sha256.as_str().into(),
            agent.epoch.into(),
        ],
    );
    [pin, note_certificate(&agent.id, new.leaf)]
}

/// Keeps the SVID that an active SPIFFE agent presented last: `certificates` in PEM, leaf first. The first statement
/// touches no row when the agent changed since it was read.
#[must_use]
pub fn renew_svid(agent: &AgentRow, certificates: &str, leaf: &PinnedLeaf) -> [Statement; 2] {
    let svid = Statement::one(
        "UPDATE internal_agents SET cert_pem = ?3 WHERE agent_id = ?1 AND is_active = 1 AND cert_pem IS ?2",
        vec![(&agent.id).into(), agent.stored().into(), certificates.into()],
    );
    [svid, note_certificate(&agent.id, leaf)]
}

/// Pins to an agent the certificate that it had before another one, `stored`, took its place unasked: `certificates` in PEM,
/// leaf first. Nothing happens when it has another one by now, or is revoked. Whose certificates it has stays as it is noted.
#[must_use]
pub fn pin_again(id: &AgentId, stored: &str, certificates: &str, leaf: &PinnedLeaf) -> [Statement; 2] {
    let pin = Statement::any(
        "UPDATE internal_agents SET cert_pem = ?3, federation_revision = federation_revision + 1 \
         WHERE agent_id = ?1 AND cert_pem = ?2 AND (is_active <> 0 OR revoked_at IS NULL)",
        vec![id.into(), stored.into(), certificates.into()],
    );
    let note = Statement::any(
        "UPDATE agent_certs SET thumbprint = ?2, spki_sha256 = ?3, not_after = ?4 WHERE agent_id = ?1 \
         AND EXISTS (SELECT 1 FROM internal_agents WHERE agent_id = ?1 AND cert_pem = ?5)",
        leaf.values(id, certificates),
    );
    [pin, note]
}

/// Touches no row when what issued the leaf was cut off meanwhile: it would be dead on arrival.
fn note_certificate(id: &AgentId, leaf: &PinnedLeaf) -> Statement {
    Statement::one(
        "INSERT INTO agent_certs (agent_id, thumbprint, spki_sha256, not_after, issuer) SELECT ?1, ?2, ?3, ?4, ?5 \
         WHERE ?5 IS NULL OR EXISTS (SELECT 1 FROM pki_cas WHERE thumbprint = ?5 \
             AND cut = 0 AND compromised = 0 AND state <> 'retired') \
         ON CONFLICT (agent_id) DO UPDATE SET thumbprint = excluded.thumbprint, \
         spki_sha256 = excluded.spki_sha256, not_after = excluded.not_after, issuer = excluded.issuer",
        leaf.values(id, leaf.issuer),
    )
}

/// Notes the pinned certificate of an agent of the existing system, which kept its PEM alone: who issued it says only the
/// way on which the agent came in. Nothing happens when it is noted already, or when the agent has another certificate by
/// now.
#[must_use]
pub fn note_missing_certificate(id: &AgentId, certificates: &str, leaf: &PinnedLeaf) -> Statement {
    Statement::any(
        "INSERT INTO agent_certs (agent_id, thumbprint, spki_sha256, not_after, issuer) SELECT ?1, ?2, ?3, ?4, \
             CASE WHEN coalesce(enrollment_method, '') NOT IN ('byoca', 'spiffe') THEN '' END \
         FROM internal_agents WHERE agent_id = ?1 AND cert_pem = ?5 ON CONFLICT (agent_id) DO NOTHING",
        leaf.values(id, certificates),
    )
}
