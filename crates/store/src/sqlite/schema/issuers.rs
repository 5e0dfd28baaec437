//! Who issued what agents are pinned to: a rotation with overlap waits for those of ours alone.

/// Which intermediate of ours issued the pinned certificate; NULL: none did. Of those that were pinned before this was
/// noted, or by the existing system, only the way is known on which the agent came in: empty is one of ours.
///
/// The index has all that counting active agents takes: of their rows there are two on a page.
pub(super) const ISSUERS: &str = r#"
ALTER TABLE agent_certs ADD COLUMN issuer TEXT;
UPDATE agent_certs SET issuer = '' WHERE agent_id IN
    (SELECT agent_id FROM internal_agents WHERE coalesce(enrollment_method, '') NOT IN ('byoca', 'spiffe'));
CREATE INDEX internal_agents_active ON internal_agents (agent_id, is_active, enrollment_method) WHERE is_active <> 0;
"#;
