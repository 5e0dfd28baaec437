//! `POST /pki/rotate-ca`: another Org CA (contract `pki.md` §5, seed 003 §2).

use std::collections::HashMap;

use axum::{
    Json,
    extract::{Request, State},
};
use http::HeaderMap;
use mastio_authority::rotation::{
    Cut, NoContinuity, Plan, Preflight, Rotated, Source, Upload, Words,
    overlap::{self, RotationStatus},
};
use mastio_store::rotations::{Mode, Transition};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Shared, caller::Admin, rotations};
use crate::{
    answer::{ApiError, Invalid, MISPLACED, StrictQuery, flag, read_body, says_nothing},
    multipart,
};

/// The parts of a form that brings a root.
const PARTS: [&str; 2] = ["ca_cert", "ca_key"];

/// How to rotate, in the words of a query or of a form.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Asked {
    /// `mint` or `upload`.
    mode: String,
    /// `cut`, as it is when left out, or `overlap`.
    transition: String,
    /// `compromise`, or left out.
    reason: String,
    /// The name of a root that a dry run prepared.
    pub(crate) candidate: String,
}

impl Asked {
    pub(crate) fn words(&self) -> Result<Words, ApiError> {
        let mode = word(&self.mode, Mode::parse);
        let mode = mode.map_err(|_| unknown("mode", "must be mint or upload"))?;
        let transition = word(&self.transition, Transition::parse);
        let transition = transition.map_err(|_| unknown("transition", "must be cut or overlap"))?;
        let compromise = match self.reason.as_str() {
            "" => false,
            "compromise" => true,
            _ => return Err(unknown("reason", "must be compromise, or left out")),
        };
        let plan = match transition {
            Some(Transition::Overlap) if compromise => {
                return Err(unknown(
                    "transition",
                    "must be cut: a key that others may know must not be believed any longer",
                ));
            }
            Some(Transition::Overlap) => Some(Plan::Overlap),
            None if !compromise => None,
            Some(Transition::Cut) | None => Some(Plan::Cut(Cut { compromise })),
        };
        Ok(Words { mode, plan })
    }

    /// Where the new root comes from. What was `sent` must be wanted: nobody brings a root to have another one.
    pub(crate) fn source(&self, sent: Vec<(String, String)>) -> Result<Source, ApiError> {
        let source = match (self.candidate.as_str(), self.mode.as_str()) {
            ("", "mint") => Source::Mint,
            ("", "upload") => return uploaded(sent).map(Source::Upload),
            ("", _) => return Err(unknown("mode", "must be mint or upload")),
            (name, _) => Source::Prepared(name.to_owned()),
        };
        match sent.first() {
            Some((name, _)) if PARTS.contains(&name.as_str()) => {
                Err(wrong_part(name, "goes with mode=upload, without candidate"))
            }
            Some((name, _)) => Err(wrong_part(name, MISPLACED)),
            None => Ok(source),
        }
    }
}

/// What a parameter says; nothing if it is left out.
fn word<T>(text: &str, parse: fn(&str) -> Result<T, &'static str>) -> Result<Option<T>, &'static str> {
    (!text.is_empty()).then(|| parse(text)).transpose()
}

fn unknown(name: &str, msg: &str) -> ApiError {
    ApiError::unprocessable(vec![Invalid::query(name, msg)])
}

fn wrong_part(name: &str, msg: &str) -> ApiError {
    ApiError::unprocessable(vec![Invalid::member(name, "value_error", msg)])
}

/// A parameter, empty if it is left out. One that is sent empty comes from a variable that was not set: whoever sent it
/// meant something else than to leave it out.
fn said(name: &str, parameter: Option<String>) -> Result<String, ApiError> {
    match parameter {
        Some(text) if text.is_empty() => {
            Err(unknown(name, "is empty: say what it should be, or leave it out"))
        }
        said => Ok(said.unwrap_or_default()),
    }
}

/// The members of [`Asked`] are repeated here: serde refuses no unknown parameter beside a flattened struct, and a
/// mistyped `dry_run` must not rotate.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Query {
    #[serde(deserialize_with = "flag")]
    dry_run: bool,
    /// How many days the old root is believed after the new one became the active one, with `transition=overlap`.
    grace_days: Option<String>,
    mode: Option<String>,
    transition: Option<String>,
    reason: Option<String>,
    candidate: Option<String>,
}

impl Query {
    fn asked(&mut self) -> Result<Asked, ApiError> {
        Ok(Asked {
            mode: said("mode", self.mode.take())?,
            transition: said("transition", self.transition.take())?,
            reason: said("reason", self.reason.take())?,
            candidate: said("candidate", self.candidate.take())?,
        })
    }
}

