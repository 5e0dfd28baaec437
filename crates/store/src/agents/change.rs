//! What changes an agent, but for its certificate. Every statement names the state that it was decided on, and is rejected
//! in any other.

use mastio_core::{AgentId, Jkt, Stamp};

use super::{AgentRow, PinnedLeaf, Standing, drop_escrow};
use crate::{Statement, Touch, Unit};

/// Notes what the device of an agent that came in again says of itself.
#[must_use]
pub fn re_describe(id: &AgentId, kind: mastio_core::PrincipalKind, device_info: Option<&str>) -> Statement {
    Statement::one(
        "UPDATE internal_agents SET principal_type = ?2, device_info = ?3 WHERE agent_id = ?1",
        vec![id.into(), kind.as_str().into(), device_info.into()],
    )
}

/// Marks `agent` revoked; rejected when it is already, or changed since it was read.
#[must_use]
pub fn mark_revoked(agent: &AgentRow, reason: &str, at: Stamp) -> Statement {
    Statement::one(
        "UPDATE internal_agents SET is_active = 0, revoked_at = ?4, revoked_reason = ?5, \
         federation_revision = federation_revision + 1, \
         previous_cert_pem = NULL, previous_dpop_jkt = NULL, previous_grace_period_expires_at = NULL \
         WHERE agent_id = ?1 AND is_active = ?2 AND cert_pem IS ?3 AND (is_active = 1 OR revoked_at IS NULL)",
        vec![(&agent.id).into(), agent.is_active().into(), agent.stored().into(), at.into(), reason.into()],
    )
}

/// Switches an active agent off: its record and all its tokens end. The first statement is rejected when it is not
/// active, the second when another change of its epoch came between.
#[must_use]
pub fn deactivate(unit: Unit, agent: &AgentRow) -> Unit {
    let unit = unit
        .write(Statement::one(
            "UPDATE internal_agents SET is_active = 0, revoked_at = NULL, revoked_reason = NULL, \
             federation_revision = federation_revision + 1, previous_cert_pem = NULL, previous_dpop_jkt = NULL, previous_grace_period_expires_at = NULL \
             WHERE agent_id = ?1 AND is_active = 1",
            vec![(&agent.id).into()],
        ))
        .write(drop_escrow(&agent.id));
    raise_epoch(unit, agent).touch(Touch::Agent(agent.id.clone()))
}

/// Switches an agent that was switched off, and not revoked, on again; rejected when it is anything else.
#[must_use]
pub fn reactivate(agent: &AgentRow) -> Statement {
    Statement::one(
        "UPDATE internal_agents SET is_active = 1, federation_revision = federation_revision + 1 \
         WHERE agent_id = ?1 AND is_active = 0 AND revoked_at IS NULL AND cert_pem IS ?2 \
         AND NOT EXISTS (SELECT 1 FROM agent_certs mine JOIN agent_certs held USING (spki_sha256) \
             JOIN internal_agents holder ON holder.agent_id = held.agent_id \
             WHERE mine.agent_id = ?1 AND held.agent_id <> ?1 AND holder.is_active <> 0)",
        vec![(&agent.id).into(), agent.stored().into()],
    )
}

/// Ends every token of `agent`; rejected when another change of its epoch came between.
#[must_use]
pub fn raise_epoch(unit: Unit, agent: &AgentRow) -> Unit {
    unit.write(Statement::one(
        "INSERT INTO agent_epochs (agent_id, epoch) VALUES (?1, ?2 + 1) \
         ON CONFLICT (agent_id) DO UPDATE SET epoch = excluded.epoch WHERE agent_epochs.epoch = ?2",
        vec![(&agent.id).into(), agent.epoch.into()],
    ))
    .touch(Touch::Epoch(agent.id.clone(), agent.epoch + 1))
}

/// Ends every token of every agent, except of those whose certificates SPIRE makes.
#[must_use]
pub fn raise_epochs_but_spiffe() -> Statement {
    Statement::any(
        "INSERT INTO agent_epochs (agent_id, epoch) \
         SELECT agent_id, 1 FROM internal_agents WHERE coalesce(enrollment_method, '') <> 'spiffe' \
         ON CONFLICT (agent_id) DO UPDATE SET epoch = agent_epochs.epoch + 1",
        vec![],
    )
}

