//! What the audit log says about an agent, on its page.

use mastio_authority::Outage;
use mastio_core::{AgentId, Stamp};
use mastio_ledger::search;
use mastio_store::audit;

use super::text;
use crate::routes::App;

/// Entries on one page.
const ENTRIES: u32 = 20;

/// An entry of the audit log.
pub(super) struct Told {
    pub(super) at: String,
    /// The `by` of its details: an operator, or the agent itself. Empty where the entry names nobody.
    pub(super) by: String,
    pub(super) event: String,
    pub(super) result: String,
    pub(super) meaning: String,
    pub(super) details: String,
}

/// The newest entries about `id`, newest first.
pub(super) async fn of(app: &App, id: &AgentId) -> Result<Vec<Told>, Outage> {
    let entries = audit::about(app.authority.store(), id, ENTRIES).await?;
    Ok(entries.into_iter().map(told).collect())
}

fn told(entry: audit::Entry) -> Told {
    let search::Told { sentence, entry, .. } = search::Told::local(entry);
    Told {
        meaning: sentence,
        at: Stamp::parse(&entry.timestamp).map_or(entry.timestamp, text::second),
        by: by(entry.details.as_deref()).unwrap_or_default(),
        event: entry.event_type,
        result: entry.result,
        details: entry.details.unwrap_or_default(),
    }
}

fn by(details: Option<&str>) -> Option<String> {
    let details: serde_json::Value = serde_json::from_str(details?).ok()?;
    details.get("by")?.as_str().map(str::to_owned)
}
