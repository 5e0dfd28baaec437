//! The buttons of an open rotation. Whatever leaves agents behind or undoes what they did is shown before it is done.

use askama::Template;
use axum::{extract::State, response::Response};
use mastio_authority::{
    Refusal, dashboard,
    rotation::overlap::{OverlapError, RotationStatus},
};
use mastio_core::plural;
use mastio_store::rotations::Phase;
use serde::Deserialize;

use super::{HERE, rotation::Followed};
use crate::{
    answer::{ApiError, StrictPath},
    dashboard::{
        login::Nothing,
        page::{Frame, PageError, Said, confirmed, go, render},
        session::Submitted,
        text,
    },
    routes::{App, Shared},
};

/// How many of those that would be left behind are named before it is done; a page of its own names all.
const NAMED: u32 = 100;
/// What is said when a step was confirmed and more agents are left than the operator has seen.
const MORE_LEFT: &str = "More agents are left than you were shown. Look again before you go on without them.";

/// The step out of a phase.
#[derive(Deserialize)]
pub(super) struct Advance {
    #[serde(default)]
    from: String,
    force: Option<String>,
    /// How many agents the operator was shown that would be left behind.
    #[serde(default)]
    behind: u64,
    /// That they may be. Left out by whoever has not been asked.
    confirm_text: Option<String>,
}

pub(super) async fn advance(
    State(app): Shared,
    StrictPath(id): StrictPath,
    Submitted { session, fields }: Submitted<Advance>,
) -> Result<Response, PageError> {
    let from = Phase::parse(&fields.from)
        .map_err(|_| ApiError::bad_request("from must be the phase that the rotation is in"))?;
    let force = fields.force.is_some();
    if force {
        let status = match app.authority.rotation(&id).await {
            Ok(status) if status.rotation.phase == from => status,
            Ok(_) => return back(&session, Err(OverlapError::Moved)),
            Err(error) => return back(&session, Err(error)),
        };
        let question = Question::new(&app, &session, &status).await?;
        match fields.confirm_text {
            None => return question.ask(None),
            Some(typed) => confirmed(&typed, "FORCE")?,
        }
        if question.followed.behind() > fields.behind {
            return question.ask(Some(MORE_LEFT));
        }
    }
    let advanced = app.authority.advance_rotation(&id, Some(from), force, &session.operator).await;
    back(&session, advanced.map(|rotation| format!("The rotation went on: {}.", rotation.phase.as_str())))
}

pub(super) async fn pause(
    State(app): Shared,
    StrictPath(id): StrictPath,
    Submitted { session, .. }: Submitted<Nothing>,
) -> Result<Response, PageError> {
    let paused = app.authority.pause_rotation(&id, true, &session.operator).await;
    let text = "Paused. The rotation goes on when you say so; agents that have begun to move go on.";
    back(&session, paused.map(|_| text.to_owned()))
}

pub(super) async fn resume(
    State(app): Shared,
    StrictPath(id): StrictPath,
    Submitted { session, .. }: Submitted<Nothing>,
) -> Result<Response, PageError> {
    let resumed = app.authority.pause_rotation(&id, false, &session.operator).await;
    back(&session, resumed.map(|_| "Resumed. The rotation goes on by itself.".to_owned()))
}

/// Asking, or that the operator was asked.
#[derive(Deserialize)]
pub(super) struct Abort {
    confirm_text: Option<String>,
}

pub(super) async fn abort(
    State(app): Shared,
    StrictPath(id): StrictPath,
    Submitted { session, fields }: Submitted<Abort>,
) -> Result<Response, PageError> {
    let Some(typed) = fields.confirm_text else {
        return match app.authority.rotation(&id).await {
            Ok(status) => ask_to_abort(&app, &session, &status).await,
            Err(error) => back(&session, Err(error)),
        };
    };
    confirmed(&typed, "ABORT")?;
    let aborted = app.authority.abort_rotation(&id, &session.operator).await;
    back(&session, aborted.map(|_| "Aborted. What was before the rotation is again.".to_owned()))
}

