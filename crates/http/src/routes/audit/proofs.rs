//! Checkpoints, proofs, and the log as static files (C2SP tlog-checkpoint, tlog-proof, tlog-tiles).

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE},
};
use mastio_audit::{log_path::LogPath, tree::Hash};
use mastio_ledger::{
    checkpoints::Published,
    proofs::{Continuation, EntryProof, ProveError},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    super::{
        App, Shared,
        caller::{Admin, Anyone},
    },
    query::inverted,
};
use crate::answer::{ApiError, Invalid, StrictPath, StrictQuery};

/// A tile of a given width never changes.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
const AT_ONCE_OLD: &str = "no-cache";

/// The newest checkpoint; the first one is signed when it is asked for.
pub(crate) async fn checkpoint(State(app): Shared, Admin(_): Admin) -> Result<Response, ApiError> {
    let newest = match app.ledger.newest_checkpoint().await? {
        Some(newest) => newest,
        None => app.ledger.checkpoint_now().await?,
    };
    Ok(note(&newest))
}

fn note(published: &Published) -> Response {
    text(published.note.to_string())
}

fn text(body: String) -> Response {
    let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, AT_ONCE_OLD)];
    (headers, body).into_response()
}

/// `seq` with `size` asks for an entry, `from` with `to` for the connection of two trees.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProofQuery {
    seq: Option<u64>,
    size: Option<u64>,
    from: Option<u64>,
    to: Option<u64>,
}

pub(crate) async fn proof(
    State(app): Shared,
    Admin(_): Admin,
    StrictQuery(query): StrictQuery<ProofQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    match query {
        ProofQuery { seq: Some(seq), size, from: None, to: None } => {
            let proved = app.ledger.prove(seq, size).await?;
            Ok(if wants_text(&headers) {
                tlog_proof(proved)
            } else {
                Json(inclusion(&proved)).into_response()
            })
        }
        ProofQuery { seq: None, size: None, from: Some(from), to } => {
            if let Some(problem) = inverted(("from", Some(&from)), ("to", to.as_ref())) {
                return Err(ApiError::unprocessable(vec![Invalid::query("from", problem)]));
            }
            Ok(Json(consistency(&app.ledger.consistency(from, to).await?)).into_response())
        }
        _ => {
            let ask = "ask with seq, and size if need be, or with from, and to if need be";
            Err(ApiError::unprocessable(vec![Invalid::query("seq", ask)]))
        }
    }
}

fn wants_text(headers: &HeaderMap) -> bool {
    let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted.split(',').any(|kind| kind.trim().starts_with("text/plain"))
}

fn tlog_proof(proved: EntryProof) -> Response {
    text(proved.into_tlog_proof().to_string())
}

fn inclusion(proved: &EntryProof) -> Value {
    let said = proved.checkpoint.note.unverified();
    json!({
        "origin": said.origin.as_str(),
        "seq": proved.seq,
        "index": proved.inclusion.index,
        "size": said.head.size,
        "root_hash": hex::encode(said.head.root),
        "entry_hash": proved.entry_hash.map(hex::encode),
        "leaf_hash": hex::encode(proved.leaf_hash),
        "path": path(&proved.inclusion.path),
        "checkpoint": proved.checkpoint.note.as_str(),
    })
}

fn consistency(continuation: &Continuation) -> Value {
    let said = continuation.checkpoint.note.unverified();
    json!({
        "origin": said.origin.as_str(),
        "from": continuation.proof.from,
        "to": continuation.proof.to,
        "from_root_hash": hex::encode(continuation.from_root),
        "root_hash": hex::encode(said.head.root),
        "path": path(&continuation.proof.path),
        "checkpoint": continuation.checkpoint.note.as_str(),
    })
}

fn path(hashes: &[Hash]) -> Vec<String> {
    hashes.iter().map(hex::encode).collect()
}

pub(crate) async fn log(
    State(app): Shared,
    Admin(_): Admin,
    StrictPath(path): StrictPath,
) -> Result<Response, ApiError> {
    file(&app, &path).await
}

/// The same for everybody, when the operator publishes it. There is nothing of an entry in it but its hash.
pub(crate) async fn public_log(
    State(app): Shared,
    _: Anyone,
    StrictPath(path): StrictPath,
) -> Result<Response, ApiError> {
    if !app.authority.settings.audit.public_log {
        return Err(ApiError::not_found("Not Found"));
    }
    file(&app, &path).await
}

async fn file(app: &App, path: &str) -> Result<Response, ApiError> {
    let bytes = match LogPath::parse(path) {
        None => return Err(ApiError::not_found("no such file of a log: see C2SP tlog-tiles")),
        Some(LogPath::Checkpoint) => {
            let newest = app.ledger.newest_checkpoint().await?.ok_or(ProveError::NotPublished)?;
            return Ok(note(&newest));
        }
        Some(LogPath::Tile { tile, width }) => app.ledger.tile(tile, width).await?,
        Some(LogPath::Entries { index, width }) => app.ledger.entry_bundle(index, width).await?,
    };
    let kind = HeaderValue::from_static("application/octet-stream");
    Ok(([(CONTENT_TYPE, kind), (CACHE_CONTROL, HeaderValue::from_static(FOR_EVER))], bytes).into_response())
}
