//! Being a witness of other logs (C2SP tlog-witness).

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{FromRequest, Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{StatusCode, header::CONTENT_TYPE};
use mastio_authority::limits::Class;
use mastio_ledger::witness::serve::{AddError, Witnessing};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::{
    App, Shared,
    caller::{Admin, peer},
    refuse,
};
use crate::{
    answer::{ApiError, StrictJson, read_body},
    body::{Capped, Fate},
};

/// The longest request: a proof of 63 hashes and a checkpoint with room for signatures of others.
const LONGEST: u64 = 64 << 10;

/// The body of a request to a witness. Anybody may send one: the signature of the log in it is what counts.
pub(crate) struct Submitted(Bytes);

impl FromRequest<Arc<App>> for Submitted {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let (authority, address) = (&app.authority, peer(&parts).address);
        let counted = authority.limits.by_address(Class::Witness, address);
        counted.map_err(|over| refuse::over_limit(authority, over))?;
        read_body(Body::new(Capped::new(body, LONGEST, Fate::default()))).await.map(Self)
    }
}

pub(crate) async fn add_checkpoint(
    State(app): Shared,
    Submitted(body): Submitted,
) -> Result<Response, ApiError> {
    match app.ledger().add_checkpoint(&body).await {
        Ok(line) => Ok(line.into_response()),
        Err(AddError::Conflict { size }) => {
            let kind = [(CONTENT_TYPE, "text/x.tlog.size")];
            Ok((StatusCode::CONFLICT, kind, format!("{size}\n")).into_response())
        }
        Err(refusal) => Err(refusal.into()),
    }
}

pub(crate) async fn cosigned(State(app): Shared, Submitted(body): Submitted) -> Result<String, ApiError> {
    Ok(app.ledger().last_cosigned(&body).await?.to_string())
}

pub(crate) async fn show(State(app): Shared, _: Admin) -> Result<Json<Value>, ApiError> {
    Ok(Json(in_json(&app.ledger().witnessing().await?)))
}

fn in_json(witnessing: &Witnessing) -> Value {
    let mut logs: Vec<_> = witnessing.logs.iter().map(|key| key.name().clone()).collect();
    logs.extend(witnessing.cosigned.iter().map(|log| log.origin.clone()));
    logs.sort();
    logs.dedup();
    let log = |origin| {
        let cosigned = witnessing.cosigned.iter().find(|log| log.origin == origin);
        let keys = witnessing.logs.iter().filter(|key| *key.name() == origin);
        json!({
            "origin": origin.as_str(),
            "vkeys": keys.map(ToString::to_string).collect::<Vec<_>>(),
            "size": cosigned.map(|log| log.head.size),
            "root": cosigned.map(|log| hex::encode(log.head.root)),
            "checkpoint": cosigned.map(|log| log.note.as_str()),
            "cosigned_at": cosigned.map(|log| log.seen_at),
        })
    };
    json!({
        "vkey": witnessing.key.to_string(),
        "logs": logs.into_iter().map(log).collect::<Vec<_>>(),
        "split_views": witnessing.split_views,
    })
}

#[derive(Deserialize)]
pub(crate) struct Acknowledgement {
    origin: String,
}

pub(crate) async fn acknowledge(
    State(app): Shared,
    Admin(operator): Admin,
    StrictJson(body): StrictJson<Acknowledgement>,
) -> Result<Json<Value>, ApiError> {
    let acknowledged = app.ledger().acknowledge_split_view(&body.origin, &operator).await?;
    Ok(Json(json!({ "origin": body.origin, "acknowledged": acknowledged })))
}
