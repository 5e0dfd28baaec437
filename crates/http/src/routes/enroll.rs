//! Enrolling agents: made by an operator, with a certificate of the organisation's own CA, or with an SVID
//! (contract `enrollment.md` §4, §5).

use axum::{extract::State, response::Response};
use mastio_authority::{
    enroll::{Brought, Candidate, EnrollError, Possession},
    lifetime::Lifetime,
    once::Once,
};
use mastio_core::AgentName;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Shared,
    caller::Admin,
    enrollment::unfit,
    once::{Repeatable, answer_once},
};
use crate::{
    answer::{ApiError, Invalid},
    plain::not_plain,
};

/// What any of these routes may be sent.
#[derive(Deserialize)]
pub(crate) struct NewAgent {
    agent_name: AgentName,
    #[serde(default)]
    display_name: String,
    #[serde(default)]
    capabilities: Vec<String>,
    #[serde(default)]
    federated: bool,
    cert_pem: Option<String>,
    private_key_pem: Option<SecretString>,
    svid_pem: Option<String>,
    svid_key_pem: Option<SecretString>,
    trust_bundle_pem: Option<String>,
    csr_pem: Option<String>,
    pop_signature: Option<String>,
    dpop_jwk: Option<Value>,
    escrow: Option<bool>,
    cert_lifetime_seconds: Option<Lifetime>,
    #[serde(default)]
    update_existing: bool,
    #[serde(default)]
    reuse: bool,
}

impl NewAgent {
    fn candidate(&self, once: Option<Once>) -> Result<Candidate, ApiError> {
        if self.display_name.chars().count() > 256 {
            let problem = Invalid::member("display_name", "too_long", "at most 256 characters allowed");
            return Err(ApiError::unprocessable(vec![problem]));
        }
        let unfit =
            not_plain("display_name", &self.display_name).or(unfit("capabilities", &self.capabilities));
        if let Some(problem) = unfit {
            return Err(ApiError::unprocessable(vec![problem]));
        }
        if self.cert_lifetime_seconds.is_some() && (self.cert_pem.is_some() || self.svid_pem.is_some()) {
            let msg = "only for a certificate that is made here: leave it out beside cert_pem and svid_pem";
            let problem = Invalid::member("cert_lifetime_seconds", "value_error", msg);
            return Err(ApiError::unprocessable(vec![problem]));
        }
        Ok(Candidate {
            name: self.agent_name.clone(),
            display_name: self.display_name.clone(),
            capabilities: self.capabilities.clone(),
            federated: self.federated,
            dpop_jwk: self.dpop_jwk.clone().filter(|jwk| !jwk.is_null()),
            lifetime: self.cert_lifetime_seconds,
            reuse: self.reuse,
            once,
        })
    }

    /// The proof of possession: the key itself, here under its name, or what takes its place.
    fn possession(&mut self, key_name: &'static str) -> Result<Possession, ApiError> {
        let key = match key_name {
            "svid_key_pem" => self.svid_key_pem.take(),
            _ => self.private_key_pem.take(),
        };
        match (key, self.csr_pem.take(), self.pop_signature.take()) {
            (Some(key), None, None) => Ok(Possession::Key(key)),
            (None, Some(request), None) => Ok(Possession::Request(request)),
            (None, None, Some(signature)) => Ok(Possession::Signature(signature)),
            (key, request, signature) => {
                let nothing = key.is_none() && request.is_none() && signature.is_none();
                let kind = if nothing { "missing" } else { "value_error" };
                let msg = format!("send one of {key_name}, csr_pem and pop_signature");
                Err(ApiError::unprocessable(vec![Invalid::member(key_name, kind, msg)]))
            }
        }
    }

    /// What is brought along where nothing has to be: then key and certificate are made here.
    fn brought_if_any(&mut self) -> Result<Option<Brought>, ApiError> {
        let proofs = [("csr_pem", self.csr_pem.is_some()), ("pop_signature", self.pop_signature.is_some())];
        let mut proofs = proofs.into_iter().filter(|(_, sent)| *sent).peekable();
        match (self.cert_pem.take(), self.private_key_pem.is_some()) {
            (Some(certificates), has_key) if has_key || proofs.peek().is_some() => {
                let possession = self.possession("private_key_pem")?;
                Ok(Some(self.brought(certificates, possession)))
            }
            (Some(_), _) | (None, true) => Err(EnrollError::HalfPair.into()),
            (None, false) if proofs.peek().is_none() => Ok(None),
            (None, false) => {
                let msg = "only beside cert_pem: leave it out, and the key is made here";
                let problems = proofs.map(|(name, _)| Invalid::member(name, "value_error", msg));
                Err(ApiError::unprocessable(problems.collect()))
            }
        }
    }

    fn brought(&self, certificates: String, possession: Possession) -> Brought {
        Brought { certificates, possession, update_existing: self.update_existing }
    }
}

fn missing(name: &str) -> ApiError {
    ApiError::unprocessable(vec![Invalid::member(name, "missing", "Field required")])
}

pub(crate) async fn create(
    State(app): Shared,
    Admin(operator): Admin,
    Repeatable { mut body, key }: Repeatable<NewAgent>,
) -> Result<Response, ApiError> {
    let (once, authority) = (key.once("agents.create"), &app.authority);
    let candidate = body.candidate(once.clone())?;
    let brought = body.brought_if_any()?;
    let enrolled = answer_once(authority, once.as_ref(), async || match &brought {
        None => authority.create_agent(&candidate, body.escrow.unwrap_or(true), &operator).await,
        Some(brought) => authority.enroll_byoca(&candidate, brought, &operator).await,
    });
    enrolled.await
}

pub(crate) async fn byoca(
    State(app): Shared,
    Admin(operator): Admin,
    Repeatable { mut body, key }: Repeatable<NewAgent>,
) -> Result<Response, ApiError> {
    let (once, authority) = (key.once("agents.enroll.byoca"), &app.authority);
    let candidate = body.candidate(once.clone())?;
    let certificates = body.cert_pem.take().ok_or_else(|| missing("cert_pem"))?;
    let possession = body.possession("private_key_pem")?;
    let brought = body.brought(certificates, possession);
    let enrolled = answer_once(authority, once.as_ref(), async || {
        authority.enroll_byoca(&candidate, &brought, &operator).await
    });
    enrolled.await
}

pub(crate) async fn spiffe(
    State(app): Shared,
    Admin(operator): Admin,
    Repeatable { mut body, key }: Repeatable<NewAgent>,
) -> Result<Response, ApiError> {
    let (once, authority) = (key.once("agents.enroll.spiffe"), &app.authority);
    let candidate = body.candidate(once.clone())?;
    let certificates = body.svid_pem.take().ok_or_else(|| missing("svid_pem"))?;
    let possession = body.possession("svid_key_pem")?;
    let bundle = body.trust_bundle_pem.take().filter(|text| !text.trim().is_empty());
    let brought = body.brought(certificates, possession);
    let enrolled = answer_once(authority, once.as_ref(), async || {
        authority.enroll_spiffe(&candidate, &brought, bundle.as_deref(), &operator).await
    });
    enrolled.await
}
