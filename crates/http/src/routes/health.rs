//! Liveness, readiness and metrics (contract `operations.md` §5, §6).

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use mastio_core::Stamp;
use mastio_ledger::disk::Space;
use mastio_store::Query;
use serde_json::{Map, Value, json};

use super::{App, Shared};

/// With less than this free the database will soon refuse to grow.
const LOW_DISK: u64 = 64 << 20;

/// The process lives.
pub(crate) async fn healthz(State(app): Shared) -> Json<Value> {
    Json(Value::Object(alive(&app)))
}

/// The same with the version, which Connectors check before they enroll.
pub(crate) async fn health(State(app): Shared) -> Json<Value> {
    let mut body = alive(&app);
    body.insert("version".into(), app.authority.settings.reported_version.clone().into());
    Json(Value::Object(body))
}

fn alive(app: &App) -> Map<String, Value> {
    let mut body = Map::from_iter([("status".to_owned(), json!("ok"))]);
    let warnings = warnings(app);
    if !warnings.is_empty() {
        body.insert("warnings".into(), json!(warnings));
    }
    let waiting = app.authority.trust().updates.waiting();
    if waiting > 0 {
        body.insert("pending_updates".into(), waiting.into());
    }
    body
}

/// What an operator should look after, in stable words.
pub(crate) fn warnings(app: &App) -> Vec<&'static str> {
    [
        (app.authority.trust().root.path_len() == Some(0), "org_ca_legacy_pathlen_zero"),
        (app.authority.stale().is_some(), "trust_stale"),
        (app.authority.trust().cas.has_damaged_key(), "ca_key_damaged"),
        (app.authority.trust().by_halves.is_some(), "update_by_halves"),
        (app.authority.audit_chain_is_broken(), "audit_chain_broken"),
        (app.ledger.is_rolled_back(), "audit_rolled_back"),
        (app.ledger.checkpoint_is_late(), "audit_checkpoint_late"),
        (app.ledger.sees_split_view(), "audit_split_view"),
        (app.ledger.disk_is_low(), "audit_disk_low"),
    ]
    .into_iter()
    .filter_map(|(applies, warning)| applies.then_some(warning))
    .collect()
}

/// Whether requests can be served: 503 when something that they need is missing.
pub(crate) async fn readyz(State(app): Shared) -> Response {
    let mut checks = Checks::default();
    let authority = &app.authority;
    if app.is_draining() {
        checks.bad("process", "draining");
    }
    let probe = Query::new("sqlite_master", "SELECT 1 AS one", vec![]);
    match (authority.store().rows(probe).await, authority.store().trouble()) {
        (Err(error), _) => checks.bad("database", format!("error: {error}")),
        (Ok(_), Some(trouble)) => checks.bad("database", format!("error: {trouble}")),
        (Ok(_), None) => checks.good("database", "ok"),
    }
    checks.good("jwks_cache", "standalone");
    match authority.store().trouble() {
        Some(trouble) => checks.bad("audit_chain", format!("refusing writes ({})", trouble.reason())),
        None => checks.good("audit_chain", "ok"),
    }
    match Space::of(authority.store().database().path()).ok().map(|space| space.available) {
        Some(free) if free < LOW_DISK => checks.bad("disk", format!("{} MiB free", free >> 20)),
        Some(_) => checks.good("disk", "ok"),
        None => checks.good("disk", "unknown"),
    }
    pki(&mut checks, &app, authority.clock().now());
    let now = authority.clock().now();
    match (authority.tls_files().trouble(), authority.tls_files().serving()) {
        (Some(trouble), _) => checks.bad("server_cert", format!("error: {trouble}")),
        (None, None) => checks.bad("server_cert", "missing"),
        (None, Some(serving)) if serving.chain[0].not_after() <= now => checks.bad("server_cert", "expired"),
        (None, Some(_)) => checks.good("server_cert", "ok"),
    }
    checks.answer()
}

fn pki(checks: &mut Checks, app: &App, now: Stamp) {
    let trust = app.authority.trust();
    match app.authority.stale() {
        Some(stale) => checks.bad("trust", format!("older than what is stored: {}", stale.why)),
        None => checks.good("trust", "ok"),
    }
    match &trust.server_issuer {
        _ if trust.root.not_after() <= now => checks.bad("pki", "the Org CA has expired"),
        None => checks.bad("pki", "no intermediate"),
        Some(issuer) if issuer.certificate().not_after() <= now => {
            checks.bad("pki", "the intermediate has expired");
        }
        Some(_) => checks.good("pki", "ok"),
    }
    match (&trust.halt, &trust.signer) {
        (Some(_), _) => checks.good("signer", "halted"),
        (None, Some(_)) => checks.good("signer", "ok"),
        (None, None) => checks.bad("signer", "no active signing key"),
    }
}

#[derive(Default)]
struct Checks {
    found: Map<String, Value>,
    failed: bool,
}

impl Checks {
    fn good(&mut self, name: &str, state: &str) {
        self.found.insert(name.to_owned(), state.into());
    }

    fn bad(&mut self, name: &str, state: impl Into<String>) {
        self.failed = true;
        self.found.insert(name.to_owned(), state.into().into());
    }

    fn answer(self) -> Response {
        let (status, word) = match self.failed {
            true => (StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
            false => (StatusCode::OK, "ready"),
        };
        (status, Json(json!({ "status": word, "checks": self.found }))).into_response()
    }
}

pub(crate) async fn metrics(State(app): Shared) -> Response {
    crate::metrics::render(&app.authority.metrics.registry)
}
