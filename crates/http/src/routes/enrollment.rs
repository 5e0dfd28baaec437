//! Enrolment by device code: the device's side, and the operator's (contract `enrollment.md` §3).

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{FromRequestParts, State},
};
use http::{Method, StatusCode, header::HOST, request::Parts, uri};
use mastio_authority::{
    Authority, Refusal,
    admin::Operator,
    device::{Approval, DeviceError, Outcome, POLL_EVERY, POLL_SLOWLY, Start},
    limits::Class,
};
use mastio_core::{EnrollmentId, PrincipalKind};
use mastio_store::pending::{PendingRow, Requester};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    App, Shared,
    caller::{Admin, peer},
    refuse,
};
use crate::{
    answer::{ApiError, Invalid, StrictJson, StrictPath},
    dashboard::{
        self,
        session::{Mutation, NotLoggedIn, Session},
    },
    plain::not_plain,
};

/// Most capabilities, most groups, and the longest of them in bytes.
const MAX_WORDS: usize = 256;

/// Whoever may start an enrolment now: anybody, but not too often from one address.
pub(crate) struct Starter {
    /// The address of this Mastio, as the device's user may open it.
    base: String,
}

impl FromRequestParts<Arc<App>> for Starter {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let limits = &app.authority.limits;
        limits
            .by_address(Class::Enrollment, peer(parts).address)
            .map_err(|over| refuse::over_limit(&app.authority, over))?;
        Ok(Self { base: base(parts, app) })
    }
}

/// The public address if it is set, else the one that the client used.
fn base(parts: &Parts, app: &App) -> String {
    let settings = &app.authority.settings;
    if let Some(url) = &settings.public_url {
        return url.as_str().trim_end_matches('/').to_owned();
    }
    let host = parts.headers.get(HOST).and_then(|value| value.to_str().ok());
    let host = host.or_else(|| parts.uri.authority().map(uri::Authority::as_str));
    let host =
        host.and_then(|host| host.parse::<uri::Authority>().ok()).filter(|host| !host.as_str().contains('@'));
    host.map_or_else(|| format!("https://{}", settings.listen.tls), |host| format!("https://{host}"))
}

#[derive(Deserialize)]
pub(crate) struct StartBody {
    pubkey_pem: String,
    requester_name: String,
    requester_email: String,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    device_info: Option<String>,
    #[serde(default)]
    dpop_jwk: Option<Value>,
    #[serde(default)]
    pop_signature: Option<String>,
    #[serde(default)]
    principal_type: Option<String>,
    #[serde(default)]
    attestation_nonce_id: Option<String>,
    #[serde(default)]
    tpm_quote_b64: Option<String>,
    #[serde(default)]
    tpm_manufacturer: Option<String>,
}

impl StartBody {
    /// An attestation is taken for what it is without a check of its key: software only, which changes nothing.
    fn check(self) -> Result<Start, ApiError> {
        let kind = match self.principal_type.as_deref() {
            None | Some("agent") => Some(PrincipalKind::Agent),
            Some("workload") => Some(PrincipalKind::Workload),
            Some(_) => None,
        };
        let mut problems: Vec<_> = [
            ("pubkey_pem", Some(&self.pubkey_pem), 100, 8192),
            ("requester_name", Some(&self.requester_name), 1, 200),
            ("requester_email", Some(&self.requester_email), 3, 320),
            ("reason", self.reason.as_ref(), 0, 1000),
            ("device_info", self.device_info.as_ref(), 0, 500),
            ("pop_signature", self.pop_signature.as_ref(), 0, 2048),
            ("attestation_nonce_id", self.attestation_nonce_id.as_ref(), 0, 128),
            ("tpm_quote_b64", self.tpm_quote_b64.as_ref(), 0, 16_384),
            ("tpm_manufacturer", self.tpm_manufacturer.as_ref(), 0, 64),
        ]
        .into_iter()
        .filter_map(|(name, text, least, most)| length(name, text?, least, most))
        .collect();
        // What a person wrote into a field of several lines, or a program printed, may have them.
        let in_one_line = |text: &String| text.replace(['\n', '\r', '\t'], " ");
        let shown = [
            ("requester_name", Some(self.requester_name.clone())),
            ("requester_email", Some(self.requester_email.clone())),
            ("reason", self.reason.as_ref().map(in_one_line)),
            ("device_info", self.device_info.as_ref().map(in_one_line)),
        ];
        problems.extend(shown.into_iter().filter_map(|(name, text)| not_plain(name, &text?)));
        if !is_email(&self.requester_email) {
            problems.push(Invalid::member("requester_email", "value_error", "not an e-mail address"));
        }
        let Some(kind) = kind.filter(|_| problems.is_empty()) else {
            if kind.is_none() {
                let msg = "'agent' or 'workload'";
                problems.push(Invalid::member("principal_type", "value_error", msg));
            }
            return Err(ApiError::unprocessable(problems));
        };
        if self.tpm_quote_b64.is_some() != self.attestation_nonce_id.is_some() {
            return Err(DeviceError::HalfQuote.into());
        }
        let requester = Requester {
            name: self.requester_name,
            email: self.requester_email,
            reason: self.reason,
            device_info: self.device_info,
        };
        Ok(Start {
            public_key_pem: self.pubkey_pem,
            pop_signature: self.pop_signature,
            requester,
            dpop_jwk: self.dpop_jwk.filter(|jwk| !jwk.is_null()),
            kind,
        })
    }
}

