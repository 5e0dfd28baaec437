//! The fleet as its operator sees it: lists, pages, single agents.

use std::sync::Arc;

use mastio_core::AgentId;
use mastio_store::agents::fleet::{self, Filter, Listed, Page};

use crate::{Authority, Outage, lifecycle::LifecycleError};

/// How many agents are read at once when the whole fleet is listed. A row is about 3 KB.
const PORTION: usize = 256;

impl Authority {
    /// At most `limit` agents after `after`, in the order of their ids.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn page(&self, filter: &Filter, after: Option<&AgentId>, limit: u32) -> Result<Page, Outage> {
        Ok(fleet::page(&self.store, filter, after, limit).await?)
    }

    /// All agents that `filter` lets through, newest first, to be read in portions.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn fleet(self: &Arc<Self>, filter: &Filter) -> Result<Fleet, Outage> {
        let ids = fleet::newest_first(&self.store, filter).await?;
        Ok(Fleet { authority: Arc::clone(self), ids: ids.into_iter() })
    }

    /// The agent `id`, active or not.
    ///
    /// # Errors
    /// When there is none.
    pub async fn agent(&self, id: &AgentId) -> Result<Listed, LifecycleError> {
        let found = fleet::listed(&self.store, id).await.map_err(Outage::from)?;
        found.ok_or(LifecycleError::NotFound("agent not found"))
    }
}

/// Agents that are read while they are handed on, so that a large fleet takes no more memory than a small one.
#[derive(Debug)]
pub struct Fleet {
    authority: Arc<Authority>,
    ids: std::vec::IntoIter<AgentId>,
}

impl Fleet {
    /// The next ones; empty when there are no more.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn portion(&mut self) -> Result<Vec<Listed>, Outage> {
        loop {
            let ids: Vec<AgentId> = self.ids.by_ref().take(PORTION).collect();
            if ids.is_empty() {
                return Ok(Vec::new());
            }
            let agents = fleet::by_ids(&self.authority.store, &ids).await?;
            // Rows that cannot be read are left out: a whole portion of them is not the end.
            if !agents.is_empty() {
                return Ok(agents);
            }
        }
    }

    /// All of them at once, for small fleets.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn all(mut self) -> Result<Vec<Listed>, Outage> {
        let mut all = Vec::new();
        loop {
            let portion = self.portion().await?;
            if portion.is_empty() {
                return Ok(all);
            }
            all.extend(portion);
        }
    }
}
