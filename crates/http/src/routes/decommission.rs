//! Deleting agents for good, and the receipts of it.

use axum::{Json, extract::State};
use mastio_audit::lines;
use mastio_authority::decommission::Decommissioned;
use mastio_ledger::bundle::AnnouncedKey;
use mastio_pki::pem;
use mastio_store::audit::Entry;
use serde_json::{Value, json};

use super::{
    App, Shared,
    caller::Admin,
    lifecycle::{RevokeBody, named},
};
use crate::answer::{ApiError, OptionalJson, StrictPath};

pub(crate) async fn decommission(
    State(app): Shared,
    Admin(operator): Admin,
    StrictPath(id): StrictPath,
    OptionalJson(body): OptionalJson<RevokeBody>,
) -> Result<Json<Value>, ApiError> {
    let done = app.authority.decommission(&named(&app, &id)?, body.reason()?, &operator).await?;
    Ok(Json(receipt(&app, &done).await))
}

pub(crate) async fn show(
    State(app): Shared,
    Admin(_): Admin,
    StrictPath(id): StrictPath,
) -> Result<Json<Value>, ApiError> {
    let done = app.authority.receipt(&named(&app, &id)?).await?;
    Ok(Json(receipt(&app, &done).await))
}

/// The file that `mastio audit verify` reads (`docs/audit-bundles.md`, "Receipts").
pub(crate) async fn receipt(app: &App, done: &Decommissioned) -> Value {
    let announced = announced_key(app, done).await;
    json!({
        "kind": "receipt",
        "agent_id": done.tombstone.agent,
        "deleted_at": done.tombstone.deleted_at,
        "receipt": done.receipt.jws,
        "signing_cert_pem": done.signing_certificate,
        "ca_chain_pem": ca_chain(app, done, announced.as_ref()),
        "entries": done.entries.iter().map(line).collect::<Vec<_>>(),
        "proof": proof(app, done).await,
        "log_key": announced.as_ref().map(|announced| &announced.log_key),
        "log_key_cert_pem": announced.as_ref().map(|announced| &announced.certificate),
    })
}

/// That the last entry of the end is in a signed tree. The receipt holds without it, so nothing waits for its repair.
async fn proof(app: &App, done: &Decommissioned) -> Option<String> {
    match app.ledger().prove(done.receipt.last_seq.cast_unsigned(), None).await {
        Ok(proved) => Some(proved.into_tlog_proof().to_string()),
        Err(error) => {
            tracing::warn!(%error, agent = %done.tombstone.agent, "a receipt is handed out without its proof");
            None
        }
    }
}

/// The key of the log that signed for the proof, with its announcement, as in a bundle.
async fn announced_key(app: &App, done: &Decommissioned) -> Option<AnnouncedKey> {
    match app.ledger().announced_key().await {
        Ok(announced) => Some(announced),
        Err(error) => {
            tracing::warn!(%error, agent = %done.tombstone.agent, "a receipt is handed out without the log's key");
            None
        }
    }
}

/// The CAs above the key that signed the receipt, and above the one that announced the log's key since.
fn ca_chain(app: &App, done: &Decommissioned, announced: Option<&AnnouncedKey>) -> String {
    let signed = done.signing_certificate.iter().chain(announced.map(|announced| &announced.certificate));
    let leaves: Vec<_> = signed.filter_map(|pem| pem::first_certificate(pem).ok()).collect();
    app.authority.trust().evidence_chain(&leaves)
}

/// An entry as a line of the export (contract `audit-and-database.md` §1.8).
fn line(entry: &Entry) -> Value {
    let mut line = Vec::new();
    lines::ndjson(&entry.row(), &mut line);
    serde_json::from_slice(&line).unwrap_or_default()
}
