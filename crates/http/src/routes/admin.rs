//! What the admin API tells of the Mastio.

use axum::{Json, extract::State};
use mastio_authority::admin::Operator;
use serde_json::{Value, json};

use super::{Shared, caller::Admin};

pub(crate) async fn mastio_public_key(State(app): Shared, Admin(Operator { .. }): Admin) -> Json<Value> {
    let trust = app.authority.trust();
    let pem = trust.signer.as_ref().map(|signer| signer.key.spki_pem());
    Json(json!({ "mastio_pubkey": pem, "org_id": trust.org }))
}
