//! New credentials: made, and shown once. They are in the answer to the form and nowhere else; asking again makes
//! others or is refused.

use askama::Template;
use axum::{extract::State, response::Response};
use base64::{Engine, engine::general_purpose::STANDARD};
use mastio_authority::{
    Outage, Refusal, dashboard,
    enroll::Candidate,
    lifecycle::{LifecycleError, Rotation},
};
use mastio_core::AgentName;
use mastio_store::agents;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{
    agents::pin,
    change::back,
    page::{Frame, PageError, Said, go, render},
    session::Submitted,
    text,
};
use crate::{
    answer::StrictPath,
    plain::is_plain,
    routes::{App, Shared, lifecycle::agent_id},
};

#[derive(Template)]
#[template(path = "credentials.html")]
struct CredentialsPage {
    frame: Frame,
    title: &'static str,
    id: String,
    thumbprint: String,
    files: Vec<File>,
}

/// A file to download: its content is in the link itself.
struct File {
    name: &'static str,
    what: &'static str,
    base64: String,
}

impl CredentialsPage {
    async fn new(
        app: &App,
        session: &dashboard::Session,
        title: &'static str,
        id: String,
        thumbprint: String,
    ) -> Result<Self, Outage> {
        let frame = Frame::new(app, session, "agents", Said::default()).await?;
        Ok(Self { frame, title, id, thumbprint: text::grouped(&thumbprint), files: Vec::new() })
    }

    fn with(mut self, name: &'static str, what: &'static str, content: &str) -> Self {
        self.files.push(File { name, what, base64: STANDARD.encode(content) });
        self
    }

    fn with_pair(self, certificates: &str, key: Option<&SecretString>) -> Self {
        let page = self.with("cert.pem", "Certificate with its intermediate", certificates);
        match key {
            Some(key) => page.with("agent-key.pem", "Private key", key.expose_secret()),
            None => page,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Create {
    #[serde(default)]
    agent_name: String,
    #[serde(default)]
    display_name: String,
    #[serde(default)]
    capabilities: String,
    escrow: Option<String>,
}

pub(super) async fn create(State(app): Shared, submitted: Submitted<Create>) -> Result<Response, PageError> {
    let Submitted { session, fields } = submitted;
    let candidate = match candidate(&fields) {
        Ok(candidate) => candidate,
        Err(text) => return Ok(go(&session, "/proxy/agents", "error", &text)),
    };
    match app.authority.create_agent(&candidate, fields.escrow.is_some(), &session.operator).await {
        Ok(made) => {
            let (id, thumbprint) = (made.id.to_string(), made.thumbprint.to_string());
            let page = CredentialsPage::new(&app, &session, "Agent created", id, thumbprint).await?;
            render(&page.with_pair(&made.certificates, made.key.as_ref()))
        }
        Err(error) if error.status() < 500 => Ok(go(&session, "/proxy/agents", "error", &error.to_string())),
        Err(error) => Err(error.into()),
    }
}

fn candidate(fields: &Create) -> Result<Candidate, String> {
    // In this form only (contract `enrollment.md` §1): people write names as they speak them.
    let name = fields.agent_name.trim().to_ascii_lowercase().replace(' ', "_");
    let name = AgentName::parse(&name).map_err(|error| format!("agent name: {error}"))?;
    let display_name = fields.display_name.trim();
    if display_name.chars().count() > 256 || !is_plain(display_name) {
        return Err("the display name is at most 256 characters on one line".to_owned());
    }
    let capabilities = text::list(&fields.capabilities);
    if capabilities.len() > 256 || capabilities.iter().any(|capability| capability.len() > 256) {
        return Err("at most 256 capabilities of 256 bytes".to_owned());
    }
    Ok(Candidate {
        name,
        display_name: display_name.to_owned(),
        capabilities,
        federated: false,
        dpop_jwk: None,
        lifetime: None,
        reuse: false,
        once: None,
    })
}

#[derive(Deserialize)]
pub(super) struct Rotate {
    /// The pin that the operator saw: a form that is sent again after a reload rotates nothing.
    #[serde(default)]
    thumbprint: String,
}

pub(super) async fn rotate(
    State(app): Shared,
    StrictPath(id): StrictPath,
    submitted: Submitted<Rotate>,
) -> Result<Response, PageError> {
    let id = agent_id(&id)?;
    let Submitted { session, fields } = submitted;
    let agent = agents::find(app.authority.store(), &id).await.map_err(Outage::from)?;
    let agent = agent.ok_or(LifecycleError::NotFound("agent not found"))?;
    if pin(&agent.into()) != fields.thumbprint {
        let text = "The certificate has changed since the page was shown; look at it and decide again.";
        return Ok(go(&session, &format!("/proxy/agents/{id}"), "error", text));
    }
    match app.authority.rotate_certificate(&id, &Rotation::default(), &session.operator).await {
        Ok(rotated) => {
            let thumbprint = rotated.thumbprint.to_string();
            let page =
                CredentialsPage::new(&app, &session, "Certificate rotated", id.to_string(), thumbprint)
                    .await?;
            render(&page.with_pair(&rotated.certificates, rotated.key.as_ref()))
        }
        Err(error) => back(&session, &id, Err(error)),
    }
}
