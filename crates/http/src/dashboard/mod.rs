//! The dashboard: pages for operators, made on the server (contract `enrollment.md` §10). Each is a module with its
//! view, its template in `templates/`, and its handlers. Every action is a form, so that all works without scripts;
//! htmx only spares reloading.

mod agents;
mod assets;
mod audit;
mod change;
mod cookie;
mod credentials;
mod deleted;
mod enroll;
mod enrollments;
mod history;
mod login;
mod mastio_key;
mod overview;
mod page;
mod pki;
mod replace;
pub(crate) mod session;
mod sessions;
mod text;
pub(crate) mod updates;

use std::sync::Arc;

use axum::{
    Router,
    middleware::map_response,
    response::{Redirect, Response},
    routing::{get, post},
};
use http::{HeaderName, HeaderValue, header::CONTENT_SECURITY_POLICY};

use crate::routes::App;

pub(crate) use cookie::find as cookies;
pub(crate) use login::read as login_form;
pub(crate) use text::code;

/// Nothing but our own files: no script, style or frame that a page could be made to contain.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .merge(pki::routes())
        .route("/proxy", get(async || Redirect::to("/proxy/overview")))
        .route("/proxy/", get(async || Redirect::to("/proxy/overview")))
        .route("/proxy/login", get(login::show).post(login::log_in))
        .route("/proxy/logout", post(login::log_out))
        .route("/proxy/overview", get(overview::show))
        .route("/proxy/enrollments", get(enrollments::list))
        .route("/proxy/enrollments/{sid}/approve", post(enrollments::approve))
        .route("/proxy/enrollments/{sid}/reject", post(enrollments::reject))
        .route("/enroll", get(enroll::show))
        .route("/proxy/agents", get(agents::list))
        .route("/proxy/agents/create", post(credentials::create))
        .route("/proxy/agents/{id}", get(agents::show))
        .route("/proxy/agents/{id}/rotate-cert", post(credentials::rotate))
        .route("/proxy/agents/{id}/revoke", post(change::revoke))
        .route("/proxy/agents/{id}/deactivate", post(change::deactivate))
        .route("/proxy/agents/{id}/reactivate", post(change::reactivate))
        .route("/proxy/agents/{id}/delete", post(deleted::delete))
        .route("/proxy/agents/{id}/receipt", get(deleted::receipt))
        .route("/proxy/agents/{id}/env-download", get(agents::environment))
        .route("/proxy/audit", get(audit::list))
        .route("/proxy/audit/export", get(audit::hand_out))
        .route("/proxy/audit/{seq}", get(audit::explain))
        .route("/proxy/badge/audit", get(audit::badge))
        .route("/proxy/updates", get(updates::list))
        .route("/proxy/badge/updates", get(updates::badge))
        .route("/proxy/mastio-key", get(mastio_key::show))
        .route("/proxy/mastio-key/grace-days", post(mastio_key::set_grace_days))
        .route("/proxy/mastio-key/rotate", post(mastio_key::rotate))
        .route("/proxy/mastio-key/complete-staged", post(mastio_key::complete_staged))
        .route("/proxy/sessions", get(sessions::list))
        .route("/proxy/sessions/end", post(sessions::end))
        .route("/proxy/sessions/end-others", post(sessions::end_others))
        .route("/proxy/{*rest}", get(page::nothing))
        .route("/static/{name}", get(assets::serve))
        .layer(map_response(with_policy))
}

async fn with_policy(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    // Pages and their scripts share their process with nobody.
    let same_origin = HeaderValue::from_static("same-origin");
    headers.insert(HeaderName::from_static("cross-origin-opener-policy"), same_origin.clone());
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), same_origin);
    response
}
