//! The admin API for agents (contract `enrollment.md` §4, §5, §6).

use axum::{Json, extract::State, response::Response};
use mastio_authority::{
    admin::Operator,
    enroll::{Brought, Candidate, EnrollError, Enrolled},
    lifetime::Lifetime,
    once::Once,
};
use mastio_core::AgentName;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Shared,
    caller::Admin,
    once::{Repeatable, answer_once},
};
use crate::answer::{ApiError, Invalid};

#[derive(Deserialize)]
pub(crate) struct NewAgent {
    agent_name: AgentName,
    #[serde(default)]
    display_name: String,
    #[serde(default)]
    capabilities: Vec<String>,
    #[serde(default)]
    federated: bool,
    #[serde(default)]
    cert_pem: Option<String>,
    #[serde(default)]
    private_key_pem: Option<SecretString>,
    #[serde(default)]
    dpop_jwk: Option<Value>,
    #[serde(default)]
    escrow: Option<bool>,
    #[serde(default)]
    cert_lifetime_seconds: Option<Lifetime>,
}

impl NewAgent {
    fn split(self, once: Option<Once>) -> Result<(Candidate, Pair, Option<Value>, bool), ApiError> {
        let too_long = |name, limit| {
            Err(ApiError::unprocessable(vec![Invalid::member(
                name,
                "too_long",
                format!("at most {limit} allowed"),
            )]))
        };
        if self.display_name.chars().count() > 256 {
            return too_long("display_name", "256 characters");
        }
        if self.capabilities.len() > 256 || self.capabilities.iter().any(|capability| capability.len() > 256)
        {
            return too_long("capabilities", "256 items of 256 bytes");
        }
        if self.cert_lifetime_seconds.is_some() && self.cert_pem.is_some() {
            let msg = "only for a certificate that is made here: leave it out beside cert_pem";
            let problem = Invalid::member("cert_lifetime_seconds", "value_error", msg);
            return Err(ApiError::unprocessable(vec![problem]));
        }
        let candidate = Candidate {
            name: self.agent_name,
            display_name: self.display_name,
            capabilities: self.capabilities,
            federated: self.federated,
            lifetime: self.cert_lifetime_seconds,
            once,
        };
        let pair = Pair { certificates: self.cert_pem, key: self.private_key_pem };
        Ok((candidate, pair, self.dpop_jwk.filter(|jwk| !jwk.is_null()), self.escrow.unwrap_or(true)))
    }
}

struct Pair {
    certificates: Option<String>,
    key: Option<SecretString>,
}

pub(crate) async fn create(
    State(app): Shared,
    Admin(operator): Admin,
    Repeatable { body, key }: Repeatable<NewAgent>,
) -> Result<Response, ApiError> {
    let once = key.once("agents.create");
    let (candidate, pair, dpop_jwk, escrow) = body.split(once.clone())?;
    let authority = &app.authority;
    let enrolled = answer_once(authority, once.as_ref(), async || {
        let enrolled = match (pair.certificates, pair.key) {
            (None, None) => authority.create_agent(&candidate, escrow, &operator).await?,
            (Some(certificates), Some(key)) => {
                let brought = Brought { certificates, key };
                authority.enroll_byoca(&candidate, &brought, dpop_jwk.as_ref(), &operator).await?
            }
            _ => return Err(EnrollError::HalfPair.into()),
        };
        Ok(json!({
            "agent_id": enrolled.id,
            "display_name": candidate.display_name,
            "capabilities": candidate.capabilities,
            "federated": candidate.federated,
            "cert_pem": enrolled.certificates,
            "key_pem": enrolled.key.as_ref().map(ExposeSecret::expose_secret),
            "private_key_pem": enrolled.key.as_ref().map(ExposeSecret::expose_secret),
            "dpop_jwk": dpop_jwk,
            "dpop_jkt": enrolled.dpop_jkt,
            "cert_thumbprint": enrolled.thumbprint,
            "spiffe_id": enrolled.spiffe_id,
        }))
    });
    enrolled.await
}

pub(crate) async fn enroll_byoca(
    State(app): Shared,
    Admin(operator): Admin,
    Repeatable { body, key }: Repeatable<NewAgent>,
) -> Result<Response, ApiError> {
    let once = key.once("agents.enroll.byoca");
    let (candidate, pair, dpop_jwk, _) = body.split(once.clone())?;
    let missing = |name| ApiError::unprocessable(vec![Invalid::member(name, "missing", "Field required")]);
    let certificates = pair.certificates.ok_or_else(|| missing("cert_pem"))?;
    let key = pair.key.ok_or_else(|| missing("private_key_pem"))?;
    let brought = Brought { certificates, key };
    let enrolled = answer_once(&app.authority, once.as_ref(), async || {
        let Enrolled { id, thumbprint, spiffe_id, dpop_jkt, .. } =
            app.authority.enroll_byoca(&candidate, &brought, dpop_jwk.as_ref(), &operator).await?;
        Ok(json!({
            "agent_id": id,
            "display_name": candidate.display_name,
            "capabilities": candidate.capabilities,
            "cert_thumbprint": thumbprint,
            "spiffe_id": spiffe_id,
            "dpop_jkt": dpop_jkt,
        }))
    });
    enrolled.await
}

pub(crate) async fn mastio_public_key(State(app): Shared, Admin(Operator { .. }): Admin) -> Json<Value> {
    let trust = app.authority.trust();
    let pem = trust.signer.as_ref().map(|signer| signer.key.spki_pem());
    Json(json!({ "mastio_pubkey": pem, "org_id": trust.org }))
}
