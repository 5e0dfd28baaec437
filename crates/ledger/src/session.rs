//! What the audit log says about a session, for those who took part in it (contract `audit-and-database.md` §1.7, §1.13).
//!
//! Agents choose the ids of one-shot exchanges, and so did those of MCP requests: two pairs of agents may have used the
//! same one. So an entry is shown to whom it names. Only the id of a session is one of its own, which its opening
//! proves: its two parties see all that happened in it.

use mastio_authority::{Outage, Refusal};
use mastio_core::AgentId;
use mastio_store::audit::{self, SessionEntry, Source};
use serde_json::Value;

use crate::Ledger;

/// The most entries of one answer.
const MOST: usize = 500;

/// Why nothing is told about a session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Nothing was written under this id.
    #[error("No audit entries for the given session_id")]
    NotFound,
    /// The caller took no part in what was.
    #[error("Caller is not a peer of this session")]
    NotPeer,
    /// Something of ours.
    #[error("{0}")]
    Outage(#[from] Outage),
}

impl Refusal for SessionError {
    fn status(&self) -> u16 {
        match self {
            Self::NotFound => 404,
            Self::NotPeer => 403,
            Self::Outage(outage) => outage.status(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::NotPeer => "not_a_peer",
            Self::Outage(outage) => outage.reason(),
        }
    }
}

impl Ledger {
    /// What `caller` may see of the session, correlation or request `session`: oldest first, at most 500 entries.
    ///
    /// # Errors
    /// When there is nothing, or nothing for this caller.
    pub async fn session(&self, session: &str, caller: &AgentId) -> Result<Vec<SessionEntry>, SessionError> {
        let store = self.authority.store();
        let entries = audit::within(store, session, caller).await.map_err(Outage::from)?;
        if entries.is_empty() {
            return Err(SessionError::NotFound);
        }
        let peers = peers(&entries).filter(|peers| peers.contains(caller));
        let mut seen = entries;
        seen.retain(|entry| names(entry, caller) || peers.as_ref().is_some_and(|peers| peers.did(entry)));
        seen.truncate(MOST);
        if seen.is_empty() { Err(SessionError::NotPeer) } else { Ok(seen) }
    }
}

/// Whether `entry` tells what `agent` did, or what was done with it.
fn names(entry: &SessionEntry, agent: &AgentId) -> bool {
    if entry.agent_id.as_deref() == Some(agent.as_str()) {
        return true;
    }
    // Whoever was kept from reaching somebody does not become known to them.
    let done = entry.source == Source::Local && entry.status == "ok";
    let other = |key| detail(entry, key).is_some_and(|named| named == agent.as_str());
    done && ["recipient", "sender_agent_id", "target_agent_id"].into_iter().any(other)
}

fn detail(entry: &SessionEntry, key: &str) -> Option<String> {
    let details: Value = serde_json::from_str(entry.detail.as_deref()?).ok()?;
    details.get(key)?.as_str().map(str::to_owned)
}

/// The two parties of a session.
struct Peers {
    opener: String,
    target: String,
}

impl Peers {
    fn contains(&self, agent: &AgentId) -> bool {
        [&self.opener, &self.target].into_iter().any(|peer| peer == agent.as_str())
    }

    /// Whether one of them did what `entry` tells, in the session.
    fn did(&self, entry: &SessionEntry) -> bool {
        let within = ["session_", "message_"].iter().any(|prefix| entry.action.starts_with(prefix));
        let by = entry.agent_id.as_deref();
        entry.source == Source::Local && within && (by == Some(&*self.opener) || by == Some(&*self.target))
    }
}

/// Who opened the session, and with whom; `None` when that was not once.
fn peers(entries: &[SessionEntry]) -> Option<Peers> {
    let opens = |entry: &&SessionEntry| entry.source == Source::Local && entry.action == "session_opened";
    let mut opened = entries.iter().filter(opens);
    let (Some(opening), None) = (opened.next(), opened.next()) else { return None };
    Some(Peers { opener: opening.agent_id.clone()?, target: detail(opening, "target_agent_id")? })
}