/// Whether to go on without those who are left.
#[derive(Template)]
#[template(path = "rotation-force.html")]
struct Question {
    frame: Frame,
    id: String,
    phase: &'static str,
    followed: Followed,
    meaning: &'static str,
}

impl Question {
    async fn new(
        app: &App,
        session: &dashboard::Session,
        status: &RotationStatus,
    ) -> Result<Self, PageError> {
        let followed = Followed::of(app, status, NAMED, app.authority.clock().now()).await?;
        Ok(Self {
            frame: Frame::new(app, session, "pki", Said::default()).await?,
            id: status.rotation.id.clone(),
            phase: status.rotation.phase.as_str(),
            followed: followed.ok_or(OverlapError::Over(status.rotation.phase))?,
            meaning: match status.rotation.phase {
                Phase::Staged | Phase::Distribute => {
                    "Who has only the old trust file does not believe this server any more once it shows the new \
                     root, unless the old root vouches for the new one by a link certificate."
                }
                Phase::Reissue => {
                    "Nobody is refused yet: the old certificates work until the last step. But who never fetched the \
                     new trust file may not believe this server, which shows the new root from now on."
                }
                _ => {
                    "This is the last step, and it cannot be taken back. Certificates and tokens of the agents that are \
                     left behind end at once, until each has another certificate (rotate-cert, or another enrolment)."
                }
            },
        })
    }

    fn ask(mut self, error: Option<&str>) -> Result<Response, PageError> {
        self.frame.error = error.map(str::to_owned);
        render(&self)
    }
}

/// Whether to give it up.
#[derive(Template)]
#[template(path = "rotation-abort.html")]
struct AbortPage {
    frame: Frame,
    id: String,
    phase: &'static str,
    summary: String,
    meaning: &'static str,
}

async fn ask_to_abort(
    app: &App,
    session: &dashboard::Session,
    status: &RotationStatus,
) -> Result<Response, PageError> {
    let phase = status.rotation.phase;
    if phase.is_end() {
        return back(session, Err(OverlapError::Over(phase)));
    }
    render(&AbortPage {
        frame: Frame::new(app, session, "pki", Said::default()).await?,
        id: status.rotation.id.clone(),
        phase: phase.as_str(),
        summary: status.summary(),
        meaning: match phase {
            Phase::Activated => {
                "The old root is the active one again, and certifies. Agents that have moved are believed on and move \
                 back as they came; nobody is refused."
            }
            Phase::Reissue => {
                "Certificates come from the old root again. Agents that have moved are believed on and move back as \
                 they came; nobody is refused."
            }
            _ => {
                "The new root is dropped. Agents have nothing to do: this Mastio gave none of them a certificate of it \
                 yet. BYOCA agents that show one already are believed on."
            }
        },
    })
}

/// Back to the page of the CAs, where what was done is said or what was wrong. What is broken gets a page of its own.
fn back(session: &dashboard::Session, done: Result<String, OverlapError>) -> Result<Response, PageError> {
    match done {
        Ok(text) => Ok(go(session, HERE, "flash", &text)),
        Err(error) if error.status() < 500 => Ok(go(session, HERE, "error", &in_words(&error))),
        Err(error) => Err(error.into()),
    }
}

/// What was wrong, for who has buttons: the API's own words name its paths and parameters.
fn in_words(error: &OverlapError) -> String {
    match error {
        OverlapError::Waiting { left, agents, fetched } => {
            let (one, many) = match fetched {
                true => {
                    ("agent has not fetched the new trust file", "agents have not fetched the new trust file")
                }
                false => (
                    "agent has not shown a certificate of the new root",
                    "agents have not shown certificates of the new root",
                ),
            };
            format!("{left} of {agents} {}; wait for them, or go on without them", plural(*agents, one, many))
        }
        OverlapError::Grace(until) => {
            format!("the old root is believed until {}; wait, or end that now", text::moment(*until))
        }
        OverlapError::NotFound => "there is no such rotation".to_owned(),
        other => other.to_string(),
    }
}
