//! The audit log over HTTP (contract `audit-and-database.md` §1.7, §1.8): what it proves, and what is handed out.

pub(crate) mod archive;
pub(crate) mod bundle;
pub(crate) mod export;
mod portions;
pub(crate) mod proofs;
pub(crate) mod query;
pub(crate) mod search;
pub(crate) mod session;
pub(crate) mod witness;

use std::sync::Arc;

use axum::{
    Router,
    routing::{get, post},
};

use super::App;

/// The routes of the audit log.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/admin/agents/{id}/timeline", get(search::timeline))
        .route("/v1/admin/audit/entries", get(search::list))
        .route("/v1/admin/audit/entries/{seq}", get(search::one))
        .route("/v1/admin/audit/head", get(search::head))
        .route("/v1/admin/audit/bundle", post(bundle::bundle))
        .route("/v1/admin/audit/export", get(export::export))
        .route("/v1/admin/audit/archive", post(archive::begin).get(archive::status))
        .route("/v1/admin/audit/checkpoint", get(proofs::checkpoint))
        .route("/v1/admin/audit/proof", get(proofs::proof))
        .route("/v1/admin/audit/log/{*path}", get(proofs::log))
        .route("/audit/log/{*path}", get(proofs::public_log))
        .route("/v1/admin/audit/witness", get(witness::show))
        .route("/v1/admin/audit/witness/acknowledge", post(witness::acknowledge))
        .route("/audit/witness/add-checkpoint", post(witness::add_checkpoint))
        .route("/audit/witness/cosigned", post(witness::cosigned))
        .route("/v1/audit/session/{session_id}", get(session::session))
}
