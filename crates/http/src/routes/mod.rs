//! Routes: from HTTP to a use case and back. Which credential a route takes stands in its handler's arguments.

mod admin;
pub(crate) mod audit;
mod auth;
pub(crate) mod caller;
pub(crate) mod decommission;
mod egress;
mod enroll;
pub(crate) mod enrollment;
mod fleet;
pub(crate) mod health;
mod incidents;
pub(crate) mod keys;
pub(crate) mod lifecycle;
mod once;
pub(crate) mod pki;
mod public;
mod refuse;
mod renew;
mod revocations;
mod rotations;
mod search;
mod spiffe;
mod trust_bundle;
pub(crate) mod updates;

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Router,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::Response,
    routing::{delete, get, patch, post},
};
use http::{HeaderName, HeaderValue, StatusCode};
use mastio_authority::{Authority, registry::Agent};
use mastio_core::Stamp;
use mastio_gateway::Gateway;
use mastio_ledger::Ledger;

use crate::{
    Rate,
    answer::ApiError,
    dashboard,
    metrics::HttpMetrics,
    middleware::{Middleware, Principal},
};

/// What handlers work with.
#[derive(Debug)]
pub struct App {
    pub(crate) authority: Arc<Authority>,
    gateway: Gateway,
    ledger: Ledger,
    draining: AtomicBool,
}

/// The application, as handlers take it.
pub(crate) type Shared = State<Arc<App>>;

impl App {
    /// The routes of `authority`.
    #[must_use]
    pub fn new(authority: Arc<Authority>) -> Arc<Self> {
        Arc::new(Self {
            gateway: Gateway::new(Arc::clone(&authority)),
            ledger: Ledger::new(Arc::clone(&authority)),
            authority,
            draining: AtomicBool::new(false),
        })
    }