/// The problem of a text that has not between `least` and `most` characters.
fn length(name: &str, text: &str, least: usize, most: usize) -> Option<Invalid> {
    let msg = format!("{least} to {most} characters allowed");
    (!(least..=most).contains(&text.chars().count())).then(|| Invalid::member(name, "value_error", msg))
}

/// `^[^@\s]+@[^@\s]+\.[^@\s]+$` (contract `enrollment.md` §3.1).
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let inner = |(at, byte): (usize, u8)| byte == b'.' && at > 0 && at + 1 < domain.len();
    !local.is_empty()
        && !domain.contains('@')
        && !text.contains(char::is_whitespace)
        && domain.bytes().enumerate().any(inner)
}

pub(crate) async fn start(
    State(app): Shared,
    starter: Starter,
    StrictJson(body): StrictJson<StartBody>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let started = app.authority.start_enrollment(&body.check()?).await?;
    let (base, id) = (starter.base, started.id);
    let body = json!({
        "session_id": id,
        "status": "pending",
        "poll_url": format!("{base}/v1/enrollment/{id}/status"),
        "enroll_url": format!("{base}/enroll?session={id}"),
        "poll_interval_s": POLL_EVERY.as_secs(),
        "expires_at": started.expires_at,
    });
    Ok((StatusCode::CREATED, Json(body)))
}

/// How long the answer may wait for a decision: `wait` in seconds. What is no such number is no wish to wait.
fn wait(query: Option<&str>) -> Duration {
    let pairs = query.and_then(|text| serde_urlencoded::from_str::<Vec<(String, String)>>(text).ok());
    let pairs = pairs.unwrap_or_default();
    let seconds =
        pairs.iter().find(|(name, _)| name == "wait").and_then(|(_, text)| text.parse::<u32>().ok());
    Duration::from_secs(seconds.unwrap_or_default().into())
}

/// Clients give up on any answer but 200: a session that is known gets nothing else, whatever is the matter.
pub(crate) async fn status(
    State(app): Shared,
    StrictPath(id): StrictPath,
    parts: Parts,
) -> Result<Json<Value>, ApiError> {
    let (authority, address) = (&app.authority, peer(&parts).address);
    let id = EnrollmentId::parse(&id).ok();
    let known = id.as_ref().filter(|id| authority.knows_enrollment(id));
    match known {
        Some(id) if authority.limits.by_enrollment(address, id).is_err() => {
            return Ok(Json(outcome(id, &Outcome::PENDING, POLL_SLOWLY)));
        }
        Some(_) => {}
        None => authority
            .limits
            .by_address(Class::EnrollmentStatus, address)
            .map_err(|over| refuse::over_limit(authority, over))?,
    }
    let is_known = known.is_some();
    let id = id.ok_or(DeviceError::NotFound)?;
    let proof = parts.headers.get("x-enrollment-proof").and_then(|value| value.to_str().ok());
    match authority.enrollment_status(&id, proof, wait(parts.uri.query())).await {
        Ok(found) => Ok(Json(outcome(&id, &found, POLL_EVERY))),
        Err(error) if is_known && error.unavailable().is_some() => {
            tracing::error!(%error, "an enrolment could not be looked up; its device is told to ask again");
            Ok(Json(outcome(&id, &Outcome::PENDING, POLL_SLOWLY)))
        }
        Err(error) => Err(error.into()),
    }
}

fn outcome(id: &EnrollmentId, outcome: &Outcome, poll_every: Duration) -> Value {
    json!({
        "session_id": id,
        "status": outcome.status,
        "agent_id": outcome.agent,
        "cert_pem": outcome.certificates,
        "capabilities": outcome.capabilities,
        "rejection_reason": outcome.rejection_reason,
        "poll_interval_s": poll_every.as_secs(),
    })
}

/// Whoever decides: an operator at the dashboard, with the CSRF token to change something, or one with the admin secret.
pub(crate) struct Decider(Operator);

impl FromRequestParts<Arc<App>> for Decider {
    type Rejection = NotLoggedIn;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, NotLoggedIn> {
        if parts.headers.contains_key("x-admin-secret") {
            let admin = Admin::from_request_parts(parts, app).await;
            return admin.map(|Admin(operator)| Self(operator)).map_err(NotLoggedIn::Refused);
        }
        let session = match parts.method {
            Method::GET => Session::from_request_parts(parts, app).await?.0,
            _ => Mutation::from_request_parts(parts, app).await?.0,
        };
        Ok(Self(session.operator))
    }
}

pub(crate) async fn waiting(State(app): Shared, _: Decider) -> Result<Json<Vec<Value>>, ApiError> {
    Ok(Json(app.authority.waiting_enrollments().await?.iter().map(summary).collect()))
}

