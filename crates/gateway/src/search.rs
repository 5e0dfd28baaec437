//! Searching the registry for somebody who can do something (contract `enrollment.md` §12).

use mastio_authority::{Outage, authenticate::Caller};
use mastio_core::{AgentId, Thumbprint};
use mastio_store::agents::fleet::{Filter, Listed, Status};
use serde::Serialize;

use crate::{Gateway, Path, reach};

/// Where to search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// In our organisation.
    Local,
    /// In others. Nobody is found there: federation is not built yet.
    Federated,
    /// Everywhere.
    All,
}

impl Scope {
    /// Reads the word of a query.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "local" => Some(Self::Local),
            "federated" => Some(Self::Federated),
            "all" => Some(Self::All),
            _ => None,
        }
    }
}

/// Whom to search for.
#[derive(Debug, Clone)]
pub struct Search {
    /// Text within id or display name.
    pub needle: Option<String>,
    /// What they can all do.
    pub capabilities: Vec<String>,
    /// Where.
    pub scope: Scope,
    /// Only those that may act.
    pub active: bool,
    /// Only those behind this one, in the order of ids.
    pub after: Option<AgentId>,
    /// At most so many.
    pub limit: u32,
}

/// Somebody who was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// `<org>::<name>`.
    pub agent_id: AgentId,
    /// What people call it.
    pub display_name: String,
    /// Its organisation.
    pub org_id: String,
    /// Its capabilities.
    pub capabilities: Vec<String>,
    /// Where it is.
    pub scope: Scope,
    /// Whether it may act.
    pub active: bool,
    /// The SHA-256 of its certificate, in hex.
    pub cert_thumbprint: Option<Thumbprint>,
}

impl From<Listed> for Found {
    fn from(listed: Listed) -> Self {
        let agent = listed.agent;
        Self {
            org_id: agent.id.org().to_owned(),
            active: agent.is_active(),
            agent_id: agent.id,
            display_name: agent.display_name,
            capabilities: agent.capabilities,
            scope: Scope::Local,
            cert_thumbprint: listed.thumbprint,
        }
    }
}

impl Gateway {
    /// Agents within the caller's reach, in the order of ids, and after whom to go on if there are more.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn search(
        &self,
        caller: &Caller,
        search: &Search,
    ) -> Result<(Vec<Found>, Option<AgentId>), Outage> {
        let reachable = reach::extends(caller.agent.row.reach, Path::IntraOrg);
        if search.scope == Scope::Federated || !reachable {
            return Ok((Vec::new(), None));
        }
        let filter = Filter {
            status: search.active.then_some(Status::Active),
            needle: search.needle.clone(),
            capabilities: search.capabilities.clone(),
            org: Some(self.authority.trust().org.clone()),
            ..Filter::default()
        };
        let page = self.authority.page(&filter, search.after.as_ref(), search.limit).await?;
        Ok((page.agents.into_iter().map(Found::from).collect(), page.next))
    }
}