    /// From now on `/readyz` says that this process is leaving, and no request waits for something to happen.
    pub fn drain(&self) {
        self.authority.end_waiting();
        self.draining.store(true, Ordering::Relaxed);
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The gateway, for the tasks around it.
    #[must_use]
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// The audit log's evidence, for the tasks around it.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What the TLS listener and a proxy's listener serve; the latter also `/metrics`.
    ///
    /// # Errors
    /// When a metric is registered twice.
    pub fn routers(self: &Arc<Self>) -> Result<(Router, Router), prometheus::Error> {
        let metrics = HttpMetrics::register(&self.authority.metrics.registry)?;
        let public = self.surround(routes(), metrics.clone());
        let behind_proxy = self.surround(routes().route("/metrics", get(health::metrics)), metrics);
        Ok((public, behind_proxy))
    }

    fn surround(self: &Arc<Self>, routes: Router<Arc<Self>>, metrics: HttpMetrics) -> Router {
        let authority = &self.authority;
        let limits = &authority.settings.limits;
        let middleware = Middleware::new(
            Arc::clone(authority.clock()),
            Arc::clone(authority.rng()),
            metrics,
            limits.max_body_bytes.map_or(u64::MAX, std::num::NonZeroU64::get),
            limits.global.map(|global| Rate { per_second: global.rps, burst: global.burst }),
        );
        let routes = routes.layer(from_fn_with_state(Arc::clone(self), finish)).with_state(Arc::clone(self));
        middleware.around(routes)
    }
}

fn routes() -> Router<Arc<App>> {
    Router::new()
        .merge(probes())
        .merge(what_everybody_reads())
        .merge(dashboard::routes())
        .merge(audit::routes())
        .merge(cas_and_keys())
        .merge(logins())
        .merge(enrolments())
        .merge(agents_for_operators())
        .merge(calls_of_agents())
        .merge(without_uplink())
}

fn probes() -> Router<Arc<App>> {
    Router::new()
        .route("/health", get(health::health))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
}

fn what_everybody_reads() -> Router<Arc<App>> {
    Router::new()
        .route("/pki/ca.crt", get(public::trust_file))
        .route("/pki/crl.pem", get(revocations::lists))
        .route("/pki/revoked.json", get(revocations::revoked))
        .route("/.well-known/cullis/connector-bootstrap", get(public::bootstrap))
        .route("/.well-known/jwks-local.json", get(public::jwks))
        .route("/v1/federation/agents/{id}/public-key", get(public::public_key))
}

fn cas_and_keys() -> Router<Arc<App>> {
    Router::new()
        .route("/pki/rotate-ca", post(pki::rotate_ca))
        .route("/pki/rotations", get(rotations::list))
        .route("/pki/rotations/{id}", get(rotations::one))
        .route("/pki/rotations/{id}/advance", post(rotations::advance))
        .route("/pki/rotations/{id}/pause", post(rotations::pause))
        .route("/pki/rotations/{id}/resume", post(rotations::resume))
        .route("/pki/rotations/{id}/abort", post(rotations::abort))
        .route("/v1/admin/mastio-pubkey", get(admin::mastio_public_key))
        .route("/v1/admin/mastio-key", get(keys::show))
        .route("/v1/admin/mastio-key/rotate", post(keys::rotate))
        .route("/v1/admin/mastio-key/grace-days", post(keys::set_grace_days))
        .route("/v1/admin/mastio-key/complete-staged", post(keys::complete_staged))
        .route("/v1/admin/mastio-ca/rotate", post(keys::rotate_intermediate))
        .route("/proxy/updates/api", get(updates::list))
        .route("/proxy/updates/{id}/apply", post(updates::apply))
        .route("/proxy/updates/{id}/rollback", post(updates::roll_back))
        .route("/proxy/updates/{id}/snapshot", delete(updates::wipe))
        .route("/proxy/updates/{id}/wipe", post(updates::wipe))
}

fn logins() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/auth/login-challenge", post(auth::login_challenge))
        .route("/v1/auth/sign-challenged-assertion", post(auth::sign_challenged_assertion))
        .route("/v1/auth/sign-assertion", post(auth::sign_assertion))
        .route("/v1/auth/token", post(auth::token).get(auth::token_by_get))
        .route("/v1/auth/whoami", get(auth::whoami))
}

fn enrolments() -> Router<Arc<App>> {
    let bundle = get(spiffe::show).put(spiffe::set).delete(spiffe::remove);
    Router::new()
        .route("/v1/enrollment/start", post(enrollment::start))
        .route("/v1/enrollment/{id}/status", get(enrollment::status))
        .route("/v1/admin/enrollments", get(enrollment::waiting))
        .route("/v1/admin/enrollments/{id}/approve", post(enrollment::approve))
        .route("/v1/admin/enrollments/{id}/reject", post(enrollment::reject))
        .route("/v1/admin/agents", post(enroll::create).get(fleet::list))
        .route("/v1/admin/agents/enroll/byoca", post(enroll::byoca))
        .route("/v1/admin/agents/enroll/spiffe", post(enroll::spiffe))
        .route("/v1/admin/spiffe/bundles", get(spiffe::list))
        .route("/v1/admin/spiffe/bundles/{trust_domain}", bundle)
}

fn agents_for_operators() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/admin/agents/{id}", get(fleet::one).delete(lifecycle::deactivate))
        .route("/v1/admin/agents/{id}/dpop-jwk", post(lifecycle::set_dpop_key))
        .route("/v1/admin/agents/{id}/revoke", post(lifecycle::revoke))
        .route("/v1/admin/agents/{id}/rotate-cert", post(lifecycle::rotate))
        .route("/v1/admin/agents/{id}/reactivate", post(lifecycle::reactivate))
        .route("/v1/admin/agents/{id}/decommission", post(decommission::decommission))
        .route("/v1/admin/agents/{id}/receipt", get(decommission::show))
        .route("/v1/admin/agents/{id}/federated", patch(lifecycle::set_federated))
        .route("/v1/admin/agents/{id}/revoke-all-sessions", post(incidents::end_sessions))
        .route("/v1/admin/incidents/contain", post(incidents::contain))
        .route("/registry/agents/{id}/revoke", post(lifecycle::revoke))
        .route("/registry/agents/{id}/rotate-cert", post(lifecycle::rotate))
        .route("/proxy/admin/agents", get(fleet::list_in_full))
}

