//! `/proxy/pki`: the CAs of the organisation; and `/proxy/pki/rotate-ca`: another Org CA, looked at before it counts.

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    response::{IntoResponse, Response},
};
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use mastio_authority::{
    Refusal, dashboard,
    rotation::{
        Preflight,
        overlap::{self, OverlapError},
    },
    trust::{Ca, Trust},
};
use mastio_core::Stamp;
use mastio_store::{cas::CaState, keys::CaKind, rotations::Transition};
use serde::Deserialize;

use super::{
    login::Nothing,
    page::{Frame, PageError, Said, go, render},
    session::{Session, Submitted},
    text,
};
use crate::routes::{App, Shared, pki};

const HERE: &str = "/proxy/pki";
const ROTATE: &str = "/proxy/pki/rotate-ca";

/// The one plan that our form lets somebody ask for and that there is not.
const BOTH_TICKED: &str = "Tick one box only: with overlap the old key is believed for a while longer, and after a \
    compromise it must not be.";
/// The one way in which our form can leave open what the new root is.
const NOTHING_SENT: &str = "Choose two files, the certificate of the new Org CA and its private key, or paste both; \
    each in PEM.";

#[derive(Template)]
#[template(path = "pki.html")]
struct PkiPage {
    frame: Frame,
    cas: Vec<Row>,
    rotation: Option<UnderWay>,
    halt: Option<String>,
}

/// A CA in words.
struct Row {
    kind: &'static str,
    state: &'static str,
    /// It signs what is made from now on.
    is_current: bool,
    /// What it certified does not log in any more.
    cut: bool,
    compromised: bool,
    has_link: bool,
    fingerprint: String,
    subject: String,
    until: String,
    since: String,
}

/// A rotation that is not over.
struct UnderWay {
    id: String,
    phase: &'static str,
    /// How far the agents are, if it is one that they follow.
    progress: Option<String>,
    since: String,
    by: String,
}

impl UnderWay {
    async fn of(app: &App, trust: &Trust, now: Stamp) -> Result<Option<Self>, PageError> {
        let Some(rotation) = &trust.rotation else { return Ok(None) };
        let progress = match trust.followed() {
            Some(followed) => Some(app.authority.rotation(&followed.id).await?.summary()),
            None => None,
        };
        Ok(Some(Self {
            id: rotation.id.clone(),
            phase: rotation.phase.as_str(),
            progress,
            since: text::distance(rotation.started_at, now),
            by: rotation.started_by.clone(),
        }))
    }
}

impl Row {
    fn new(ca: &Ca, now: Stamp) -> Self {
        Self {
            kind: match ca.kind {
                CaKind::Root => "Org CA",
                CaKind::Intermediate => "Intermediate",
            },
            state: ca.state.as_str(),
            is_current: ca.state == CaState::Active,
            cut: ca.cut && ca.state == CaState::Superseded,
            compromised: ca.compromised,
            has_link: ca.link.is_some(),
            fingerprint: text::grouped(&ca.certificate.thumbprint().to_string()),
            subject: ca.certificate.subject().to_owned(),
            until: text::moment(ca.certificate.not_after()),
            since: text::distance(ca.superseded_at.or(ca.activated_at).unwrap_or(ca.created_at), now),
        }
    }
}

pub(super) async fn show(
    State(app): Shared,
    Session(session): Session,
    RawQuery(query): RawQuery,
) -> Result<Response, PageError> {
    let (trust, now) = (app.authority.trust(), app.authority.clock().now());
    let mut cas: Vec<&Ca> = trust.cas.iter().collect();
    cas.sort_by_key(|ca| (ca.state != CaState::Active, ca.kind == CaKind::Intermediate));
    render(&PkiPage {
        frame: Frame::new(&app, &session, "pki", Said::read(query.as_deref(), &session)).await?,
        cas: cas.into_iter().map(|ca| Row::new(ca, now)).collect(),
        rotation: UnderWay::of(&app, &trust, now).await?,
        halt: trust.halt.as_ref().map(ToString::to_string),
    })
}

/// The trust file as a download.
pub(super) async fn export(
    State(app): Shared,
    Submitted { session, .. }: Submitted<Nothing>,
) -> Result<Response, PageError> {
    app.authority.tell_export(&session.operator).await?;
    let headers = [
        (CONTENT_TYPE, "application/x-pem-file"),
        (CONTENT_DISPOSITION, "attachment; filename=\"org-ca.pem\""),
    ];
    Ok((headers, app.authority.trust().trust_file.clone()).into_response())
}

#[derive(Template)]
#[template(path = "rotate-ca.html")]
struct AskPage {
    frame: Frame,
    /// While there is one, nothing is asked.
    rotation: Option<UnderWay>,
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
        rotation: UnderWay::of(&app, &trust, now).await?,
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
    let sent = vec![("ca_cert".to_owned(), fields.ca_cert), ("ca_key".to_owned(), fields.ca_key)];
    let Ok(source) = fields.asked.source(sent) else {
        return Ok(go(&session, ROTATE, "error", NOTHING_SENT));
    };
    let plan = match app.authority.plan(words, &source) {
        Ok(plan) => plan,
        Err(error) => return refused(&session, error),
    };
    if fields.asked.candidate.is_empty() {
        let shown = async || {
            if plan.transition == Transition::Overlap {
                app.authority.may_overlap()?;
            }
            let candidate = app.authority.candidate(&source)?;
            let preflight = app.authority.preflight(&candidate, &plan).await?;
            Ok::<_, OverlapError>((preflight, app.authority.prepare(candidate, plan)))
        };
        return match shown().await {
            Ok((preflight, candidate)) => confirm(&app, &session, preflight, candidate).await,
            Err(error) => refused(&session, error),
        };
    }
    if plan.transition == Transition::Overlap {
        let begun = app.authority.begin_overlap(source, overlap::GRACE_DAYS, &session.operator).await;
        return match begun {
            Ok(_) => Ok(go(&session, HERE, "flash", "The rotation with overlap began.")),
            Err(error) => refused(&session, error),
        };
    }
    match app.authority.rotate_root(source, plan, &session.operator).await {
        Ok(rotated) => {
            let text = format!(
                "The Org CA was rotated to {}. {} agents need new certificates.",
                text::grouped(&rotated.fingerprint.to_string()),
                rotated.agents.total()
            );
            Ok(go(&session, HERE, "flash", &text))
        }
        Err(error) => refused(&session, error),
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
        overlap: preflight.transition == Transition::Overlap,
        compromise: preflight.compromise,
        consequences: preflight.consequences,
        candidate,
    })
}

fn refused<R: Refusal>(session: &dashboard::Session, error: R) -> Result<Response, PageError>
where
    PageError: From<R>,
{
    match error.status() {
        500.. => Err(error.into()),
        _ => Ok(go(session, ROTATE, "error", &error.to_string())),
    }
}
