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
    answer::{ApiError, Invalid, StrictQuery, flag, read_body},
    multipart,
};

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
        let part = |(name, text): &&(String, String)| {
            ["ca_cert", "ca_key"].contains(&name.as_str()) && !text.trim().is_empty()
        };
        match sent.iter().find(part) {
            Some((name, _)) => {
                let msg = "goes with mode=upload, without candidate";
                Err(ApiError::unprocessable(vec![Invalid::member(name, "value_error", msg)]))
            }
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

/// The members of [`Asked`] are repeated here: serde refuses no unknown parameter beside a flattened struct, and a
/// mistyped `dry_run` must not rotate.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Query {
    #[serde(deserialize_with = "flag")]
    dry_run: bool,
    /// How many days the old root is believed after the new one became the active one, with `transition=overlap`.
    grace_days: String,
    mode: String,
    transition: String,
    reason: String,
    candidate: String,
}

pub(crate) async fn rotate_ca(
    State(app): Shared,
    Admin(operator): Admin,
    StrictQuery(query): StrictQuery<Query>,
    headers: HeaderMap,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let Query { dry_run, grace_days: days, mode, transition, reason, candidate } = query;
    let asked = Asked { mode, transition, reason, candidate };
    let words = asked.words()?;
    let sent = match multipart::is_sent(&headers) {
        true => multipart::fields(&headers, read_body(request.into_body()).await?).await?,
        false => vec![],
    };
    let source = asked.source(sent)?;
    let plan = app.authority.plan(words, &source)?;
    let grace_days = grace_days(plan, &days)?;
    if dry_run {
        let candidate = app.authority.candidate(&source)?;
        if plan == Plan::Overlap {
            app.authority.may_overlap()?;
            app.authority.outlives_grace(&candidate, grace_days)?;
        }
        let preflight = app.authority.preflight(&candidate, plan).await?;
        return Ok(Json(what_would_be(
            &preflight,
            &app.authority.prepare(candidate, plan, preflight.previous),
        )));
    }
    match plan {
        Plan::Cut(cut) => Ok(Json(what_is(&app.authority.rotate_root(source, cut, &operator).await?))),
        Plan::Overlap => {
            let begun = app.authority.begin_overlap(source, grace_days, &operator).await?;
            Ok(Json(what_began(&app.authority.rotation(&begun.id).await?)))
        }
    }
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
        if let Some(name) = ["ca_cert", "ca_key"].into_iter().find(|known| *known == name)
            && parts.insert(name, text).is_some()
        {
            let msg = "was sent twice: send one part of this name";
            return Err(ApiError::unprocessable(vec![Invalid::member(name, "value_error", msg)]));
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