/// Ends what hangs on `agent` when it is revoked: user sessions of its certificates, its bindings, and enrolments that
/// wait for a decision with its key. What is ended so carries `at`, exactly.
#[must_use]
pub fn cascade(agent: &AgentRow, leaves: &[PinnedLeaf], at: Stamp) -> Vec<Statement> {
    let bindings = Statement::any(
        "UPDATE local_agent_resource_bindings SET revoked_at = ?2 \
         WHERE agent_id = ?1 AND revoked_at IS NULL AND principal_type = 'agent'",
        vec![(&agent.id).into(), at.into()],
    );
    let of_leaf = |leaf: &PinnedLeaf| {
        [
            Statement::any(
                "UPDATE user_sessions SET revoked_at = ?2 WHERE agent_cert_thumbprint = ?1 AND revoked_at IS NULL",
                vec![leaf.thumbprint.into(), at.into()],
            ),
            Statement::any(
                "UPDATE pending_enrollments SET status = 'rejected', decided_at = ?2, decided_by = 'revocation', \
                 rejection_reason = 'the key was revoked' WHERE pubkey_fingerprint = ?1 AND status = 'pending'",
                vec![leaf.spki_sha256.as_str().into(), at.into()],
            ),
        ]
    };
    std::iter::once(bindings).chain(leaves.iter().flat_map(of_leaf)).collect()
}

/// Grants again the bindings that the revocation of `agent` ended: rotating its certificate keeps them.
#[must_use]
pub fn restore_bindings(agent: &AgentRow) -> Option<Statement> {
    let Standing::Revoked { at, .. } = &agent.standing else { return None };
    Some(Statement::any(
        "UPDATE local_agent_resource_bindings SET revoked_at = NULL \
         WHERE agent_id = ?1 AND revoked_at = ?2 AND principal_type = 'agent'",
        vec![(&agent.id).into(), (*at).into()],
    ))
}

/// Replaces the DPoP key of an active agent whose key is still `agent.dpop_jkt`. With `grace` the old one is accepted
/// until then; a certificate in the grace slot goes, because the slot has one deadline for both.
#[must_use]
pub fn set_dpop_key(agent: &AgentRow, jkt: Jkt, grace: Option<Stamp>) -> Statement {
    Statement::one(
        "UPDATE internal_agents SET dpop_jkt = ?2, \
         previous_dpop_jkt = CASE WHEN ?4 IS NULL THEN previous_dpop_jkt ELSE dpop_jkt END, \
         previous_cert_pem = CASE WHEN ?4 IS NULL THEN previous_cert_pem ELSE NULL END, \
         previous_grace_period_expires_at = coalesce(?4, previous_grace_period_expires_at) \
         WHERE agent_id = ?1 AND is_active = 1 AND dpop_jkt IS ?3",
        vec![(&agent.id).into(), jkt.into(), agent.dpop_jkt.into(), grace.into()],
    )
}

/// Empties the grace slot; rejected when it holds something else than `agent` says.
#[must_use]
pub fn empty_grace(agent: &AgentRow) -> Statement {
    let grace = agent.grace.as_ref();
    Statement::one(
        "UPDATE internal_agents SET previous_cert_pem = NULL, previous_dpop_jkt = NULL, \
         previous_grace_period_expires_at = NULL WHERE agent_id = ?1 AND previous_cert_pem IS ?2 \
         AND previous_dpop_jkt IS ?3 AND previous_grace_period_expires_at IS NOT NULL \
         AND previous_grace_period_expires_at <= ?4",
        vec![
            (&agent.id).into(),
            grace.and_then(|grace| grace.certificates.as_deref()).into(),
            grace.and_then(|grace| grace.dpop_jkt).into(),
            grace.map(|grace| grace.until).into(),
        ],
    )
}

/// An active agent whose revocation was left over from before it came in again is not revoked: the existing system kept
/// the time, and would read it as a new revocation at the next switching off.
#[must_use]
pub fn forget_old_revocations() -> Statement {
    Statement::any(
        "UPDATE internal_agents SET revoked_at = NULL, revoked_reason = NULL \
         WHERE is_active <> 0 AND revoked_at IS NOT NULL",
        vec![],
    )
}

/// Publishes `agent` to a Court, or withdraws it; rejected when somebody else did either since it was read. A withdrawn
/// agent keeps the time at which it was published: a publisher has to tell its withdrawal.
#[must_use]
pub fn set_federated(agent: &AgentRow, federated: bool, at: Stamp) -> Statement {
    Statement::one(
        "UPDATE internal_agents SET federated = ?2, federation_revision = federation_revision + 1, \
         federated_at = CASE WHEN ?2 THEN ?3 ELSE federated_at END \
         WHERE agent_id = ?1 AND federation_revision = ?4",
        vec![(&agent.id).into(), federated.into(), at.into(), agent.federation_revision.into()],
    )
}
