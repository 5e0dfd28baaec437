//! `/proxy/pki/rotate-intermediate`: another intermediate, with what that means before it is done (contract `pki.md` §6).

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use mastio_authority::{
    dashboard,
    intermediate::{IntermediateError, Question, RotatedIntermediate},
    signing_key::GraceDays,
};
use mastio_core::Thumbprint;
use mastio_store::rotations::Phase;
use serde::Deserialize;

use super::{HERE, refused};
use crate::{
    answer::ApiError,
    dashboard::{
        page::{Frame, PageError, Said, confirmed, go, render},
        session::{Session, Submitted},
        text,
    },
    routes::{App, Shared, keys::GRACE_BOUNDS},
};

const ROTATE: &str = "/proxy/pki/rotate-intermediate";

#[derive(Template)]
#[template(path = "rotate-intermediate.html")]
struct AskPage {
    frame: Frame,
    /// What comes first, if anything does: then nothing is asked.
    refusal: Option<String>,
    /// The phase of a rotation of the Org CA with overlap, beside which this one is possible.
    overlap: Option<Phase>,
    present: Option<Present>,
    grace_days: u32,
    is_automatic: bool,
}

/// The intermediate that is in place.
struct Present {
    subject: String,
    fingerprint: String,
    until: String,
}

pub(super) async fn ask(
    State(app): Shared,
    Session(session): Session,
    RawQuery(query): RawQuery,
) -> Result<Response, PageError> {
    let trust = app.authority.trust();
    let present = trust.server_issuer.as_ref().map(|issuer| issuer.certificate());
    render(&AskPage {
        frame: Frame::new(&app, &session, "pki", Said::read(query.as_deref(), &session)).await?,
        refusal: app.authority.may_rotate_intermediate().err().map(|error| error.to_string()),
        overlap: trust.followed().map(|rotation| rotation.phase),
        present: present.map(|certificate| Present {
            subject: certificate.subject().to_owned(),
            fingerprint: text::grouped(&certificate.thumbprint().to_string()),
            until: text::moment(certificate.not_after()),
        }),
        grace_days: GraceDays::FORTNIGHT.get(),
        is_automatic: app.authority.settings.key_rotation.automatic,
    })
}

/// Either of the two forms: how to rotate, or that what was shown is meant.
#[derive(Deserialize)]
pub(super) struct Form {
    #[serde(default)]
    grace_days: String,
    /// SHA-256 of the intermediate that the operator was shown.
    #[serde(default)]
    instead_of: String,
    /// Left out by whoever has not been asked.
    confirm_text: Option<String>,
}

impl Form {
    fn question(&self) -> Result<Question, ApiError> {
        let grace = self.grace_days.trim().parse().ok().and_then(GraceDays::new);
        let grace = grace.ok_or_else(|| ApiError::bad_request(GRACE_BOUNDS))?;
        let Some(typed) = &self.confirm_text else {
            return Ok(Question { dry_run: true, grace, instead_of: None });
        };
        confirmed(typed, "ROTATE")?;
        let meant = Thumbprint::parse(&self.instead_of);
        let meant =
            meant.map_err(|_| ApiError::bad_request("instead_of must be the SHA-256 that was shown"))?;
        Ok(Question { dry_run: false, grace, instead_of: Some(meant) })
    }
}

pub(super) async fn rotate(
    State(app): Shared,
    Submitted { session, fields }: Submitted<Form>,
) -> Result<Response, PageError> {
    let question = fields.question()?;
    match app.authority.rotate_intermediate(question, &session.operator).await {
        Ok(shown) if question.dry_run => confirm(&app, &session, shown, question.grace).await,
        Ok(done) => Ok(go(&session, HERE, "flash", &told(&done))),
        Err(error @ IntermediateError::Failed(_)) => Ok(go(&session, ROTATE, "error", &error.to_string())),
        Err(error) => refused(&session, ROTATE, error),
    }
}

fn told(done: &RotatedIntermediate) -> String {
    let signs = done.new_kid.as_ref().map_or_else(String::new, |kid| format!(" {kid} signs tokens."));
    format!(
        "{} certifies from now on, until {}.{signs} What {} certified works until it ends.",
        done.new_cn,
        text::moment(done.not_after),
        done.old_cn
    )
}

#[derive(Template)]
#[template(path = "rotate-intermediate-confirm.html")]
struct ConfirmPage {
    frame: Frame,
    until: String,
    previous: String,
    previous_name: String,
    instead_of: String,
    grace_days: u32,
    /// The phase of a rotation of the Org CA with overlap.
    overlap: Option<Phase>,
}

async fn confirm(
    app: &App,
    session: &dashboard::Session,
    shown: RotatedIntermediate,
    grace: GraceDays,
) -> Result<Response, PageError> {
    render(&ConfirmPage {
        frame: Frame::new(app, session, "pki", Said::default()).await?,
        until: text::moment(shown.not_after),
        previous: text::grouped(&shown.previous.to_string()),
        previous_name: shown.old_cn,
        instead_of: shown.previous.to_string(),
        grace_days: grace.get(),
        overlap: app.authority.trust().followed().map(|rotation| rotation.phase),
    })
}