fn calls_of_agents() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/agents/search", get(search::search))
        .route("/v1/agents/self/renew", post(renew::renew))
        .route("/v1/agents/self/trust-bundle", get(trust_bundle::show))
        .route("/v1/egress/peers", get(egress::peers))
        .route("/v1/egress/resolve", post(egress::resolve))
        .route("/v1/egress/agents/{id}/public-key", get(egress::certificate))
        .route("/v1/egress/message/send", post(egress::send))
        .route("/v1/egress/message/inbox", get(egress::inbox))
        .route("/v1/egress/message/{msg_id}/ack", post(egress::acknowledge))
}

/// Paths that an uplink would serve (contract `calls.md` §3).
fn without_uplink() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/broker/{*rest}", axum::routing::any(no_broker))
        .route("/v1/registry/{*rest}", axum::routing::any(no_broker))
        .route("/v1/auth/{*rest}", axum::routing::any(no_broker))
        .route("/v1/federation/{*rest}", axum::routing::any(no_broker))
}

async fn no_broker() -> ApiError {
    let detail = "reverse proxy not configured (broker_url missing)";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "federation_required", detail)
        .with_error("federation_required")
}

/// Filled by whoever authenticates, read when the answer leaves.
#[derive(Debug, Clone, Default)]
pub(crate) struct Acting(Arc<OnceLock<Actor>>);

#[derive(Debug)]
struct Actor {
    principal: String,
    renewal_due: Option<Stamp>,
}

impl Acting {
    pub(crate) fn is(&self, principal: &impl ToString) {
        self.set(principal, None);
    }

    /// An agent, whose certificate should be renewed if it has been due since some time.
    pub(crate) fn is_agent(&self, agent: &Agent, renewal_due: Option<Stamp>) {
        self.set(agent.id(), renewal_due);
    }

    fn set(&self, principal: &impl ToString, renewal_due: Option<Stamp>) {
        // Only the first credential of a request counts.
        let _ = self.0.set(Actor { principal: principal.to_string(), renewal_due });
    }
}

const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");
/// Tells an agent that two thirds of its certificate's life are over, and since when (RFC 3339).
const RENEW_AFTER: HeaderName = HeaderName::from_static("x-cullis-cert-renew-after");
/// Tells an agent the SHA-256 of the trust file that it should have, while a rotation of the Org CA counts on that.
const TRUST_BUNDLE: HeaderName = HeaderName::from_static("x-cullis-trust-bundle");

/// A fresh nonce on every answer to an agent, hints when its trust file or its certificate is due, and who acted for
/// the access log.
async fn finish(State(app): Shared, mut request: Request, next: Next) -> Response {
    let acting = Acting::default();
    request.extensions_mut().insert(acting.clone());
    let for_agents = request.uri().path().starts_with("/v1/");
    let mut response = next.run(request).await;
    if for_agents && let Ok(nonce) = HeaderValue::from_str(&app.authority.proofs().nonce()) {
        response.headers_mut().insert(DPOP_NONCE, nonce);
        let trust = app.authority.trust();
        let bundle = trust.followed().and_then(|_| HeaderValue::try_from(trust.bundle.to_string()).ok());
        response.headers_mut().extend(bundle.map(|bundle| (TRUST_BUNDLE, bundle)));
    }
    if let Some(actor) = acting.0.get() {
        response.extensions_mut().insert(Principal(actor.principal.clone()));
        let due = actor.renewal_due.and_then(|due| HeaderValue::try_from(due.to_string()).ok());
        response.headers_mut().extend(due.map(|due| (RENEW_AFTER, due)));
    }
    response
}