pub(crate) async fn rotate_ca(
    State(app): Shared,
    Admin(operator): Admin,
    StrictQuery(mut query): StrictQuery<Query>,
    headers: HeaderMap,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let asked = query.asked()?;
    let words = asked.words()?;
    let source = source(&asked, &headers, request).await?;
    let plan = app.authority.plan(words, &source)?;
    let grace_days = grace_days(plan, &said("grace_days", query.grace_days)?)?;
    if query.dry_run {
        let candidate = app.authority.candidate(&source)?;
        if plan == Plan::Overlap {
            app.authority.may_overlap()?;
            app.authority.outlives_grace(&candidate, grace_days)?;
        }
        let preflight = app.authority.preflight(&candidate, plan).await?;
        let name = match source {
            Source::Prepared(name) => name,
            Source::Mint | Source::Upload(_) => app.authority.prepare(candidate, plan, preflight.previous),
        };
        return Ok(Json(what_would_be(&preflight, &name)));
    }
    match plan {
        Plan::Cut(cut) => Ok(Json(what_is(&app.authority.rotate_root(source, cut, &operator).await?))),
        Plan::Overlap => {
            let begun = app.authority.begin_overlap(source, grace_days, &operator).await?;
            Ok(Json(what_began(&app.authority.rotation(&begun.id).await?)))
        }
    }
}

/// What is asked for, with the form that brings it if there is one. A body that says something else is refused.
async fn source(asked: &Asked, headers: &HeaderMap, request: Request) -> Result<Source, ApiError> {
    let body = read_body(request.into_body()).await?;
    if multipart::is_sent(headers) {
        return asked.source(multipart::fields(headers, body).await?);
    }
    let source = asked.source(vec![])?;
    says_nothing(&body).map(|()| source)
}

/// Only an overlap has a grace.
fn grace_days(plan: Plan, text: &str) -> Result<u32, ApiError> {
    match (plan, text) {
        (_, "") => Ok(overlap::GRACE_DAYS),
        (Plan::Cut(_), _) => Err(unknown("grace_days", "goes with transition=overlap only")),
        (Plan::Overlap, text) => text
            .parse()
            .ok()
            .filter(|days| *days <= overlap::MOST_GRACE_DAYS)
            .ok_or_else(|| unknown("grace_days", "must be a number of days, at most 365")),
    }
}

/// The parts `ca_cert` and `ca_key`.
fn uploaded(fields: Vec<(String, String)>) -> Result<Upload, ApiError> {
    let mut parts = HashMap::new();
    for (name, text) in fields {
        if !PARTS.contains(&name.as_str()) {
            return Err(wrong_part(&name, MISPLACED));
        }
        if parts.insert(name.clone(), text).is_some() {
            return Err(wrong_part(&name, "was sent twice: send one part of this name"));
        }
    }
    let mut part = |name: &str| {
        let missing = || {
            let text = "Field required: a part of a multipart/form-data body, in PEM";
            ApiError::unprocessable(vec![Invalid::member(name, "missing", text)])
        };
        parts.remove(name).filter(|text: &String| !text.trim().is_empty()).ok_or_else(missing)
    };
    Ok(Upload { certificates: part("ca_cert")?, key: part("ca_key")?.into() })
}

fn what_would_be(preflight: &Preflight, candidate: &str) -> Value {
    let agents = preflight.agents;
    json!({
        "status": "dry_run",
        "mode": preflight.mode,
        "transition": preflight.plan.transition(),
        "compromise": preflight.plan.compromise(),
        "fingerprint_sha256": preflight.fingerprint,
        "subject": preflight.subject,
        "not_after": preflight.not_after,
        "previous_fingerprint_sha256": preflight.previous,
        "tls_continuity": preflight.continuity.is_ok(),
        "no_tls_continuity_because": because(&preflight.continuity),
        "agents_affected": agents.total(),
        "agents": agents,
        "consequences": preflight.consequences,
        "candidate": candidate,
    })
}

fn what_is(rotated: &Rotated) -> Value {
    json!({
        "status": "rotated",
        "rotation_id": rotated.id,
        "mode": rotated.mode,
        "transition": rotated.transition,
        "fingerprint_sha256": rotated.fingerprint,
        "subject": rotated.subject,
        "not_after": rotated.not_after,
        "previous_fingerprint_sha256": rotated.previous,
        "superseded": rotated.superseded,
        "agents_invalidated": rotated.agents.total(),
        "agents": rotated.agents,
        "tls_continuity": rotated.continuity.is_ok(),
        "no_tls_continuity_because": because(&rotated.continuity),
        "ended_rotation_id": rotated.ended,
        "in_force": rotated.in_force,
        "rotated_at": rotated.at,
    })
}

/// Why clients that know only the old root do not believe this server, if so.
fn because(continuity: &Result<(), NoContinuity>) -> Option<String> {
    continuity.as_ref().err().map(ToString::to_string)
}

/// The shape of a rotation, with what all answers of this route have.
fn what_began(status: &RotationStatus) -> Value {
    let mut body = rotations::shape(status);
    body["status"] = "begun".into();
    body["rotation_id"] = body["id"].clone();
    body["fingerprint_sha256"] = body["new_root"].clone();
    body["previous_fingerprint_sha256"] = body["old_root"].clone();
    body
}

/// The mode in words.
pub(crate) fn origin(mode: Mode) -> &'static str {
    match mode {
        Mode::Mint => "made by this Mastio",
        Mode::Upload => "brought by you",
    }
}