fn summary(row: &PendingRow) -> Value {
    json!({
        "session_id": row.id,
        "requester_name": row.requester.name,
        "requester_email": row.requester.email,
        "reason": row.requester.reason,
        "device_info": row.requester.device_info,
        "pubkey_fingerprint": row.fingerprint,
        "code": dashboard::code(&row.fingerprint),
        "created_at": row.created_at,
        "expires_at": row.expires_at,
    })
}

#[derive(Deserialize)]
pub(crate) struct ApproveBody {
    agent_id: String,
    #[serde(default)]
    capabilities: Option<Vec<String>>,
    #[serde(default)]
    groups: Option<Vec<String>>,
    #[serde(default)]
    reuse: bool,
}

/// What is wrong with the words of `name`, if they are too many, or one is empty or too long.
pub(super) fn unfit(name: &str, words: &[String]) -> Option<Invalid> {
    let fits = |word: &String| (1..=MAX_WORDS).contains(&word.len());
    let msg = || format!("at most {MAX_WORDS} items of 1 to {MAX_WORDS} bytes allowed");
    let all_fit = words.len() <= MAX_WORDS && words.iter().all(fits);
    (!all_fit).then(|| Invalid::member(name, "value_error", msg()))
}

/// An approval whose words are few and short enough.
pub(crate) fn checked(approval: Approval) -> Result<Approval, ApiError> {
    let words = [("capabilities", &approval.capabilities), ("groups", &approval.groups)];
    let problems: Vec<_> = words.into_iter().filter_map(|(name, words)| unfit(name, words)).collect();
    if problems.is_empty() { Ok(approval) } else { Err(ApiError::unprocessable(problems)) }
}

/// The reason of a rejection, if it is neither empty nor too long, and plain.
pub(crate) fn checked_reason(reason: &str) -> Result<&str, ApiError> {
    match length("reason", reason, 1, 500).or_else(|| not_plain("reason", reason)) {
        Some(problem) => Err(ApiError::unprocessable(vec![problem])),
        None => Ok(reason),
    }
}

pub(crate) async fn approve(
    State(app): Shared,
    Decider(operator): Decider,
    StrictPath(id): StrictPath,
    StrictJson(body): StrictJson<ApproveBody>,
) -> Result<Json<Value>, ApiError> {
    let approval = checked(Approval {
        agent_id: body.agent_id,
        capabilities: body.capabilities.unwrap_or_default(),
        groups: body.groups.unwrap_or_default(),
        reuse: body.reuse,
    })?;
    let agent = app.authority.approve_enrollment(&session(&id)?, &approval, &operator).await?;
    Ok(Json(json!({ "status": "approved", "agent_id": agent })))
}

#[derive(Deserialize)]
pub(crate) struct RejectBody {
    reason: String,
}

pub(crate) async fn reject(
    State(app): Shared,
    Decider(operator): Decider,
    StrictPath(id): StrictPath,
    StrictJson(body): StrictJson<RejectBody>,
) -> Result<Json<Value>, ApiError> {
    let reason = checked_reason(&body.reason)?;
    app.authority.reject_enrollment(&session(&id)?, reason, &operator).await?;
    Ok(Json(json!({ "status": "rejected" })))
}

/// The enrolment with this session, however it stands.
pub(crate) async fn find(authority: &Authority, text: &str) -> Result<PendingRow, DeviceError> {
    authority.enrollment(&session(text)?).await
}

pub(crate) fn session(text: &str) -> Result<EnrollmentId, DeviceError> {
    EnrollmentId::parse(text).map_err(|_| DeviceError::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_email_address_has_one_at_and_a_dot_behind_it() {
        for good in ["a@b.c", "mario.rossi@example.com", "ü@é.it", "a@b..c"] {
            assert!(is_email(good), "{good}");
        }
        for bad in ["", "a", "@b.c", "a@b", "a@.c", "a@c.", "a@b@c.d", "a b@c.d", "a@b.c\n"] {
            assert!(!is_email(bad), "{bad}");
        }
    }

    #[test]
    fn what_is_no_time_to_wait_is_none() {
        for (query, seconds) in
            [("wait=25", 25), ("a=b&wait=3&wait=4", 3), ("wait=4294967295", 4_294_967_295)]
        {
            assert_eq!(wait(Some(query)), Duration::from_secs(seconds), "{query}");
        }
        for query in
            ["", "wait", "wait=", "wait=abc", "wait=-1", "wait=1.5", "wait=99999999999999999999", "wait=%FF"]
        {
            assert_eq!(wait(Some(query)), Duration::ZERO, "{query}");
        }
        assert_eq!(wait(None), Duration::ZERO);
    }

    #[test]
    fn lengths_are_counted_in_characters() {
        assert!(length("reason", &"é".repeat(500), 1, 500).is_none());
        assert!(length("reason", &"é".repeat(501), 1, 500).is_some());
        assert!(length("reason", "", 1, 500).is_some());
    }
}
