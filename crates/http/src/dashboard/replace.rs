//! Approving an enrollment under the name of an agent that is there hands that agent to another device. A browser is
//! shown what that means and asks once more; a script means what it sends.

use askama::Template;
use axum::response::Response;
use mastio_authority::{Outage, dashboard, registry::Agent};
use mastio_core::Stamp;
use mastio_store::{
    agents::{self, Method, fleet::Status},
    pending::{PendingRow, State as Stands},
};

use super::{
    agents::pin,
    enrollments::{Approve, Ask},
    page::{Frame, PageError, Said, render},
    text,
};
use crate::routes::App;

#[derive(Template)]
#[template(path = "replace.html")]
struct ReplacePage<'a> {
    frame: Frame,
    ask: Ask,
    fields: &'a Approve,
    id: String,
    display_name: String,
    state: &'static str,
    fingerprint: String,
    until: Option<String>,
    /// Until when the present certificate would go on to work; at once it would end otherwise.
    grace_until: Option<String>,
    capabilities: Vec<String>,
    pin: String,
}

/// The agent whose name an operator typed, if it is there and can get another certificate.
pub(super) async fn present(app: &App, name: &str) -> Result<Option<Agent>, Outage> {
    let Ok(id) = app.authority.own_agent_id(name) else { return Ok(None) };
    let row = agents::find(app.authority.store(), &id).await?;
    Ok(row.filter(|row| row.method != Some(Method::Spiffe)).map(Agent::from))
}

/// Whether `fields` tell that the operator has seen that `agent`, with its present certificate, will be replaced.
pub(super) fn is_confirmed(fields: &Approve, agent: &Agent) -> bool {
    fields.replace.as_ref() == Some(&pin(agent))
}

/// The question, unless `row` cannot be approved anyway.
pub(super) async fn ask(
    app: &App,
    session: &dashboard::Session,
    row: PendingRow,
    fields: &Approve,
    agent: &Agent,
) -> Result<Option<Response>, PageError> {
    if row.state != Stands::Pending {
        return Ok(None);
    }
    let leaf = agent.certificates.first();
    let page = ReplacePage {
        frame: Frame::new(app, session, "enrollments", Said::default()).await?,
        ask: Ask::new(row, app.authority.clock().now()),
        fields,
        id: agent.id().to_string(),
        display_name: agent.row.display_name.clone(),
        state: Status::from(&agent.row.standing).as_str(),
        fingerprint: text::grouped(&pin(agent)),
        until: leaf.map(|leaf| text::moment(leaf.not_after())),
        grace_until: app.authority.grace().filter(|_| agent.is_active()).map(text::moment),
        capabilities: agent.row.capabilities.clone(),
        pin: pin(agent),
    };
    render(&page).map(Some)
}

/// What is said when `before` was handed over. `grace_until` is that of the agent now.
pub(super) fn told(before: &Agent, grace_until: Option<Stamp>) -> String {
    let ends = match grace_until {
        Some(until) => format!("works until {}", text::moment(until)),
        None => "has stopped working".to_owned(),
    };
    format!(
        "Approved: {} was there before and is enrolled again; this device gets its new certificate the next time it \
         asks. The certificate of before {ends}.",
        before.id()
    )
}
