//! `/proxy/pki/rotate-ca`: another Org CA, looked at before it counts.

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use mastio_authority::{
    dashboard,
    rotation::{
        Plan, Preflight,
        overlap::{self, OverlapError},
    },
};
use mastio_core::counted;
use serde::Deserialize;

use super::{HERE, refused, rotation::Open};
use crate::{
    dashboard::{
        page::{Frame, PageError, Said, go, render},
        session::{Session, Submitted},
        text,
    },
    routes::{App, Shared, pki},
};

const ROTATE: &str = "/proxy/pki/rotate-ca";

/// The one plan that our form lets somebody ask for and that there is not.
const BOTH_TICKED: &str = "Tick one box only: with overlap the old key is believed for a while longer, and after a \
    compromise it must not be.";
/// The one way in which our form can leave open what the new root is.
const NOTHING_SENT: &str = "Choose two files, the certificate of the new Org CA and its private key, or paste both; \
    each in PEM.";

#[derive(Template)]
#[template(path = "rotate-ca.html")]
struct AskPage {
    frame: Frame,
    /// While there is one, nothing is asked.
    rotation: Option<Open>,
    fingerprint: String,
    until: String,
}

pub(super) async fn ask(
    State(app): Shared,
    Session(session): Session,
    RawQuery(query): RawQuery,
) -> Result<Response, PageError> {
    let (trust, now) = (app.authority.trust(), app.authority.clock().now());
    render(&AskPage {
        frame: Frame::new(&app, &session, "pki", Said::read(query.as_deref(), &session)).await?,
        rotation: Open::of(&app, &trust, now).await?,
        fingerprint: text::grouped(&trust.root.thumbprint().to_string()),
        until: text::moment(trust.root.not_after()),
    })
}

#[derive(Template)]
#[template(path = "rotate-ca-confirm.html")]
struct ConfirmPage {
    frame: Frame,
    origin: &'static str,
    fingerprint: String,
    subject: String,
    until: String,
    previous: String,
    /// Why clients that know only the old root do not believe this server any more, if so.
    break_of_trust: Option<String>,
    overlap: bool,
    compromise: bool,
    consequences: Vec<String>,
    candidate: String,
}

/// Either of the two forms: what should be the new root, or that the one that was shown should be it.
#[derive(Deserialize)]
pub(super) struct Form {
    #[serde(flatten)]
    asked: pki::Asked,
    #[serde(default)]
    ca_cert: String,
    #[serde(default)]
    ca_key: String,
}

pub(super) async fn rotate(
    State(app): Shared,
    Submitted { session, fields }: Submitted<Form>,
) -> Result<Response, PageError> {
    let Ok(words) = fields.asked.words() else { return Ok(go(&session, ROTATE, "error", BOTH_TICKED)) };
    let sent = [("ca_cert", fields.ca_cert), ("ca_key", fields.ca_key)].into_iter();
    let sent = sent.filter(|(_, text)| !text.trim().is_empty()).map(|(name, text)| (name.to_owned(), text));
    let Ok(source) = fields.asked.source(sent.collect()) else {
        return Ok(go(&session, ROTATE, "error", NOTHING_SENT));
    };
    let plan = match app.authority.plan(words, &source) {
        Ok(plan) => plan,
        Err(error) => return refused(&session, ROTATE, error),
    };
    if fields.asked.candidate.is_empty() {
        let shown = async || {
            if plan == Plan::Overlap {
                app.authority.may_overlap()?;
            }
            let candidate = app.authority.candidate(&source)?;
            if plan == Plan::Overlap {
                app.authority.outlives_grace(&candidate, overlap::GRACE_DAYS)?;
            }
            let preflight = app.authority.preflight(&candidate, plan).await?;
            let name = app.authority.prepare(candidate, plan, preflight.previous);
            Ok::<_, OverlapError>((preflight, name))
        };
        return match shown().await {
            Ok((preflight, candidate)) => confirm(&app, &session, preflight, candidate).await,
            Err(error) => refused(&session, ROTATE, error),
        };
    }
    let cut = match plan {
        Plan::Cut(cut) => cut,
        Plan::Overlap => {
            let begun = app.authority.begin_overlap(source, overlap::GRACE_DAYS, &session.operator).await;
            return match begun {
                Ok(_) => Ok(go(&session, HERE, "flash", "The rotation with overlap began.")),
                Err(error) => refused(&session, ROTATE, error),
            };
        }
    };
    match app.authority.rotate_root(source, cut, &session.operator).await {
        Ok(rotated) => {
            let text = format!(
                "The Org CA was rotated to {}{}. {}.",
                text::grouped(&rotated.fingerprint.to_string()),
                if rotated.in_force { "" } else { ", but it is not in force yet: /readyz says why" },
                counted(
                    rotated.agents.total(),
                    "agent needs a new certificate",
                    "agents need new certificates"
                )
            );
            Ok(go(&session, HERE, "flash", &text))
        }
        Err(error) => refused(&session, ROTATE, error),
    }
}

async fn confirm(
    app: &App,
    session: &dashboard::Session,
    preflight: Preflight,
    candidate: String,
) -> Result<Response, PageError> {
    render(&ConfirmPage {
        frame: Frame::new(app, session, "pki", Said::default()).await?,
        origin: pki::origin(preflight.mode),
        fingerprint: text::grouped(&preflight.fingerprint.to_string()),
        subject: preflight.subject,
        until: text::moment(preflight.not_after),
        previous: text::grouped(&preflight.previous.to_string()),
        break_of_trust: preflight.continuity.err().map(|why| why.to_string()),
        overlap: preflight.plan == Plan::Overlap,
        compromise: preflight.plan.compromise(),
        consequences: preflight.consequences,
        candidate,
    })
}
